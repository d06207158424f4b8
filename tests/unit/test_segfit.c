/* Rows to segments: outputs come out better than with nearest entries, and odd rows or inputs do
 * no harm. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/codebook.h"
#include "core/make/segfit.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "tests/t.h"

enum { N = 96, ROWS = 200, K = 256, LEN = 4, SEGS = N / LEN };

struct rig {
    struct mem *mem;
    struct pool *pool;
    struct kern_ops ops;
    struct codebook book;
    float a[N * N], w[ROWS * N], q[ROWS * N], turned[ROWS * N], metric[SEGS * LEN * LEN];
    uint16_t gain[ROWS], index[ROWS * SEGS];
    struct segfit_mat mat;
};

static float gauss(uint64_t *s) {
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) sum += (float)(t_rand(s) >> 40) / (1 << 24);
    return sum - 6.0f;
}

/* Moments of inputs that share a few directions, with energies that differ by channel. */
static void fill_moments(float *a, uint64_t *s) {
    float mix[8][N];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < N; i++) mix[k][i] = gauss(s) * expf(0.5f * gauss(s));
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i * N + j] = i == j ? 0.3f : 0.0f;
            for (int k = 0; k < 8; k++) a[i * N + j] += mix[k][i] * mix[k][j];
        }
}

static struct rig *rig_new(unsigned n_threads, uint64_t seed) {
    struct rig *k = calloc(1, sizeof(*k));
    struct err e = {0};
    REQUIRE(k);
    gemm_init();
    REQUIRE(mem_create(&k->mem) == 0);
    REQUIRE_OK(pool_create(n_threads, &k->pool, &e), &e);
    kern_init(&k->ops, kern_cpu_flags());
    fill_moments(k->a, &seed);
    for (int i = 0; i < ROWS * N; i++) k->w[i] = 0.05f * gauss(&seed);
    for (int s = 0; s < SEGS; s++) {
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < LEN; i++)
                k->turned[(s * ROWS + r) * LEN + i] = k->w[r * N + s * LEN + i] / 0.05f;
        for (int i = 0; i < LEN; i++)
            k->metric[(s * LEN + i) * LEN + i] = sqrtf(k->a[(s * LEN + i) * (N + 1)]);
    }
    struct codebook_sample sample = {LEN, SEGS, ROWS, k->turned, k->metric};
    REQUIRE_OK(codebook_train(k->mem, k->pool, &k->ops, &sample, K, 8, &k->book, &e), &e);
    k->mat = (struct segfit_mat){&k->book, ROWS, N, k->gain, k->index};
    return k;
}

static void rig_free(struct rig *k) {
    codebook_fini(&k->book);
    CHECK_EQU(mem_bytes(k->mem, MEM_PACKER), 0);
    pool_destroy(k->pool);
    mem_destroy(k->mem);
    free(k);
}

/* Sum over the rows of e A e^T, e = w - q, A as a fit sees it. */
static double error_of(const struct rig *k, const float *a, const float *w, const float *q) {
    double sum = 0.0, mean = 0.0;
    for (int i = 0; i < N; i++) mean += (double)a[i * N + i] / N;
    for (int r = 0; r < (int)k->mat.n_out; r++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double m = (double)a[i * N + j] / mean + (i == j ? (double)SEGFIT_DAMPING : 0.0);
                sum += (double)(w[r * N + i] - q[r * N + i]) * m *
                       (double)(w[r * N + j] - q[r * N + j]);
            }
    return sum;
}

static struct segfit_error fit(struct rig *k, const float *a, unsigned rounds) {
    struct segfit *f;
    struct segfit_error x;
    struct err e = {0};
    REQUIRE_OK(segfit_create(k->mem, a, N, LEN, &f, &e), &e);
    REQUIRE_OK(segfit_run(f, k->pool, &k->ops, k->w, rounds, &k->mat, &x, &e), &e);
    segfit_read(&k->mat, k->q);
    segfit_destroy(f);
    return x;
}

static void nearest(struct rig *k) {
    for (int r = 0; r < ROWS; r++) {
        double sum = 0.0;
        for (int i = 0; i < N; i++) sum += (double)k->w[r * N + i] * (double)k->w[r * N + i];
        float gain = (float)sqrt(sum / N) * k->book.scale;
        for (int s = 0; s < SEGS; s++) {
            double best = INFINITY;
            int at = 0;
            for (int c = 0; c < K; c++) {
                double d = 0.0;
                for (int i = 0; i < LEN; i++)
                    d += (double)k->a[(s * LEN + i) * (N + 1)] *
                         pow((double)(k->w[r * N + s * LEN + i] -
                                      gain * (float)k->book.entries[c * LEN + i]),
                             2);
                if (d < best) {
                    best = d;
                    at = c;
                }
            }
            for (int i = 0; i < LEN; i++)
                k->q[r * N + s * LEN + i] = gain * (float)k->book.entries[at * LEN + i];
        }
    }
}

static void feedback_beats_nearest(void) {
    struct rig *k = rig_new(2, t_seed());
    nearest(k);
    double plain = error_of(k, k->a, k->w, k->q);
    struct segfit_error x = fit(k, k->a, 0);
    double first = error_of(k, k->a, k->w, k->q);
    CHECK_NEAR(x.error, first, 1e-3 * first);
    CHECK(first < 0.6 * plain);
    x = fit(k, k->a, 2);
    double refined = error_of(k, k->a, k->w, k->q);
    CHECK_NEAR(x.error, refined, 1e-3 * refined);
    CHECK(refined < 0.95 * first);
    memset(k->q, 0, sizeof(k->q));
    double output = error_of(k, k->a, k->w, k->q);
    CHECK_NEAR(x.output, output, 1e-3 * output);
    rig_free(k);
}

/* Rows that are made of the book's entries come back all but exactly: that the gain is another
 * than the row's size tells is what remains. */
static void finds_what_is_there(void) {
    struct rig *k = rig_new(1, t_seed());
    uint64_t rng = t_seed() + 1;
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < SEGS; s++) {
            uint32_t c = (uint32_t)(t_rand(&rng) % K);
            for (int i = 0; i < LEN; i++)
                k->w[r * N + s * LEN + i] = 0x1p-10f * (float)k->book.entries[c * LEN + i];
        }
    struct segfit_error x = fit(k, k->a, 3);
    CHECK(x.error < 5e-3 * x.output);
    rig_free(k);
}

static void same_for_any_threads(void) {
    struct rig *k[2];
    struct segfit_error x[2];
    for (int t = 0; t < 2; t++) {
        k[t] = rig_new(t ? 4 : 1, 3);
        x[t] = fit(k[t], k[t]->a, 1);
    }
    CHECK_MEM(k[0]->gain, k[1]->gain, sizeof(k[0]->gain));
    CHECK_MEM(k[0]->index, k[1]->index, sizeof(k[0]->index));
    CHECK(x[0].error == x[1].error && x[0].output == x[1].output);
    rig_free(k[0]);
    rig_free(k[1]);
}

static void odd_rows(void) {
    struct rig *k = rig_new(1, t_seed());
    for (int i = 0; i < N; i++) {
        k->w[0 * N + i] = 0.0f;
        k->w[1 * N + i] = 0.7f;
        k->w[2 * N + i] = i == 5 ? 1e4f : 1e-3f;
        k->w[3 * N + i] = 1e-30f;
        k->w[4 * N + i] = i & 1 ? 1e7f : -1e7f;
    }
    struct segfit_error x = fit(k, k->a, 2);
    CHECK(isfinite(x.error) && isfinite(x.output) && x.error <= x.output);
    for (int i = 0; i < ROWS * N; i++) CHECK(isfinite(k->q[i]));
    for (int i = 0; i < N; i++) CHECK(k->q[i] == 0.0f);
    for (int i = 0; i < ROWS * SEGS; i++) CHECK(k->index[i] < K);
    rig_free(k);
}

static void odd_moments(void) {
    struct rig *k = rig_new(1, t_seed());
    struct segfit *f;
    struct err e = {0};
    float a[N * N] = {0};
    CHECK_EQ(segfit_create(k->mem, a, N, LEN, &f, &e), -EDOM);
    a[0] = NAN;
    CHECK_EQ(segfit_create(k->mem, a, N, LEN, &f, &e), -EDOM);
    a[0] = 1.0f;
    a[3 * N + 7] = INFINITY;
    CHECK_EQ(segfit_create(k->mem, a, N, LEN, &f, &e), -EDOM);
    a[3 * N + 7] = 0.0f;
    /* One live input is enough; so is one direction. */
    struct segfit_error x = fit(k, a, 1);
    CHECK(isfinite(x.error) && x.error < 0.1 * x.output);
    for (int i = 0; i < N * N; i++) a[i] = 1.0f;
    x = fit(k, a, 1);
    CHECK(isfinite(x.error) && x.error < x.output);
    x = fit(k, NULL, 1);
    CHECK(isfinite(x.error) && x.error < 0.2 * x.output);
    rig_free(k);
}

/* With x' the inputs now and x the true ones, y = M x' + noise: the whole share gives M. */
static void aims_at_what_is_wanted(void) {
    struct rig *k = rig_new(2, t_seed());
    struct segfit *f;
    struct err e = {0};
    uint64_t rng = t_seed() + 2;
    float *m = malloc(sizeof(k->w)), *d = malloc(sizeof(k->w)), *got = malloc(sizeof(k->w));
    REQUIRE(m && d && got);
    for (int i = 0; i < ROWS * N; i++) m[i] = k->w[i] + 0.02f * gauss(&rng);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < N; j++) {
            double sum = 0.0;
            for (int i = 0; i < N; i++)
                sum += (double)(m[r * N + i] - k->w[r * N + i]) * (double)k->a[i * N + j];
            d[r * N + j] = (float)sum;
        }
    REQUIRE_OK(segfit_create(k->mem, k->a, N, LEN, &f, &e), &e);
    REQUIRE_OK(segfit_aim(f, k->pool, k->w, d, 0.0f, ROWS, got, &e), &e);
    CHECK_MEM(got, k->w, sizeof(k->w));
    REQUIRE_OK(segfit_aim(f, k->pool, k->w, d, 1.0f, ROWS, got, &e), &e);
    CHECK(error_of(k, k->a, m, got) < 0.02 * error_of(k, k->a, m, k->w));
    segfit_destroy(f);
    free(m);
    free(d);
    free(got);
    rig_free(k);
}

static void no_memory(void) {
    struct rig *k = rig_new(1, 1);
    struct segfit *f;
    struct segfit_error x;
    struct err e = {0};
    for (unsigned n = 1; n <= 6; n++) {
        mem_fail_at(k->mem, n, false);
        CHECK_EQ(segfit_create(k->mem, k->a, N, LEN, &f, &e), -ENOMEM);
    }
    mem_fail_at(k->mem, 0, false);
    REQUIRE_OK(segfit_create(k->mem, k->a, N, LEN, &f, &e), &e);
    mem_fail_at(k->mem, 1, false);
    CHECK_EQ(segfit_run(f, k->pool, &k->ops, k->w, 1, &k->mat, &x, &e), -ENOMEM);
    mem_fail_at(k->mem, 1, false);
    CHECK_EQ(segfit_aim(f, k->pool, k->w, k->w, 1.0f, ROWS, k->q, &e), -ENOMEM);
    segfit_destroy(f);
    rig_free(k);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"feedback_beats_nearest", feedback_beats_nearest},
        {"finds_what_is_there", finds_what_is_there},
        {"same_for_any_threads", same_for_any_threads},
        {"odd_rows", odd_rows},
        {"odd_moments", odd_moments},
        {"aims_at_what_is_wanted", aims_at_what_is_wanted},
        {"no_memory", no_memory},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
