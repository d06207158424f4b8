/* distortion: a pack's scores and ladders are those of score.h and hull.h put together, with and
 * without the rung swsc; clean on every failure. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/distortion.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

enum { MAX_UNITS = 8, WINDOW = 40, WINDOWS = 2 };

static const float lsaq[4] = {0.5f, 0.25f, 0.75f, 1.0f};

struct fixture {
    struct tools t;
    struct pack *pack;
    struct text text;
    uint32_t n_units;
};

static void make(struct fixture *f, bool has_swsc) {
    struct err e = {0};
    struct tiny_opts o = tiny_defaults();
    char path[512];
    o.n_embd = 128; /* so that forms come out smaller than high planes, after padding */
    o.n_ff = 384;
    snprintf(path, sizeof(path), "%s/distortion.ebb", t_tmpdir());
    REQUIRE_OK(has_swsc ? tiny_pack_write_swsc(&o, 2, path, &e) : tiny_pack_write(&o, path, &e),
               &e);
    *f = (struct fixture){0};
    REQUIRE_OK(pack_open(path, &f->pack, &e), &e);
    f->n_units = model_n_units(pack_hparams(f->pack));
    REQUIRE(f->n_units == ARRAY_LEN(lsaq));
    kern_init(&f->t.ops, kern_cpu_flags());
    REQUIRE_OK(mem_create(&f->t.mem), &e);
    REQUIRE_OK(pool_create(2, &f->t.pool, &e), &e);
    uint64_t s = 5;
    uint32_t *ids = malloc(WINDOWS * WINDOW * sizeof(*ids));
    REQUIRE(ids);
    for (int i = 0; i < WINDOWS * WINDOW; i++)
        ids[i] = (uint32_t)(t_rand(&s) % pack_hparams(f->pack)->n_vocab);
    text_adopt(&f->text, ids, WINDOWS, WINDOW);
}

static void done(struct fixture *f) {
    text_fini(&f->text);
    pack_close(f->pack);
    pool_destroy(f->t.pool);
    mem_destroy(f->t.mem); /* asserts that nothing is left */
}

static const float *find(const struct distortion *d, const char *key) {
    for (uint32_t i = 0; i < d->n_scores; i++)
        if (strcmp(d->scores[i].key, key) == 0) return d->scores[i].v;
    return NULL;
}

static void pair(struct fixture *f, enum rung upper, enum rung lower, struct score_unit *ret) {
    struct err e = {0};
    struct score_result r;
    struct score_task task = {.pack = f->pack,
                              .text = &f->text,
                              .upper = upper,
                              .lower = lower,
                              .n_windows = SCORE_WINDOWS,
                              .window = SCORE_WINDOW};
    REQUIRE_OK(score_run(&f->t, &task, ret, &r, &e), &e);
}

static uint64_t smallest(const struct fixture *f, uint32_t unit) {
    bool has_swsc = pack_has_rung(f->pack, unit, RUNG_SWSC);
    return pack_unit_bytes(f->pack, unit, has_swsc ? RUNG_SWSC : RUNG_HIGH);
}

/* All layers, and the head if it is no larger than the largest of them. */
static uint32_t count_may_page(const struct fixture *f) {
    uint32_t n_layers = f->n_units - 1;
    uint64_t most = 0;
    for (uint32_t u = 0; u < n_layers; u++) most = MAX(most, smallest(f, u));
    return n_layers + (smallest(f, n_layers) <= most);
}

/* Steps that the pack's own check of its ladders would take, priced as their scores say. */
static void check_ladder(const struct fixture *f, const struct pack_ladder_in *in,
                         const char *metric, const struct distortion *d) {
    struct err e = {0};
    struct ladder *l = NULL;
    uint64_t full = 0;
    double last = 0;
    for (uint32_t u = 0; u < f->n_units; u++) full += pack_unit_bytes(f->pack, u, RUNG_FULL);
    REQUIRE_OK(ladder_create(in->name, f->n_units, full, in->steps, in->n_steps, &l, &e), &e);
    for (uint32_t i = 0; i < in->n_steps; i++) {
        const struct ladder_step *s = &in->steps[i];
        char from[64], to[64];
        CHECK_EQU(s->bytes, pack_unit_bytes(f->pack, s->unit, s->from) -
                                pack_unit_bytes(f->pack, s->unit, s->to));
        if (s->to == RUNG_PAGED) { /* last, and free */
            CHECK(s->cost == 0 && (i + 1 == in->n_steps || s[1].to == RUNG_PAGED));
            continue;
        }
        if (!metric) continue;
        snprintf(from, sizeof(from), "ebb.distortion.%s.%s", rung_name(s->from), metric);
        snprintf(to, sizeof(to), "ebb.distortion.%s.%s", rung_name(s->to), metric);
        double a = (double)find(d, from)[s->unit], b = (double)find(d, to)[s->unit];
        double cost = b - a;
        CHECK_NEAR(s->cost, cost, 1e-5 * fabs(cost) + 1e-7);
        CHECK((double)s->cost / (double)s->bytes >= last * (1 - 1e-6));
        last = (double)s->cost / (double)s->bytes;
    }
    ladder_destroy(l);
}

static void scores_add_up(void) {
    for (int has_swsc = 0; has_swsc < 2; has_swsc++) {
        struct fixture f;
        struct err e = {0};
        struct distortion d;
        struct score_unit high[MAX_UNITS], swsc[MAX_UNITS];
        make(&f, has_swsc);
        REQUIRE_OK(distortion_measure(&f.t, f.pack, &f.text, false, lsaq, &d, &e), &e);
        CHECK_EQU(d.n_scores, has_swsc ? 12 : 9);
        CHECK_EQU(d.result.n_positions, WINDOWS * WINDOW * 3 / 4);
        pair(&f, RUNG_FULL, RUNG_HIGH, high);
        if (has_swsc) pair(&f, RUNG_HIGH, RUNG_SWSC, swsc);
        for (uint32_t u = 0; u < f.n_units; u++) {
            CHECK(find(&d, "ebb.importance.lsaq")[u] == lsaq[u]);
            CHECK(find(&d, "ebb.importance.kl")[u] == (float)high[u].kl);
            CHECK_NEAR(find(&d, "ebb.importance.jaccard")[u], high[u].jaccard, 1e-6);
            CHECK(find(&d, "ebb.distortion.full.kl")[u] == 0);
            CHECK(find(&d, "ebb.distortion.high.kl")[u] == (float)high[u].kl);
            CHECK_NEAR(find(&d, "ebb.distortion.high.jaccard")[u], high[u].jaccard, 1e-6);
            CHECK(find(&d, "ebb.distortion.high.pairs")[u] == (float)high[u].pairs);
            if (!has_swsc) {
                CHECK(!find(&d, "ebb.distortion.swsc.kl"));
                continue;
            }
            float v = find(&d, "ebb.distortion.swsc.kl")[u];
            float j = find(&d, "ebb.distortion.swsc.jaccard")[u];
            if (u == f.n_units - 1) {
                CHECK(isnan(v) && isnan(j));
                continue;
            }
            CHECK(v == (float)(high[u].kl + swsc[u].kl));
            CHECK_NEAR(j, hypot(high[u].jaccard, swsc[u].jaccard), 1e-6);
        }
        CHECK_STR(d.ladders[0].name, "jaccard");
        CHECK_STR(d.ladders[1].name, "lsaq");
        CHECK_STR(d.ladders[2].name, "kl");
        uint32_t n_steps = f.n_units; /* and of those whose form is smaller than the high plane */
        for (uint32_t u = 0; u < f.n_units; u++)
            n_steps += pack_has_rung(f.pack, u, RUNG_SWSC) &&
                       pack_unit_bytes(f.pack, u, RUNG_SWSC) <
                           pack_unit_bytes(f.pack, u, RUNG_HIGH);
        CHECK_EQU(d.ladders[1].n_steps, n_steps + count_may_page(&f));
        check_ladder(&f, &d.ladders[0], "pairs", &d);
        check_ladder(&f, &d.ladders[1], NULL, &d);
        check_ladder(&f, &d.ladders[2], "kl", &d);
        distortion_fini(&d);
        done(&f);
    }
}

static void failures_are_clean(void) {
    struct fixture f;
    struct err e = {0};
    struct distortion d;
    make(&f, true);
    int code = -ENOMEM;
    unsigned n = 1;
    for (; n < 200 && code < 0; n++) {
        mem_fail_at(f.t.mem, n, n % 2);
        code = distortion_measure(&f.t, f.pack, &f.text, true, lsaq, &d, &e);
        mem_fail_at(f.t.mem, 0, false);
        distortion_fini(&d);
        if (code < 0) CHECK_EQ(code, -ENOMEM);
    }
    CHECK_EQ(code, 0);
    CHECK(n > 20);
    float unknown[4] = {0.5f, NAN, 0.75f, 1.0f};
    CHECK_EQ(distortion_measure(&f.t, f.pack, &f.text, true, unknown, &d, &e), -EINVAL);
    CHECK(strstr(e.msg, "importance was not measured"));
    distortion_fini(&d);
    done(&f);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"scores_add_up", scores_add_up},
        {"failures_are_clean", failures_are_clean},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
