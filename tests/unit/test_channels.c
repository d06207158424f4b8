/* Whole channels: known clusters are recovered, the paper's average bits come out, and odd inputs
 * give numbers or errors. */
#include <errno.h>
#include <string.h>

#include "core/make/channels.h"
#include "core/make/lowrank.h"
#include "core/make/output.h"
#include "core/swsc.h"
#include "tests/unit/make_rig.h"

enum { N_OUT = 200, N_IN = 96, K = 12 };

static double relative(struct tools *t, const float *w, const float *q, const float *moments,
                       uint32_t n_out) {
    struct err e = {0};
    double left, all;
    REQUIRE_OK(output_energy(t, w, q, n_out, N_IN, moments, &left, &e), &e);
    REQUIRE_OK(output_energy(t, w, NULL, n_out, N_IN, moments, &all, &e), &e);
    for (size_t i = 0; i < (size_t)n_out * N_IN; i++) CHECK(isfinite(q[i]));
    return all > 0.0 ? left / all : left;
}

/* Rows are gains times one of K rows, in a random order, with noise; truth[row] is which. */
static float *clustered(float noise, uint32_t *truth, uint64_t *s) {
    float *base = rig_matrix(K, N_IN, 0.05f, s), *w = rig_matrix(N_OUT, N_IN, noise, s);
    for (uint32_t row = 0; row < N_OUT; row++) truth[row] = row % K;
    for (uint32_t row = N_OUT - 1; row > 0; row--) {
        uint32_t other = (uint32_t)(t_rand(s) % (row + 1)), was = truth[row];
        truth[row] = truth[other];
        truth[other] = was;
    }
    for (uint32_t row = 0; row < N_OUT; row++) {
        float gain = 0.25f + 2.0f * (float)(t_rand(s) >> 40) / (1 << 24);
        for (uint32_t i = 0; i < N_IN; i++) w[row * N_IN + i] += gain * base[truth[row] * N_IN + i];
    }
    free(base);
    return w;
}

static void known_clusters(void) {
    struct tools *t = rig_create(1);
    float *q = rig_floats(N_OUT * N_IN);
    struct err e = {0};
    for (uint64_t seed = t_seed(), n = 0; n < 6; n++) {
        uint32_t truth[N_OUT], name[K];
        float *w = clustered(1e-4f, truth, &seed), *m = rig_moments(N_IN, 0.3f, &seed);
        struct channels c;
        struct channels_opts o = {.k = K, .bits = 8, .rounds = 20};
        REQUIRE_OK(channels_fit(t, w, N_OUT, N_IN,
                                &(struct factor_inputs){.moments = n % 2 ? m : NULL}, &o, &c, &e),
                   &e);
        for (uint32_t k = 0; k < K; k++) name[k] = UINT32_MAX;
        for (uint32_t row = 0; row < N_OUT; row++) {
            uint32_t *of = &name[truth[row]];
            if (*of == UINT32_MAX) *of = c.labels[row];
            CHECK_EQU(c.labels[row], *of);
        }
        for (uint32_t k = 0; k < K; k++)
            for (uint32_t j = 0; j < k; j++) CHECK(name[k] != name[j]);
        REQUIRE_OK(channels_read(t, &c, q, &e), &e);
        CHECK(relative(t, w, q, n % 2 ? m : NULL, N_OUT) < 1e-3);
        channels_fini(&c);
        free(w);
        free(m);
    }
    free(q);
    rig_destroy(t);
}

/* What clusters leave, if it is of low rank, a pair takes; and more clusters leave less. */
static void with_a_pair(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err e = {0};
    uint32_t truth[N_OUT];
    float *w = clustered(1e-4f, truth, &s), *m = rig_moments(N_IN, 0.3f, &s);
    float *a = rig_matrix(N_OUT, 4, 0.02f, &s), *b = rig_matrix(4, N_IN, 0.5f, &s);
    float *sum = rig_floats(N_OUT * N_IN), *q = rig_floats(N_OUT * N_IN);
    float *p = rig_floats(N_OUT * N_IN);
    gemm_nn(N_OUT, N_IN, 4, a, 4, b, N_IN, sum, N_IN);
    for (int i = 0; i < N_OUT * N_IN; i++) w[i] += sum[i];
    double alone[2], pair;
    struct channels c;
    struct lowrank l;
    for (int i = 0; i < 2; i++) {
        struct channels_opts o = {.k = i ? K : 4, .bits = 8, .rounds = 20};
        REQUIRE_OK(
            channels_fit(t, w, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, &o, &c, &e), &e);
        REQUIRE_OK(channels_read(t, &c, q, &e), &e);
        alone[i] = relative(t, w, q, m, N_OUT);
        channels_fini(&c);
    }
    CHECK(alone[1] < alone[0]);
    for (int i = 0; i < N_OUT * N_IN; i++) sum[i] = w[i] - q[i];
    REQUIRE_OK(
        lowrank_fit(t, sum, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, 32, 8, &l, &e), &e);
    REQUIRE_OK(lowrank_read(t, &l, p, &e), &e);
    for (int i = 0; i < N_OUT * N_IN; i++) q[i] += p[i];
    pair = relative(t, w, q, m, N_OUT);
    CHECK(pair < 0.1 * alone[1]);
    lowrank_fini(&l);
    free(w);
    free(m);
    free(a);
    free(b);
    free(sum);
    free(q);
    free(p);
    rig_destroy(t);
}

static void odd_inputs(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err e = {0};
    struct channels c;
    float *w = rig_floats(N_OUT * N_IN), *q = rig_floats(N_OUT * N_IN);
    float *m = rig_moments(N_IN, 0.0f, &s), *none = rig_floats(N_IN * N_IN);
    const float *moments[3] = {m, none, NULL};
    for (int shape = 0; shape < 3; shape++) { /* zero, constant, one row that differs */
        for (int i = 0; i < N_OUT * N_IN; i++) w[i] = shape ? -0.5f : 0.0f;
        for (int i = 0; i < N_IN && shape == 2; i++) w[3 * N_IN + i] = i == 5 ? 4.0f : 0.0f;
        for (int i = 0; i < 3; i++)
            for (uint32_t k = 1; k <= N_OUT; k += N_OUT - 1) {
                struct channels_opts o = {.k = k, .bits = 4, .rounds = 5};
                REQUIRE_OK(channels_fit(t, w, N_OUT, N_IN,
                                        &(struct factor_inputs){.moments = moments[i]}, &o, &c, &e),
                           &e);
                REQUIRE_OK(channels_read(t, &c, q, &e), &e);
                double left = relative(t, w, q, moments[i], N_OUT);
                CHECK(left <= 1.0 + 1e-4);
                if (shape < 2 || k > 1) CHECK(left < 0.02);
                for (uint32_t row = 0; row < N_OUT; row++) CHECK(c.labels[row] < k);
                channels_fini(&c);
            }
    }
    struct channels_opts o = {.k = 7, .bits = 4, .rounds = 5};
    w[11] = NAN;
    CHECK_EQ(channels_fit(t, w, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, &o, &c, &e),
             -EDOM);
    w[11] = 1e15f;
    CHECK(channels_fit(t, w, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, &o, &c, &e) < 0);
    w[11] = 0.0f;
    m[0] = NAN;
    CHECK_EQ(channels_fit(t, w, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, &o, &c, &e),
             -EDOM);
    free(w);
    free(q);
    free(m);
    free(none);
    rig_destroy(t);
}

/* More clusters than the matrix has kinds of rows: each kind is still served exactly. */
static void more_clusters_than_kinds(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err e = {0};
    uint32_t truth[N_OUT];
    float *w = clustered(0.0f, truth, &s), *q = rig_floats(N_OUT * N_IN);
    struct channels c;
    struct channels_opts o = {.k = 100, .bits = 8, .rounds = 20};
    REQUIRE_OK(
        channels_fit(t, w, N_OUT, N_IN, &(struct factor_inputs){.moments = NULL}, &o, &c, &e), &e);
    REQUIRE_OK(channels_read(t, &c, q, &e), &e);
    CHECK(relative(t, w, q, NULL, N_OUT) < 1e-3);
    channels_fini(&c);
    free(w);
    free(q);
    rig_destroy(t);
}

static void average_bits(void) {
    /* The paper's square case, 4096 x 4096 with fp16 numbers. */
    static const struct {
        uint32_t k, rank;
        double bits;
    } rows[] = {{256, 0, 1.00},   {128, 64, 1.00},  {256, 64, 1.50}, {256, 128, 2.00},
                {128, 192, 2.00}, {512, 128, 3.00}, {256, 256, 3.00}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_NEAR(channels_average_bits(4096, 4096, rows[i].k, 16, rows[i].rank, 16), rows[i].bits,
                   0.005);
    CHECK_NEAR(channels_average_bits(1024, 4096, 128, 16, 64, 16), 3.25, 0.005);
    CHECK_NEAR(channels_average_bits(1024, 4096, 128, 8.5, 64, 8.5), 1.73, 0.005);
    /* Ours, as stored: gains and 16-bit labels more, at 4.5 and 8.5 bits a number. */
    struct swsc_form f = {.base = SWSC_CHANNELS, .k = 128, .rank = 64, .factor_bits = 8};
    CHECK_NEAR(swsc_form_bits(&f, 1024, 4096, 30),
               channels_average_bits(1024, 4096, 128, 8.5, 64, 8.5) + 25.0 / 4096, 0.03);
}

static void same_for_any_threads(void) {
    uint64_t s = t_seed();
    struct err e = {0};
    float *w = rig_matrix(N_OUT, N_IN, 0.05f, &s), *m = rig_moments(N_IN, 0.3f, &s);
    struct channels c[2];
    struct tools *t[2] = {rig_create(1), rig_create(4)};
    struct channels_opts o = {.k = 60, .bits = 8, .rounds = 10};
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(channels_fit(t[i], w, N_OUT, N_IN, &(struct factor_inputs){.moments = m}, &o,
                                &c[i], &e),
                   &e);
    CHECK_MEM(c[0].labels, c[1].labels, N_OUT * sizeof(uint16_t));
    CHECK_MEM(c[0].gains, c[1].gains, N_OUT * sizeof(uint16_t));
    CHECK_MEM(c[0].c.data, c[1].c.data, c[0].c.bytes);
    for (int i = 0; i < 2; i++) {
        channels_fini(&c[i]);
        rig_destroy(t[i]);
    }
    free(w);
    free(m);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"known_clusters", known_clusters}, {"with_a_pair", with_a_pair},
        {"odd_inputs", odd_inputs},         {"more_clusters_than_kinds", more_clusters_than_kinds},
        {"average_bits", average_bits},     {"same_for_any_threads", same_for_any_threads},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
