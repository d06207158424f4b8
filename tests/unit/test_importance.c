/* importance: LSAQ's published measure against its definition, taken word by word. */
#include <stdio.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/calib.h"
#include "core/make/importance.h"
#include "core/make/source.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"

enum { ROWS = 70, MAX_UNITS = 8 };

static void test_jaccard(void) {
    static const uint32_t a[4] = {1, 2, 3, 4}, b[4] = {4, 3, 9, 8}, c[4] = {5, 6, 7, 8};
    CHECK(importance_jaccard_loss(a, a, 4) == 0.0f);
    CHECK(importance_jaccard_loss(a, c, 4) == 1.0f);
    CHECK_NEAR(importance_jaccard_loss(a, b, 4), 1.0 - 2.0 / 6.0, 1e-6);
}

static bool is_top(const double *scores, uint32_t n, uint32_t id) {
    uint32_t n_before = 0;
    for (uint32_t i = 0; i < n; i++)
        n_before += scores[i] > scores[id] || (scores[i] == scores[id] && i < id);
    return n_before < IMPORTANCE_TOP_K;
}

/* LSAQ's loss of each layer at one last token, as the paper says it: [n_layers] added to ret. */
static void plain_lsaq(const struct model_hparams *h, const float *head, const float *const *last,
                       double *ret) {
    size_t d = h->n_embd, n = h->n_vocab;
    double *scores = calloc((h->n_layers + 1) * n, sizeof(double));
    REQUIRE(scores);
    for (size_t b = 0; b <= h->n_layers; b++)
        for (size_t v = 0; v < n; v++)
            for (size_t i = 0; i < d; i++)
                scores[b * n + v] += (double)head[v * d + i] * (double)last[b][i];
    for (size_t l = 0; l < h->n_layers; l++) {
        uint32_t both = 0;
        for (uint32_t v = 0; v < n; v++)
            both += is_top(scores + l * n, h->n_vocab, v) &&
                    is_top(scores + (l + 1) * n, h->n_vocab, v);
        ret[l] += 1.0 - both / (double)(2 * IMPORTANCE_TOP_K - both);
    }
    free(scores);
}

/* The published importance, from a projection and sets that share no code with it; the output
 * matrix passes by in blocks of unequal size. */
static void check_lsaq(const struct tiny_opts *o, unsigned n_threads) {
    enum { WINDOWS = 4, BLOCK = 100 };
    struct err e = {0};
    uint64_t seed = 21;
    struct tools t;
    struct gguf *g;
    struct source *s;
    struct calib *c;
    struct importance *im;
    char path[512];
    t = (struct tools){0};
    gemm_init();
    kern_init(&t.ops, kern_cpu_flags());
    REQUIRE_OK(mem_create(&t.mem), &e);
    REQUIRE_OK(pool_create(n_threads, &t.pool, &e), &e);
    snprintf(path, sizeof(path), "%s/lsaq.gguf", t_tmpdir());
    REQUIRE(tiny_write(o, path) == 0);
    REQUIRE_OK(gguf_open(path, &g, &e), &e);
    REQUIRE_OK(source_create(t.mem, t.pool, &t.ops, g, 0, &s, &e), &e);
    const struct model_hparams *h = source_hparams(s);
    uint32_t ids[WINDOWS * ROWS];
    for (int i = 0; i < WINDOWS * ROWS; i++) ids[i] = (uint32_t)(t_rand(&seed) % h->n_vocab);
    REQUIRE_OK(calib_create(t.mem, s, ids, WINDOWS, ROWS, true, &c, &e), &e);
    for (uint32_t l = 0; l < h->n_layers; l++) {
        const struct source_layer *w;
        REQUIRE_OK(calib_next_layer(c, &w, &e), &e);
    }
    REQUIRE_OK(importance_create(t.mem, s, c, &im, &e), &e);
    float *head = calloc((size_t)h->n_vocab * h->n_embd, sizeof(float));
    REQUIRE(head && h->n_layers < MAX_UNITS);
    for (uint32_t row0 = 0; row0 < h->n_vocab; row0 += BLOCK) {
        uint32_t n = MIN(h->n_vocab - row0, (uint32_t)BLOCK);
        float *rows = head + (size_t)row0 * h->n_embd;
        REQUIRE_OK(source_head_rows(s, row0, n, rows, &e), &e);
        REQUIRE_OK(importance_head_rows(im, rows, n, &e), &e);
    }
    float got[MAX_UNITS];
    double want[MAX_UNITS] = {0};
    importance_lsaq(im, got);
    for (size_t w = 0; w < WINDOWS; w++) {
        const float *last[MAX_UNITS];
        for (uint32_t b = 0; b <= h->n_layers; b++)
            last[b] = calib_last_hidden(c, b) + w * h->n_embd;
        plain_lsaq(h, head, last, want);
    }
    for (uint32_t l = 0; l < h->n_layers; l++) CHECK_NEAR(got[l], want[l] / WINDOWS, 1e-6);
    CHECK(got[h->n_layers] == 1.0f);
    free(head);
    importance_destroy(im);
    calib_destroy(c);
    source_destroy(s);
    gguf_close(g);
    pool_destroy(t.pool);
    mem_destroy(t.mem); /* asserts that nothing is left */
}

static void test_lsaq(void) {
    struct tiny_opts o = tiny_defaults();
    check_lsaq(&o, 1);
    o.is_untied = true;
    check_lsaq(&o, 2);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"jaccard", test_jaccard},
        {"lsaq", test_lsaq},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
