/* engine: against a double-precision forward pass written on its own, and against itself under
 * every split into steps, threads and batches.
 *
 * The reference de-quantises the planes by rows. With float activations it bounds what int8
 * activations cost; with activations and KV rounded as the engine does it bounds all else. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/pages.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "tests/golden/swsc_draw.h"
#include "tests/t.h"
#include "tests/unit/toy.h"

enum { MAX_TOKENS = 48, MAX_WIDTH = 512, MAX_VOCAB = 304, ORACLE_TOKENS = 20 };

static struct kern_ops ops;

/* ---- the reference ---- */

struct oracle {
    const struct toy *toy;
    const struct plan *plan;
    bool rounds; /* activations to int8 groups, keys and values to fp16 */
    enum kv_type kv;
    double k[4][MAX_TOKENS][MAX_WIDTH];
    double v[4][MAX_TOKENS][MAX_WIDTH];
};

static void round_acts(double *x, uint32_t n) {
    for (uint32_t g = 0; g < n; g += PLANE_GROUP) {
        double amax = 0;
        for (uint32_t i = g; i < g + PLANE_GROUP; i++) amax = fmax(amax, fabs(x[i]));
        if (amax == 0) continue;
        for (uint32_t i = g; i < g + PLANE_GROUP; i++)
            x[i] = rint(x[i] * PLANE_ACT_MAX / amax) * amax / PLANE_ACT_MAX;
    }
}

static double dot(const float *row, const double *x, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)row[i] * x[i];
    return sum;
}

static void planes_product(const struct oracle *o, const struct kern_planes *w, const double *x,
                           double *y) {
    double in[MAX_WIDTH];
    float row[MAX_WIDTH];
    memcpy(in, x, w->n_in * sizeof(in[0]));
    if (o->rounds) round_acts(in, w->n_in);
    for (uint32_t r = 0; r < w->n_out; r++) {
        ops.row(w, r, row);
        y[r] = dot(row, in, w->n_in);
    }
}

/* The base de-quantised, the pair as what it is. */
static void form_product(const struct oracle *o, const struct swsc_mat *w, const double *x,
                         double *y) {
    double in[MAX_WIDTH], mid[MAX_WIDTH], pair[MAX_WIDTH] = {0};
    float row[MAX_WIDTH];
    memcpy(in, x, w->n_in * sizeof(in[0]));
    if (o->rounds) round_acts(in, w->n_in);
    if (w->rank > 0) {
        planes_product(o, &w->b, x, mid);
        planes_product(o, &w->a, mid, pair);
    }
    for (uint32_t r = 0; r < w->n_out; r++) {
        swsc_draw_base_row(&ops, w, r, row);
        y[r] = dot(row, in, w->n_in) + pair[r];
    }
}

static void product(const struct oracle *o, uint32_t unit, enum model_mat m, const double *x,
                    double *y) {
    const struct plan_unit *u = &o->plan->units[unit];
    if (u->rung == RUNG_SWSC)
        form_product(o, &u->forms[m], x, y);
    else
        planes_product(o, &u->mats[m], x, y);
}

static void norm(const double *x, const float *gain, uint32_t n, double eps, double *y) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++) y[i] = x[i] / sqrt(sum / n + eps) * (double)gain[i];
}

static void rotate(const struct model_hparams *h, const float *freqs, double *x, uint32_t n_heads,
                   uint32_t pos) {
    for (uint32_t head = 0; head < n_heads; head++) {
        for (uint32_t i = 0; i < h->rope_dim / 2; i++) {
            double a = pos / pow((double)h->rope_base, 2.0 * i / h->rope_dim) / (double)freqs[i];
            double *p = x + head * h->head_dim + 2 * i;
            double p0 = p[0] * cos(a) - p[1] * sin(a), p1 = p[0] * sin(a) + p[1] * cos(a);
            p[0] = p0;
            p[1] = p1;
        }
    }
}

/* One head's key or value. */
static void store_kv(const struct oracle *o, const double *x, uint32_t n, double *to) {
    float f[MAX_WIDTH] = {0};
    uint16_t h[MAX_WIDTH];
    int8_t q[MAX_WIDTH];
    for (uint32_t i = 0; i < n; i++) f[i] = (float)x[i];
    float scale = ops.quant_kv(f, n, q);
    ops.to_f16(f, n, h);
    for (uint32_t i = 0; i < n; i++) {
        to[i] = x[i];
        if (o->rounds)
            to[i] = o->kv == KV_F16 ? (double)kern_from_f16(h[i]) : (double)(scale * q[i]);
    }
}

static void store_row(const struct oracle *o, const double *x, double *to) {
    const struct model_hparams *h = &o->toy->pack.hp;
    for (uint32_t i = 0; i < h->n_kv_heads; i++)
        store_kv(o, x + i * h->head_dim, h->head_dim, to + i * h->head_dim);
}

static void attend(const struct oracle *o, uint32_t layer, uint32_t pos, const double *q,
                   double *ret) {
    const struct model_hparams *h = &o->toy->pack.hp;
    for (uint32_t head = 0; head < h->n_heads; head++) {
        uint32_t at = head / (h->n_heads / h->n_kv_heads) * h->head_dim;
        double p[MAX_TOKENS], sum = 0;
        for (uint32_t t = 0; t <= pos; t++) {
            p[t] = 0;
            for (uint32_t i = 0; i < h->head_dim; i++)
                p[t] += q[head * h->head_dim + i] * o->k[layer][t][at + i];
            p[t] = exp(p[t] / sqrt(h->head_dim));
            sum += p[t];
        }
        for (uint32_t i = 0; i < h->head_dim; i++) {
            double *y = &ret[head * h->head_dim + i];
            *y = 0;
            for (uint32_t t = 0; t <= pos; t++) *y += p[t] / sum * o->v[layer][t][at + i];
        }
    }
}

static void oracle_token(struct oracle *o, uint32_t pos, uint32_t token, double *logits) {
    const struct model_hparams *h = &o->toy->pack.hp;
    struct model_core core;
    model_core_bind(h, o->toy->core, &core);
    double x[MAX_WIDTH], n[MAX_WIDTH], q[MAX_WIDTH], k[MAX_WIDTH], v[MAX_WIDTH], y[MAX_WIDTH];
    double gate[MAX_WIDTH], up[MAX_WIDTH];
    float row[MAX_WIDTH];
    const struct kern_planes *head = &o->plan->units[h->n_layers].mats[MODEL_HEAD];
    if (h->is_tied)
        ops.row(head, token, row);
    else
        memcpy(row, o->toy->pack.embd + (size_t)token * h->n_embd, h->n_embd * sizeof(float));
    for (uint32_t i = 0; i < h->n_embd; i++) x[i] = (double)row[i];
    for (uint32_t l = 0; l < h->n_layers; l++) {
        norm(x, core.attn_norm + l * h->n_embd, h->n_embd, (double)h->norm_eps, n);
        product(o, l, MODEL_Q, n, q);
        product(o, l, MODEL_K, n, k);
        product(o, l, MODEL_V, n, v);
        rotate(h, core.rope_freqs, q, h->n_heads, pos);
        rotate(h, core.rope_freqs, k, h->n_kv_heads, pos);
        store_row(o, k, o->k[l][pos]);
        store_row(o, v, o->v[l][pos]);
        attend(o, l, pos, q, y);
        product(o, l, MODEL_OUT, y, n);
        for (uint32_t i = 0; i < h->n_embd; i++) x[i] += n[i];
        norm(x, core.ffn_norm + l * h->n_embd, h->n_embd, (double)h->norm_eps, n);
        product(o, l, MODEL_GATE, n, gate);
        product(o, l, MODEL_UP, n, up);
        for (uint32_t i = 0; i < h->n_ff; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        product(o, l, MODEL_DOWN, gate, n);
        for (uint32_t i = 0; i < h->n_embd; i++) x[i] += n[i];
    }
    norm(x, core.output_norm, h->n_embd, (double)h->norm_eps, n);
    product(o, h->n_layers, MODEL_HEAD, n, logits);
}

/* ---- running the engine ---- */

struct rig {
    struct toy toy;
    struct pool *pool;
    struct engine *en;
    struct kv *kv;
};

static void rig_make(struct rig *r, enum toy_shape shape, unsigned n_threads, uint32_t max_rows,
                     uint32_t fine_rows, unsigned variant) {
    struct err e = {0};
    toy_init(&r->toy, shape, 77);
    toy_draw_forms(&r->toy, variant);
    REQUIRE_OK(pool_create(n_threads, &r->pool, &e), &e);
    struct engine_opts opts = {.max_rows = max_rows, .max_ctx = MAX_TOKENS, .fine_rows = fine_rows};
    REQUIRE_OK(
        engine_create(r->toy.mem, r->pool, &ops, &r->toy.pack, r->toy.core, &opts, &r->en, &e), &e);
    REQUIRE_OK(kv_create(r->toy.mem, &r->toy.pack.hp, fine_rows > 0 ? KV_F16 : KV_Q8, MAX_TOKENS,
                         &r->kv, &e),
               &e);
}

static void rig_init(struct rig *r, enum toy_shape shape, unsigned n_threads, uint32_t max_rows) {
    rig_make(r, shape, n_threads, max_rows, 0, 0);
}

/* With what it streamed through, or NULL. */
static void rig_end(struct rig *r, struct pages *pages) {
    kv_destroy(r->kv);
    engine_destroy(r->en);
    pages_destroy(pages);
    pool_destroy(r->pool);
    toy_fini(&r->toy);
}

static void rig_fini(struct rig *r) {
    rig_end(r, NULL);
}

static uint32_t token_at(const struct rig *r, uint32_t stream, uint32_t pos) {
    uint64_t rng = stream * 1000 + pos;
    return (uint32_t)(t_rand(&rng) % r->toy.pack.hp.n_vocab);
}

typedef float logits_t[MAX_TOKENS][MAX_VOCAB];

/* Feeds n tokens of one stream in steps of `chunk`, all with logits. */
static void feed(struct rig *r, const struct plan *plan, uint32_t n, uint32_t chunk, logits_t ret) {
    struct err e = {0};
    for (uint32_t pos = 0; pos < n; pos += chunk) {
        struct engine_row rows[MAX_TOKENS];
        uint32_t n_rows = n - pos < chunk ? n - pos : chunk;
        for (uint32_t i = 0; i < n_rows; i++)
            rows[i] = (struct engine_row){r->kv, pos + i, token_at(r, 0, pos + i), ret[pos + i]};
        REQUIRE_OK(engine_step(r->en, plan, rows, n_rows, &e), &e);
    }
}

/* Relative root mean square difference of the logits at each position. */
static void compare_with_oracle(struct rig *r, const struct plan *plan, bool rounds, double *ret) {
    static logits_t got;
    static struct oracle o;
    uint32_t n_vocab = r->toy.pack.hp.n_vocab;
    feed(r, plan, ORACLE_TOKENS, 6, got);
    o = (struct oracle){.toy = &r->toy, .plan = plan, .kv = kv_type(r->kv), .rounds = rounds};
    for (uint32_t pos = 0; pos < ORACLE_TOKENS; pos++) {
        double want[MAX_VOCAB], err2 = 0, ref2 = 0;
        oracle_token(&o, pos, token_at(r, 0, pos), want);
        for (uint32_t i = 0; i < n_vocab; i++) {
            double d = (double)got[pos][i] - want[i];
            err2 += d * d;
            ref2 += want[i] * want[i];
        }
        CHECK(ref2 > 0);
        ret[pos] = sqrt(err2 / ref2);
    }
}

static void check_oracle(enum toy_shape shape, enum kv_type type, unsigned *n_tipped) {
    struct rig r;
    struct err e = {0};
    rig_init(&r, shape, 1, 8);
    kv_destroy(r.kv);
    REQUIRE_OK(kv_create(r.toy.mem, &r.toy.pack.hp, type, MAX_TOKENS, &r.kv, &e), &e);
    const struct plan *plans[] = {r.toy.full, r.toy.high, r.toy.mixed};
    for (int p = 0; p < 3; p++) {
        double diff[ORACLE_TOKENS];
        /* int8 in groups is off by about 0.3 % each; a few layers add up. */
        compare_with_oracle(&r, plans[p], false, diff);
        for (int i = 0; i < ORACLE_TOKENS; i++)
            CHECK_NEAR(diff[i], 0, type == KV_F16 ? 0.04 : 0.07);
        /* With the same roundings only float sums differ, until one of them tips a value over
         * a rounding; from there on the two drift apart, as far as int8 is coarse. */
        compare_with_oracle(&r, plans[p], true, diff);
        for (int i = 0; i < ORACLE_TOKENS; i++) CHECK_NEAR(diff[i], 0, 0.04);
        for (int i = 0; i < 4; i++) *n_tipped += diff[i] > 1e-5;
    }
    rig_fini(&r);
}

static void agrees_with_the_oracle(void) {
    unsigned n_f16 = 0, n_q8 = 0; /* of 12 for each shape */
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        check_oracle((enum toy_shape)shape, KV_F16, &n_f16);
        check_oracle((enum toy_shape)shape, KV_Q8, &n_q8);
    }
    CHECK_EQU(n_f16, 0);
    CHECK(n_q8 <= 4);
}

/* Every form for every kind of matrix, alone and beside planes. As above, but with twice as many
 * roundings in a hundred cases: now and then one tips at an early position. */
static void forms_agree_with_the_oracle(void) {
    unsigned n_tipped = 0;
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
            struct rig r;
            rig_make(&r, (enum toy_shape)shape, 1, 8, 0, v);
            const struct plan *plans[] = {r.toy.swsc, r.toy.rungs};
            for (int p = 0; p < 2; p++) {
                double diff[ORACLE_TOKENS];
                compare_with_oracle(&r, plans[p], false, diff);
                for (int i = 0; i < ORACLE_TOKENS; i++) CHECK_NEAR(diff[i], 0, 0.08);
                compare_with_oracle(&r, plans[p], true, diff);
                for (int i = 0; i < ORACLE_TOKENS; i++) CHECK_NEAR(diff[i], 0, 0.08);
                for (int i = 0; i < 4; i++) n_tipped += diff[i] > 1e-5;
            }
            rig_fini(&r);
        }
    }
    CHECK(n_tipped <= 16); /* of 168 */
}

/* One token at a time on one thread with the reference kernels, and everything else. */
static void forms_give_the_same_bits_anyhow(void) {
    static logits_t want, got;
    static const unsigned flags[] = {0, KERN_AVX2, ~0u};
    enum { TOKENS = 40 };
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
            for (unsigned run = 0; run < 12; run++) {
                static const uint32_t chunks[] = {1, 7, 32};
                struct rig r;
                struct kern_ops was = ops, limited;
                /* Only the products, as the other kernels differ in their last bits. */
                kern_init(&limited, kern_cpu_flags() & flags[run % 3]);
                ops.gemv_high = limited.gemv_high;
                ops.gemv_full = limited.gemv_full;
                ops.gemm_high = limited.gemm_high;
                ops.gemm_full = limited.gemm_full;
                ops.gemv_seg = limited.gemv_seg;
                ops.gemm_seg = limited.gemm_seg;
                ops.gather = limited.gather;
                ops.quant_acts = limited.quant_acts;
                rig_make(&r, (enum toy_shape)shape, 1 + run / 3, chunks[run % 3], 0, v);
                memset(got, 0, sizeof(got));
                feed(&r, v % 2 ? r.toy.swsc : r.toy.rungs, TOKENS, chunks[run % 3], got);
                if (run == 0)
                    memcpy(want, got, sizeof(want));
                else
                    CHECK_MEM(got, want, sizeof(want));
                rig_fini(&r);
                ops = was;
            }
        }
    }
}

static void same_bits_for_any_chunk_and_threads(void) {
    static logits_t want, got;
    enum { TOKENS = 40 };
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        struct rig r;
        rig_init(&r, (enum toy_shape)shape, 1, 1);
        memset(want, 0, sizeof(want));
        feed(&r, r.toy.mixed, TOKENS, 1, want);
        rig_fini(&r);
        for (unsigned threads = 1; threads <= 3; threads++) {
            static const uint32_t chunks[] = {1, 7, 32};
            for (int c = 0; c < 3; c++) {
                rig_init(&r, (enum toy_shape)shape, threads, chunks[c]);
                memset(got, 0, sizeof(got));
                feed(&r, r.toy.mixed, TOKENS, chunks[c], got);
                CHECK_MEM(got, want, sizeof(want));
                rig_fini(&r);
            }
        }
    }
}

/* Three streams of different length go together, with prompts in chunks in between. */
static void batched_streams_are_as_alone(void) {
    enum { STREAMS = 3, TOKENS = 12 };
    static float alone[STREAMS][TOKENS][MAX_VOCAB], both[STREAMS][TOKENS][MAX_VOCAB];
    struct err e = {0};
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        struct rig r;
        rig_init(&r, (enum toy_shape)shape, 2, 8);
        struct kv *kv[STREAMS];
        memset(alone, 0, sizeof(alone));
        memset(both, 0, sizeof(both));
        for (uint32_t s = 0; s < STREAMS; s++) {
            REQUIRE_OK(kv_create(r.toy.mem, &r.toy.pack.hp, KV_Q8, MAX_TOKENS, &kv[s], &e), &e);
            for (uint32_t p = 0; p < TOKENS; p++) {
                struct engine_row row = {r.kv, p, token_at(&r, s, p), alone[s][p]};
                REQUIRE_OK(engine_step(r.en, r.toy.full, &row, 1, &e), &e);
            }
        }
        /* Stream s starts s steps later; the last one feeds two rows a step. The buffers lie at
         * unequal distances, one of them backwards. */
        uint32_t pos[STREAMS] = {0};
        for (uint32_t step = 0; step < TOKENS + STREAMS; step++) {
            struct engine_row rows[8];
            uint32_t n = 0;
            for (uint32_t i = 0; i < STREAMS; i++) {
                uint32_t s = step % 2 ? STREAMS - 1 - i : i;
                for (uint32_t k = 0; k < (s == STREAMS - 1 ? 2 : 1); k++) {
                    if (step < s || pos[s] == TOKENS) continue;
                    float *logits = step % 3 == 2 && k == 0 ? NULL : both[s][pos[s]];
                    if (!logits) memset(alone[s][pos[s]], 0, sizeof(alone[s][0]));
                    rows[n++] = (struct engine_row){kv[s], pos[s], token_at(&r, s, pos[s]), logits};
                    pos[s]++;
                }
            }
            if (n) REQUIRE_OK(engine_step(r.en, r.toy.full, rows, n, &e), &e);
        }
        CHECK_MEM(both, alone, sizeof(alone));
        for (uint32_t s = 0; s < STREAMS; s++) kv_destroy(kv[s]);
        rig_fini(&r);
    }
}

static void a_swap_keeps_what_was_cached(void) {
    static logits_t want, got;
    enum { TOKENS = 16, SWAP = 9 };
    struct rig r;
    rig_init(&r, TOY_PLAIN, 2, 8);
    feed(&r, r.toy.full, TOKENS, 1, want);
    feed(&r, r.toy.full, SWAP, 4, got);
    CHECK_MEM(got, want, SWAP * sizeof(got[0]));
    struct err e = {0};
    for (uint32_t p = SWAP; p < TOKENS; p++) {
        const struct plan *plan = p < SWAP + 3 ? r.toy.high : r.toy.full;
        struct engine_row row = {r.kv, p, token_at(&r, 0, p), got[p]};
        REQUIRE_OK(engine_step(r.en, plan, &row, 1, &e), &e);
        CHECK(memcmp(got[p], want[p], sizeof(got[p])) != 0);
        double dot = 0, a2 = 0, b2 = 0;
        for (uint32_t i = 0; i < r.toy.pack.hp.n_vocab; i++) {
            dot += (double)got[p][i] * (double)want[p][i];
            a2 += (double)got[p][i] * (double)got[p][i];
            b2 += (double)want[p][i] * (double)want[p][i];
        }
        CHECK(dot / sqrt(a2 * b2) > 0.9); /* the same text, a little less precise */
    }
    rig_fini(&r);
}

/* A step under a plan that another one should replace ends early, unless it is to be spared, and
 * taken again it gives the same bits. */
static void an_urgent_plan_breaks_off_steps(void) {
    static logits_t want, got;
    _Atomic uint64_t urgent;
    struct rig r;
    struct err e = {0};
    rig_init(&r, TOY_PLAIN, 2, 8);
    feed(&r, r.toy.full, 1, 1, want);
    struct engine_row row = {r.kv, 0, token_at(&r, 0, 0), got[0]};
    r.toy.full->urgent = &urgent;
    atomic_init(&urgent, r.toy.full->epoch); /* not newer than the plan is */
    REQUIRE_OK(engine_step(r.en, r.toy.full, &row, 1, &e), &e);
    atomic_store(&urgent, r.toy.full->epoch + 1);
    CHECK_EQ(engine_step(r.en, r.toy.full, &row, 1, &e), -EAGAIN);
    CHECK_STR(e.msg, "a newer plan waits");
    CHECK_EQ(engine_step(r.en, r.toy.full, &row, 1, &e), -EAGAIN);
    memset(got, 0, sizeof(got));
    engine_spare(r.en);
    REQUIRE_OK(engine_step(r.en, r.toy.full, &row, 1, &e), &e);
    CHECK_MEM(got, want, sizeof(got[0]));
    CHECK_EQ(engine_step(r.en, r.toy.full, &row, 1, &e), -EAGAIN);
    rig_fini(&r);
}

struct urger {
    const struct pool *pool;
    uint64_t runs; /* of the pool, after which it urges */
    _Atomic uint64_t urgent;
};

static void *urge(void *ud) {
    struct urger *u = ud;
    while (pool_runs(u->pool) < u->runs) continue;
    atomic_store(&u->urgent, UINT64_MAX);
    return NULL;
}

/* Wherever in the step it is: nothing of what was left half done is in the step that is taken again
 * or in those before it. */
static void a_step_is_broken_off_anywhere(void) {
    enum { N = 8, TURNS = 2 };
    static logits_t want, got;
    for (int is_swsc = 0; is_swsc < 2; is_swsc++) {
        struct rig r;
        struct err e = {0};
        rig_init(&r, TOY_ODD, 2, N);
        struct plan *plan = is_swsc ? r.toy.swsc : r.toy.full;
        struct urger u = {.pool = r.pool};
        feed(&r, plan, 2 * N, N, want);
        uint64_t n_runs = pool_runs(r.pool) / 2;
        unsigned n_broken = 0;
        struct engine_row rows[N];
        plan->urgent = &u.urgent;
        for (uint64_t k = 0; k < TURNS * n_runs; k++) {
            for (uint32_t i = 0; i < N; i++)
                rows[i] = (struct engine_row){r.kv, N + i, token_at(&r, 0, N + i), got[N + i]};
            pthread_t t;
            u.runs = pool_runs(r.pool) + k % n_runs + 1;
            atomic_store(&u.urgent, 0);
            REQUIRE(pthread_create(&t, NULL, urge, &u) == 0);
            int code = engine_step(r.en, plan, rows, N, &e);
            pthread_join(t, NULL);
            atomic_store(&u.urgent, 0);
            CHECK(code == 0 || code == -EAGAIN);
            n_broken += code < 0;
            if (code < 0) REQUIRE_OK(engine_step(r.en, plan, rows, N, &e), &e);
            CHECK_MEM(got[N], want[N], N * sizeof(got[0]));
        }
        CHECK(n_broken > 0);
        rig_fini(&r);
    }
}

static void bad_steps_are_refused(void) {
    struct rig r;
    struct err e = {0};
    rig_init(&r, TOY_ODD, 1, 4);
    float logits[MAX_VOCAB];
    struct engine_row rows[5];
    for (uint32_t i = 0; i < 5; i++) rows[i] = (struct engine_row){r.kv, i, 1, logits};
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 0, &e), -EINVAL);
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 5, &e), -EINVAL);
    CHECK(strstr(e.msg, "5 rows"));
    rows[0].pos = MAX_TOKENS;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), -EINVAL);
    CHECK(strstr(e.msg, "position 48"));
    rows[0].pos = 0;
    rows[1].token = 128;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 2, &e), -EINVAL);
    CHECK(strstr(e.msg, "token 128"));
    rows[1].token = 3;
    r.toy.full->n_units--;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), -EINVAL);
    r.toy.full->n_units++;
    /* A unit without weights, or in a form that the pack does not know. */
    r.toy.full->units[1].rung = RUNG_PAGED;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), -EINVAL);
    CHECK_STR(e.msg, "layer 1 is at rung paged: it has no weights to compute with");
    float x[MAX_WIDTH] = {0};
    CHECK_EQ(engine_layers(r.en, r.toy.full, rows, 1, 0, 2, x, &e), -EINVAL);
    CHECK_EQ(engine_layers(r.en, r.toy.full, rows, 1, 0, 1, x, &e), 0);
    r.toy.full->units[1].rung = RUNG_SWSC;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), -EINVAL);
    r.toy.full->units[1].rung = RUNG_FULL;
    r.toy.full->units[2].rung = RUNG_SWSC;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), -EINVAL);
    CHECK(strstr(e.msg, "head is at rung swsc"));
    r.toy.full->units[2].rung = RUNG_FULL;
    r.toy.pack.fail_token = 3;
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 2, &e), -EBADMSG);
    CHECK_EQ(engine_step(r.en, r.toy.full, rows, 1, &e), 0);
    rig_fini(&r);
}

static void creation_fails_cleanly(void) {
    struct rig r;
    struct err e = {0};
    struct engine *en = NULL;
    rig_init(&r, TOY_PLAIN, 2, 4);
    CHECK_EQU(mem_bytes(r.toy.mem, MEM_SCRATCH), (engine_scratch_bytes(r.en) + 4095) / 4096 * 4096);
    CHECK_EQU(engine_max_rows(r.en), 4);
    CHECK(engine_hparams(r.en) == &r.toy.pack.hp);
    CHECK(engine_mem(r.en) == r.toy.mem);
    static const struct engine_opts bad[] = {{.max_rows = 0, .max_ctx = 16},
                                             {.max_rows = ENGINE_MAX_ROWS + 1, .max_ctx = 16},
                                             {.max_rows = 4, .max_ctx = 0},
                                             {.max_rows = 4, .max_ctx = MODEL_MAX_CTX + 1}};
    for (int i = 0; i < 4; i++)
        CHECK_EQ(engine_create(r.toy.mem, r.pool, &ops, &r.toy.pack, r.toy.core, &bad[i], &en, &e),
                 -EINVAL);
    mem_fail_at(r.toy.mem, 1, false);
    CHECK_EQ(engine_create(r.toy.mem, r.pool, &ops, &r.toy.pack, r.toy.core,
                           &(struct engine_opts){.max_rows = 4, .max_ctx = 16, .fine_rows = 4}, &en,
                           &e),
             -ENOMEM);
    CHECK(en == NULL);
    engine_destroy(NULL);
    rig_fini(&r);
}

/* ---- streaming ---- */

/* The disk: reading a unit is copying the planes of `from` into the slab. A form is not copied, as
 * its slab is the test's of pages. */
struct toy_disk {
    const struct plan *from;
    uint32_t fails; /* this unit; UINT32_MAX: none */
};

enum { DISK_SLAB_BYTES = 1 << 20 };

static const void *put(uint8_t *slab, size_t *at, const void *p, size_t n) {
    uint8_t *to = slab + *at;
    REQUIRE(*at + n <= DISK_SLAB_BYTES);
    memcpy(to, p, n);
    *at += (n + 63) / 64 * 64;
    return to;
}

static int disk_load(void *ud, uint32_t unit, void *slab, struct reader_watch *w, struct page *ret,
                     struct err *e) {
    const struct toy_disk *d = ud;
    size_t at = 0;
    (void)w;
    if (unit == d->fails) return err_set(e, -EIO, "the disk is broken");
    ret->unit = d->from->units[unit];
    for (int m = 0; m < MODEL_MAT_COUNT; m++) {
        struct kern_planes *x = &ret->unit.mats[m];
        if (ret->unit.rung == RUNG_SWSC || !x->high) continue;
        size_t tiles = planes_row_tiles(x->n_out), groups = tiles * (x->n_in / PLANE_GROUP);
        x->rows = put(slab, &at, x->rows, tiles * PLANE_ROW_BYTES);
        x->groups = put(slab, &at, x->groups, groups * PLANE_SCALE_BYTES);
        x->high = put(slab, &at, x->high, groups * PLANE_TILE_BYTES);
        x->low = NULL;
    }
    return 0;
}

static void *disk_serve(void *ud) {
    pages_serve(ud);
    return NULL;
}

/* Units that are streamed give the bits of resident ones, whichever they are, the tied head too;
 * and a step without one fails and hurts no later one. */
static void streamed_units_give_the_same_bits(void) {
    static logits_t want, got;
    enum { TOKENS = 14 };
    struct err e = {0};
    for (unsigned i = 0; i < 2 * TOY_SHAPE_COUNT; i++) {
        struct rig r;
        rig_init(&r, (enum toy_shape)(i % TOY_SHAPE_COUNT), 2, 8);
        const struct plan *from = i < TOY_SHAPE_COUNT ? r.toy.high : r.toy.rungs;
        struct toy_disk disk = {.from = from, .fails = UINT32_MAX};
        uint32_t n = from->n_units;
        struct pages_opts po = {.n_units = n,
                                .is_tied = r.toy.pack.hp.is_tied,
                                .slab_bytes = DISK_SLAB_BYTES,
                                .timeout_us = 60000000,
                                .load = disk_load,
                                .ud = &disk};
        struct pages *pages;
        pthread_t worker;
        REQUIRE_OK(pages_create(r.toy.mem, &po, &pages, &e), &e);
        REQUIRE(pthread_create(&worker, NULL, disk_serve, pages) == 0);
        size_t bytes = sizeof(*from) + n * sizeof(from->units[0]);
        struct plan *plan = malloc(bytes);
        REQUIRE(plan);
        feed(&r, from, TOKENS, 3, want);

        struct engine_opts eo = {.max_rows = 8, .max_ctx = MAX_TOKENS, .pages = pages};
        engine_destroy(r.en);
        REQUIRE_OK(engine_create(r.toy.mem, r.pool, &ops, &r.toy.pack, r.toy.core, &eo, &r.en, &e),
                   &e);
        for (unsigned mask = 1; mask < 1u << n; mask++) {
            memcpy(plan, from, bytes);
            plan->epoch = 100 + mask;
            for (uint32_t u = 0; u < n; u++)
                if (mask & 1u << u && from->units[u].rung != RUNG_FULL)
                    plan->units[u] = (struct plan_unit){.rung = RUNG_PAGED};
            memset(got, 0, sizeof(got));
            feed(&r, plan, TOKENS, mask % 5 + 1, got);
            for (uint32_t p = 0; p < TOKENS; p++)
                CHECK_MEM(got[p], want[p], r.toy.pack.hp.n_vocab * sizeof(float));
            float x[MAX_WIDTH] = {0};
            struct engine_row row = {r.kv, 0, 1, got[0]};
            if (plan->units[0].rung != RUNG_PAGED) continue;
            CHECK_EQ(engine_layers(r.en, plan, &row, 1, 0, 1, x, &e), -EINVAL);
        }
        pages_stop(pages);
        pthread_join(worker, NULL);
        struct engine_row row = {r.kv, 0, 1, got[0]};
        if (plan->units[0].rung == RUNG_PAGED)
            CHECK_EQ(engine_step(r.en, plan, &row, 1, &e), -ECANCELED);
        CHECK_EQ(engine_step(r.en, from, &row, 1, &e), 0);
        free(plan);
        rig_end(&r, pages);
    }
}

static void a_unit_that_cannot_be_read_fails_the_step(void) {
    static logits_t want, got;
    struct err e = {0};
    struct rig r;
    rig_init(&r, TOY_PLAIN, 2, 8);
    struct toy_disk disk = {.from = r.toy.high, .fails = 1};
    struct pages_opts po = {.n_units = 4,
                            .is_tied = true,
                            .slab_bytes = DISK_SLAB_BYTES,
                            .timeout_us = 60000000,
                            .load = disk_load,
                            .ud = &disk};
    struct pages *pages;
    pthread_t worker;
    REQUIRE_OK(pages_create(r.toy.mem, &po, &pages, &e), &e);
    REQUIRE(pthread_create(&worker, NULL, disk_serve, pages) == 0);
    feed(&r, r.toy.high, 6, 3, want);
    struct engine_opts eo = {.max_rows = 8, .max_ctx = MAX_TOKENS, .pages = pages};
    engine_destroy(r.en);
    REQUIRE_OK(engine_create(r.toy.mem, r.pool, &ops, &r.toy.pack, r.toy.core, &eo, &r.en, &e), &e);
    struct plan_unit kept = r.toy.high->units[1];
    r.toy.high->units[1] = (struct plan_unit){.rung = RUNG_PAGED};
    struct engine_row row = {r.kv, 0, token_at(&r, 0, 0), got[0]};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(engine_step(r.en, r.toy.high, &row, 1, &e), -EIO);
        CHECK_STR(e.msg, "the disk is broken");
    }
    r.toy.high->units[1] = kept;
    r.toy.high->epoch++;
    feed(&r, r.toy.high, 6, 3, got); /* resident units go on */
    CHECK_MEM(got[5], want[5], sizeof(got[5]));
    pages_stop(pages);
    pthread_join(worker, NULL);
    rig_end(&r, pages);
}

/* With the rests of the activations only the cache's fp16 is between the engine and the reference
 * that rounds nothing; and the bits still depend on no split. */
static void fine_activations_lose_little(void) {
    static logits_t want, got;
    enum { TOKENS = 24 };
    for (unsigned i = 0; i < TOY_SHAPE_COUNT * SWSC_DRAW_VARIANTS; i++) {
        enum toy_shape shape = (enum toy_shape)(i % TOY_SHAPE_COUNT);
        unsigned v = i / TOY_SHAPE_COUNT;
        struct rig r;
        rig_make(&r, shape, 1, 8, 3, v);
        const struct plan *plans[] = {r.toy.swsc, r.toy.rungs, r.toy.full, r.toy.high, r.toy.mixed};
        for (int p = 0; p < (v == 0 ? 5 : 2); p++) {
            double diff[ORACLE_TOKENS];
            compare_with_oracle(&r, plans[p], false, diff);
            for (int k = 0; k < ORACLE_TOKENS; k++) CHECK_NEAR(diff[k], 0, 0.002);
        }
        memset(want, 0, sizeof(want));
        feed(&r, v % 2 ? r.toy.mixed : r.toy.rungs, TOKENS, 1, want);
        rig_fini(&r);
        for (unsigned threads = 1; threads <= 3; threads++) {
            rig_make(&r, shape, threads, TOKENS, 1 + 5 * threads, v);
            memset(got, 0, sizeof(got));
            feed(&r, v % 2 ? r.toy.mixed : r.toy.rungs, TOKENS, threads == 2 ? 7 : TOKENS, got);
            CHECK_MEM(got, want, sizeof(want));
            rig_fini(&r);
        }
    }
}

/* Rows from embedding to logits in parts, cut at every layer, are as in one step; a plan that is
 * lowered from layer l on may start from the hidden states of the other before it, on a KV that
 * holds another pass. */
static void a_step_in_parts_is_a_step(void) {
    static logits_t want, got;
    static float x[MAX_TOKENS * MAX_WIDTH], kept[MAX_TOKENS * MAX_WIDTH];
    enum { TOKENS = 24 };
    struct err e = {0};
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        struct rig r;
        struct engine_row rows[TOKENS];
        rig_init(&r, (enum toy_shape)shape, 2, TOKENS);
        uint32_t n_layers = r.toy.pack.hp.n_layers;
        struct plan *bits = calloc(1, sizeof(*bits) + (n_layers + 1) * sizeof(bits->units[0]));
        REQUIRE(bits);
        bits->n_units = n_layers + 1;
        for (uint32_t i = 0; i < TOKENS; i++)
            rows[i] = (struct engine_row){r.kv, i, token_at(&r, 0, i), i % 3 ? got[i] : NULL};
        for (uint32_t l = 0; l < n_layers; l++) {
            struct plan *low = calloc(1, sizeof(*low) + (n_layers + 1) * sizeof(low->units[0]));
            REQUIRE(low);
            memcpy(low, r.toy.full, sizeof(*low) + (n_layers + 1) * sizeof(low->units[0]));
            low->units[l] = r.toy.high->units[l];
            memset(want, 0, sizeof(want));
            memset(got, 0, sizeof(got));
            feed(&r, low, TOKENS, TOKENS, want);
            for (uint32_t i = 0; i < TOKENS; i += 3) memset(want[i], 0, sizeof(want[i]));
            REQUIRE_OK(engine_embed(r.en, r.toy.full, rows, TOKENS, x, &e), &e);
            for (uint32_t k = 0; k < l; k++) {
                memset(bits->units, 0, bits->n_units * sizeof(bits->units[0]));
                bits->units[k] = low->units[k]; /* the only one that is looked at */
                REQUIRE_OK(engine_layers(r.en, bits, rows, TOKENS, k, k + 1, x, &e), &e);
            }
            memcpy(kept, x, sizeof(x));
            REQUIRE_OK(engine_layers(r.en, r.toy.high, rows, TOKENS, l, n_layers, x, &e), &e);
            REQUIRE_OK(engine_layers(r.en, low, rows, TOKENS, l, n_layers, kept, &e), &e);
            REQUIRE_OK(engine_layers(r.en, low, rows, TOKENS, n_layers, n_layers, kept, &e), &e);
            REQUIRE_OK(engine_head(r.en, low, rows, TOKENS, kept, &e), &e);
            CHECK_MEM(got, want, sizeof(want));
            free(low);
        }
        rows[1].token = r.toy.pack.hp.n_vocab;
        CHECK_EQ(engine_embed(r.en, r.toy.full, rows, 2, x, &e), -EINVAL);
        CHECK_EQ(engine_layers(r.en, r.toy.full, rows, TOKENS + 1, 0, 1, x, &e), -EINVAL);
        CHECK_EQ(engine_head(r.en, r.toy.full, rows, 0, x, &e), -EINVAL);
        rows[1].token = r.toy.pack.fail_token = 3;
        if (!r.toy.pack.hp.is_tied)
            CHECK_EQ(engine_embed(r.en, r.toy.full, rows, 2, x, &e), -EBADMSG);
        free(bits);
        rig_fini(&r);
    }
}

static const struct t_case cases[] = {
    {"fine_activations_lose_little", fine_activations_lose_little},
    {"a_step_in_parts_is_a_step", a_step_in_parts_is_a_step},
    {"agrees_with_the_oracle", agrees_with_the_oracle},
    {"forms_agree_with_the_oracle", forms_agree_with_the_oracle},
    {"forms_give_the_same_bits_anyhow", forms_give_the_same_bits_anyhow},
    {"same_bits_for_any_chunk_and_threads", same_bits_for_any_chunk_and_threads},
    {"batched_streams_are_as_alone", batched_streams_are_as_alone},
    {"a_swap_keeps_what_was_cached", a_swap_keeps_what_was_cached},
    {"streamed_units_give_the_same_bits", streamed_units_give_the_same_bits},
    {"a_unit_that_cannot_be_read_fails_the_step", a_unit_that_cannot_be_read_fails_the_step},
    {"an_urgent_plan_breaks_off_steps", an_urgent_plan_breaks_off_steps},
    {"a_step_is_broken_off_anywhere", a_step_is_broken_off_anywhere},
    {"bad_steps_are_refused", bad_steps_are_refused},
    {"creation_fails_cleanly", creation_fails_cleanly},
};

int main(int argc, char **argv) {
    kern_init(&ops, kern_cpu_flags());
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
