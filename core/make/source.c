#include "core/make/source.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/dequant.h"
#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/slots.h"
#include "core/make/source_internal.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    LOAD_ROWS = 64,   /* rows of a matrix de-quantised as one piece of work */
    VOCAB_ROWS = 512, /* rows of the output matrix in one piece of source_logits() */
};

enum source_input source_input_of(enum model_mat mat) {
    switch (mat) {
    case MODEL_Q:
    case MODEL_K:
    case MODEL_V: return SOURCE_ATTN_IN;
    case MODEL_OUT: return SOURCE_ATTN_OUT;
    case MODEL_GATE:
    case MODEL_UP: return SOURCE_FFN_IN;
    case MODEL_DOWN:
    case MODEL_HEAD: break;
    }
    ASSERT(mat == MODEL_DOWN);
    return SOURCE_FFN_DOWN;
}

uint32_t source_input_width(const struct model_hparams *h, enum source_input in) {
    switch (in) {
    case SOURCE_ATTN_IN:
    case SOURCE_FFN_IN: return h->n_embd;
    case SOURCE_ATTN_OUT: return h->n_heads * h->head_dim;
    case SOURCE_FFN_DOWN: break;
    }
    return h->n_ff;
}

/* ---- de-quantising ---------------------------------------------------------------------------
 * Rows of several tensors as pieces of work for the pool; the first error is kept. */

struct load_part {
    const struct gguf_tensor *tensor;
    uint64_t row0;
    uint32_t n_rows;
    uint32_t first_chunk;
    float *dst;
};

struct load {
    const struct gguf *gguf;
    struct load_part parts[MODEL_LAYER_MATS];
    uint32_t n_parts, n_chunks;
    atomic_flag has_error; /* who sets it owns `err` */
    _Atomic int code;      /* relaxed: read after pool_run(), which orders everything */
    struct err err;
};

static void load_add(struct load *l, const struct gguf_tensor *t, uint64_t row0, uint32_t n_rows,
                     float *dst) {
    l->parts[l->n_parts++] = (struct load_part){t, row0, n_rows, l->n_chunks, dst};
    l->n_chunks += (n_rows + LOAD_ROWS - 1) / LOAD_ROWS;
}

static void load_fail(struct load *l, const struct err *e, int code) {
    if (atomic_flag_test_and_set(&l->has_error)) return;
    l->err = *e;
    l->code = code;
}

static void load_chunk(void *ud, uint32_t chunk) {
    struct load *l = ud;
    uint32_t i = l->n_parts - 1;
    while (l->parts[i].first_chunk > chunk) i--;
    const struct load_part *p = &l->parts[i];
    uint32_t at = (chunk - p->first_chunk) * LOAD_ROWS;
    struct err e = {0};
    int r = dequant_rows(l->gguf, p->tensor, p->row0 + at, MIN(p->n_rows - at, (uint32_t)LOAD_ROWS),
                         p->dst + at * p->tensor->dims[0], &e);
    if (r < 0) load_fail(l, &e, r);
}

static int load_run(struct load *l, struct pool *pool, struct err *e) {
    pool_run(pool, load_chunk, l, l->n_chunks);
    if (l->code < 0 && e) *e = l->err;
    return l->code;
}

static const struct gguf_tensor *find(const struct source *s, const char *name, struct err *e) {
    const struct gguf_tensor *t = gguf_find_tensor(s->gguf, name);
    if (!t) err_set(e, -EBADMSG, "tensor %s is missing", name);
    return t;
}

int source_load_layer(struct source *s, uint32_t layer, const struct source_layer **ret,
                      struct err *e) {
    float *w = s->kept[layer];
    bool is_fresh = !w;
    size_t bytes = s->layer_floats * sizeof(float);
    if (!w && bytes <= s->keep_bytes) {
        w = mem_alloc(s->mem, MEM_PACKER, bytes);
        if (!w) return err_set(e, -ENOMEM, "no memory for the floats of layer %u", layer);
        s->kept[layer] = w;
        s->keep_bytes -= bytes;
    }
    if (!w) {
        if (!s->once) s->once = mem_alloc(s->mem, MEM_PACKER, bytes);
        if (!s->once) return err_set(e, -ENOMEM, "no memory for the floats of one layer");
        w = s->once;
    }

    struct load l = {.gguf = s->gguf, .has_error = ATOMIC_FLAG_INIT};
    float *at = w;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        char name[64];
        model_mat_shape(&s->h, (enum model_mat)m, &n_out, &n_in);
        model_tensor_name(&s->h, layer, (enum model_mat)m, name, sizeof(name));
        const struct gguf_tensor *t = find(s, name, e);
        if (!t) return -EBADMSG;
        load_add(&l, t, 0, n_out, at);
        s->current.mats[m] = at;
        at += (size_t)n_out * n_in;
    }
    int r = is_fresh ? load_run(&l, s->pool, e) : 0;
    if (r < 0) {
        /* Half-filled floats must not be found later. */
        if (s->kept[layer]) {
            mem_free(s->mem, MEM_PACKER, s->kept[layer], bytes);
            s->kept[layer] = NULL;
            s->keep_bytes += bytes;
        }
        return r;
    }
    *ret = &s->current;
    return 0;
}

int source_embed(struct source *s, const uint32_t *ids, size_t n, float *x, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        ASSERT(ids[i] < s->h.n_vocab);
        int r = dequant_rows(s->gguf, s->embd, ids[i], 1, x + i * s->h.n_embd, e);
        if (r < 0) return r;
    }
    return 0;
}

int source_head_rows(struct source *s, uint32_t row0, uint32_t n_rows, float *dst, struct err *e) {
    struct load l = {.gguf = s->gguf, .has_error = ATOMIC_FLAG_INIT};
    load_add(&l, s->head, row0, n_rows, dst);
    return load_run(&l, s->pool, e);
}

/* ---- the head ---------------------------------------------------------------------------------
 */

struct head {
    struct source *s;
    const float *x;
    uint32_t n;
    float *logits;
    size_t ld;
    struct load errors; /* only its error */
};

static void head_chunk(void *ud, uint32_t chunk) {
    struct head *j = ud;
    struct source *s = j->s;
    uint32_t row0 = chunk * VOCAB_ROWS, n_rows = MIN(s->h.n_vocab - row0, (uint32_t)VOCAB_ROWS);
    float *w = slots_claim(s->slots);
    struct err e = {0};
    int r = dequant_rows(s->gguf, s->head, row0, n_rows, w, &e);
    if (r == 0)
        gemm_nt(j->n, n_rows, s->h.n_embd, j->x, s->h.n_embd, w, s->h.n_embd, j->logits + row0,
                j->ld);
    else
        load_fail(&j->errors, &e, r);
    slots_release(s->slots, w);
}

int source_logits(struct source *s, const float *x, uint32_t n, float *logits, size_t ld,
                  struct err *e) {
    struct head j = {.s = s,
                     .x = x,
                     .n = n,
                     .logits = logits,
                     .ld = ld,
                     .errors = {.has_error = ATOMIC_FLAG_INIT}};
    pool_run(s->pool, head_chunk, &j, (s->h.n_vocab + VOCAB_ROWS - 1) / VOCAB_ROWS);
    if (j.errors.code < 0 && e) *e = j.errors.err;
    return j.errors.code;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int read_vector(struct source *s, const char *name, uint32_t n, float *ret, struct err *e) {
    const struct gguf_tensor *t = find(s, name, e);
    if (!t) return -EBADMSG;
    if (t->n_elems != n)
        return err_set(e, -EBADMSG, "tensor %s holds %llu values, not %u", name,
                       (unsigned long long)t->n_elems, n);
    return dequant_rows(s->gguf, t, 0, 1, ret, e);
}

static int read_core(struct source *s, struct err *e) {
    const struct model_hparams *h = &s->h;
    float *at = s->core;
    int r = 0;
    /* The order is the pack's: all attention norms, all feed-forward norms, output norm, RoPE. */
    for (uint32_t l = 0; r == 0 && l < 2 * h->n_layers; l++, at += h->n_embd) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%u.%s_norm.weight", l % h->n_layers,
                 l < h->n_layers ? "attn" : "ffn");
        r = read_vector(s, name, h->n_embd, at, e);
    }
    if (r < 0) return r;
    r = read_vector(s, "output_norm.weight", h->n_embd, at, e);
    if (r < 0) return r;
    at += h->n_embd;
    if (gguf_find_tensor(s->gguf, "rope_freqs.weight"))
        return read_vector(s, "rope_freqs.weight", h->rope_dim / 2, at, e);
    for (uint32_t i = 0; i < h->rope_dim / 2; i++) at[i] = 1.0f;
    return 0;
}

static void fill_rope(struct source *s) {
    uint32_t half = s->h.rope_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double f = pow((double)s->h.rope_base, -(double)i / half) /
                   (double)s->vectors.rope_freqs[i];
        for (uint32_t p = 0; p < SOURCE_WINDOW; p++) {
            s->rope[(size_t)p * s->h.rope_dim + 2 * i] = (float)cos(p * f);
            s->rope[(size_t)p * s->h.rope_dim + 2 * i + 1] = (float)sin(p * f);
        }
    }
}

static size_t rope_bytes(const struct source *s) {
    return (size_t)SOURCE_WINDOW * s->h.rope_dim * sizeof(float);
}

int source_create(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                  const struct gguf *g, uint64_t keep_bytes, struct source **ret, struct err *e) {
    struct source *s = calloc(1, sizeof(*s));
    if (!s) return err_set(e, -ENOMEM, "no memory for the source model");
    s->mem = m;
    s->pool = pool;
    s->ops = ops;
    s->gguf = g;
    s->keep_bytes = keep_bytes;
    int r = model_read_hparams(g, true, &s->h, e);
    if (r < 0) goto out;
    const struct model_hparams *h = &s->h;
    for (uint32_t i = 0; i < MODEL_LAYER_MATS; i++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)i, &n_out, &n_in);
        s->layer_floats += (size_t)n_out * n_in;
    }
    s->embd = find(s, "token_embd.weight", e);
    s->head = find(s, h->is_tied ? "token_embd.weight" : "output.weight", e);
    if (!s->embd || !s->head) {
        r = -EBADMSG;
        goto out;
    }

    size_t floats = MAX(source_scratch_floats(h, SOURCE_WINDOW), (size_t)VOCAB_ROWS * h->n_embd);
    s->kept = calloc(h->n_layers, sizeof(*s->kept));
    s->core = mem_alloc(m, MEM_PACKER, model_core_floats(h) * sizeof(float));
    s->rope = mem_alloc(m, MEM_PACKER, rope_bytes(s));
    r = slots_create(m, pool_threads(pool), floats * sizeof(float), &s->slots);
    if (!s->kept || !s->core || !s->rope || r < 0) {
        r = err_set(e, -ENOMEM, "no memory for the source model");
        goto out;
    }
    r = read_core(s, e);
    if (r < 0) goto out;
    model_core_bind(h, s->core, &s->vectors);
    fill_rope(s);
    *ret = s;
    s = NULL;
out:
    source_destroy(s);
    return r;
}

void source_destroy(struct source *s) {
    if (!s) return;
    size_t bytes = s->layer_floats * sizeof(float);
    for (uint32_t l = 0; s->kept && l < s->h.n_layers; l++)
        mem_free(s->mem, MEM_PACKER, s->kept[l], bytes);
    mem_free(s->mem, MEM_PACKER, s->once, bytes);
    if (s->core) mem_free(s->mem, MEM_PACKER, s->core, model_core_floats(&s->h) * sizeof(float));
    if (s->rope) mem_free(s->mem, MEM_PACKER, s->rope, rope_bytes(s));
    slots_destroy(s->slots);
    free(s->kept);
    free(s);
}

const struct model_hparams *source_hparams(const struct source *s) {
    return &s->h;
}

const float *source_core(const struct source *s) {
    return s->core;
}

const struct model_core *source_vectors(const struct source *s) {
    return &s->vectors;
}

struct pool *source_pool(const struct source *s) {
    return s->pool;
}

const struct kern_ops *source_ops(const struct source *s) {
    return s->ops;
}

const float *source_rope(const struct source *s, uint32_t pos) {
    return s->rope + (size_t)pos * s->h.rope_dim;
}
