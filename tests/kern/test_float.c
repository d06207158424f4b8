/* The other kernels: each variant against the reference within the bound that kernels.h states,
 * over all kinds of input and lengths, with every buffer next to an unreadable page. */
#include "tests/kern/kern.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lengths: all up to a few registers, and those of real models. */
static const uint32_t lengths[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,  12,  13,   14,
                                   15, 16, 17, 23, 24, 25, 31, 32, 33, 64, 100, 576, 1536, 4099};
enum { N_LENGTHS = sizeof(lengths) / sizeof(*lengths), MAX_LENGTH = 4099 };

static float want[MAX_LENGTH], want2[MAX_LENGTH];

static void check_within(const char *op, const char *variant, enum fill f, const float *got,
                         const float *ref, uint32_t n, double bound) {
    for (uint32_t i = 0; i < n; i++) {
        if (fabs((double)got[i] - (double)ref[i]) <= bound) continue;
        t_fail(__FILE__, __LINE__, "%s/%s, n %u, %s: [%u] is %.9g, not %.9g, allowed %.3g", op,
               variant, n, fill_name(f), i, (double)got[i], (double)ref[i], bound);
        return;
    }
}

static double max_abs(const float *x, uint32_t n) {
    double m = 0; /* not fmax(): gcc 12 for aarch64 fails on a loop of it */
    for (uint32_t i = 0; i < n; i++)
        if (fabs((double)x[i]) > m) m = fabs((double)x[i]);
    return m;
}

/* Four outputs in guarded memory. */
struct acts_mem {
    struct guarded q, scale, qsum, psum;
};

static struct kern_acts acts_get(struct acts_mem *m, uint32_t n_in, uint32_t n_tok,
                                 enum edge edge) {
    size_t n = (size_t)n_tok * (n_in / PLANE_GROUP);
    return (struct kern_acts){
        .q = guarded_get(&m->q, n * PLANE_GROUP, 1, edge),
        .scale = guarded_get(&m->scale, n * 4, 4, edge),
        .qsum = guarded_get(&m->qsum, n * 4, 4, edge),
        .psum = guarded_get(&m->psum, n * 4, 4, edge),
    };
}

static bool acts_intact(const struct acts_mem *m) {
    return guarded_intact(&m->q) && guarded_intact(&m->scale) && guarded_intact(&m->qsum) &&
           guarded_intact(&m->psum);
}

static void acts_free(struct acts_mem *m) {
    guarded_free(&m->q);
    guarded_free(&m->scale);
    guarded_free(&m->qsum);
    guarded_free(&m->psum);
}

/* x: n_tok vectors ldx apart. exact: compare with the reference, not only run. */
static void check_acts(const float *x, size_t ldx, uint32_t n_in, uint32_t n_tok, enum edge edge,
                       bool exact) {
    struct acts_mem m = {0}, mr = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    size_t n = (size_t)n_tok * (n_in / PLANE_GROUP);
    struct kern_acts r = acts_get(&mr, n_in, n_tok, edge);
    ref.quant_acts(x, ldx, n_in, n_tok, &r);
    CHECK(acts_intact(&mr));
    for (unsigned i = 0; variant_next(&i, &ops);) {
        struct kern_acts a = acts_get(&m, n_in, n_tok, edge);
        ops.quant_acts(x, ldx, n_in, n_tok, &a);
        CHECK(acts_intact(&m));
        if (!exact) continue;
        CHECK_MEM(a.q, r.q, n * PLANE_GROUP);
        CHECK_MEM(a.scale, r.scale, n * 4);
        CHECK_MEM(a.qsum, r.qsum, n * 4);
        CHECK_MEM(a.psum, r.psum, n * 4);
    }
    acts_free(&m);
    acts_free(&mr);
}

void test_quant_acts(void) {
    static const float maxes[] = {1, 1e-3f, 3e4f, FLT_MAX, 1e-36f, 3.5e-37f, 3.6e-37f, 1e-38f};
    uint64_t rng = t_seed();
    struct guarded in = {0};
    for (int f = 0; f < FILL_COUNT; f++) {
        for (size_t k = 0; k < sizeof(maxes) / sizeof(*maxes); k++) {
            for (uint32_t n_in = 64; n_in <= 576; n_in += 256) {
                enum edge edge = k & 1 ? EDGE_BEGIN : EDGE_END;
                size_t n = 2 * (n_in + 5) + n_in; /* 3 tokens, n_in + 5 apart */
                float *x = guarded_get(&in, n * sizeof(float), sizeof(float), edge);
                fill_floats(x, n, f, maxes[k], &rng);
                check_acts(x, n_in + 5, n_in, 3, edge, true);
            }
        }
    }
    float *x = guarded_get(&in, 32 * sizeof(float), sizeof(float), EDGE_END);
    /* Ties go to the even integer: amax 121 makes the factor exactly 1. */
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) + 0.5f;
    x[7] = -PLANE_ACT_MAX;
    check_acts(x, 32, 32, 1, EDGE_END, true);
    struct acts_mem m = {0};
    struct kern_acts a = acts_get(&m, 32, 1, EDGE_END);
    struct kern_ops ref;
    kern_init(&ref, 0);
    ref.quant_acts(x, 32, 32, 1, &a);
    CHECK_EQ(a.q[16], 0); /* 0.5 */
    CHECK_EQ(a.q[17], 2); /* 1.5 */
    CHECK_EQ(a.q[7], -PLANE_ACT_MAX);
    CHECK(a.scale[0] == 1.0f);
    acts_free(&m);

    for (int round = 0; round < 64; round++) {
        static const float odd[] = {NAN, INFINITY, -INFINITY, -NAN, 0, 1, -FLT_MAX, FLT_MIN};
        for (int i = 0; i < 32; i++) x[i] = odd[rand_below(&rng, round < 32 ? 8 : 3)];
        check_acts(x, 32, 32, 1, EDGE_END, false);
    }
    guarded_free(&in);
}

void test_rmsnorm(void) {
    uint64_t rng = t_seed();
    struct guarded in = {0}, gain = {0}, out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++) {
        for (size_t k = 0; k < N_LENGTHS; k++) {
            uint32_t n = lengths[k];
            enum edge edge = k & 1 ? EDGE_BEGIN : EDGE_END;
            float *x = guarded_get(&in, n * 4, 4, edge), *g = guarded_get(&gain, n * 4, 4, edge);
            fill_floats(x, n, f, f == FILL_ALTERNATING ? 1e16f : 8, &rng);
            fill_floats(g, n, FILL_RANDOM, 3, &rng);
            ref.rmsnorm(x, g, n, 1e-5f, want);
            double bound = 1e-5 * max_abs(want, n);
            for (unsigned i = 0; variant_next(&i, &ops);) {
                float *ret = guarded_get(&out, n * 4, 4, edge);
                ops.rmsnorm(x, g, n, 1e-5f, ret);
                check_within("rmsnorm", ops.name, f, ret, want, n, bound);
                CHECK(guarded_intact(&out));
                memcpy(ret, x, n * 4); /* in place */
                ops.rmsnorm(ret, g, n, 1e-5f, ret);
                check_within("rmsnorm in place", ops.name, f, ret, want, n, bound);
            }
        }
    }
    guarded_free(&in);
    guarded_free(&gain);
    guarded_free(&out);
}

void test_group_cost(void) {
    uint64_t rng = t_seed();
    struct guarded in = {0}, weight = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++)
        for (int k = 0; k < 200; k++) {
            enum edge edge = k & 1 ? EDGE_BEGIN : EDGE_END;
            float *w = guarded_get(&in, 32 * 4, 4, edge);
            float *c = guarded_get(&weight, 32 * 4, 4, edge);
            fill_floats(w, 32, f, f == FILL_ALTERNATING ? 1e7f : 4, &rng);
            for (int i = 0; i < 32; i++) c[i] = (float)rand_below(&rng, 1000) / 100;
            float s = (float)(1 + rand_below(&rng, 3000)) / 2000, o = -s * (float)(k % 19);
            float cost = ref.group_cost(w, c, s, o, 4.0f);
            double plain = 0, bound = 0, ss = (double)s * (double)s;
            for (int i = 0; i < 32; i++) {
                double q = ((double)w[i] - (double)o) / (double)s;
                double h = q - rint(fmin(fmax(q, 0), 15));
                double l = h - rint(fmin(fmax(8 * h, -8), 7)) / 8;
                plain += (double)c[i] * (h * h + 4 * l * l) * ss;
                /* The quotient is rounded three times, and what is left of it is off by as much:
                 * twice that in the squares. */
                double off = 6 * 0x1p-24 * fabs(q);
                bound += (double)c[i] * (2 * (fabs(h) + 4 * fabs(l)) * off + 5 * off * off) * ss;
            }
            /* A quotient beside a tie may round to either side, which costs the same. */
            CHECK_NEAR(cost, plain, 1e-5 * plain + bound + (double)FLT_MIN);
            for (unsigned i = 0; variant_next(&i, &ops);)
                CHECK(ops.group_cost(w, c, s, o, 4.0f) == cost);
        }
    guarded_free(&in);
    guarded_free(&weight);
}

static uint16_t plain_nearest(const float *x, const float *book, uint32_t k, uint32_t len) {
    uint32_t at = 0;
    float best = INFINITY;
    for (uint32_t e = 0; e < k; e++) {
        float d = book[len * k + e];
        for (uint32_t j = 0; j < len; j++) d = fmaf(-x[j], book[j * k + e], d);
        if (d < best) {
            best = d;
            at = e;
        }
    }
    return (uint16_t)at;
}

void test_nearest(void) {
    static const uint32_t sizes[] = {8, 16, 256, 1032};
    uint64_t rng = t_seed();
    struct guarded in = {0}, table = {0}, out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++)
        for (uint32_t c = 0; c < 40; c++) {
            enum edge edge = c & 1 ? EDGE_BEGIN : EDGE_END;
            uint32_t k = sizes[c % 4], len = c & 4 ? 8 : 4, n = c % 6;
            float *x = guarded_get(&in, (size_t)n * len * 4, 4, edge);
            float *book = guarded_get(&table, (size_t)(len + 1) * k * 4, 4, edge);
            fill_floats(x, (size_t)n * len, FILL_RANDOM, 3, &rng);
            fill_floats(book, (size_t)(len + 1) * k, f, 3, &rng);
            /* Equal entries, in other lanes too: the first one counts. */
            for (uint32_t j = 0; j <= len; j++) book[j * k + k - 1] = book[j * k + k / 2 + 1];
            for (unsigned i = 0, more = 1; more;) {
                ops = ref;
                more = variant_next(&i, &ops);
                uint16_t *ret = guarded_get(&out, n * 2, 2, edge);
                ops.nearest(x, n, book, k, len, ret);
                for (uint32_t t = 0; t < n; t++)
                    CHECK_EQU(ret[t], plain_nearest(x + t * len, book, k, len));
                CHECK(guarded_intact(&out));
            }
        }
    guarded_free(&in);
    guarded_free(&table);
    guarded_free(&out);
}

void test_rope(void) {
    static const uint32_t dims[][2] = {{64, 64}, {64, 32}, {128, 128}, {80, 20}, {80, 80},
                                       {8, 2},   {16, 6},  {96, 14},   {8, 8}};
    uint64_t rng = t_seed();
    struct guarded in = {0}, table = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (size_t d = 0; d < sizeof(dims) / sizeof(*dims); d++) {
        for (int f = 0; f < FILL_COUNT; f++) {
            uint32_t n_heads = 1 + rand_below(&rng, 5), n = n_heads * dims[d][0];
            enum edge edge = f & 1 ? EDGE_BEGIN : EDGE_END;
            float *cs = guarded_get(&table, dims[d][1] * 4, 4, edge);
            fill_floats(cs, dims[d][1], FILL_RANDOM, 1, &rng);
            fill_floats(want2, n, f, 50, &rng);
            memcpy(want, want2, n * 4);
            ref.rope(want, n_heads, dims[d][0], dims[d][1], cs);
            for (unsigned i = 0; variant_next(&i, &ops);) {
                float *x = guarded_get(&in, n * 4, 4, edge);
                memcpy(x, want2, n * 4);
                ops.rope(x, n_heads, dims[d][0], dims[d][1], cs);
                CHECK_MEM(x, want, n * 4);
                CHECK(guarded_intact(&in));
            }
        }
    }
    guarded_free(&in);
    guarded_free(&table);
}

void test_quant_kv(void) {
    uint64_t rng = t_seed();
    struct guarded in = {0}, out = {0};
    struct kern_ops ref, ops;
    int8_t q[256];
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++)
        for (uint32_t n = 8; n <= 256; n += 8)
            for (int e = 0; e < EDGE_COUNT; e++) {
                float *x = guarded_get(&in, n * 4, 4, (enum edge)e);
                fill_floats(x, n, (enum fill)f, n % 3 ? 5 : 1e30f, &rng);
                float scale = ref.quant_kv(x, n, q);
                for (uint32_t i = 0; i < n && isfinite(scale); i++)
                    CHECK_NEAR((double)(scale * q[i]), (double)x[i],
                               0.5001 * (double)scale + 4e-38);
                for (unsigned i = 0; variant_next(&i, &ops);) {
                    int8_t *ret = guarded_get(&out, n, 1, (enum edge)e);
                    float s = ops.quant_kv(x, n, ret);
                    CHECK_MEM(&s, &scale, sizeof(s));
                    CHECK_MEM(ret, q, n);
                    CHECK(guarded_intact(&out));
                }
                x[n / 2] = n % 16 ? NAN : INFINITY; /* nothing said of the result: no trap */
                for (unsigned i = 0; variant_next(&i, &ops);)
                    ops.quant_kv(x, n, guarded_get(&out, n, 1, (enum edge)e));
            }
    guarded_free(&in);
    guarded_free(&out);
}

struct attn_mem {
    struct guarded q, kv, scale, s, ret;
};

struct attn_in {
    bool is_half;
    uint32_t n_q, n_pos, dim;
    enum fill fill;
    enum edge edge;
};

enum { ATTN_MAX = KERN_ATTN_QUERIES * 256 };

/* Element i of what is cached, of position p. */
static double cached(const struct attn_in *in, const void *kv, const float *ks, uint32_t p,
                     uint32_t i) {
    size_t at = (size_t)p * in->dim + i;
    if (in->is_half) return (double)kern_from_f16(((const uint16_t *)kv)[at]);
    return (double)ks[p] * ((const int8_t *)kv)[at];
}

/* kv and ks as keys of the queries q. */
static void check_scores(struct attn_mem *m, const struct attn_in *in, const float *q,
                         const void *kv, const float *ks) {
    struct kern_ops ref, ops;
    size_t ldr = in->n_pos + 3;
    kern_init(&ref, 0);
    memset(want, 0, sizeof(want));
    (in->is_half ? ref.attn_scores_f16 : ref.attn_scores)(q, in->n_q, kv, ks, in->n_pos, in->dim,
                                                          0.125f, want, ldr);
    for (unsigned v = 0; variant_next(&v, &ops);) {
        /* What lies between the rows belongs to someone else. */
        size_t n = (in->n_q - 1) * ldr + in->n_pos;
        float *s = guarded_get(&m->s, n * 4, 4, in->edge);
        (in->is_half ? ops.attn_scores_f16 : ops.attn_scores)(q, in->n_q, kv, ks, in->n_pos,
                                                              in->dim, 0.125f, s, ldr);
        CHECK(guarded_intact(&m->s));
        for (uint32_t i = 0; i < in->n_q; i++)
            for (uint32_t p = 0; p < in->n_pos; p++) {
                double sum = 0;
                for (uint32_t d = 0; d < in->dim; d++)
                    sum += fabs((double)q[i * in->dim + d] * cached(in, kv, ks, p, d));
                check_within("attn_scores", ops.name, in->fill, s + i * ldr + p, want + i * ldr + p,
                             1, 1e-5 * 0.125 * sum + 1e-36);
            }
        for (uint32_t i = 0; i + 1 < in->n_q; i++)
            for (size_t p = in->n_pos; p < ldr; p++)
                CHECK_EQ(((const uint8_t *)(s + i * ldr + p))[0], CANARY);
    }
}

/* kv and ks as values, weighed by w[n_q][n_pos]. */
static void check_mix(struct attn_mem *m, const struct attn_in *in, const float *w, const void *kv,
                      const float *ks, uint64_t *rng) {
    struct kern_ops ref, ops;
    uint32_t n = in->n_q * in->dim;
    static float before[ATTN_MAX];
    kern_init(&ref, 0);
    fill_floats(before, n, FILL_RANDOM, 50, rng);
    memcpy(want, before, n * 4);
    (in->is_half ? ref.attn_mix_f16 : ref.attn_mix)(w, in->n_pos, in->n_q, kv, ks, in->n_pos,
                                                    in->dim, want);
    for (unsigned v = 0; variant_next(&v, &ops);) {
        float *ret = guarded_get(&m->ret, n * 4, 4, in->edge);
        memcpy(ret, before, n * 4);
        (in->is_half ? ops.attn_mix_f16 : ops.attn_mix)(w, in->n_pos, in->n_q, kv, ks, in->n_pos,
                                                        in->dim, ret);
        CHECK(guarded_intact(&m->ret));
        for (uint32_t i = 0; i < n; i++) {
            double sum = fabs((double)before[i]);
            for (uint32_t p = 0; p < in->n_pos; p++)
                sum += fabs((double)w[i / in->dim * in->n_pos + p] *
                            cached(in, kv, ks, p, i % in->dim));
            check_within("attn_mix", ops.name, in->fill, ret + i, want + i, 1, 1e-5 * sum + 1e-30);
        }
    }
}

static void check_attn_in(struct attn_mem *m, struct attn_in in, uint64_t *rng) {
    in.edge = t_rand(rng) & 1 ? EDGE_BEGIN : EDGE_END;
    size_t n = (size_t)in.n_pos * in.dim,
           n_q = (size_t)in.n_q * (in.dim > in.n_pos ? in.dim : in.n_pos);
    float *q = guarded_get(&m->q, n_q * 4, 4, in.edge);
    void *kv = guarded_get(&m->kv, in.is_half ? 2 * n : n, in.is_half ? 2 : 1, in.edge);
    float *ks = guarded_get(&m->scale, in.is_half ? 0 : in.n_pos * 4, 4, in.edge);
    fill_floats(q, n_q, in.fill, 3, rng);
    if (in.is_half) {
        fill_f16(kv, n, in.fill, 100, rng);
    } else {
        fill_bytes(kv, n, in.fill, -127, 127, rng);
        fill_floats(ks, in.n_pos, FILL_RANDOM, 0.1f, rng);
        for (uint32_t p = 0; p < in.n_pos; p++) ks[p] = fabsf(ks[p]);
    }
    check_scores(m, &in, q, kv, ks);
    check_mix(m, &in, q, kv, ks, rng);
}

static void check_attn(struct attn_mem *m, struct attn_in in, uint64_t *rng) {
    check_attn_in(m, in, rng);
    in.is_half = true;
    check_attn_in(m, in, rng);
}

void test_attn(void) {
    static const uint32_t dims[] = {8, 16, 24, 32, 64, 80, 96, 128, 256};
    uint64_t rng = t_seed();
    struct attn_mem m = {0};
    for (size_t d = 0; d < sizeof(dims) / sizeof(*dims); d++)
        for (uint32_t n_q = 1; n_q <= KERN_ATTN_QUERIES; n_q++)
            for (uint32_t n_pos = 1; n_pos <= KERN_ATTN_BLOCK; n_pos += n_pos < 10 ? 1 : 9)
                check_attn(&m,
                           (struct attn_in){
                               .n_q = n_q, .n_pos = n_pos, .dim = dims[d], .fill = FILL_RANDOM},
                           &rng);
    for (int f = 0; f < FILL_COUNT; f++)
        check_attn(
            &m,
            (struct attn_in){.n_q = 3, .n_pos = KERN_ATTN_BLOCK, .dim = 64, .fill = (enum fill)f},
            &rng);
    guarded_free(&m.q);
    guarded_free(&m.kv);
    guarded_free(&m.scale);
    guarded_free(&m.s);
    guarded_free(&m.ret);
}

void test_attn_exp(void) {
    uint64_t rng = t_seed();
    struct guarded out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++)
        for (size_t k = 0; k < N_LENGTHS; k++) {
            uint32_t n = lengths[k];
            float max = k % 3 == 0 ? 3 : k % 3 == 1 ? 60 : 1e30f;
            fill_floats(want2, n, (enum fill)f, max, &rng);
            memcpy(want, want2, n * 4);
            float sum = ref.attn_exp(want, n);
            for (unsigned i = 0; variant_next(&i, &ops);) {
                float *s = guarded_get(&out, n * 4, 4, k & 1 ? EDGE_BEGIN : EDGE_END);
                memcpy(s, want2, n * 4);
                float got = ops.attn_exp(s, n);
                check_within("attn_exp", ops.name, (enum fill)f, &got, &sum, 1, 1e-5 * (double)sum);
                for (uint32_t j = 0; j < n; j++)
                    check_within("attn_exp", ops.name, (enum fill)f, s + j, want + j, 1,
                                 1e-5 * (double)want[j] + 1e-36);
                CHECK(guarded_intact(&out));
            }
        }
    guarded_free(&out);
}

void test_silu_mul(void) {
    uint64_t rng = t_seed();
    struct guarded gate = {0}, up = {0}, out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++) {
        for (size_t k = 0; k < N_LENGTHS; k++) {
            uint32_t n = lengths[k];
            enum edge edge = k & 1 ? EDGE_BEGIN : EDGE_END;
            float *g = guarded_get(&gate, n * 4, 4, edge), *u = guarded_get(&up, n * 4, 4, edge);
            fill_floats(g, n, f, k % 3 == 0 ? 120 : k % 3 == 1 ? 5 : 89, &rng);
            fill_floats(u, n, FILL_RANDOM, k & 2 ? 1e-3f : 20, &rng);
            ref.silu_mul(g, u, n, want);
            for (unsigned i = 0; variant_next(&i, &ops);) {
                float *ret = guarded_get(&out, n * 4, 4, edge);
                ops.silu_mul(g, u, n, ret);
                for (uint32_t j = 0; j < n; j++)
                    check_within("silu_mul", ops.name, f, ret + j, want + j, 1,
                                 1e-6 * fabs((double)want[j]) +
                                     1e-36 * fmax(fabs((double)u[j]), 1));
                CHECK(guarded_intact(&out));
                memcpy(ret, g, n * 4); /* in place of the gate, then of the other */
                ops.silu_mul(ret, u, n, ret);
                memcpy(want2, u, n * 4);
                ops.silu_mul(g, want2, n, want2);
                CHECK_MEM(ret, want2, n * 4);
            }
        }
    }
    guarded_free(&gate);
    guarded_free(&up);
    guarded_free(&out);
}

static void check_to_f16(const float *x, uint32_t n) {
    struct guarded out = {0};
    struct kern_ops ref, ops;
    uint16_t *r = malloc(n * sizeof(*r));
    if (!r) abort();
    kern_init(&ref, 0);
    ref.to_f16(x, n, r);
    for (unsigned i = 0; variant_next(&i, &ops);) {
        uint16_t *ret = guarded_get(&out, n * 2, 2, n & 1 ? EDGE_BEGIN : EDGE_END);
        ops.to_f16(x, n, ret);
        CHECK_MEM(ret, r, n * 2);
        CHECK(guarded_intact(&out));
    }
    guarded_free(&out);
    free(r);
}

void test_f16(void) {
    static const struct {
        uint16_t h;
        float f;
    } known[] = {{0x0000, 0.0f},     {0x3c00, 1.0f},        {0xc000, -2.0f},
                 {0x7bff, 65504.0f}, {0x0400, 0x1p-14f},    {0x03ff, 0x1.ff8p-15f},
                 {0x0001, 0x1p-24f}, {0x3555, 0x1.554p-2f}, {0xfc00, -INFINITY},
                 {0x8001, -0x1p-24f}};
    struct kern_ops ref;
    kern_init(&ref, 0);
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        CHECK(kern_from_f16(known[i].h) == known[i].f);
    CHECK(isnan(kern_from_f16(0x7c01)) && isnan(kern_from_f16(0xfe00)));
    CHECK(signbit(kern_from_f16(0x8000)));

    /* Every fp16 value comes back; halfway points, and their neighbours, round as they must. */
    enum { N = 5 * 0x7c00 };
    float *x = malloc(2 * N * sizeof(*x));
    if (!x) abort();
    uint32_t n = 0, wrong = 0;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float f = kern_from_f16((uint16_t)h);
        float next = h == 0x7bff ? 65536.0f : kern_from_f16((uint16_t)(h + 1));
        float half = (f + next) / 2;
        const float at[] = {f, half, nextafterf(half, 0), nextafterf(half, INFINITY),
                            nextafterf(f, 0)};
        const uint32_t to[] = {h, h + (h & 1), h, h + 1, h};
        for (int i = 0; i < 5; i++) {
            uint16_t pos, neg;
            float minus = -at[i];
            ref.to_f16(&at[i], 1, &pos);
            ref.to_f16(&minus, 1, &neg);
            wrong += pos != to[i] || neg != (to[i] | 0x8000);
            x[n++] = at[i];
            x[n++] = minus;
        }
    }
    CHECK_EQU(wrong, 0);
    check_to_f16(x, n);

    uint64_t rng = t_seed();
    for (uint32_t i = 0; i < n; i++) { /* any bits: huge, tiny, NaN with payloads */
        uint32_t bits = (uint32_t)t_rand(&rng);
        memcpy(&x[i], &bits, sizeof(bits));
    }
    check_to_f16(x, n);
    for (uint32_t k = 1; k < 20; k++) check_to_f16(x, k);
    free(x);
}

void test_log_softmax(void) {
    enum { VOCAB = 49152 };
    uint64_t rng = t_seed();
    struct guarded in = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    float *x = malloc(VOCAB * 4), *w = malloc(VOCAB * 4);
    if (!x || !w) abort();
    for (int f = 0; f < FILL_COUNT; f++) {
        for (size_t k = 0; k <= N_LENGTHS; k++) {
            uint32_t n = k < N_LENGTHS ? lengths[k] : VOCAB;
            enum edge edge = k & 1 ? EDGE_BEGIN : EDGE_END;
            fill_floats(x, n, f, k & 2 ? 64 : 10, &rng);
            memcpy(w, x, n * 4);
            float lse = ref.log_softmax(w, n);
            for (unsigned i = 0; variant_next(&i, &ops);) {
                float *y = guarded_get(&in, n * 4, 4, edge);
                memcpy(y, x, n * 4);
                float got = ops.log_softmax(y, n);
                CHECK_NEAR((double)got, (double)lse, 1e-5);
                check_within("log_softmax", ops.name, f, y, w, n, 2e-5);
                CHECK(guarded_intact(&in));
            }
        }
    }
    guarded_free(&in);
    free(x);
    free(w);
}
