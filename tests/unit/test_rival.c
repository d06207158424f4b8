/* Rivals: each wins where the matrix is made for it, none gives what is no number, and the gate
 * takes the least error among what can be taken. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/make/basis.h"
#include "core/make/gate.h"
#include "core/make/groups.h"
#include "core/make/output.h"
#include "core/make/rival.h"
#include "core/make/text.h"
#include "tests/golden/tiny.h"
#include "tests/unit/make_rig.h"

enum { N = 256 };

static unsigned named(const char *name) {
    unsigned i = rival_find(name);
    if (i == RIVAL_COUNT) t_fail(__FILE__, __LINE__, "no rival %s", name);
    REQUIRE(i < RIVAL_COUNT);
    return i;
}

/* Two matrices of one kind with their moments. */
struct kind {
    float *w[2], *m[2];
    struct rival_mat mats[2];
    struct rival_kept kept;
    struct rival_task task;
};

/* The matrices are the caller's to begin with. */
static void kind_init(struct kind *k, float *w0, float *w1, uint32_t n_out, uint32_t n_in,
                      double target, uint64_t *s) {
    *k = (struct kind){.w = {w0, w1},
                       .m = {rig_moments(n_in, 1.0f, s), rig_moments(n_in, 1.0f, s)}};
    for (int i = 0; i < 2; i++) k->mats[i] = (struct rival_mat){k->w[i], k->m[i]};
    k->task = (struct rival_task){.n_out = n_out,
                                  .n_in = n_in,
                                  .n_layers = 30,
                                  .mats = k->mats,
                                  .n_mats = 2,
                                  .target = target,
                                  .max_rows = 64,
                                  .kept = &k->kept};
}

static void kind_fini(struct kind *k) {
    for (int i = 0; i < 2; i++) {
        free(k->w[i]);
        free(k->m[i]);
    }
    rival_kept_fini(&k->kept);
}

static double error_of(struct tools *t, struct kind *k, const char *name) {
    struct rival_result x;
    struct err e = {0};
    REQUIRE_OK(rival_run(t, &k->task, named(name), &x, &e), &e);
    CHECK_STR(x.name, name);
    CHECK(x.bits > 0.5 && x.bits < 40.0);
    CHECK(x.is_form == (strncmp(name, "groups", 6) != 0));
    if (x.is_form && x.bits <= k->task.target)
        CHECK_NEAR(x.bits, swsc_form_bits(&x.form, k->task.n_out, k->task.n_in, 30), 1e-9);
    CHECK(isfinite(x.error) || x.bits > k->task.target);
    return x.error;
}

/* The winner's error must be less than that of every other by `by`. */
static void check_winner(struct tools *t, struct kind *k, const char *winner, double by,
                         const char *const *others, size_t n) {
    double least = error_of(t, k, winner);
    CHECK(isfinite(least));
    for (size_t i = 0; i < n; i++) {
        double x = error_of(t, k, others[i]);
        if (!(least * by < x))
            t_fail(__FILE__, __LINE__, "%s leaves %g, %s %g", winner, least, others[i], x);
    }
}

static float *low_rank(uint32_t rank, float *b, uint64_t *s) {
    float *a = rig_matrix(N, rank, 1.0f, s), *w = rig_floats(N * N);
    gemm_nn(N, N, rank, a, rank, b, N, w, N);
    free(a);
    return w;
}

static void svd_wins(void) {
    static const char *const others[] = {"svd-4", "channels-4+pair", "segments-4-1024-shared",
                                         "segments-4-256", "groups-2"};
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    float *b0 = rig_matrix(24, N, 0.05f, &s), *b1 = rig_matrix(24, N, 0.05f, &s);
    struct kind k;
    kind_init(&k, low_rank(24, b0, &s), low_rank(24, b1, &s), N, N, 3.05, &s);
    check_winner(t, &k, "svd-8", 2.0, others, sizeof(others) / sizeof(others[0]));
    kind_fini(&k);
    free(b0);
    free(b1);
    rig_destroy(t);
}

static void basis_wins(void) {
    static const char *const others[] = {"svd-8", "svd-4", "channels-8+pair",
                                         "segments-4-1024+pair", "segments-8-1024-shared+pair"};
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    float *b = rig_matrix(90, N, 0.05f, &s);
    struct kind k;
    kind_init(&k, low_rank(90, b, &s), low_rank(90, b, &s), N, N, 6.0, &s);
    check_winner(t, &k, "basis-8", 2.0, others, sizeof(others) / sizeof(others[0]));
    kind_fini(&k);
    free(b);
    rig_destroy(t);
}

/* Rows are gains times one of `n` rows. */
static float *clustered(uint32_t n, uint64_t *s) {
    float *base = rig_matrix(n, N, 0.05f, s), *w = rig_matrix(N, N, 1e-5f, s);
    for (uint32_t row = 0; row < N; row++) {
        float gain = 0.5f + (float)(t_rand(s) >> 40) / (1 << 24);
        for (uint32_t i = 0; i < N; i++) w[row * N + i] += gain * base[row * 7 % n * N + i];
    }
    free(base);
    return w;
}

static void channels_win(void) {
    static const char *const others[] = {"svd-8", "basis-8", "segments-4-1024+pair",
                                         "segments-8-1024-shared+pair"};
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct kind k;
    kind_init(&k, clustered(80, &s), clustered(80, &s), N, N, 6.0, &s);
    check_winner(t, &k, "channels-8+pair", 2.0, others, sizeof(others) / sizeof(others[0]));
    kind_fini(&k);
    rig_destroy(t);
}

/* Without structure the finest book is best; and groups are, at more bits. */
static void segments_win(void) {
    static const char *const others[] = {"svd-4",
                                         "basis-4",
                                         "channels-4",
                                         "segments-4-256",
                                         "segments-4-1024-shared",
                                         "groups-2",
                                         "segments-8-1024-shared+pair"};
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct kind k;
    kind_init(&k, rig_matrix(N, N, 0.05f, &s), rig_matrix(N, N, 0.05f, &s), N, N, 3.2, &s);
    check_winner(t, &k, "segments-4-4096-shared", 1.2, others, sizeof(others) / sizeof(others[0]));
    CHECK(error_of(t, &k, "groups-3") < error_of(t, &k, "groups-2"));
    kind_fini(&k);
    rig_destroy(t);
}

/* Whatever comes in, what comes out is a number or an error. */
static void odd_inputs(void) {
    enum { SMALL = 64 };
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    for (int shape = 0; shape < 4; shape++) {
        struct kind k;
        kind_init(&k, rig_floats(SMALL * SMALL), rig_floats(SMALL * SMALL), SMALL, SMALL, 40.0, &s);
        for (int i = 0; i < SMALL * SMALL; i++) {
            k.w[0][i] = shape == 1 ? 0.25f : shape >= 2 ? rig_gauss(&s) : 0.0f;
            if (shape == 2) k.m[0][i] = 0.0f;
            if (shape == 3) k.m[0][i] = 1.0f; /* one direction */
        }
        k.mats[1].moments = NULL;
        for (unsigned i = 0; i < RIVAL_COUNT; i++) {
            struct rival_result x;
            struct err e = {0};
            /* Books of 4096 take long; they are as those of 1024. */
            rival_name(i, x.name);
            if (strstr(x.name, "4096")) continue;
            REQUIRE_OK(rival_run(t, &k.task, i, &x, &e), &e);
            if (!(x.error >= 0.0 && x.error < 1.5))
                t_fail(__FILE__, __LINE__, "%s, shape %d: error %g", x.name, shape, x.error);
        }
        k.w[1][5] = NAN; /* another task */
        rival_kept_fini(&k.kept);
        k.kept = (struct rival_kept){0};
        for (unsigned i = 0; i < RIVAL_COUNT; i++) {
            struct rival_result x;
            struct err e = {0};
            CHECK_EQ(rival_run(t, &k.task, i, &x, &e), -EDOM);
        }
        kind_fini(&k);
    }
    rig_destroy(t);
}

static void same_for_any_threads(void) {
    static const char *const some[] = {"groups-2", "basis-8", "channels-4+pair",
                                       "segments-4-256+pair", "segments-8-1024-shared+pair"};
    struct tools *t[2] = {rig_create(1), rig_create(4)};
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        double x[2];
        for (int n = 0; n < 2; n++) {
            uint64_t s = t_seed();
            struct kind k;
            kind_init(&k, rig_matrix(N, N, 0.05f, &s), rig_matrix(N, N, 0.05f, &s), N, N, 3.05, &s);
            x[n] = error_of(t[n], &k, some[i]);
            kind_fini(&k);
        }
        CHECK_MEM(&x[0], &x[1], sizeof(x[0]));
    }
    for (int n = 0; n < 2; n++) rig_destroy(t[n]);
}

/* A basis of two equal layers is a pair of either; and its coefficients are each layer's own. */
static void shared_basis(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err e = {0};
    float *b = rig_matrix(30, N, 0.05f, &s), *m = rig_moments(N, 1.0f, &s), *q = rig_floats(N * N);
    float *w[2] = {low_rank(30, b, &s), low_rank(30, b, &s)};
    struct basis_layer layers[2] = {{w[0], m}, {w[1], NULL}};
    struct basis x;
    REQUIRE_OK(basis_fit(t, layers, 2, N, N, 32, 8, &x, &e), &e);
    for (uint32_t i = 0; i < 2; i++) {
        double left, all;
        REQUIRE_OK(basis_read(t, &x, i, q, &e), &e);
        REQUIRE_OK(output_energy(t, w[i], q, N, N, layers[i].moments, &left, &e), &e);
        REQUIRE_OK(output_energy(t, w[i], NULL, N, N, layers[i].moments, &all, &e), &e);
        CHECK(left < 2e-3 * all);
        free(w[i]);
    }
    basis_fini(&x);
    free(b);
    free(m);
    free(q);
    rig_destroy(t);
}

/* At 4 bits groups are the planes' high reading; fewer bits leave about 4 times the error each. */
static void group_errors(void) {
    struct tools *t = rig_create(1);
    uint64_t s = t_seed();
    struct err e = {0};
    float *w = rig_matrix(100, N, 0.05f, &s), *m = rig_moments(N, 1.0f, &s),
          *q = rig_floats(100 * N);
    double left[5];
    for (unsigned bits = 4; bits >= 2; bits--) {
        REQUIRE_OK(groups_read(t, w, 100, N, &(struct factor_inputs){.moments = m}, bits, q, &e),
                   &e);
        REQUIRE_OK(output_energy(t, w, q, 100, N, m, &left[bits], &e), &e);
        if (bits < 4) CHECK(left[bits] > 2.0 * left[bits + 1] && left[bits] < 8.0 * left[bits + 1]);
    }
    CHECK_NEAR(groups_bits(576, 2), 2.5556, 1e-4);
    free(w);
    free(m);
    free(q);
    rig_destroy(t);
}

/* ---- the gate ---- */

static struct model_hparams sizes(uint32_t n_layers) {
    return (struct model_hparams){.n_layers = n_layers,
                                  .n_embd = 64,
                                  .n_ff = 96,
                                  .n_heads = 4,
                                  .n_kv_heads = 2,
                                  .head_dim = 16,
                                  .n_vocab = 100};
}

static void choice(void) {
    struct gate *g = calloc(1, sizeof(*g));
    struct model_hparams h = sizes(30);
    struct swsc_form forms[MODEL_LAYER_MATS] = {{.k = 77}};
    REQUIRE(g);
    g->target = 3.0;
    for (int m = 0; m < MODEL_LAYER_MATS; m++)
        for (int i = 0; i < RIVAL_COUNT; i++)
            g->kinds[m].rivals[i] = (struct rival_result){
                .is_form = i != 0, .form.k = (uint32_t)i, .bits = 3.5, .error = (double)NAN};
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        struct rival_result *r = g->kinds[m].rivals;
        r[0].bits = 2.0, r[0].error = 0.001; /* the best, but no form */
        r[1].bits = 3.01, r[1].error = 0.01; /* a little beyond */
        r[2].bits = 2.9, r[2].error = 0.02;
        r[3].bits = 4.0, r[3].error = 0.002; /* far beyond */
    }
    g->kinds[0].rivals[1].bits = 2.5;
    gate_choose(g, &h); /* six kinds at 3.01 and a small one at 2.5: together below 3 */
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        CHECK_EQU(g->kinds[m].winner, 1);
        CHECK_NEAR(g->kinds[m].margin, 1.0, 1e-9);
        CHECK(!g->kinds[m].can_win[0] && g->kinds[m].can_win[2] && !g->kinds[m].can_win[3]);
    }
    CHECK(g->bits < 3.0);
    g->kinds[0].rivals[1].bits = 3.02;
    gate_choose(g, &h); /* together beyond: all must keep to the target */
    CHECK_EQU(g->kinds[3].winner, 2);
    CHECK(isnan(g->kinds[3].margin));
    for (int m = 1; m < MODEL_LAYER_MATS; m++) g->kinds[m].rivals[2].error = (double)NAN;
    gate_choose(g, &h);
    CHECK_EQU(g->kinds[1].winner, GATE_NONE);
    CHECK(isnan(g->bits));
    static struct gate_table table;
    gate_table(g, &table);
    CHECK_EQU(table.in.winner[0], 2);
    CHECK_EQU(table.in.winner[1], table.in.n);
    CHECK(table.in.can_win[2] && isnan(table.in.error[RIVAL_COUNT + 2]));
    CHECK_NEAR(table.in.bits[1], 3.02, 1e-6);
    gate_forms(g, forms);
    CHECK_EQU(forms[0].k, 2);
    CHECK_EQU(forms[1].k, 0); /* as it was */
    free(g);
}

static void layers_sampled(void) {
    uint32_t at[GATE_LAYERS];
    for (uint32_t n = 1; n < 100; n++) {
        uint32_t got = gate_layers(n, at);
        CHECK(got >= 1 && got <= GATE_LAYERS);
        for (uint32_t i = 0; i < got; i++) {
            CHECK(at[i] < n);
            if (i > 0) CHECK(at[i] > at[i - 1]);
            if (i % 2)
                CHECK(at[i] == at[i - 1] + 1);
            else
                CHECK(at[i] % 2 == 0);
        }
    }
    CHECK_EQU(gate_layers(30, at), 4);
    CHECK(at[0] == 6 && at[1] == 7 && at[2] == 22 && at[3] == 23);
}

/* A whole gate over a tiny model: the sample's moments are those of its inputs, the table is full,
 * and threads make no difference. */
static void whole_gate(void) {
    char path[512];
    struct tiny_opts o = tiny_defaults();
    struct gate *g[2];
    snprintf(path, sizeof(path), "%s/gate.gguf", t_tmpdir());
    REQUIRE(tiny_write(&o, path) == 0);
    for (int i = 0; i < 2; i++) {
        struct tools *t = rig_create(i ? 4 : 1);
        struct err e = {0};
        struct gguf *f;
        struct source *s;
        struct gate_sample *sample;
        uint32_t n, *ids = calloc(10 * 40, sizeof(*ids));
        struct text text = {0};
        REQUIRE(ids);
        for (uint32_t k = 0; k < 10 * 40; k++) ids[k] = (k * 37 + k / 7) % tiny_n_vocab();
        text_adopt(&text, ids, 10, 40);
        REQUIRE_OK(gguf_open(path, &f, &e), &e);
        REQUIRE_OK(source_create(t->mem, t->pool, &t->ops, f, 0, &s, &e), &e);
        REQUIRE_OK(gate_sample_create(t, s, &text, &sample, &e), &e);
        const struct gate_layer *l = gate_sample_layers(sample, &n);
        CHECK_EQU(n, 3);
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t c = 0; c < 64; c++) CHECK(l[k].moments[SOURCE_ATTN_IN][c * 65] > 0.0f);
        g[i] = calloc(1, sizeof(*g[i]));
        REQUIRE(g[i]);
        REQUIRE_OK(gate_run(t, source_hparams(s), l, n, 5.5, g[i], &e), &e);
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            const struct gate_kind *k = &g[i]->kinds[m];
            REQUIRE(k->winner < RIVAL_COUNT);
            for (int j = 0; j < RIVAL_COUNT; j++)
                if (k->can_win[j]) CHECK(k->rivals[k->winner].error <= k->rivals[j].error);
        }
        CHECK(g[i]->bits > 1.0 && g[i]->bits < 5.6);
        gate_sample_destroy(sample);
        source_destroy(s);
        gguf_close(f);
        text_fini(&text);
        rig_destroy(t);
    }
    for (int m = 0; m < MODEL_LAYER_MATS; m++)
        for (int r = 0; r < RIVAL_COUNT; r++) {
            const struct rival_result *a = &g[0]->kinds[m].rivals[r],
                                      *b = &g[1]->kinds[m].rivals[r];
            CHECK_MEM(&a->error, &b->error, sizeof(a->error));
            CHECK(a->error >= 0.0 || isnan(a->error));
        }
    free(g[0]);
    free(g[1]);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"svd_wins", svd_wins},
        {"basis_wins", basis_wins},
        {"channels_win", channels_win},
        {"segments_win", segments_win},
        {"odd_inputs", odd_inputs},
        {"same_for_any_threads", same_for_any_threads},
        {"shared_basis", shared_basis},
        {"group_errors", group_errors},
        {"choice", choice},
        {"layers_sampled", layers_sampled},
        {"whole_gate", whole_gate},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
