#include "core/make/eval_float.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"

struct eval_float {
    struct tools *t; /* borrowed, as are the next three */
    const struct gguf *gguf;
    const struct model_hparams *h;
    const struct text *text;
    uint32_t first, n_scores;
    struct source *source; /* owned */
    float *x;              /* the caller's, during a run */
    float *hidden;         /* owned: [group][n_scores][n_embd], normed */
    size_t hidden_bytes;
};

static bool is_same_shape(const struct model_hparams *a, const struct model_hparams *b) {
    return a->n_layers == b->n_layers && a->n_embd == b->n_embd && a->n_ff == b->n_ff &&
           a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads &&
           a->head_dim == b->head_dim && a->rope_dim == b->rope_dim && a->n_vocab == b->n_vocab &&
           a->is_tied == b->is_tied;
}

int eval_float_create(struct tools *t, const struct gguf *g, const struct model_hparams *h,
                      const struct text *text, uint32_t first, uint32_t n_scores, uint32_t group,
                      struct eval_float **ret, struct err *e) {
    struct eval_float *ef = calloc(1, sizeof(*ef));
    if (!ef) return err_set(e, -ENOMEM, "no memory for the model");
    *ef = (struct eval_float){
        .t = t, .gguf = g, .h = h, .text = text, .first = first, .n_scores = n_scores};
    /* No layers are kept as floats: making them again for each group takes a small part of what
     * the group's products take, and several models at once would take several times the room. */
    int r = source_create(t->mem, t->pool, &t->ops, g, 0, &ef->source, e);
    if (r == 0 && !is_same_shape(source_hparams(ef->source), h))
        r = err_set(e, -EINVAL, "another model: its sizes differ from the pack's");
    if (r == 0) {
        ef->hidden_bytes = (size_t)group * n_scores * h->n_embd * sizeof(float);
        ef->hidden = mem_alloc(t->mem, MEM_PACKER, ef->hidden_bytes);
        if (!ef->hidden) r = err_set(e, -ENOMEM, "no memory for hidden states");
    }
    if (r < 0) {
        eval_float_destroy(ef);
        return r;
    }
    *ret = ef;
    return 0;
}

void eval_float_destroy(struct eval_float *ef) {
    if (!ef) return;
    mem_free(ef->t->mem, MEM_PACKER, ef->hidden, ef->hidden_bytes);
    source_destroy(ef->source);
    free(ef);
}

static void norm_window(void *ud, uint32_t w) {
    struct eval_float *ef = ud;
    size_t d = ef->h->n_embd;
    for (uint32_t i = 0; i < ef->n_scores; i++)
        ef->t->ops.rmsnorm(ef->x + ((size_t)w * ef->text->window + ef->first + i) * d,
                           source_vectors(ef->source)->output_norm, (uint32_t)d, ef->h->norm_eps,
                           ef->hidden + ((size_t)w * ef->n_scores + i) * d);
}

int eval_float_run(struct eval_float *ef, uint32_t at, uint32_t n, float *x, struct err *e) {
    uint32_t window = ef->text->window;
    int r = source_embed(ef->source, ef->text->ids + (size_t)at * window, (size_t)n * window, x, e);
    for (uint32_t l = 0; r == 0 && l < ef->h->n_layers; l++) {
        const struct source_layer *w;
        r = source_load_layer(ef->source, l, &w, e);
        if (r == 0) source_block(ef->source, l, w, x, n, window, NULL, NULL);
    }
    if (r < 0) return r;
    ef->x = x;
    pool_run(ef->t->pool, norm_window, ef, n);
    ef->x = NULL;
    return 0;
}

int eval_float_logits(struct eval_float *ef, uint32_t i, float *logits, size_t ld, struct err *e) {
    const float *x = ef->hidden + (size_t)i * ef->n_scores * ef->h->n_embd;
    return source_logits(ef->source, x, ef->n_scores, logits, ld, e);
}

static uint64_t bytes_of(const struct eval_float *ef, uint32_t layer, enum model_mat mat) {
    char name[64];
    model_tensor_name(ef->h, layer, mat, name, sizeof(name));
    return gguf_find_tensor(ef->gguf, name)->bytes; /* source_create() has found it */
}

uint64_t eval_float_mat_bytes(const struct eval_float *ef) {
    uint64_t n = bytes_of(ef, 0, MODEL_HEAD);
    for (uint32_t l = 0; l < ef->h->n_layers; l++)
        for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) n += bytes_of(ef, l, (enum model_mat)m);
    return n;
}

uint64_t eval_float_bytes(const struct eval_float *ef) {
    uint64_t n = 0;
    for (size_t i = 0; i < gguf_n_tensors(ef->gguf); i++) n += gguf_tensor_at(ef->gguf, i)->bytes;
    return n;
}
