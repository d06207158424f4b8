/* The source model in f32: the forward pass that calibration, sampling and evaluation compare to.
 *
 * Weights stay in the GGUF and are de-quantised a layer at a time (the head in blocks of rows), so
 * memory is one layer of floats and not the model. A window is a run of consecutive tokens from
 * position 0; windows are independent, and each is one piece of work of fixed shape for the pool,
 * so results do not depend on the thread count or on how many windows go together.
 * Matrix products by OpenBLAS, norms and activations by the kernels. Not for serving. */
#ifndef EBB_CORE_MAKE_SOURCE_H
#define EBB_CORE_MAKE_SOURCE_H

#include "core/defs.h"
#include "core/model.h"

struct err;
struct gguf;
struct kern_ops;
struct mem;
struct pool;
struct source;

enum { SOURCE_WINDOW = 512 }; /* tokens of a window, at most */

/* The distinct inputs that the matrices of a layer see: q, k, v share one; gate and up another. */
enum source_input { SOURCE_ATTN_IN, SOURCE_ATTN_OUT, SOURCE_FFN_IN, SOURCE_FFN_DOWN };
enum { SOURCE_INPUT_COUNT = SOURCE_FFN_DOWN + 1 };

enum source_input source_input_of(enum model_mat mat); /* of a layer's matrix */
uint32_t source_input_width(const struct model_hparams *h, enum source_input in);

/* One layer's matrices as floats, each [n_out][n_in]. */
struct source_layer {
    const float *mats[MODEL_LAYER_MATS];
};

/* Called once for each window and input, on the pool's threads: x[n_rows][width], borrowed. */
typedef void (*source_seen_fn)(void *ud, uint32_t window, enum source_input in, const float *x,
                               uint32_t n_rows, uint32_t width);

/* keep_bytes: floats of layers that may stay in memory once de-quantised; worth it for whoever
 * goes through the layers many times. Everything is borrowed for the source's life.
 * 0, -ENOTSUP, -EBADMSG, -ENOMEM or the system's error. */
int source_create(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                  const struct gguf *g, uint64_t keep_bytes, struct source **ret,
                  struct err *e) MUST_CHECK;
void source_destroy(struct source *s); /* accepts NULL */

const struct model_hparams *source_hparams(const struct source *s);
const float *source_core(const struct source *s); /* [model_core_floats()], as the pack holds it */
const struct model_core *source_vectors(const struct source *s);
struct pool *source_pool(const struct source *s);
const struct kern_ops *source_ops(const struct source *s);
/* cos and sin of position pos < SOURCE_WINDOW: [rope_dim]. */
const float *source_rope(const struct source *s, uint32_t pos);

/* De-quantises a layer (or finds it kept). Borrowed until the next call of this function.
 * 0, -EBADMSG, -ENOMEM or the system's error. */
int source_load_layer(struct source *s, uint32_t layer, const struct source_layer **ret,
                      struct err *e) MUST_CHECK;

/* x[i][n_embd] = embedding of ids[i], each below n_vocab. */
int source_embed(struct source *s, const uint32_t *ids, size_t n, float *x,
                 struct err *e) MUST_CHECK;

/* Takes x[n_windows][n_rows][n_embd] through a layer in place; n_rows <= SOURCE_WINDOW. `seen` may
 * be NULL. */
void source_block(struct source *s, uint32_t layer, const struct source_layer *w, float *x,
                  uint32_t n_windows, uint32_t n_rows, source_seen_fn seen, void *ud);

/* One window through a layer in parts, for who changes weights on the way; a layer is attention
 * of the normed input, plus out, then the gated feed-forward of the normed input, plus down.
 * h[n_rows][n_embd]; ret[n_rows] as wide as the input of out or down. Thread: the pool's. */
void source_norm(const struct source *s, const float *gain, const float *x, uint32_t n_rows,
                 float *ret);
void source_attn(struct source *s, const struct source_layer *w, const float *h, uint32_t n_rows,
                 float *ret);
void source_ffn(struct source *s, const struct source_layer *w, const float *h, uint32_t n_rows,
                float *ret);
/* x[n_rows][n_embd] += in * mat, MODEL_OUT or MODEL_DOWN. */
void source_add(struct source *s, const struct source_layer *w, enum model_mat mat, const float *in,
                uint32_t n_rows, float *x);

/* De-quantised rows [row0, row0 + n_rows) of the output matrix: dst[n_rows][n_embd]. */
int source_head_rows(struct source *s, uint32_t row0, uint32_t n_rows, float *dst,
                     struct err *e) MUST_CHECK;

/* logits[i][n_vocab] (distance ld) of n final hidden states x[n][n_embd], already normed. */
int source_logits(struct source *s, const float *x, uint32_t n, float *logits, size_t ld,
                  struct err *e) MUST_CHECK;

#endif
