/* Sizes and tensor names of the `llama` architecture. Strict on purpose: a key or a tensor that
 * would change the arithmetic and that the engine does not know is refused by name, because
 * ignoring it gives wrong answers without a sign. Pure; any thread. */
#include "core/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/dequant.h"
#include "core/err.h"
#include "core/gguf.h"
#include "kernels/planes.h"

static bool str_is(const struct gguf_str *s, const char *want) {
    return s->n == strlen(want) && memcmp(s->p, want, s->n) == 0;
}

/* --- Metadata --------------------------------------------------------------------------------- */

static int check_arch(const struct gguf *g, struct err *e) {
    struct gguf_str arch;
    int r = gguf_get_str(g, "general.architecture", &arch, e);
    if (r == -ENOENT) return err_set(e, -EBADMSG, "key general.architecture is missing");
    if (r < 0 || str_is(&arch, "llama")) return r;
    return err_set(e, -ENOTSUP, "architecture '%.*s' is not supported, only 'llama'",
                   (int)MIN(arch.n, (size_t)40), arch.p);
}

/* Keys that are harmless when absent, 0 or (where marked) 1, and otherwise change the arithmetic.
 */
static int check_foreign_keys(const struct gguf *g, struct err *e) {
    static const struct {
        const char *key, *what;
        bool one_is_fine;
    } foreign[] = {
        {"llama.expert_count", "mixture of experts", false},
        {"llama.expert_used_count", "mixture of experts", false},
        {"llama.attention.sliding_window", "sliding-window attention", false},
        {"llama.attention.clamp_kqv", "clamped attention", false},
        {"llama.attention.scale", "another attention scale", false},
        {"llama.attn_logit_softcapping", "soft-capped attention", false},
        {"llama.final_logit_softcapping", "soft-capped logits", false},
        {"llama.logit_scale", "scaled logits", true},
        {"llama.residual_scale", "a scaled residual", true},
        {"llama.embedding_scale", "scaled embeddings", true},
        {"llama.rope.scaling.factor", "RoPE scaling", true},
        {"llama.rope.scale_linear", "RoPE scaling", true},
        {"llama.rope.scaling.attn_factor", "RoPE scaling", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        const struct gguf_value *v = gguf_find(g, foreign[i].key);
        if (!v) continue;
        bool is_number = v->type != GGUF_ARRAY && v->type != GGUF_STRING;
        double d = is_number ? gguf_elem_f64(v, 0) : -1;
        if (d == 0 || (d == 1 && foreign[i].one_is_fine)) continue;
        return err_set(e, -ENOTSUP, "key %s: %s is not supported", foreign[i].key, foreign[i].what);
    }
    struct gguf_str s;
    int r = gguf_get_str(g, "llama.rope.scaling.type", &s, e);
    if (r == -ENOENT || (r == 0 && str_is(&s, "none"))) return 0;
    if (r < 0) return r;
    return err_set(e, -ENOTSUP, "RoPE scaling '%.*s' is not supported, only a rope_freqs tensor",
                   (int)MIN(s.n, (size_t)40), s.p);
}

/* A count in 1 .. max. `fallback` 0: the key is required. */
static int read_count(const struct gguf *g, const char *key, uint32_t fallback, uint32_t max,
                      uint32_t *ret, struct err *e) {
    uint32_t v = 0;
    int r = gguf_get_u32(g, key, &v, e);
    if (r == -ENOENT) {
        if (fallback == 0) return err_set(e, -EBADMSG, "key %s is missing", key);
        v = fallback;
    } else if (r < 0) {
        return r;
    }
    if (v < 1 || v > max)
        return err_set(e, -EBADMSG, "key %s: %" PRIu32 " is not in 1 .. %" PRIu32, key, v, max);
    *ret = v;
    return 0;
}

/* A number in lo .. hi. `fallback` 0: the key is required. */
static int read_float(const struct gguf *g, const char *key, float fallback, float lo, float hi,
                      float *ret, struct err *e) {
    float v = 0;
    int r = gguf_get_f32(g, key, &v, e);
    if (r == -ENOENT) {
        if (!(fallback > 0)) return err_set(e, -EBADMSG, "key %s is missing", key);
        v = fallback;
    } else if (r < 0) {
        return r;
    }
    if (!(v >= lo && v <= hi))
        return err_set(e, -EBADMSG, "key %s: %g is not in %g .. %g", key, (double)v, (double)lo,
                       (double)hi);
    *ret = v;
    return 0;
}

static int read_heads(const struct gguf *g, struct model_hparams *h, struct err *e) {
    uint32_t value_length = 0;
    int r = read_count(g, "llama.attention.head_count", 0, MODEL_MAX_HEADS, &h->n_heads, e);
    if (r < 0) return r;
    r = read_count(g, "llama.attention.head_count_kv", h->n_heads, MODEL_MAX_HEADS, &h->n_kv_heads,
                   e);
    if (r < 0) return r;
    if (h->n_heads % h->n_kv_heads != 0)
        return err_set(e, -EBADMSG,
                       "%" PRIu32 " attention heads cannot share %" PRIu32
                       " key/value heads evenly",
                       h->n_heads, h->n_kv_heads);
    uint32_t even = h->n_embd % h->n_heads == 0 ? h->n_embd / h->n_heads : 0;
    r = read_count(g, "llama.attention.key_length", even, MODEL_MAX_HEAD_DIM, &h->head_dim, e);
    if (r < 0) return r;
    r = read_count(g, "llama.attention.value_length", h->head_dim, MODEL_MAX_HEAD_DIM,
                   &value_length, e);
    if (r < 0) return r;
    if (value_length != h->head_dim)
        return err_set(e, -ENOTSUP,
                       "keys of %" PRIu32 " and values of %" PRIu32 " per head: only equal lengths "
                       "are supported",
                       h->head_dim, value_length);
    if (h->head_dim % 8 != 0)
        return err_set(e, -ENOTSUP, "head size %" PRIu32 " is not a multiple of 8", h->head_dim);
    r = read_count(g, "llama.rope.dimension_count", h->head_dim, MODEL_MAX_HEAD_DIM, &h->rope_dim,
                   e);
    if (r < 0) return r;
    if (h->rope_dim % 2 != 0 || h->rope_dim > h->head_dim)
        return err_set(e, -EBADMSG,
                       "llama.rope.dimension_count %" PRIu32
                       " is odd or above the head size %" PRIu32,
                       h->rope_dim, h->head_dim);
    return 0;
}

/* The vocabulary's size is that of the token list: it is in sources and packs alike. */
static int read_vocab(const struct gguf *g, struct model_hparams *h, struct err *e) {
    const struct gguf_value *tokens;
    uint32_t stated = 0;
    int r = gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, e);
    if (r == -ENOENT) return err_set(e, -EBADMSG, "key tokenizer.ggml.tokens is missing");
    if (r < 0) return r;
    if (tokens->n < 1 || tokens->n > MODEL_MAX_VOCAB)
        return err_set(e, -EBADMSG, "a vocabulary of %" PRIu64 " tokens, not 1 .. %d", tokens->n,
                       MODEL_MAX_VOCAB);
    h->n_vocab = (uint32_t)tokens->n;
    r = read_count(g, "llama.vocab_size", h->n_vocab, MODEL_MAX_VOCAB, &stated, e);
    if (r < 0) return r;
    if (stated != h->n_vocab)
        return err_set(e, -EBADMSG,
                       "llama.vocab_size is %" PRIu32 ", but there are %" PRIu32 " tokens", stated,
                       h->n_vocab);
    return 0;
}

static int check_group(const char *what, uint32_t n, struct err *e) {
    if (n % PLANE_GROUP == 0) return 0;
    return err_set(e, -ENOTSUP, "%s is %" PRIu32 ": matrices need inputs in multiples of %d", what,
                   n, PLANE_GROUP);
}

static int read_sizes(const struct gguf *g, struct model_hparams *h, struct err *e) {
    int r = read_count(g, "llama.block_count", 0, MODEL_MAX_LAYERS, &h->n_layers, e);
    if (r < 0) return r;
    r = read_count(g, "llama.embedding_length", 0, MODEL_MAX_EMBD, &h->n_embd, e);
    if (r < 0) return r;
    r = read_count(g, "llama.feed_forward_length", 0, MODEL_MAX_FF, &h->n_ff, e);
    if (r < 0) return r;
    r = read_count(g, "llama.context_length", 0, MODEL_MAX_CTX, &h->n_ctx_train, e);
    if (r < 0) return r;
    r = read_heads(g, h, e);
    if (r < 0) return r;
    r = read_vocab(g, h, e);
    if (r < 0) return r;
    r = read_float(g, "llama.rope.freq_base", 10000, 1, 1e12f, &h->rope_base, e);
    if (r < 0) return r;
    r = read_float(g, "llama.attention.layer_norm_rms_epsilon", 0, 1e-12f, 1e-1f, &h->norm_eps, e);
    if (r < 0) return r;
    r = check_group("llama.embedding_length", h->n_embd, e);
    if (r < 0) return r;
    r = check_group("llama.feed_forward_length", h->n_ff, e);
    if (r < 0) return r;
    return check_group("heads times head size", h->n_heads * h->head_dim, e);
}

/* --- Tensors of a source ---------------------------------------------------------------------- */

static int check_tensor(const struct gguf *g, const char *name, uint64_t n_in, uint64_t n_out,
                        struct err *e) {
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    uint32_t elems, bytes;
    if (!t) return err_set(e, -EBADMSG, "tensor %s is missing", name);
    if (t->dims[0] != n_in || t->dims[1] != n_out || t->dims[2] != 1 || t->dims[3] != 1)
        return err_set(e, -EBADMSG,
                       "tensor %s is %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                       ", the model needs %" PRIu64 " x %" PRIu64,
                       name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], n_in, n_out);
    if (!dequant_block(t->type, &elems, &bytes))
        return err_set(e, -ENOTSUP, "tensor %s: type %s cannot be imported", name,
                       gguf_type_name(t->type));
    return 0;
}

static int check_layer(const struct gguf *g, const struct model_hparams *h, uint32_t layer,
                       struct err *e) {
    char name[64];
    for (int m = MODEL_Q; m <= MODEL_DOWN; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        model_tensor_name(h, layer, (enum model_mat)m, name, sizeof(name));
        int r = check_tensor(g, name, n_in, n_out, e);
        if (r < 0) return r;
    }
    snprintf(name, sizeof(name), "blk.%" PRIu32 ".attn_norm.weight", layer);
    int r = check_tensor(g, name, h->n_embd, 1, e);
    if (r < 0) return r;
    snprintf(name, sizeof(name), "blk.%" PRIu32 ".ffn_norm.weight", layer);
    return check_tensor(g, name, h->n_embd, 1, e);
}

/* The tensors that a model of these sizes has; all were found, so a greater count in the file means
 * that it holds something else: name it. */
static int check_no_others(const struct gguf *g, const struct model_hparams *h, struct err *e) {
    static const char *const singles[] = {"token_embd.weight", "output_norm.weight",
                                          "output.weight", "rope_freqs.weight"};
    static const char *const norms[] = {"attn_norm.weight", "ffn_norm.weight"};
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_str *s = &gguf_tensor_at(g, i)->name;
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(singles); k++) known = known || str_is(s, singles[k]);
        unsigned layer;
        int head = 0;
        char buf[80];
        snprintf(buf, sizeof(buf), "%.*s", (int)s->n, s->p);
        if (sscanf(buf, "blk.%3u.%n", &layer, &head) == 1 && head > 0 && layer < h->n_layers) {
            char name[64];
            for (size_t k = 0; k < ARRAY_LEN(norms); k++)
                known = known || strcmp(buf + head, norms[k]) == 0;
            for (int m = MODEL_Q; m <= MODEL_DOWN; m++)
                known = known || strcmp(buf, model_tensor_name(h, layer, (enum model_mat)m, name,
                                                               sizeof(name))) == 0;
        }
        if (known) continue;
        size_t n = strlen(buf);
        bool is_bias = n >= 5 && strcmp(buf + n - 5, ".bias") == 0;
        return err_set(e, -ENOTSUP, "tensor %s: %s", buf,
                       is_bias ? "biases are not supported"
                               : "this architecture has no such tensor, or it is not supported");
    }
    return 0;
}

static int check_source(const struct gguf *g, const struct model_hparams *h, struct err *e) {
    int r = check_no_others(g, h, e); /* first: it names what makes the model another one */
    if (r < 0) return r;
    r = check_tensor(g, "token_embd.weight", h->n_embd, h->n_vocab, e);
    if (r < 0) return r;
    r = check_tensor(g, "output_norm.weight", h->n_embd, 1, e);
    if (r < 0) return r;
    if (!h->is_tied && (r = check_tensor(g, "output.weight", h->n_embd, h->n_vocab, e)) < 0)
        return r;
    if (gguf_find_tensor(g, "rope_freqs.weight") &&
        (r = check_tensor(g, "rope_freqs.weight", h->rope_dim / 2, 1, e)) < 0)
        return r;
    for (uint32_t i = 0; i < h->n_layers; i++)
        if ((r = check_layer(g, h, i, e)) < 0) return r;
    return 0;
}

int model_read_hparams(const struct gguf *g, bool is_source, struct model_hparams *ret,
                       struct err *e) {
    struct model_hparams h = {0};
    int r = check_arch(g, e);
    if (r < 0) return r;
    r = check_foreign_keys(g, e);
    if (r < 0) return r;
    r = read_sizes(g, &h, e);
    if (r < 0) return r;
    /* A pack of an untied model holds the token embedding apart from the head. */
    h.is_tied = is_source ? !gguf_find_tensor(g, "output.weight") : !gguf_find_tensor(g, "embd");
    if (is_source && (r = check_source(g, &h, e)) < 0) return r;
    *ret = h;
    return 0;
}

/* --- Names and shapes ------------------------------------------------------------------------- */

uint32_t model_n_units(const struct model_hparams *h) {
    return h->n_layers + 1;
}

const char *model_unit_name(const struct model_hparams *h, uint32_t unit, char *buf, size_t n) {
    ASSERT(unit <= h->n_layers);
    if (unit == h->n_layers)
        snprintf(buf, n, "head");
    else
        snprintf(buf, n, "layer %" PRIu32, unit);
    return buf;
}

/* Names as in GGUF; the head's depends on the model. */
static const char *const mat_names[MODEL_MAT_COUNT] = {
    [MODEL_Q] = "attn_q",        [MODEL_K] = "attn_k",      [MODEL_V] = "attn_v",
    [MODEL_OUT] = "attn_output", [MODEL_GATE] = "ffn_gate", [MODEL_UP] = "ffn_up",
    [MODEL_DOWN] = "ffn_down",   [MODEL_HEAD] = "head",
};

const char *model_mat_name(enum model_mat mat) {
    return mat_names[mat];
}

const char *model_tensor_name(const struct model_hparams *h, uint32_t layer, enum model_mat mat,
                              char *buf, size_t n) {
    if (mat == MODEL_HEAD)
        snprintf(buf, n, "%s.weight", h->is_tied ? "token_embd" : "output");
    else
        snprintf(buf, n, "blk.%" PRIu32 ".%s.weight", layer, mat_names[mat]);
    return buf;
}

void model_mat_shape(const struct model_hparams *h, enum model_mat mat, uint32_t *ret_n_out,
                     uint32_t *ret_n_in) {
    uint32_t n_q = h->n_heads * h->head_dim, n_kv = h->n_kv_heads * h->head_dim;
    uint32_t out = 0, in = h->n_embd;
    switch (mat) {
    case MODEL_Q: out = n_q; break;
    case MODEL_K:
    case MODEL_V: out = n_kv; break;
    case MODEL_OUT: out = h->n_embd, in = n_q; break;
    case MODEL_GATE:
    case MODEL_UP: out = h->n_ff; break;
    case MODEL_DOWN: out = h->n_embd, in = h->n_ff; break;
    case MODEL_HEAD: out = h->n_vocab; break;
    }
    *ret_n_out = out;
    *ret_n_in = in;
}

size_t model_core_floats(const struct model_hparams *h) {
    /* At most 2 * 512 * 65536 + 65536 + 128: far below 2^32. */
    return (size_t)2 * h->n_layers * h->n_embd + h->n_embd + h->rope_dim / 2;
}

void model_core_bind(const struct model_hparams *h, const float *core, struct model_core *ret) {
    size_t norms = (size_t)h->n_layers * h->n_embd;
    ret->attn_norm = core;
    ret->ffn_norm = core + norms;
    ret->output_norm = core + 2 * norms;
    ret->rope_freqs = ret->output_norm + h->n_embd;
}
