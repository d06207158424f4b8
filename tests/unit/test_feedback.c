/* Error feedback: never worse than rounding, better where inputs correlate, and safe on the odd
 * cases (dead inputs, constant rows, all zero, singular moments). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/linalg.h"
#include "core/make/feedback.h"
#include "core/mem.h"
#include "tests/t.h"

enum { N = 96, G = N / 32, ROWS = 40 };

struct rig {
    struct mem *mem;
    struct feedback *f;
    float a[N * N];
    float w[ROWS * N], d[ROWS], m[ROWS];
    uint8_t sc[ROWS * G], mn[ROWS * G], high[ROWS * N], low[ROWS * N];
    void *scratch;
    size_t scratch_bytes;
    struct feedback_rows rows;
};

static float gauss(uint64_t *s) {
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) sum += (float)(t_rand(s) >> 40) / (1 << 24);
    return sum - 6.0f;
}

/* Moments of inputs that share a few directions, with energies that differ by channel. */
static void fill_moments(float *a, uint64_t *s) {
    enum { SAMPLES = 400 };
    static float x[SAMPLES][N];
    float mix[8][N];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < N; i++) mix[k][i] = gauss(s) * expf(0.5f * gauss(s));
    for (int t = 0; t < SAMPLES; t++) {
        float z[8];
        for (int k = 0; k < 8; k++) z[k] = gauss(s);
        for (int i = 0; i < N; i++) {
            x[t][i] = 0.3f * gauss(s);
            for (int k = 0; k < 8; k++) x[t][i] += z[k] * mix[k][i];
        }
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0.0;
            for (int t = 0; t < SAMPLES; t++) sum += (double)x[t][i] * (double)x[t][j];
            a[i * N + j] = (float)(sum / SAMPLES);
        }
}

static void plain_scales(struct rig *k) {
    for (int r = 0; r < ROWS; r++) {
        float top_s = 0.0f, top_m = 0.0f, s[G], m[G];
        for (int g = 0; g < G; g++) {
            float lo = 0.0f, hi = 0.0f;
            for (int i = 0; i < 32; i++) {
                lo = fminf(lo, k->w[r * N + g * 32 + i]);
                hi = fmaxf(hi, k->w[r * N + g * 32 + i]);
            }
            s[g] = (hi - lo) / 15;
            m[g] = -lo;
            top_s = fmaxf(top_s, s[g]);
            top_m = fmaxf(top_m, m[g]);
        }
        k->d[r] = top_s / 255;
        k->m[r] = top_m / 255;
        for (int g = 0; g < G; g++) {
            k->sc[r * G + g] = top_s > 0.0f ? (uint8_t)lrintf(s[g] / k->d[r]) : 0;
            k->mn[r * G + g] = top_m > 0.0f ? (uint8_t)lrintf(m[g] / k->m[r]) : 0;
        }
    }
}

static void plain_codes(struct rig *k) {
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++) {
            float s = k->d[r] * k->sc[r * G + i / 32], o = -k->m[r] * k->mn[r * G + i / 32];
            float t = s > 0.0f ? fminf(fmaxf(rintf((k->w[r * N + i] - o) / s), 0), 15) : 0.0f;
            float l = s > 0.0f ? rintf((k->w[r * N + i] - o - s * t) / (s / 8)) : 0.0f;
            k->high[r * N + i] = (uint8_t)t;
            k->low[r * N + i] = (uint8_t)(fminf(fmaxf(l, -8), 7) + 8);
        }
}

static struct rig *rig_create(uint64_t seed) {
    struct rig *k = calloc(1, sizeof(*k));
    struct err e = {0};
    REQUIRE(k);
    gemm_init();
    REQUIRE(mem_create(&k->mem) == 0);
    fill_moments(k->a, &seed);
    for (int i = 0; i < ROWS * N; i++) k->w[i] = 0.05f * gauss(&seed);
    plain_scales(k);
    REQUIRE_OK(feedback_create(k->mem, k->a, N, &k->f, &e), &e);
    k->scratch_bytes = feedback_scratch_bytes(k->f);
    k->scratch = mem_alloc(k->mem, MEM_PACKER, k->scratch_bytes);
    REQUIRE(k->scratch);
    k->rows = (struct feedback_rows){.n_rows = ROWS,
                                     .top = 15,
                                     .w = k->w,
                                     .d = k->d,
                                     .m = k->m,
                                     .sc = k->sc,
                                     .mn = k->mn,
                                     .high = k->high,
                                     .low = k->low};
    return k;
}

static void rig_destroy(struct rig *k) {
    feedback_destroy(k->f);
    mem_free(k->mem, MEM_PACKER, k->scratch, k->scratch_bytes);
    CHECK_EQU(mem_bytes(k->mem, MEM_PACKER), 0);
    mem_destroy(k->mem);
    free(k);
}

static void factor_is_of_the_inverse(void) {
    enum { M = 7 };
    double a[M * M], u[M * M], x[M * M];
    uint64_t s = t_seed();
    struct err e = {0};
    for (int i = 0; i < M * M; i++) x[i] = (double)gauss(&s);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            a[i * M + j] = i == j ? 0.1 : 0.0;
            for (int t = 0; t < M; t++) a[i * M + j] += x[i * M + t] * x[j * M + t];
        }
    REQUIRE_OK(linalg_inverse_factor(M, a, u, &e), &e);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            double sum = 0.0; /* (u^T u a)_ij = identity */
            for (int k = 0; k < M; k++)
                for (int l = 0; l < M; l++) sum += u[l * M + i] * u[l * M + k] * a[k * M + j];
            CHECK_NEAR(sum, i == j ? 1.0 : 0.0, 1e-8);
            if (j < i) CHECK_EQ(u[i * M + j] != 0.0, 0);
        }
    a[3 * M + 3] = -1.0;
    CHECK_EQ(linalg_inverse_factor(M, a, u, &e), -EDOM);
    a[3 * M + 3] = (double)NAN;
    CHECK_EQ(linalg_inverse_factor(M, a, u, &e), -EDOM);
}

static void each_method_helps(void) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct rig *k = rig_create(seed * 77 + t_seed());
        struct feedback_error plain, first, refined;
        plain_codes(k);
        feedback_error(k->f, &k->rows, k->scratch, &plain);
        feedback_run(k->f, &k->rows, 0, k->scratch);
        feedback_error(k->f, &k->rows, k->scratch, &first);
        feedback_run(k->f, &k->rows, 2, k->scratch);
        feedback_error(k->f, &k->rows, k->scratch, &refined);
        CHECK(first.high < 0.6 * plain.high);
        CHECK(first.full < 0.6 * plain.full);
        CHECK(refined.high < 0.98 * first.high);
        CHECK(refined.full < refined.high / 8);
        for (int i = 0; i < ROWS * N; i++) CHECK(k->high[i] <= 15 && k->low[i] <= 15);
        rig_destroy(k);
    }
}

/* A row's result must not depend on its neighbours in the call. */
static void rows_are_independent(void) {
    struct rig *k = rig_create(t_seed() + 9);
    uint8_t sc[G], mn[G], high[N], low[N];
    memcpy(sc, k->sc + 17 * G, G);
    memcpy(mn, k->mn + 17 * G, G);
    feedback_run(k->f, &k->rows, 1, k->scratch);
    struct feedback_rows one = {.n_rows = 1,
                                .top = 15,
                                .w = k->w + 17 * N,
                                .d = k->d + 17,
                                .m = k->m + 17,
                                .sc = sc,
                                .mn = mn,
                                .high = high,
                                .low = low};
    struct feedback_error e1, e2;
    feedback_run(k->f, &one, 1, k->scratch);
    feedback_error(k->f, &one, k->scratch, &e1);
    one.sc = k->sc + 17 * G;
    one.mn = k->mn + 17 * G;
    one.high = k->high + 17 * N;
    one.low = k->low + 17 * N;
    feedback_error(k->f, &one, k->scratch, &e2);
    CHECK_NEAR(e1.high / e2.high, 1.0, 0.05); /* sums of another shape may round otherwise */
    rig_destroy(k);
}

static void odd_rows_are_safe(void) {
    struct rig *k = rig_create(t_seed() + 3);
    for (int i = 0; i < N; i++) {
        k->w[0 * N + i] = 0.0f;
        k->w[1 * N + i] = 0.25f;
        k->w[2 * N + i] = -0.25f;
        k->w[3 * N + i] = i == 40 ? 3.0f : 0.01f; /* an outlier */
    }
    plain_scales(k);
    feedback_run(k->f, &k->rows, 2, k->scratch);
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < N; i++) {
            float s = k->d[r] * k->sc[r * G + i / 32], o = -k->m[r] * k->mn[r * G + i / 32];
            float full = s * ((float)k->high[r * N + i] + ((float)k->low[r * N + i] - 8) / 8) + o;
            CHECK_NEAR(full, k->w[r * N + i], 2e-2);
        }
    rig_destroy(k);
}

static void dead_inputs_and_singular_moments(void) {
    struct rig *k = rig_create(t_seed() + 4);
    struct feedback *f;
    struct err e = {0};
    float a[N * N];
    memcpy(a, k->a, sizeof(a));
    for (int i = 0; i < N; i++) a[5 * N + i] = a[i * N + 5] = 0.0f;
    for (int i = 0; i < N; i++) a[6 * N + i] = a[7 * N + i]; /* a copy of another input */
    for (int i = 0; i < N; i++) a[i * N + 6] = a[i * N + 7];
    a[6 * N + 6] = a[7 * N + 7];
    REQUIRE_OK(feedback_create(k->mem, a, N, &f, &e), &e);
    feedback_run(f, &k->rows, 1, k->scratch);
    struct feedback_error fe;
    feedback_error(f, &k->rows, k->scratch, &fe);
    CHECK(isfinite(fe.high) && isfinite(fe.full) && fe.high < fe.norm);
    feedback_destroy(f);
    memset(a, 0, sizeof(a));
    CHECK_EQ(feedback_create(k->mem, a, N, &f, &e), -EDOM);
    a[0] = NAN;
    CHECK_EQ(feedback_create(k->mem, a, N, &f, &e), -EDOM);
    rig_destroy(k);
}

static const struct t_case cases[] = {
    {"factor_is_of_the_inverse", factor_is_of_the_inverse},
    {"each_method_helps", each_method_helps},
    {"rows_are_independent", rows_are_independent},
    {"odd_rows_are_safe", odd_rows_are_safe},
    {"dead_inputs_and_singular_moments", dead_inputs_and_singular_moments},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
