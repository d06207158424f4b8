/* The source's forward pass: windows through a transformer layer. */
#include "core/make/source.h"

#include <math.h>
#include <string.h>

#include "core/gemm.h"
#include "core/make/fexp.h"
#include "core/make/slots.h"
#include "core/make/source_internal.h"
#include "core/pool.h"
#include "kernels/kernels.h"

/* Queries of one attention product: half of the square is never computed. */
enum { QUERY_ROWS = 64 };

/* ---- the transformer layer --------------------------------------------------------------------
 */

/* Where a slot's floats are used for what. */
struct scratch {
    float *h;      /* [n_rows][n_embd]: normed input, later the products of out and down */
    float *q, *o;  /* [n_rows][n_heads * head_dim] */
    float *k, *v;  /* [n_rows][n_kv_heads * head_dim] */
    float *gate;   /* [n_rows][n_ff] */
    float *up;     /* [n_rows][n_ff] */
    float *scores; /* [QUERY_ROWS][n_rows] */
};

size_t source_scratch_floats(const struct model_hparams *h, size_t n_rows) {
    size_t row = (size_t)h->n_embd + 2 * (size_t)h->head_dim * (h->n_heads + h->n_kv_heads) +
                 2 * (size_t)h->n_ff + QUERY_ROWS;
    return row * n_rows;
}

static void scratch_bind(const struct model_hparams *h, size_t n_rows, float *p,
                         struct scratch *ret) {
    size_t q = (size_t)h->n_heads * h->head_dim, kv = (size_t)h->n_kv_heads * h->head_dim;
    ret->h = p;
    ret->q = ret->h + n_rows * h->n_embd;
    ret->o = ret->q + n_rows * q;
    ret->k = ret->o + n_rows * q;
    ret->v = ret->k + n_rows * kv;
    ret->gate = ret->v + n_rows * kv;
    ret->up = ret->gate + n_rows * h->n_ff;
    ret->scores = ret->up + n_rows * h->n_ff;
}

/* In place: p[i] = softmax(scale * p)[i] over the first `n`, zeros from there to `end`. Eight
 * running sums, so that the compiler may use vectors without reordering anything. */
static void softmax_row(float *p, size_t n, size_t end, float scale) {
    float top = p[0];
    for (size_t i = 1; i < n; i++) top = p[i] > top ? p[i] : top;
    float sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) {
            p[i + j] = fexp((p[i + j] - top) * scale);
            sum[j] += p[i + j];
        }
    for (; i < n; i++) {
        p[i] = fexp((p[i] - top) * scale);
        sum[0] += p[i];
    }
    float all = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    float inv = 1.0f / all;
    for (i = 0; i < n; i++) p[i] *= inv;
    for (; i < end; i++) p[i] = 0.0f;
}

/* o = attention of all heads of one window; causal. */
static void attend(const struct model_hparams *h, const struct scratch *t, size_t n_rows,
                   float *o) {
    size_t hd = h->head_dim, ldq = h->n_heads * hd, ldkv = h->n_kv_heads * hd;
    size_t share = h->n_heads / h->n_kv_heads;
    float scale = 1.0f / sqrtf((float)hd);
    for (size_t head = 0; head < h->n_heads; head++) {
        const float *k = t->k + head / share * hd;
        const float *v = t->v + head / share * hd;
        for (size_t q0 = 0; q0 < n_rows; q0 += QUERY_ROWS) {
            size_t nq = MIN(n_rows - q0, (size_t)QUERY_ROWS), n_keys = q0 + nq;
            gemm_nt(nq, n_keys, hd, t->q + q0 * ldq + head * hd, ldq, k, ldkv, t->scores, n_rows);
            for (size_t i = 0; i < nq; i++)
                softmax_row(t->scores + i * n_rows, q0 + i + 1, n_keys, scale);
            gemm_nn(nq, hd, n_keys, t->scores, n_rows, v, ldkv, o + q0 * ldq + head * hd, ldq);
        }
    }
}

/* ret[n_rows][n_out] = x[n_rows][n_in] * mat */
static void project(const struct source *s, const struct source_layer *w, enum model_mat mat,
                    const float *x, uint32_t n_rows, float *ret) {
    uint32_t n_out, n_in;
    model_mat_shape(&s->h, mat, &n_out, &n_in);
    gemm_nt(n_rows, n_out, n_in, x, n_in, w->mats[mat], n_in, ret, n_out);
}

static void norm_rows(const struct source *s, const float *x, const float *gain, uint32_t n_rows,
                      float *ret) {
    for (size_t i = 0; i < n_rows; i++)
        s->ops->rmsnorm(x + i * s->h.n_embd, gain, s->h.n_embd, s->h.norm_eps,
                        ret + i * s->h.n_embd);
}

/* o = attention of the normed input h. */
static void attn_rows(const struct source *s, const struct source_layer *w, const float *h,
                      uint32_t n_rows, const struct scratch *t, float *o) {
    const struct model_hparams *p = &s->h;
    project(s, w, MODEL_Q, h, n_rows, t->q);
    project(s, w, MODEL_K, h, n_rows, t->k);
    project(s, w, MODEL_V, h, n_rows, t->v);
    for (size_t i = 0; i < n_rows; i++) {
        const float *cs = source_rope(s, (uint32_t)i);
        s->ops->rope(t->q + i * p->n_heads * p->head_dim, p->n_heads, p->head_dim, p->rope_dim, cs);
        s->ops->rope(t->k + i * p->n_kv_heads * p->head_dim, p->n_kv_heads, p->head_dim,
                     p->rope_dim, cs);
    }
    attend(p, t, n_rows, o);
}

/* ret = silu(gate h) * (up h) of the normed input h. */
static void ffn_rows(const struct source *s, const struct source_layer *w, const float *h,
                     uint32_t n_rows, const struct scratch *t, float *ret) {
    size_t n_ff = s->h.n_ff;
    project(s, w, MODEL_GATE, h, n_rows, t->gate);
    project(s, w, MODEL_UP, h, n_rows, t->up);
    for (size_t i = 0; i < n_rows; i++)
        s->ops->silu_mul(t->gate + i * n_ff, t->up + i * n_ff, s->h.n_ff, ret + i * n_ff);
}

/* ---- windows through a whole layer -------------------------------------------------------------
 */

struct block {
    struct source *s;
    uint32_t layer;
    const struct source_layer *w;
    float *x;
    uint32_t n_rows;
    source_seen_fn seen;
    void *ud;
};

static void see(const struct block *b, uint32_t window, enum source_input in, const float *x) {
    if (b->seen) b->seen(b->ud, window, in, x, b->n_rows, source_input_width(&b->s->h, in));
}

/* One window through one layer: the transformer block, step by step. */
static void block_window(void *ud, uint32_t window) {
    const struct block *b = ud;
    struct source *s = b->s;
    size_t n = b->n_rows, d = s->h.n_embd;
    float *x = b->x + window * n * d;
    float *mem = slots_claim(s->slots);
    struct scratch t;
    scratch_bind(&s->h, n, mem, &t);

    norm_rows(s, x, s->vectors.attn_norm + b->layer * d, b->n_rows, t.h);
    see(b, window, SOURCE_ATTN_IN, t.h);
    attn_rows(s, b->w, t.h, b->n_rows, &t, t.o);
    see(b, window, SOURCE_ATTN_OUT, t.o);
    project(s, b->w, MODEL_OUT, t.o, b->n_rows, t.h);
    for (size_t i = 0; i < n * d; i++) x[i] += t.h[i];

    norm_rows(s, x, s->vectors.ffn_norm + b->layer * d, b->n_rows, t.h);
    see(b, window, SOURCE_FFN_IN, t.h);
    ffn_rows(s, b->w, t.h, b->n_rows, &t, t.gate);
    see(b, window, SOURCE_FFN_DOWN, t.gate);
    project(s, b->w, MODEL_DOWN, t.gate, b->n_rows, t.h);
    for (size_t i = 0; i < n * d; i++) x[i] += t.h[i];
    slots_release(s->slots, mem);
}

void source_block(struct source *s, uint32_t layer, const struct source_layer *w, float *x,
                  uint32_t n_windows, uint32_t n_rows, source_seen_fn seen, void *ud) {
    ASSERT(n_rows >= 1 && n_rows <= SOURCE_WINDOW);
    struct block b = {s, layer, w, x, n_rows, seen, ud};
    pool_run(s->pool, block_window, &b, n_windows);
}

/* ---- one window in parts ----------------------------------------------------------------------
 */

void source_norm(const struct source *s, const float *gain, const float *x, uint32_t n_rows,
                 float *ret) {
    norm_rows(s, x, gain, n_rows, ret);
}

void source_attn(struct source *s, const struct source_layer *w, const float *h, uint32_t n_rows,
                 float *ret) {
    struct scratch t;
    float *mem = slots_claim(s->slots);
    scratch_bind(&s->h, n_rows, mem, &t);
    attn_rows(s, w, h, n_rows, &t, ret);
    slots_release(s->slots, mem);
}

void source_ffn(struct source *s, const struct source_layer *w, const float *h, uint32_t n_rows,
                float *ret) {
    struct scratch t;
    float *mem = slots_claim(s->slots);
    scratch_bind(&s->h, n_rows, mem, &t);
    ffn_rows(s, w, h, n_rows, &t, ret);
    slots_release(s->slots, mem);
}

void source_add(struct source *s, const struct source_layer *w, enum model_mat mat, const float *in,
                uint32_t n_rows, float *x) {
    struct scratch t;
    float *mem = slots_claim(s->slots);
    size_t n = (size_t)n_rows * s->h.n_embd;
    scratch_bind(&s->h, n_rows, mem, &t);
    project(s, w, mat, in, n_rows, t.h);
    for (size_t i = 0; i < n; i++) x[i] += t.h[i];
    slots_release(s->slots, mem);
}
