/* What tests of the packer's methods share: tools, random matrices and moments of inputs that
 * correlate. */
#ifndef EBB_TESTS_UNIT_MAKE_RIG_H
#define EBB_TESTS_UNIT_MAKE_RIG_H

#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"
#include "tests/t.h"

static struct tools *rig_create(unsigned n_threads) {
    struct tools *t = calloc(1, sizeof(*t));
    struct err e = {0};
    REQUIRE(t);
    gemm_init();
    kern_init(&t->ops, kern_cpu_flags());
    REQUIRE(mem_create(&t->mem) == 0);
    REQUIRE_OK(pool_create(n_threads, &t->pool, &e), &e);
    return t;
}

static void rig_destroy(struct tools *t) {
    CHECK_EQU(mem_bytes(t->mem, MEM_PACKER), 0);
    pool_destroy(t->pool);
    mem_destroy(t->mem);
    free(t);
}

static float rig_gauss(uint64_t *s) {
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) sum += (float)(t_rand(s) >> 40) / (1 << 24);
    return sum - 6.0f;
}

static float *rig_floats(size_t n) {
    float *p = calloc(n, sizeof(*p));
    REQUIRE(p);
    return p;
}

/* Freed by the caller. */
static float *rig_matrix(uint32_t n_out, uint32_t n_in, float size, uint64_t *s) {
    float *w = rig_floats((size_t)n_out * n_in);
    for (size_t i = 0; i < (size_t)n_out * n_in; i++) w[i] = size * rig_gauss(s);
    return w;
}

/* Inputs that share 8 directions, with energies that differ; singular if there is no noise. */
static float *rig_moments(uint32_t n, float noise, uint64_t *s) {
    float *a = rig_floats((size_t)n * n), *mix = rig_matrix(8, n, 1.0f, s);
    for (size_t k = 0; k < 8; k++)
        for (size_t i = 0; i < n; i++) mix[k * n + i] *= expf(0.5f * rig_gauss(s));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            float sum = i == j ? noise : 0.0f;
            for (size_t k = 0; k < 8; k++) sum += mix[k * n + i] * mix[k * n + j];
            a[i * n + j] = a[j * n + i] = sum;
        }
    free(mix);
    return a;
}

#endif
