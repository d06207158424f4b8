/* score: against whole steps of the engine, one unit lowered after the other, with divergence and
 * sets computed in the plain way; the same for any thread count; clean on every failure. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/make/score.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/slab.h"
#include "core/store.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

enum { WINDOW = 48, WINDOWS = 3, FIRST = WINDOW / 4, MAX_UNITS = 8, MAX_VOCAB = 1024 };

static void tools_make(struct tools *t, unsigned n_threads) {
    struct err e = {0};
    *t = (struct tools){0};
    kern_init(&t->ops, kern_cpu_flags());
    REQUIRE_OK(mem_create(&t->mem), &e);
    REQUIRE_OK(pool_create(n_threads, &t->pool, &e), &e);
}

static void tools_free(struct tools *t) {
    pool_destroy(t->pool);
    mem_destroy(t->mem); /* asserts that nothing is left */
}

static void text_make(struct text *t, uint32_t n_windows, uint32_t window, uint32_t n_vocab) {
    uint64_t s = 11;
    uint32_t *ids = malloc((size_t)n_windows * window * sizeof(*ids));
    REQUIRE(ids);
    for (uint32_t i = 0; i < n_windows * window; i++) ids[i] = (uint32_t)(t_rand(&s) % n_vocab);
    text_adopt(t, ids, n_windows, window);
}

/* variant: of the forms of the rung swsc; -1: none. */
static void pack_make(struct tiny_opts o, int variant, struct pack **ret) {
    struct err e = {0};
    char path[512];
    snprintf(path, sizeof(path), "%s/score.ebb", t_tmpdir());
    REQUIRE_OK(variant < 0 ? tiny_pack_write(&o, path, &e)
                           : tiny_pack_write_swsc(&o, (unsigned)variant, path, &e),
               &e);
    REQUIRE_OK(pack_open(path, ret, &e), &e);
}

/* ---- the plain way ---- */

struct plain {
    struct tools t;
    const struct pack *pack;
    enum rung upper, lower;
    struct slab *core, *books, *high[MAX_UNITS], *low[MAX_UNITS], *swsc[MAX_UNITS];
    struct swsc_mat forms[MODEL_LAYER_MATS];
    struct engine *en;
    struct kv *kv;
    struct plan *plan;
    uint32_t n_units, ld;
    float *logits[2]; /* [WINDOW][ld] */
};

static void plain_make(struct plain *p, const struct pack *pack, enum rung upper, enum rung lower) {
    struct err e = {0};
    *p = (struct plain){
        .pack = pack, .upper = upper, .lower = lower, .n_units = model_n_units(pack_hparams(pack))};
    REQUIRE(p->n_units <= MAX_UNITS && pack_hparams(pack)->n_vocab <= MAX_VOCAB);
    tools_make(&p->t, 1);
    p->ld = (pack_hparams(pack)->n_vocab + 7) / 8 * 8;
    for (int i = 0; i < 2; i++) p->logits[i] = calloc((size_t)WINDOW * p->ld, sizeof(float));
    p->plan = calloc(1, sizeof(*p->plan) + MAX_UNITS * sizeof(p->plan->units[0]));
    REQUIRE(p->logits[0] && p->logits[1] && p->plan);
    p->plan->n_units = p->n_units;
    REQUIRE_OK(slab_load(p->t.mem, pack, pack_find(pack, PACK_CORE, 0), &p->core, &e), &e);
    for (uint32_t u = 0; u < p->n_units; u++) {
        REQUIRE_OK(slab_load(p->t.mem, pack, pack_find(pack, PACK_HIGH, u), &p->high[u], &e), &e);
        REQUIRE_OK(slab_load(p->t.mem, pack, pack_find(pack, PACK_LOW, u), &p->low[u], &e), &e);
        const struct pack_extent *x = pack_find(pack, PACK_SWSC, u);
        if (x) REQUIRE_OK(slab_load(p->t.mem, pack, x, &p->swsc[u], &e), &e);
    }
    const struct pack_extent *books = pack_find(pack, PACK_BOOKS, 0);
    if (books) REQUIRE_OK(slab_load(p->t.mem, pack, books, &p->books, &e), &e);
    struct engine_opts opts = {
        .max_rows = WINDOW, .max_ctx = WINDOW, .fine_rows = p->upper == RUNG_FULL ? WINDOW : 0};
    REQUIRE_OK(kv_create(p->t.mem, pack_hparams(pack), KV_F16, WINDOW, &p->kv, &e), &e);
    REQUIRE_OK(
        engine_create(p->t.mem, p->t.pool, &p->t.ops, pack, p->core->data, &opts, &p->en, &e), &e);
}

static void plain_free(struct plain *p) {
    engine_destroy(p->en);
    kv_destroy(p->kv);
    for (uint32_t u = 0; u < p->n_units; u++) {
        slab_destroy(p->high[u]);
        slab_destroy(p->low[u]);
        slab_destroy(p->swsc[u]);
    }
    slab_destroy(p->core);
    slab_destroy(p->books);
    free(p->plan);
    free(p->logits[0]);
    free(p->logits[1]);
    tools_free(&p->t);
}

static void plain_bind(struct plain *p, uint32_t u, enum rung rung) {
    struct err e = {0};
    struct plan_unit *x = &p->plan->units[u];
    *x = (struct plan_unit){.rung = rung};
    if (rung == RUNG_SWSC) {
        x->forms = p->forms;
        REQUIRE_OK(pack_bind_swsc(pack_hparams(p->pack), pack_swsc(p->pack), u,
                                  p->books ? p->books->data : NULL, p->books ? p->books->bytes : 0,
                                  p->swsc[u]->data, p->swsc[u]->bytes, p->forms, &e),
                   &e);
        return;
    }
    const struct slab *low = rung == RUNG_FULL ? p->low[u] : NULL;
    REQUIRE_OK(pack_bind_unit(pack_hparams(p->pack), u, p->high[u]->data, p->high[u]->bytes,
                              low ? low->data : NULL, low ? low->bytes : 0, x->mats, &e),
               &e);
}

/* lowered: a unit at the lower rung, or n_units for none. */
static void plain_run(struct plain *p, uint32_t lowered, const uint32_t *ids, float *logits) {
    struct err e = {0};
    struct engine_row rows[WINDOW];
    for (uint32_t u = 0; u < p->n_units; u++) plain_bind(p, u, u == lowered ? p->lower : p->upper);
    for (uint32_t i = 0; i < WINDOW; i++)
        rows[i] = (struct engine_row){p->kv, i, ids[i], logits + (size_t)i * p->ld};
    REQUIRE_OK(engine_step(p->en, p->plan, rows, WINDOW, &e), &e);
}

static void log_probs(const float *logits, uint32_t n, double *ret) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    for (uint32_t i = 0; i < n; i++) ret[i] = (double)logits[i] - max - log(sum);
}

static bool is_top(const float *logits, uint32_t n, uint32_t id) {
    uint32_t n_before = 0;
    for (uint32_t i = 0; i < n; i++)
        n_before += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    return n_before < SCORE_TOP_K;
}

static void plain_score(struct plain *p, const struct text *text, uint32_t unit,
                        struct score_unit *ret) {
    static double s[MAX_VOCAB], q[MAX_VOCAB];
    uint32_t n_vocab = pack_hparams(p->pack)->n_vocab, n = 0;
    *ret = (struct score_unit){0};
    for (uint32_t w = 0; w < WINDOWS; w++) {
        const uint32_t *ids = text->ids + (size_t)w * text->window;
        plain_run(p, p->n_units, ids, p->logits[0]);
        plain_run(p, unit, ids, p->logits[1]);
        for (uint32_t i = FIRST; i < WINDOW; i++, n++) {
            const float *a = p->logits[0] + (size_t)i * p->ld;
            const float *b = p->logits[1] + (size_t)i * p->ld;
            uint32_t both = 0;
            log_probs(a, n_vocab, s);
            log_probs(b, n_vocab, q);
            for (uint32_t k = 0; k < n_vocab; k++) {
                ret->kl += exp(s[k]) * (s[k] - q[k]);
                both += is_top(a, n_vocab, k) && is_top(b, n_vocab, k);
            }
            ret->jaccard += 1.0 - both / (double)(2 * SCORE_TOP_K - both);
            double gone = SCORE_TOP_K - both;
            ret->pairs += gone * (gone - 1) / (SCORE_TOP_K * (SCORE_TOP_K - 1));
        }
    }
    ret->kl /= n;
    ret->jaccard /= n;
    ret->pairs /= n;
}

/* ---- tests ---- */

static void score_all(struct plain *p, const struct text *text, struct score_unit *ret) {
    struct err e = {0};
    struct score_unit got[3][MAX_UNITS];
    memset(got, 0, sizeof(got));
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct tools t;
        struct score_result r;
        struct score_task task = {.pack = p->pack,
                                  .text = text,
                                  .upper = p->upper,
                                  .lower = p->lower,
                                  .n_windows = 100,
                                  .window = WINDOW};
        tools_make(&t, threads);
        REQUIRE_OK(score_run(&t, &task, got[threads - 1], &r, &e), &e);
        CHECK_EQU(r.n_windows, WINDOWS);
        CHECK_EQU(r.window, WINDOW);
        CHECK_EQU(r.n_positions, WINDOWS * (WINDOW - FIRST));
        tools_free(&t);
    }
    CHECK_MEM(got[0], got[1], sizeof(got[0]));
    CHECK_MEM(got[0], got[2], sizeof(got[0]));
    memcpy(ret, got[0], sizeof(got[0]));
}

static void check_pair(struct tiny_opts o, int variant, enum rung upper, enum rung lower) {
    struct pack *pack;
    struct plain p;
    struct text text;
    struct score_unit got[MAX_UNITS];
    pack_make(o, variant, &pack);
    plain_make(&p, pack, upper, lower);
    text_make(&text, WINDOWS, 64, pack_hparams(pack)->n_vocab);
    score_all(&p, &text, got);
    for (uint32_t u = 0; u < p.n_units; u++) {
        struct score_unit want;
        if (!pack_has_rung(pack, u, lower)) {
            CHECK(isnan(got[u].kl) && isnan(got[u].jaccard) && isnan(got[u].pairs));
            continue;
        }
        plain_score(&p, &text, u, &want);
        CHECK(want.kl > 1e-4 && want.jaccard > 0.01);
        CHECK_NEAR(got[u].kl, want.kl, 1e-4 * want.kl + 1e-7);
        CHECK_NEAR(got[u].jaccard, want.jaccard, 1e-7);
        CHECK_NEAR(got[u].pairs, want.pairs, 1e-7);
    }
    text_fini(&text);
    plain_free(&p);
    pack_close(pack);
}

static void is_as_in_the_plain_way(void) {
    struct tiny_opts o = tiny_defaults();
    check_pair(o, -1, RUNG_FULL, RUNG_HIGH);
    o.is_untied = true;
    check_pair(o, -1, RUNG_FULL, RUNG_HIGH);
}

/* The head has no such form: its planes stay as they are. */
static void swsc_is_a_rung_like_others(void) {
    struct tiny_opts o = tiny_defaults();
    for (int variant = 0; variant < 3; variant++) {
        o.is_untied = variant == 1;
        check_pair(o, variant, RUNG_HIGH, RUNG_SWSC);
    }
    check_pair(o, 3, RUNG_FULL, RUNG_SWSC);
    check_pair(o, 3, RUNG_FULL, RUNG_HIGH);
}

static void windows_are_spread_over_the_text(void) {
    struct err e = {0};
    struct pack *pack;
    struct text text, part;
    struct tools t;
    struct score_result r;
    struct score_unit few[MAX_UNITS] = {{0}}, same[MAX_UNITS] = {{0}};
    pack_make(tiny_defaults(), -1, &pack);
    text_make(&text, 7, 300, pack_hparams(pack)->n_vocab);
    tools_make(&t, 2);
    struct score_task task = {.pack = pack,
                              .text = &text,
                              .upper = RUNG_FULL,
                              .lower = RUNG_HIGH,
                              .n_windows = 3,
                              .window = 1000};
    REQUIRE_OK(score_run(&t, &task, few, &r, &e), &e);
    CHECK_EQU(r.n_windows, 3);
    CHECK_EQU(r.window, SCORE_WINDOW);
    /* Windows 0, 2 and 4 of the seven, put together. */
    uint32_t *ids = malloc((size_t)3 * 300 * sizeof(*ids));
    REQUIRE(ids);
    for (int i = 0; i < 3; i++) memcpy(ids + i * 300, text.ids + i * 600, 300 * sizeof(*ids));
    text_adopt(&part, ids, 3, 300);
    task.text = &part;
    task.n_windows = 3;
    REQUIRE_OK(score_run(&t, &task, same, &r, &e), &e);
    CHECK_MEM(few, same, sizeof(few));
    tools_free(&t);
    text_fini(&part);
    text_fini(&text);
    pack_close(pack);
}

static void bad_tasks_are_refused(void) {
    struct err e = {0};
    struct pack *pack;
    struct text text;
    struct tools t;
    struct score_result r;
    struct score_unit ret[MAX_UNITS];
    pack_make(tiny_defaults(), -1, &pack);
    text_make(&text, 1, WINDOW, pack_hparams(pack)->n_vocab);
    tools_make(&t, 1);
    struct score_task task = {.pack = pack,
                              .text = &text,
                              .upper = RUNG_HIGH,
                              .lower = RUNG_FULL,
                              .n_windows = 1,
                              .window = WINDOW};
    CHECK_EQ(score_run(&t, &task, ret, &r, &e), -EINVAL);
    CHECK_STR(e.msg, "high to full does not go down");
    task.lower = RUNG_SWSC;
    CHECK_EQ(score_run(&t, &task, ret, &r, &e), -EINVAL);
    CHECK_STR(e.msg, "no unit of the pack has a rung swsc");
    task.lower = RUNG_PAGED;
    CHECK_EQ(score_run(&t, &task, ret, &r, &e), -EINVAL);
    CHECK_STR(e.msg, "no unit of the pack has a rung paged");
    task.upper = RUNG_SWSC;
    CHECK_EQ(score_run(&t, &task, ret, &r, &e), -EINVAL);
    CHECK_STR(e.msg, "layer 0 has no rung swsc");
    task.upper = RUNG_FULL;
    task.lower = RUNG_HIGH;
    text.ids[3] = pack_hparams(pack)->n_vocab;
    CHECK_EQ(score_run(&t, &task, ret, &r, &e), -EINVAL);
    CHECK(strstr(e.msg, "beyond the vocabulary"));
    text.ids[3] = 5;
    int code = -ENOMEM;
    unsigned n = 1;
    for (; n < 100 && code < 0; n++) {
        mem_fail_at(t.mem, n, n % 2);
        code = score_run(&t, &task, ret, &r, &e);
        mem_fail_at(t.mem, 0, false);
        if (code < 0) CHECK_EQ(code, -ENOMEM);
    }
    CHECK_EQ(code, 0);
    CHECK(n > 10);
    tools_free(&t);
    text_fini(&text);
    pack_close(pack);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"is_as_in_the_plain_way", is_as_in_the_plain_way},
        {"swsc_is_a_rung_like_others", swsc_is_a_rung_like_others},
        {"windows_are_spread_over_the_text", windows_are_spread_over_the_text},
        {"bad_tasks_are_refused", bad_tasks_are_refused},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
