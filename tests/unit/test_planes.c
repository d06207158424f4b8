/* Quantising a matrix to planes: what is written must read back, through the reference kernel, as
 * something sensible for any matrix, and close to the source for ordinary ones. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/planes.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "tests/t.h"

enum { MAX_OUT = 40, MAX_IN = 192 };

struct rig {
    struct mem *mem;
    struct pool *pool;
    struct kern_ops ops;
    uint32_t n_out, n_in;
    float w[MAX_OUT * MAX_IN], moments[MAX_IN];
    _Alignas(64) uint8_t rows[MAX_OUT / 8 * PLANE_ROW_BYTES];
    _Alignas(64) uint8_t groups[MAX_OUT / 8 * MAX_IN / 32 * PLANE_SCALE_BYTES];
    _Alignas(64) uint8_t high[MAX_OUT * MAX_IN / 2], low[MAX_OUT * MAX_IN / 2];
    float w4[MAX_OUT * MAX_IN], w8[MAX_OUT * MAX_IN];
    struct planes_stats stats;
};

static struct rig *rig_make(uint32_t n_out, uint32_t n_in, unsigned n_threads) {
    struct rig *g = aligned_alloc(64, (sizeof(*g) + 63) / 64 * 64);
    REQUIRE(g);
    struct err e = {0};
    memset(g, 0, sizeof(*g));
    g->n_out = n_out;
    g->n_in = n_in;
    for (uint32_t i = 0; i < n_in; i++) g->moments[i] = 1.0f;
    REQUIRE_OK(mem_create(&g->mem), &e);
    REQUIRE_OK(pool_create(n_threads, &g->pool, &e), &e);
    kern_init(&g->ops, 0);
    return g;
}

static void rig_free(struct rig *g) {
    pool_destroy(g->pool);
    mem_destroy(g->mem);
    free(g);
}

static int quantise(struct rig *g, struct err *e) {
    struct planes_dst dst = {g->rows, g->groups, g->high, g->low};
    memset(g->high, 0, sizeof(g->high));
    memset(g->low, 0, sizeof(g->low));
    g->stats = (struct planes_stats){0};
    struct planes_inputs in = {.energy = g->moments};
    int r = planes_quantise(g->mem, g->pool, &g->ops, g->w, g->n_out, g->n_in, &in, &dst, &g->stats,
                            e);
    if (r < 0) return r;
    struct kern_planes p = {.rows = g->rows,
                            .groups = g->groups,
                            .high = g->high,
                            .low = NULL,
                            .n_out = g->n_out,
                            .n_in = g->n_in};
    for (uint32_t i = 0; i < g->n_out; i++) g->ops.row(&p, i, g->w4 + i * g->n_in);
    p.low = g->low;
    for (uint32_t i = 0; i < g->n_out; i++) g->ops.row(&p, i, g->w8 + i * g->n_in);
    return 0;
}

static float uniform(uint64_t *s) { /* -1 .. 1 */
    return (float)(t_rand(s) >> 40) / (float)(1 << 23) - 1.0f;
}

static float bell(uint64_t *s) {
    return uniform(s) + uniform(s) + uniform(s);
}

static float group_scale(const struct rig *g, uint32_t row, uint32_t group) {
    uint16_t d;
    memcpy(&d, g->rows + row / 8 * PLANE_ROW_BYTES + row % 8 * 2, 2);
    size_t tile = row / 8 * (g->n_in / 32) + group;
    return kern_from_f16(d) * g->groups[tile * PLANE_SCALE_BYTES + row % 8];
}

static void check_finite(const struct rig *g) {
    for (uint32_t i = 0; i < g->n_out * g->n_in; i++) {
        CHECK(isfinite(g->w4[i]));
        CHECK(isfinite(g->w8[i]));
    }
}

static double cost(const float *w, const float *q, const float *weights, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)weights[i] * ((double)w[i] - q[i]) * ((double)w[i] - q[i]);
    return sum;
}

/* Nearest codes on the plain grid min .. max, scales not rounded: the usual way. */
static double plain_cost(const float *w, const float *weights) {
    float lo = 0.0f, hi = 0.0f, q4[32], q8[32];
    for (int i = 0; i < 32; i++) {
        lo = fminf(lo, w[i]);
        hi = fmaxf(hi, w[i]);
    }
    float s = (hi - lo) / 15;
    for (int i = 0; i < 32; i++) {
        float t = rintf((w[i] - lo) / s);
        float l = rintf(((w[i] - lo) / s - t) * 8);
        q4[i] = lo + s * t;
        q8[i] = lo + s * (t + l / 8);
    }
    return cost(w, q4, weights, 32) + (double)PLANES_FULL_COUNTS * cost(w, q8, weights, 32);
}

static void fill(struct rig *g, uint64_t *s) {
    for (uint32_t i = 0; i < g->n_out * g->n_in; i++) g->w[i] = 0.1f * bell(s);
    for (uint32_t i = 0; i < g->n_in; i++) {
        float m = bell(s);
        g->moments[i] = 0.01f + m * m;
    }
}

static void test_random(void) {
    uint64_t s = t_seed();
    struct err e = {0};
    struct rig *g = rig_make(21, 96, 1);
    for (int round = 0; round < 20; round++) {
        fill(g, &s);
        REQUIRE_OK(quantise(g, &e), &e);
        check_finite(g);
        double e4 = 0, e8 = 0, all = 0;
        for (uint32_t r = 0; r < g->n_out; r++) {
            double ours = 0, plain = 0;
            for (uint32_t k = 0; k < g->n_in / 32; k++) {
                size_t at = r * g->n_in + k * 32;
                double a = cost(g->w + at, g->w4 + at, g->moments + k * 32, 32);
                double b = cost(g->w + at, g->w8 + at, g->moments + k * 32, 32);
                ours += a + (double)PLANES_FULL_COUNTS * b;
                plain += plain_cost(g->w + at, g->moments + k * 32);
                e4 += a;
                e8 += b;
                for (int i = 0; i < 32; i++)
                    all += g->moments[k * 32 + i] * g->w[at + i] * g->w[at + i];
            }
            CHECK(ours <= plain);
        }
        /* 4 and 7 bits of a bell: signal to noise of about 150 and 150 * 64. */
        CHECK(e4 < all / 100);
        CHECK(e8 < all / 4000);
        CHECK_EQU(g->stats.n_weights, 21 * 96);
    }
    rig_free(g);
}

/* The full reading stays within one step of the high one, and goes towards the weight. */
static void test_nested(void) {
    uint64_t s = t_seed() + 1;
    struct err e = {0};
    struct rig *g = rig_make(16, 64, 1);
    for (int round = 0; round < 20; round++) {
        fill(g, &s);
        if (round % 2) g->w[t_rand(&s) % (16 * 64)] = 3.0f; /* something to clip */
        REQUIRE_OK(quantise(g, &e), &e);
        for (uint32_t r = 0; r < g->n_out; r++)
            for (uint32_t i = 0; i < g->n_in; i++) {
                size_t at = r * g->n_in + i;
                float step = group_scale(g, r, i / 32);
                float d4 = fabsf(g->w[at] - g->w4[at]), d8 = fabsf(g->w[at] - g->w8[at]);
                float slack = 1e-4f * step + 1e-6f;
                CHECK(fabsf(g->w8[at] - g->w4[at]) <= step + slack);
                CHECK(d8 <= d4 + slack);
                if (d4 <= step * 7 / 8) CHECK(d8 <= step / 16 + slack);
            }
    }
    rig_free(g);
}

static void test_zero(void) {
    uint64_t s = t_seed() + 2;
    struct err e = {0};
    struct rig *g = rig_make(11, 64, 1);
    REQUIRE_OK(quantise(g, &e), &e); /* all zero */
    for (uint32_t i = 0; i < 11 * 64; i++) {
        CHECK(g->w4[i] == 0.0f);
        CHECK(g->w8[i] == 0.0f);
    }
    /* A zero row, and a zero group, between others. */
    fill(g, &s);
    memset(g->w + 3 * 64, 0, 64 * sizeof(float));
    memset(g->w + 5 * 64 + 32, 0, 32 * sizeof(float));
    REQUIRE_OK(quantise(g, &e), &e);
    check_finite(g);
    for (uint32_t i = 0; i < 64; i++) CHECK(g->w4[3 * 64 + i] == 0.0f && g->w8[3 * 64 + i] == 0.0f);
    for (uint32_t i = 32; i < 64; i++)
        CHECK(g->w4[5 * 64 + i] == 0.0f && g->w8[5 * 64 + i] == 0.0f);
    /* Padding rows: scales and codes zero, so that they read as zero. */
    for (uint32_t r = 3; r < 8; r++) {
        CHECK_EQ(g->rows[PLANE_ROW_BYTES + 2 * r], 0);
        CHECK_EQ(g->rows[PLANE_ROW_BYTES + 16 + 2 * r + 1], 0);
        for (uint32_t i = 0; i < 32; i++)
            CHECK_EQ(g->high[2 * PLANE_TILE_BYTES + planes_code_byte(r, i)], 0);
    }
    rig_free(g);
}

/* Constants are on the grid: a positive one as the largest code, a negative one as the smallest. */
static void test_constant(void) {
    struct err e = {0};
    struct rig *g = rig_make(4, 64, 1);
    static const float values[4] = {0.25f, -0.25f, 1e-3f, -700.0f};
    for (uint32_t i = 0; i < 4 * 64; i++) g->w[i] = values[i / 64];
    REQUIRE_OK(quantise(g, &e), &e);
    for (uint32_t i = 0; i < 4 * 64; i++) {
        CHECK_NEAR(g->w4[i], g->w[i], 5e-3 * fabs((double)g->w[i]));
        CHECK_NEAR(g->w8[i], g->w[i], 5e-3 * fabs((double)g->w[i]));
    }
    rig_free(g);
}

/* One group far larger than the rest of its row: the rest keeps its signs and sizes as far as 8
 * bits of scale go. And extremes of what may be stored. */
static void test_outliers(void) {
    uint64_t s = t_seed() + 3;
    struct err e = {0};
    struct rig *g = rig_make(8, 128, 1);
    fill(g, &s);
    for (uint32_t i = 0; i < 32; i++) g->w[i] *= 30;
    for (uint32_t i = 0; i < 128; i++) g->w[128 + i] *= 1e-7f; /* below what fp16 scales resolve */
    for (uint32_t i = 0; i < 128; i++)
        g->w[256 + i] = i % 2 ? PLANES_MAX_WEIGHT : -PLANES_MAX_WEIGHT;
    g->w[3 * 128 + 5] = 50.0f;
    REQUIRE_OK(quantise(g, &e), &e);
    check_finite(g);
    for (uint32_t i = 0; i < 128; i++) {
        CHECK_NEAR(g->w8[i], g->w[i], i < 32 ? 0.12 : 0.02);
        CHECK_NEAR(g->w8[128 + i], g->w[128 + i], 1e-6);
        CHECK_NEAR(g->w8[256 + i], g->w[256 + i], 0.01 * (double)PLANES_MAX_WEIGHT);
    }
    rig_free(g);
}

static void test_dead_inputs(void) {
    uint64_t s = t_seed() + 4;
    struct err e = {0};
    struct rig *g = rig_make(8, 64, 1);
    fill(g, &s);
    memset(g->moments, 0, sizeof(g->moments)); /* nothing known: all count alike */
    REQUIRE_OK(quantise(g, &e), &e);
    for (uint32_t i = 0; i < 8 * 64; i++) CHECK_NEAR(g->w8[i], g->w[i], 0.02);
    for (uint32_t i = 0; i < 32; i++) g->moments[i] = 1.0f; /* the second group is dead */
    REQUIRE_OK(quantise(g, &e), &e);
    check_finite(g);
    for (uint32_t i = 0; i < 8 * 64; i++) CHECK_NEAR(g->w8[i], g->w[i], 0.02);
    g->moments[3] = 1e30f; /* one input outweighs all others by far */
    REQUIRE_OK(quantise(g, &e), &e);
    check_finite(g);
    rig_free(g);
}

static void test_too_big(void) {
    struct err e = {0};
    struct rig *g = rig_make(8, 64, 1);
    g->w[5 * 64] = -2e8f;
    CHECK_EQ(quantise(g, &e), -ENOTSUP);
    CHECK(strstr(e.msg, "row 5"));
    mem_fail_at(g->mem, 1, false);
    CHECK_EQ(quantise(g, &e), -ENOMEM);
    rig_free(g);
}

static void test_threads(void) {
    uint64_t s = t_seed() + 5;
    struct err e = {0};
    struct rig *a = rig_make(37, 160, 1), *b = rig_make(37, 160, 3);
    fill(a, &s);
    memcpy(b->w, a->w, sizeof(a->w));
    memcpy(b->moments, a->moments, sizeof(a->moments));
    REQUIRE_OK(quantise(a, &e), &e);
    REQUIRE_OK(quantise(b, &e), &e);
    CHECK_MEM(a->rows, b->rows, sizeof(a->rows));
    CHECK_MEM(a->groups, b->groups, sizeof(a->groups));
    CHECK_MEM(a->high, b->high, sizeof(a->high));
    CHECK_MEM(a->low, b->low, sizeof(a->low));
    CHECK_EQU(a->stats.n_clipped, b->stats.n_clipped);
    rig_free(a);
    rig_free(b);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"random", test_random},     {"nested", test_nested},     {"zero", test_zero},
        {"constant", test_constant}, {"outliers", test_outliers}, {"dead_inputs", test_dead_inputs},
        {"too_big", test_too_big},   {"threads", test_threads},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
