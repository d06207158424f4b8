#include "core/make/distortion.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/hull.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/model.h"
#include "core/pack.h"

enum metric { KL, JACCARD, PAIRS };
enum { METRICS = PAIRS + 1 };

static const char *const metric_names[METRICS] = {
    [KL] = "kl", [JACCARD] = "jaccard", [PAIRS] = "pairs"};

struct work {
    struct tools *t; /* borrowed, as are the next three */
    const struct pack *pack;
    const struct text *text;
    struct distortion *d;
    uint32_t n_units;
    bool is_fast;
    struct score_unit *pair;          /* owned: [n_units] */
    struct hull_unit *units[METRICS]; /* owned: [n_units] */
};

/* rung: NULL for the importance itself. */
static float *add_score(struct work *k, const char *rung, const char *metric) {
    struct distortion *d = k->d;
    ASSERT(d->n_scores < DISTORTION_SCORES);
    float *v = d->values + (size_t)d->n_scores * k->n_units;
    char *key = d->keys[d->n_scores];
    if (rung)
        snprintf(key, sizeof(d->keys[0]), "ebb.distortion.%s.%s", rung, metric);
    else
        snprintf(key, sizeof(d->keys[0]), "ebb.importance.%s", metric);
    d->scores[d->n_scores++] = (struct pack_score_in){key, v};
    return v;
}

static void set_rungs(struct work *k) {
    for (int m = 0; m < METRICS; m++)
        for (uint32_t u = 0; u < k->n_units; u++)
            for (uint32_t r = 0; r < HULL_RUNGS; r++) {
                struct hull_unit *x = &k->units[m][u];
                if (!pack_has_rung(k->pack, u, (enum rung)r)) continue;
                x->rungs |= 1u << r;
                x->bytes[r] = pack_unit_bytes(k->pack, u, (enum rung)r);
            }
}

/* Layers go to disk; so does the head if it needs no larger room to stream into than they do, as
 * that room is taken for good. */
static void set_paging(struct work *k) {
    uint32_t head = k->n_units - 1;
    uint64_t most = 0;
    for (uint32_t u = 0; u < head; u++) {
        bool has_swsc = pack_has_rung(k->pack, u, RUNG_SWSC);
        most = MAX(most, pack_unit_bytes(k->pack, u, has_swsc ? RUNG_SWSC : RUNG_HIGH));
    }
    for (int m = 0; m < METRICS; m++)
        for (uint32_t u = 0; u < k->n_units; u++)
            k->units[m][u].may_page = u < head || pack_unit_bytes(k->pack, u, RUNG_HIGH) <= most;
}

static bool is_in_pack(const struct work *k, enum rung rung) {
    for (uint32_t u = 0; u < k->n_units; u++)
        if (pack_has_rung(k->pack, u, rung)) return true;
    return false;
}

/* The rung's losses: those of the rung above it and what the pair adds, for Jaccard as squares. */
static int measure(struct work *k, enum rung upper, enum rung lower, struct err *e) {
    struct score_result result;
    struct score_task task = {.pack = k->pack,
                              .text = k->text,
                              .upper = upper,
                              .lower = lower,
                              .n_windows = k->is_fast ? SCORE_FAST_WINDOWS : SCORE_WINDOWS,
                              .window = SCORE_WINDOW};
    int r = score_run(k->t, &task, k->pair, &result, e);
    if (r < 0) return r;
    for (uint32_t u = 0; u < k->n_units; u++) {
        struct hull_unit *kl = &k->units[KL][u], *jaccard = &k->units[JACCARD][u];
        struct hull_unit *pairs = &k->units[PAIRS][u];
        kl->loss[lower] = kl->loss[upper] + k->pair[u].kl;
        jaccard->loss[lower] = jaccard->loss[upper] + k->pair[u].jaccard * k->pair[u].jaccard;
        pairs->loss[lower] = pairs->loss[upper] + k->pair[u].pairs;
    }
    if (upper == RUNG_FULL) k->d->result = result;
    return 0;
}

/* As it is stored. */
static float loss_of(const struct work *k, int metric, uint32_t unit, uint32_t rung) {
    double loss = k->units[metric][unit].loss[rung];
    return (float)(metric == JACCARD ? sqrt(loss) : loss);
}

static void keep_scores(struct work *k, const float *lsaq) {
    memcpy(add_score(k, NULL, "lsaq"), lsaq, k->n_units * sizeof(*lsaq));
    for (int m = 0; m < PAIRS; m++) {
        float *v = add_score(k, NULL, metric_names[m]);
        for (uint32_t u = 0; u < k->n_units; u++) v[u] = loss_of(k, m, u, RUNG_HIGH);
    }
    for (uint32_t r = 0; r < HULL_RUNGS; r++)
        for (int m = 0; is_in_pack(k, (enum rung)r) && m < METRICS; m++) {
            float *v = add_score(k, rung_name((enum rung)r), metric_names[m]);
            for (uint32_t u = 0; u < k->n_units; u++) v[u] = loss_of(k, m, u, r);
        }
}

static int make_ladders(struct work *k, const float *lsaq, struct err *e) {
    static const char *const names[DISTORTION_LADDERS] = {"jaccard", "lsaq", "kl"};
    struct distortion *d = k->d;
    size_t room = hull_max_steps(k->n_units);
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < DISTORTION_LADDERS; i++) {
        struct ladder_step *steps = d->steps + i * room;
        d->ladders[i].name = names[i];
        d->ladders[i].steps = steps;
        if (i == 1)
            r = hull_ranked(k->units[KL], k->n_units, lsaq, true, steps, &d->ladders[i].n_steps, e);
        else
            r = hull_ladder(k->units[i == 0 ? PAIRS : KL], k->n_units, true, steps,
                            &d->ladders[i].n_steps, e);
    }
    return r;
}

static int init(struct work *k, struct err *e) {
    struct distortion *d = k->d;
    d->values = calloc((size_t)DISTORTION_SCORES * k->n_units, sizeof(*d->values));
    d->steps = calloc((size_t)DISTORTION_LADDERS * hull_max_steps(k->n_units), sizeof(*d->steps));
    k->pair = calloc(k->n_units, sizeof(*k->pair));
    bool ok = d->values && d->steps && k->pair;
    for (int m = 0; m < METRICS; m++) {
        k->units[m] = calloc(k->n_units, sizeof(*k->units[m]));
        ok = ok && k->units[m];
    }
    return ok ? 0 : err_set(e, -ENOMEM, "no memory for the units' scores");
}

int distortion_measure(struct tools *t, const struct pack *pack, const struct text *text,
                       bool is_fast, const float *lsaq, struct distortion *ret, struct err *e) {
    *ret = (struct distortion){0};
    struct work k = {.t = t, .pack = pack, .text = text, .d = ret, .is_fast = is_fast};
    k.n_units = model_n_units(pack_hparams(pack));
    int r = init(&k, e);
    if (r == 0) {
        set_rungs(&k);
        set_paging(&k);
    }
    for (uint32_t rung = RUNG_HIGH; r == 0 && rung < HULL_RUNGS; rung++)
        if (is_in_pack(&k, (enum rung)rung))
            r = measure(&k, (enum rung)(rung - 1), (enum rung)rung, e);
    if (r == 0) keep_scores(&k, lsaq);
    if (r == 0) r = make_ladders(&k, lsaq, e);
    free(k.pair);
    for (int m = 0; m < METRICS; m++) free(k.units[m]);
    return r;
}

void distortion_fini(struct distortion *d) {
    free(d->values);
    free(d->steps);
    *d = (struct distortion){0};
}
