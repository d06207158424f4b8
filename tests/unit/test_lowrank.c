/* Low-rank pairs: a matrix of low rank is found, what is left is the least that can be, each step
 * helps, and odd inputs give numbers or errors. */
#include <errno.h>
#include <string.h>

#include "core/linalg.h"
#include "core/make/lowrank.h"
#include "core/make/output.h"
#include "tests/unit/make_rig.h"

enum { N_OUT = 104, N_IN = 96, RANK = 32 };

/* E|(e - A B) x|^2 / E|e x|^2 */
static double relative(struct tools *t, const struct lowrank *l, const float *e,
                       const float *moments) {
    struct err err = {0};
    float *q = rig_floats((size_t)l->a.n_out * l->b.n_in);
    double left, all;
    REQUIRE_OK(lowrank_read(t, l, q, &err), &err);
    REQUIRE_OK(output_energy(t, e, q, l->a.n_out, l->b.n_in, moments, &left, &err), &err);
    REQUIRE_OK(output_energy(t, e, NULL, l->a.n_out, l->b.n_in, moments, &all, &err), &err);
    for (size_t i = 0; i < (size_t)l->a.n_out * l->b.n_in; i++) CHECK(isfinite(q[i]));
    free(q);
    return all > 0.0 ? left / all : left;
}

static double fit(struct tools *t, const float *e, uint32_t n_out, uint32_t n_in,
                  const float *moments, uint32_t rank, uint8_t bits) {
    struct lowrank l;
    struct err err = {0};
    REQUIRE_OK(lowrank_fit(t, e, n_out, n_in, &(struct factor_inputs){.moments = moments}, rank,
                           bits, &l, &err),
               &err);
    double left = relative(t, &l, e, moments);
    lowrank_fini(&l);
    return left;
}

static void algebra(void) {
    enum { N = 9, M = 4 };
    uint64_t s = t_seed();
    struct err e = {0};
    gemm_init();
    double a[N * N], v[N * N], values[N], q[M * N], b[2 * N], x[2 * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) a[i * N + j] = a[j * N + i] = (double)rig_gauss(&s);
    memcpy(v, a, sizeof(v));
    REQUIRE_OK(linalg_eigen(N, v, values, &e), &e);
    for (int k = 0; k < N; k++) {
        if (k > 0) CHECK(values[k] <= values[k - 1]);
        for (int i = 0; i < N; i++) {
            double sum = 0.0;
            for (int j = 0; j < N; j++) sum += a[i * N + j] * v[k * N + j];
            CHECK_NEAR(sum, values[k] * v[k * N + i], 1e-9);
        }
    }
    for (int i = 0; i < M * N; i++) q[i] = i < 2 * N ? (double)rig_gauss(&s) : 0.0;
    REQUIRE_OK(linalg_orthonormal(M, N, q, &e), &e);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            double sum = 0.0;
            for (int k = 0; k < N; k++) sum += q[i * N + k] * q[j * N + k];
            CHECK_NEAR(sum, i == j ? 1.0 : 0.0, 1e-12);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            v[i * N + j] = i == j ? 0.5 : 0.0;
            for (int k = 0; k < N; k++) v[i * N + j] += a[i * N + k] * a[j * N + k];
        }
    for (int i = 0; i < 2 * N; i++) x[i] = (double)rig_gauss(&s);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < N; i++) {
            b[r * N + i] = 0.0;
            for (int j = 0; j < N; j++) b[r * N + i] += v[i * N + j] * x[r * N + j];
        }
    REQUIRE_OK(linalg_solve(N, v, 2, b, &e), &e);
    for (int i = 0; i < 2 * N; i++) CHECK_NEAR(b[i], x[i], 1e-8);
    memset(v, 0, sizeof(v));
    CHECK_EQ(linalg_solve(N, v, 2, b, &e), -EDOM);
    v[5] = (double)NAN;
    CHECK_EQ(linalg_eigen(N, v, values, &e), -EDOM);
    CHECK_EQ(linalg_orthonormal(2, N, v, &e), -EDOM);
}

/* A matrix of rank 20 is found but for what quantising costs. */
static void planted(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    float *a = rig_matrix(N_OUT, 20, 1.0f, &s), *b = rig_matrix(20, N_IN, 0.05f, &s);
    float *e = rig_floats(N_OUT * N_IN), *m = rig_moments(N_IN, 0.3f, &s);
    gemm_nn(N_OUT, N_IN, 20, a, 20, b, N_IN, e, N_IN);
    CHECK(fit(t, e, N_OUT, N_IN, m, RANK, 8) < 1e-3);
    CHECK(fit(t, e, N_OUT, N_IN, m, RANK, 4) < 3e-2);
    CHECK(fit(t, e, N_OUT, N_IN, NULL, RANK, 8) < 1e-3);
    free(a);
    free(b);
    free(e);
    free(m);
    rig_destroy(t);
}

/* The least error that rank 32 can have: the rest of the spectrum of E M E^T. */
static void near_the_bound(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err err = {0};
    float *e = rig_matrix(N_OUT, N_IN, 0.05f, &s), *m = rig_moments(N_IN, 0.5f, &s);
    double *g = calloc(N_OUT * N_OUT, sizeof(*g)), values[N_OUT], all = 0.0, rest = 0.0;
    float *em = rig_floats(N_OUT * N_IN);
    REQUIRE(g);
    gemm_nn(N_OUT, N_IN, N_IN, e, N_IN, m, N_IN, em, N_IN);
    for (int i = 0; i < N_OUT; i++)
        for (int j = 0; j < N_OUT; j++)
            for (int k = 0; k < N_IN; k++)
                g[i * N_OUT + j] += (double)em[i * N_IN + k] * (double)e[j * N_IN + k];
    REQUIRE_OK(linalg_eigen(N_OUT, g, values, &err), &err);
    for (int k = 0; k < N_OUT; k++) {
        all += values[k];
        if (k >= RANK) rest += values[k];
    }
    double bound = rest / all, high = fit(t, e, N_OUT, N_IN, m, RANK, 4);
    double full = fit(t, e, N_OUT, N_IN, m, RANK, 8);
    CHECK(full >= bound * (1.0 - 1e-3));
    CHECK(full < bound * 1.05 + 1e-3);
    CHECK(high >= full);
    /* Whitening is worth its while: the plain SVD is worse by these moments. */
    struct lowrank plain;
    REQUIRE_OK(lowrank_fit(t, e, N_OUT, N_IN, &(struct factor_inputs){.moments = NULL}, RANK, 8,
                           &plain, &err),
               &err);
    CHECK(relative(t, &plain, e, m) > full);
    lowrank_fini(&plain);
    free(e);
    free(m);
    free(g);
    free(em);
    rig_destroy(t);
}

/* Singular values that are off by a factor come right again, which costs no bytes. */
static void scales_come_right(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err err = {0};
    float *e = rig_matrix(N_OUT, N_IN, 0.05f, &s), *m = rig_moments(N_IN, 0.3f, &s);
    float *b = rig_floats(RANK * N_IN);
    struct lowrank with = {0}, without = {0};
    REQUIRE_OK(lowrank_basis(t, e, N_OUT, N_IN, m, RANK, b, &err), &err);
    REQUIRE_OK(
        factor_quantise(t, b, RANK, N_IN, 4, &(struct factor_inputs){.moments = m}, &with.b, &err),
        &err);
    REQUIRE_OK(factor_quantise(t, b, RANK, N_IN, 4, &(struct factor_inputs){.moments = m},
                               &without.b, &err),
               &err);
    REQUIRE_OK(lowrank_coefficients(t, e, N_OUT, m, &with.b, true, &with.a, &err), &err);
    REQUIRE_OK(lowrank_coefficients(t, e, N_OUT, m, &without.b, false, &without.a, &err), &err);
    CHECK(relative(t, &with, e, m) <= relative(t, &without, e, m) * (1.0 + 1e-4));
    CHECK(!factor_scale_row(&with.b, &t->ops, 0, -1.0f));
    CHECK(!factor_scale_row(&with.b, &t->ops, 0, INFINITY));
    lowrank_fini(&with);
    lowrank_fini(&without);
    free(e);
    free(m);
    free(b);
    rig_destroy(t);
}

static void odd_inputs(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err err = {0};
    struct lowrank l;
    float *e = rig_floats(N_OUT * N_IN), *m = rig_moments(N_IN, 0.0f, &s);
    float *none = rig_floats(N_IN * N_IN);
    CHECK_EQ(fit(t, e, N_OUT, N_IN, m, RANK, 4) != 0.0, 0); /* nothing stays nothing */
    for (int i = 0; i < N_OUT * N_IN; i++) e[i] = 0.25f;    /* constant: rank 1 */
    CHECK(fit(t, e, N_OUT, N_IN, m, RANK, 8) < 1e-3);
    CHECK(fit(t, e, N_OUT, N_IN, NULL, RANK, 8) < 1e-3);
    CHECK(fit(t, e, N_OUT, N_IN, none, RANK, 8) < 1.0 + 1e-3); /* all error is 0 of 0 */
    CHECK(fit(t, e, 40, N_IN, m, 64, 8) < 1e-3);               /* rank beyond the rows */
    CHECK(fit(t, e, 1, N_IN, m, 32, 8) < 1e-3);
    for (int i = 0; i < N_OUT * N_IN; i++) e[i] = 1e-20f * rig_gauss(&s);
    CHECK(fit(t, e, N_OUT, N_IN, m, RANK, 8) <= 1.0 + 1e-3);
    for (int i = 0; i < N_OUT * N_IN; i++) e[i] = 1e6f * rig_gauss(&s);
    CHECK(fit(t, e, N_OUT, N_IN, m, RANK, 8) < 1e-2); /* 8 directions are all that moves */
    e[7] = NAN;
    CHECK_EQ(
        lowrank_fit(t, e, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, RANK, 8, &l, &err),
        -EDOM);
    e[7] = 0.0f;
    m[3] = INFINITY;
    CHECK_EQ(
        lowrank_fit(t, e, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, RANK, 8, &l, &err),
        -EDOM);
    free(e);
    free(m);
    free(none);
    rig_destroy(t);
}

static void same_for_any_threads(void) {
    uint64_t s = t_seed();
    struct err err = {0};
    float *e = rig_matrix(200, N_IN, 0.05f, &s), *m = rig_moments(N_IN, 0.3f, &s);
    struct lowrank l[2];
    struct tools *t[2] = {rig_create(1), rig_create(4)};
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(lowrank_fit(t[i], e, 200, N_IN, &(struct factor_inputs){.moments = m}, RANK, 8,
                               &l[i], &err),
                   &err);
    CHECK_MEM(l[0].a.data, l[1].a.data, l[0].a.bytes);
    CHECK_MEM(l[0].b.data, l[1].b.data, l[0].b.bytes);
    for (int i = 0; i < 2; i++) {
        lowrank_fini(&l[i]);
        rig_destroy(t[i]);
    }
    free(e);
    free(m);
}

static void without_memory(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err err = {0};
    struct lowrank l;
    float *e = rig_matrix(N_OUT, N_IN, 0.05f, &s), *m = rig_moments(N_IN, 0.3f, &s);
    unsigned n = 1;
    for (;; n++) {
        mem_fail_at(t->mem, n, false);
        int r = lowrank_fit(t, e, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, RANK, 4, &l,
                            &err);
        mem_fail_at(t->mem, 0, false);
        if (r == 0) break;
        /* Feedback that could not be had for want of memory is an error, too. */
        CHECK_EQ(r, -ENOMEM);
        CHECK_EQU(mem_bytes(t->mem, MEM_PACKER), 0);
        REQUIRE(n < 100);
    }
    CHECK(n > 10);
    lowrank_fini(&l);
    free(e);
    free(m);
    rig_destroy(t);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"algebra", algebra},
        {"planted", planted},
        {"near_the_bound", near_the_bound},
        {"scales_come_right", scales_come_right},
        {"odd_inputs", odd_inputs},
        {"same_for_any_threads", same_for_any_threads},
        {"without_memory", without_memory},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
