/* Code books: clusters that are there are found, under any metric; odd samples do no harm. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/codebook.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "tests/t.h"

enum { MAX_N = 64 * 64 };

struct rig {
    struct mem *mem;
    struct pool *pool;
    struct kern_ops ops;
    float x[MAX_N * 8], metric[64 * 64];
    struct codebook_sample s;
};

static float unit(uint64_t *s) {
    return (float)(t_rand(s) >> 40) / (1 << 23) - 1.0f;
}

static struct rig *rig_new(unsigned n_threads, uint32_t len, uint32_t n_groups, uint32_t n_rows) {
    struct rig *k = calloc(1, sizeof(*k));
    struct err e = {0};
    REQUIRE(k && n_groups <= 64 && n_rows <= 64);
    REQUIRE(mem_create(&k->mem) == 0);
    REQUIRE_OK(pool_create(n_threads, &k->pool, &e), &e);
    kern_init(&k->ops, kern_cpu_flags());
    k->s = (struct codebook_sample){len, n_groups, n_rows, k->x, k->metric};
    for (uint32_t g = 0; g < n_groups; g++)
        for (uint32_t i = 0; i < len; i++) k->metric[(g * len + i) * len + i] = 1.0f;
    return k;
}

static void rig_free(struct rig *k) {
    pool_destroy(k->pool);
    mem_destroy(k->mem);
    free(k);
}

/* Mean squared distance of the sample to its nearest entries, in plain coordinates. */
static double distance(const struct rig *k, const struct codebook *b) {
    size_t n = (size_t)k->s.n_groups * k->s.n_rows;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (uint32_t c = 0; c < b->k; c++) {
            double d = 0.0;
            for (uint32_t j = 0; j < b->len; j++)
                d += pow((double)k->x[i * b->len + j] -
                             (double)b->scale * b->entries[c * b->len + j],
                         2);
            best = fmin(best, d);
        }
        sum += best;
    }
    return sum / (double)n;
}

/* 32 far clusters with a little noise; which one a segment is of is drawn. */
static void fill_clusters(struct rig *k, float noise, uint64_t *rng) {
    float c[32][8];
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 8; j++) c[i][j] = 4 * unit(rng);
    for (uint32_t i = 0; i < k->s.n_groups * k->s.n_rows; i++) {
        uint32_t of = (uint32_t)(t_rand(rng) % 32);
        for (uint32_t j = 0; j < k->s.len; j++)
            k->x[i * k->s.len + j] = c[of][j] + noise * unit(rng);
    }
}

static void finds_clusters(void) {
    for (uint32_t len = 4; len <= 8; len += 4) {
        uint64_t rng = t_seed();
        struct rig *k = rig_new(2, len, 64, 64);
        struct codebook b;
        struct err e = {0};
        fill_clusters(k, 0.05f, &rng);
        /* The groups' metrics differ, and lean: full rank all the same. */
        for (uint32_t i = 0; i < 64 * len * len; i++) k->metric[i] += 0.3f * unit(&rng);
        REQUIRE_OK(codebook_train(k->mem, k->pool, &k->ops, &k->s, 64, 10, &b, &e), &e);
        /* Noise in each input is a third of 0.05^2; int8 adds a step's twelfth. */
        CHECK(distance(k, &b) < len * (0.0025 / 3 + 0.002));
        for (uint32_t i = 0; i < b.k * len; i++) {
            CHECK(b.entries[i] >= -127);
            CHECK(b.columns[i % len * b.k + i / len] == (float)b.entries[i]);
        }
        codebook_fini(&b);
        rig_free(k);
    }
}

static void same_for_any_threads(void) {
    struct codebook b[2];
    struct err e = {0};
    for (unsigned t = 0; t < 2; t++) {
        uint64_t rng = 5;
        struct rig *k = rig_new(t ? 4 : 1, 4, 64, 50);
        fill_clusters(k, 2.0f, &rng);
        REQUIRE_OK(codebook_train(k->mem, k->pool, &k->ops, &k->s, 256, 6, &b[t], &e), &e);
        rig_free(k);
    }
    CHECK(b[0].scale == b[1].scale);
    CHECK_MEM(b[0].entries, b[1].entries, (size_t)256 * 4);
    codebook_fini(&b[0]);
    codebook_fini(&b[1]);
}

/* Fewer segments than entries, all alike, all zero, an outlier, a metric that sees one input. */
static void odd_samples(void) {
    struct err e = {0};
    for (int c = 0; c < 5; c++) {
        struct rig *k = rig_new(1, 4, 8, 4);
        struct codebook b;
        for (int i = 0; i < 8 * 4 * 4; i++) k->x[i] = c == 1 ? 2.5f : c == 2 ? 0.0f : (float)i;
        if (c == 3) k->x[17] = 1e9f;
        if (c == 4)
            for (int i = 0; i < 8 * 16; i++) k->metric[i] = i % 16 == 0;
        REQUIRE_OK(codebook_train(k->mem, k->pool, &k->ops, &k->s, 256, 4, &b, &e), &e);
        CHECK(isfinite(b.scale) && b.scale > 0.0f);
        for (int i = 0; i < 256 * 4; i++) CHECK(isfinite(b.columns[i]));
        if (c == 1) CHECK_NEAR(b.scale * b.columns[0], 2.5f, 0.01f);
        codebook_fini(&b);
        rig_free(k);
    }
}

static void no_memory(void) {
    struct err e = {0};
    struct rig *k = rig_new(1, 4, 8, 4);
    struct codebook b;
    for (unsigned n = 1; n <= 2; n++) {
        mem_fail_at(k->mem, n, false);
        CHECK_EQ(codebook_train(k->mem, k->pool, &k->ops, &k->s, 256, 4, &b, &e), -ENOMEM);
    }
    CHECK_EQU(mem_bytes(k->mem, MEM_PACKER), 0);
    rig_free(k);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"finds_clusters", finds_clusters},
        {"same_for_any_threads", same_for_any_threads},
        {"odd_samples", odd_samples},
        {"no_memory", no_memory},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
