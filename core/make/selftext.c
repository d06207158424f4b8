#include "core/make/selftext.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/attend.h"
#include "core/err.h"
#include "core/gemm.h"
#include "core/kv.h"
#include "core/make/fexp.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/tok.h"

enum { MAX_SEQS = 64 }; /* written together: beyond this the products gain nothing from size */

/* Caches of all sequences written together. With the layers below and what a step needs the whole
 * stays under 1 GiB. */
#define KV_BYTES ((uint64_t)384 << 20)
/* Layers kept as floats between steps. A model that does not fit is de-quantised every step, which
 * takes about half of the time again. */
#define KEEP_BYTES ((uint64_t)512 << 20)

struct writer {
    struct tools *t; /* borrowed, as are tok and h */
    const struct tok *tok;
    const struct model_hparams *h;
    struct source *source; /* owned */
    uint32_t n_seqs, pos;
    struct kv *kv[MAX_SEQS]; /* owned */
    uint64_t rng[MAX_SEQS];
    uint32_t ids[MAX_SEQS]; /* the tokens at `pos` */
    float *data;            /* owned: the arrays below */
    size_t bytes;
    float *x, *h_, *t_; /* [n_seqs][n_embd]: stream, normed, product */
    float *q, *o;       /* [n_seqs][n_heads * head_dim] */
    float *k, *v;       /* [n_seqs][n_kv_heads * head_dim] */
    float *gate, *up;   /* [n_seqs][n_ff] */
    float *scores;      /* [n_seqs][KERN_ATTN_QUERIES][SOURCE_WINDOW] */
    float *logits;      /* [n_seqs][n_vocab] */
    uint32_t layer;     /* in work */
};

/* splitmix64: a whole generator in one number, so that each sequence has its own. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void bind(struct writer *w, float *p, size_t n_seqs) {
    const struct model_hparams *h = w->h;
    struct {
        float **at;
        size_t n;
    } parts[] = {
        {&w->x, h->n_embd},
        {&w->h_, h->n_embd},
        {&w->t_, h->n_embd},
        {&w->q, (size_t)h->n_heads * h->head_dim},
        {&w->o, (size_t)h->n_heads * h->head_dim},
        {&w->k, (size_t)h->n_kv_heads * h->head_dim},
        {&w->v, (size_t)h->n_kv_heads * h->head_dim},
        {&w->gate, h->n_ff},
        {&w->up, h->n_ff},
        {&w->scores, (size_t)KERN_ATTN_QUERIES * SOURCE_WINDOW},
        {&w->logits, h->n_vocab},
    };
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (p) *parts[i].at = p + at;
        at += parts[i].n * n_seqs;
    }
    w->bytes = at * sizeof(float);
}

/* ---- one step of all sequences; each function below handles one sequence ------------------------
 */

static void norm(struct writer *w, uint32_t i, const float *gain) {
    size_t d = w->h->n_embd;
    w->t->ops.rmsnorm(w->x + i * d, gain, (uint32_t)d, w->h->norm_eps, w->h_ + i * d);
}

static void attn_in(void *ud, uint32_t i) {
    struct writer *w = ud;
    norm(w, i, source_vectors(w->source)->attn_norm + (size_t)w->layer * w->h->n_embd);
}

static void attn_mix(void *ud, uint32_t i) {
    struct writer *w = ud;
    const struct model_hparams *h = w->h;
    const struct kern_ops *ops = &w->t->ops;
    size_t hd = h->head_dim, nq = h->n_heads * hd, nkv = h->n_kv_heads * hd;
    float *q = w->q + i * nq, *k = w->k + i * nkv, *v = w->v + i * nkv;
    const float *cs = source_rope(w->source, w->pos);
    ops->rope(q, h->n_heads, h->head_dim, h->rope_dim, cs);
    ops->rope(k, h->n_kv_heads, h->head_dim, h->rope_dim, cs);
    attend_keep(ops, h, w->kv[i], w->layer, w->pos, k, v);
    for (uint32_t part = 0; part < attend_parts(h); part++) {
        uint32_t n_q, head = attend_part(h, part, &n_q);
        attend_heads(ops, h, w->kv[i], w->layer, head, n_q, w->pos + 1, q + head * hd,
                     w->scores + (size_t)i * KERN_ATTN_QUERIES * SOURCE_WINDOW, SOURCE_WINDOW,
                     w->o + i * nq + head * hd);
    }
}

static void add_product(struct writer *w, uint32_t i) {
    size_t d = w->h->n_embd;
    for (size_t j = i * d; j < (i + 1) * d; j++) w->x[j] += w->t_[j];
}

static void ffn_in(void *ud, uint32_t i) {
    struct writer *w = ud;
    add_product(w, i);
    norm(w, i, source_vectors(w->source)->ffn_norm + (size_t)w->layer * w->h->n_embd);
}

static void ffn_act(void *ud, uint32_t i) {
    struct writer *w = ud;
    float *gate = w->gate + (size_t)i * w->h->n_ff;
    w->t->ops.silu_mul(gate, w->up + (size_t)i * w->h->n_ff, w->h->n_ff, gate);
}

static void ffn_out(void *ud, uint32_t i) {
    add_product(ud, i);
}

static void last_norm(void *ud, uint32_t i) {
    struct writer *w = ud;
    norm(w, i, source_vectors(w->source)->output_norm);
}

/* Draws from softmax(logits): the first word at which the running sum passes the random share. */
static void draw(void *ud, uint32_t i) {
    struct writer *w = ud;
    uint32_t n = w->h->n_vocab;
    float *p = w->logits + (size_t)i * n;
    w->t->ops.log_softmax(p, n);
    double u = (double)(next_random(&w->rng[i]) >> 11) * 0x1p-53, sum = 0.0;
    uint32_t best = 0;
    for (uint32_t t = 0; t < n; t++) {
        best = p[t] > p[best] ? t : best;
        sum += (double)fexp(p[t]);
        if (sum > u) {
            w->ids[i] = t;
            return;
        }
    }
    w->ids[i] = best; /* rounding left the sum below u */
}

static void project(struct writer *w, const struct source_layer *l, enum model_mat mat,
                    const float *x, float *ret) {
    uint32_t n_out, n_in;
    model_mat_shape(w->h, mat, &n_out, &n_in);
    gemm_nt_pool(w->t->pool, w->n_seqs, n_out, n_in, x, n_in, l->mats[mat], n_in, ret, n_out);
}

/* From the tokens at `pos` to those at `pos + 1`. */
static int step(struct writer *w, struct err *e) {
    struct pool *p = w->t->pool;
    int r = source_embed(w->source, w->ids, w->n_seqs, w->x, e);
    for (w->layer = 0; r == 0 && w->layer < w->h->n_layers; w->layer++) {
        const struct source_layer *l;
        r = source_load_layer(w->source, w->layer, &l, e);
        if (r < 0) break;
        pool_run(p, attn_in, w, w->n_seqs);
        project(w, l, MODEL_Q, w->h_, w->q);
        project(w, l, MODEL_K, w->h_, w->k);
        project(w, l, MODEL_V, w->h_, w->v);
        pool_run(p, attn_mix, w, w->n_seqs);
        project(w, l, MODEL_OUT, w->o, w->t_);
        pool_run(p, ffn_in, w, w->n_seqs);
        project(w, l, MODEL_GATE, w->h_, w->gate);
        project(w, l, MODEL_UP, w->h_, w->up);
        pool_run(p, ffn_act, w, w->n_seqs);
        project(w, l, MODEL_DOWN, w->gate, w->t_);
        pool_run(p, ffn_out, w, w->n_seqs);
    }
    if (r < 0) return r;
    pool_run(p, last_norm, w, w->n_seqs);
    r = source_logits(w->source, w->h_, w->n_seqs, w->logits, w->h->n_vocab, e);
    if (r == 0) pool_run(p, draw, w, w->n_seqs);
    return r;
}

/* ---- starts ------------------------------------------------------------------------------------
 */

static uint32_t random_word(struct writer *w, uint32_t i) {
    uint32_t n = MIN(tok_n_vocab(w->tok), w->h->n_vocab);
    for (unsigned tries = 0; tries < 64; tries++) {
        uint32_t id = (uint32_t)(next_random(&w->rng[i]) % n);
        size_t len;
        (void)tok_piece(w->tok, id, false, &len);
        if (len > 0) return id;
    }
    return 0;
}

/* What documents begin with: BOS, or the first token that ends one, by turns. */
static uint32_t start_token(struct writer *w, uint32_t i) {
    int64_t bos = tok_bos(w->tok);
    if (bos >= 0 && bos < w->h->n_vocab && (tok_adds_bos(w->tok) || i % 2 == 0))
        return (uint32_t)bos;
    uint32_t n = MIN(tok_n_vocab(w->tok), w->h->n_vocab);
    for (uint32_t id = 0; id < n; id++)
        if (tok_is_end(w->tok, id)) return id;
    return random_word(w, i);
}

/* Sequences first .. first + n_seqs, into ids[seq][window]. */
static int write_seqs(struct writer *w, uint32_t first, uint32_t window, uint32_t n_windows,
                      uint64_t seed, uint32_t *ids, struct err *e) {
    for (uint32_t i = 0; i < w->n_seqs; i++) {
        w->rng[i] = seed;
        w->rng[i] = next_random(&w->rng[i]) + first + i;
        w->ids[i] = start_token(w, first + i);
        ids[(size_t)(first + i) * window] = w->ids[i];
    }
    for (w->pos = 0; w->pos + 1 < window; w->pos++) {
        int r = step(w, e);
        if (r < 0) return r;
        for (uint32_t i = 0; i < w->n_seqs; i++) {
            if (w->pos == 0 && (first + i) % 4 >= 2) w->ids[i] = random_word(w, i);
            ids[(size_t)(first + i) * window + w->pos + 1] = w->ids[i];
        }
        progress_tell(&w->t->progress, "writing a text",
                      (uint64_t)first * window + (uint64_t)(w->pos + 2) * w->n_seqs,
                      (uint64_t)n_windows * window, "tokens");
    }
    return 0;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void writer_fini(struct writer *w) {
    for (uint32_t i = 0; i < MAX_SEQS; i++) kv_destroy(w->kv[i]);
    mem_free(w->t->mem, MEM_PACKER, w->data, w->bytes);
    source_destroy(w->source);
}

static int writer_init(struct writer *w, struct tools *t, const struct gguf *g,
                       const struct tok *tok, uint32_t n_windows, uint32_t window, struct err *e) {
    *w = (struct writer){.t = t, .tok = tok};
    int r = source_create(t->mem, t->pool, &t->ops, g, KEEP_BYTES, &w->source, e);
    if (r < 0) return r;
    w->h = source_hparams(w->source);
    uint64_t fits = MAX((uint64_t)1, KV_BYTES / kv_bytes_for(w->h, KV_F16, window));
    uint32_t most = (uint32_t)MIN(fits, (uint64_t)MIN(n_windows, (uint32_t)MAX_SEQS));
    /* Turns of equal size: a small last one would take as long as a full one. */
    uint32_t n_turns = (n_windows + most - 1) / most;
    w->n_seqs = (n_windows + n_turns - 1) / n_turns;
    bind(w, NULL, w->n_seqs);
    w->data = mem_alloc(t->mem, MEM_PACKER, w->bytes);
    if (!w->data) r = err_set(e, -ENOMEM, "no memory to write a text");
    for (uint32_t i = 0; r == 0 && i < w->n_seqs; i++)
        r = kv_create(t->mem, w->h, KV_F16, window, &w->kv[i], e);
    if (r < 0) {
        writer_fini(w);
        return r;
    }
    bind(w, w->data, w->n_seqs);
    return 0;
}

int selftext_write(struct tools *t, const struct gguf *g, const struct tok *tok, uint32_t n_windows,
                   uint32_t window, uint64_t seed, struct text *ret, struct err *e) {
    ASSERT(n_windows >= 1 && window >= 2 && window <= SOURCE_WINDOW);
    struct writer w;
    int r = writer_init(&w, t, g, tok, n_windows, window, e);
    if (r < 0) return r;
    uint32_t *ids = calloc((size_t)n_windows * window, sizeof(*ids));
    if (!ids) r = err_set(e, -ENOMEM, "no memory for %u windows of text", n_windows);
    uint32_t most = w.n_seqs;
    for (uint32_t first = 0; r == 0 && first < n_windows; first += w.n_seqs) {
        w.n_seqs = MIN(most, n_windows - first);
        r = write_seqs(&w, first, window, n_windows, seed, ids, e);
    }
    if (r == 0) {
        text_adopt(ret, ids, n_windows, window);
        ids = NULL;
    }
    free(ids);
    writer_fini(&w);
    return r;
}
