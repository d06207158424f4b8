/* What kind of transformer a file holds: sizes, constants and the names of its matrices.
 * Architecture `llama` only (RMSNorm, interleaved RoPE, grouped-query attention, SwiGLU; tied or
 * untied head; optional rope_freqs); anything else is refused by name. */
#ifndef EBB_CORE_MODEL_H
#define EBB_CORE_MODEL_H

#include "core/defs.h"

struct err;
struct gguf;

enum {
    MODEL_MAX_LAYERS = 512,
    MODEL_MAX_VOCAB = 1 << 20,
    MODEL_MAX_EMBD = 1 << 16,
    MODEL_MAX_FF = 1 << 18,
    MODEL_MAX_HEADS = 1024,
    MODEL_MAX_HEAD_DIM = 256,
    MODEL_MAX_CTX = 1 << 20,
};

struct model_hparams {
    uint32_t n_layers;
    uint32_t n_embd; /* multiple of 32 */
    uint32_t n_ff;   /* multiple of 32 */
    uint32_t n_heads;
    uint32_t n_kv_heads; /* divides n_heads */
    uint32_t head_dim; /* multiple of 8, <= MODEL_MAX_HEAD_DIM; n_heads * head_dim multiple of 32 */
    uint32_t rope_dim; /* even, <= head_dim */
    uint32_t n_vocab;
    uint32_t n_ctx_train;
    float rope_base;
    float norm_eps;
    bool is_tied; /* no `output.weight`: the token embedding is the output matrix */
};

/* Matrices of one layer, in the order of a unit's extents; the head unit has MODEL_HEAD alone. */
enum model_mat {
    MODEL_Q,
    MODEL_K,
    MODEL_V,
    MODEL_OUT,
    MODEL_GATE,
    MODEL_UP,
    MODEL_DOWN,
    MODEL_HEAD,
};
enum { MODEL_LAYER_MATS = MODEL_DOWN + 1, MODEL_MAT_COUNT = MODEL_HEAD + 1 };

/* Vectors that are always resident, f32, in this order in the pack's `core` extent:
 * attn_norm of all layers, ffn_norm of all layers, output_norm, then rope_freqs (all ones if the
 * source has none). */
struct model_core {
    const float *attn_norm;   /* [n_layers][n_embd] */
    const float *ffn_norm;    /* [n_layers][n_embd] */
    const float *output_norm; /* [n_embd] */
    const float *rope_freqs;  /* [rope_dim / 2], divisors of the frequencies */
};

/* Reads and range-checks the sizes from GGUF metadata (of a source or of a pack). For a source,
 * also checks that every tensor exists with the right shape and an importable type.
 * 0, -ENOTSUP (other architecture, RoPE scaling we lack, biases, experts, n_in not a multiple of
 * 32: all by name) or -EBADMSG. */
int model_read_hparams(const struct gguf *g, bool is_source, struct model_hparams *ret,
                       struct err *e) MUST_CHECK;

/* n_layers + 1: the layers, then the head. */
uint32_t model_n_units(const struct model_hparams *h);
/* "layer 7", "head"; `buf` holds at least 16 bytes; returns buf. */
const char *model_unit_name(const struct model_hparams *h, uint32_t unit, char *buf, size_t n);
/* GGUF name of a matrix: "blk.7.attn_q.weight"; the head's is output.weight or token_embd.weight.
 */
const char *model_tensor_name(const struct model_hparams *h, uint32_t layer, enum model_mat mat,
                              char *buf, size_t n);
void model_mat_shape(const struct model_hparams *h, enum model_mat mat, uint32_t *ret_n_out,
                     uint32_t *ret_n_in);
/* "attn_q", ... "head". */
const char *model_mat_name(enum model_mat mat);

/* Floats in the core extent; and the pointers into it. */
size_t model_core_floats(const struct model_hparams *h);
void model_core_bind(const struct model_hparams *h, const float *core, struct model_core *ret);

#endif
