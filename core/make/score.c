#include "core/make/score.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/make/divergence.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/make/topk.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/slab.h"
#include "core/store.h"

enum {
    GROUP_BYTES = 64 << 20, /* hidden states of the windows that go together, if one fits */
    BLOCK = 32,             /* positions whose predictions are held together */
};

struct point { /* of one position of the block in work */
    struct topk base;
    double kl, jaccard, pairs;
};

/* The runs of a window: unit u's at u, the base at n_units. */
struct score {
    struct tools *t; /* borrowed, as are the next three */
    const struct score_task *task;
    const struct pack *pack;
    const struct model_hparams *h;
    uint32_t n_units;
    uint32_t n_windows, window, first; /* positions first .. window - 1 are scored */
    uint32_t group;                    /* windows that go together */
    uint32_t ld, k;                    /* ld: n_vocab rounded up to 8 */
    bool *is_scored;                   /* owned, as is everything below: [n_units] */
    struct slab *core, *books;         /* books: NULL if the pack has none or no rung needs it */
    struct slab *high, *low, *swsc;    /* of the unit in work */
    struct swsc_mat forms[MODEL_LAYER_MATS]; /* likewise; not owned */
    struct plan *upper, *lower;
    struct engine *engine;
    struct kv *kv;
    float *x;             /* [group][n_units + 1][window][n_embd] */
    float *base, *judged; /* [BLOCK][ld] */
    size_t x_bytes, block_bytes;
    struct engine_row *rows;      /* [window] */
    struct point *points;         /* [BLOCK] */
    double *kl, *jaccard, *pairs; /* [n_units]: sums */
    uint64_t n_done, n_work;      /* for the progress: passes of a run through a unit */
    char what[48];
};

/* Whether a unit has a form for the rung to compute with; paged is none. */
static bool has_form(const struct score *sc, uint32_t unit, enum rung rung) {
    return rung != RUNG_PAGED && pack_has_rung(sc->pack, unit, rung);
}

static float *hidden(const struct score *sc, uint32_t in_group, uint32_t run) {
    size_t one = (size_t)sc->window * sc->h->n_embd;
    return sc->x + (in_group * ((size_t)sc->n_units + 1) + run) * one;
}

static void tell(struct score *sc, uint64_t n) {
    sc->n_done += n;
    progress_tell(&sc->t->progress, sc->what, sc->n_done, sc->n_work, "passes");
}

/* ---- the unit in work --------------------------------------------------------------------------
 */

static void drop_unit(struct score *sc) {
    slab_destroy(sc->high);
    slab_destroy(sc->low);
    slab_destroy(sc->swsc);
    sc->high = sc->low = sc->swsc = NULL;
}

static int load(struct score *sc, enum pack_part part, uint32_t unit, struct slab **ret,
                struct err *e) {
    const struct pack_extent *x = pack_find(sc->pack, part, unit);
    ASSERT(x);
    return slab_load(sc->t->mem, sc->pack, x, ret, e);
}

static int bind(struct score *sc, uint32_t unit, enum rung rung, struct plan *plan, struct err *e) {
    struct plan_unit *u = &plan->units[unit];
    *u = (struct plan_unit){.rung = rung};
    if (rung == RUNG_SWSC) {
        u->swsc = sc->swsc;
        u->forms = sc->forms;
        return pack_bind_swsc(sc->h, pack_swsc(sc->pack), unit, sc->books ? sc->books->data : NULL,
                              sc->books ? sc->books->bytes : 0, sc->swsc->data, sc->swsc->bytes,
                              sc->forms, e);
    }
    u->high = sc->high;
    u->low = rung == RUNG_FULL ? sc->low : NULL;
    return pack_bind_unit(sc->h, unit, u->high->data, u->high->bytes, u->low ? u->low->data : NULL,
                          u->low ? u->low->bytes : 0, u->mats, e);
}

/* One unit at both rungs; it takes the place of the one before. The upper rung is made of planes:
 * below swsc there is only paged. */
static int take_unit(struct score *sc, uint32_t unit, struct err *e) {
    const struct score_task *task = sc->task;
    drop_unit(sc);
    int r = load(sc, PACK_HIGH, unit, &sc->high, e);
    if (r == 0 && task->upper == RUNG_FULL) r = load(sc, PACK_LOW, unit, &sc->low, e);
    if (r == 0 && task->lower == RUNG_SWSC && sc->is_scored[unit])
        r = load(sc, PACK_SWSC, unit, &sc->swsc, e);
    if (r == 0) r = bind(sc, unit, task->upper, sc->upper, e);
    if (r == 0 && sc->is_scored[unit]) r = bind(sc, unit, task->lower, sc->lower, e);
    return r;
}

/* ---- the runs ----------------------------------------------------------------------------------
 */

static bool has_own_start(const struct score *sc) {
    return sc->h->is_tied && sc->is_scored[sc->h->n_layers];
}

static void set_rows(struct score *sc, uint32_t window) {
    /* Evenly over the text: of a mixed one, both parts. */
    uint64_t at = (uint64_t)window * sc->task->text->n_windows / sc->n_windows;
    const uint32_t *ids = sc->task->text->ids + at * sc->task->text->window;
    for (uint32_t i = 0; i < sc->window; i++)
        sc->rows[i] = (struct engine_row){.kv = sc->kv, .pos = i, .token = ids[i]};
}

static int embed(struct score *sc, uint32_t at, uint32_t n, struct err *e) {
    uint32_t head = sc->h->n_layers;
    int r = sc->h->is_tied ? take_unit(sc, head, e) : 0;
    for (uint32_t w = 0; r == 0 && w < n; w++) {
        set_rows(sc, at + w);
        r = engine_embed(sc->engine, sc->upper, sc->rows, sc->window, hidden(sc, w, sc->n_units),
                         e);
        if (r == 0 && has_own_start(sc))
            r = engine_embed(sc->engine, sc->lower, sc->rows, sc->window, hidden(sc, w, head), e);
    }
    return r;
}

static int pass(struct score *sc, const struct plan *plan, uint32_t layer, float *x,
                struct err *e) {
    return engine_layers(sc->engine, plan, sc->rows, sc->window, layer, layer + 1, x, e);
}

/* All runs of a window through a layer; the layer's own begins here. */
static int run_layer(struct score *sc, uint32_t w, uint32_t layer, struct err *e) {
    uint32_t head = sc->h->n_layers;
    float *base = hidden(sc, w, sc->n_units);
    int r = 0;
    if (sc->is_scored[layer]) {
        float *own = hidden(sc, w, layer);
        memcpy(own, base, (size_t)sc->window * sc->h->n_embd * sizeof(*own));
        r = pass(sc, sc->lower, layer, own, e);
    }
    for (uint32_t u = 0; r == 0 && u < layer; u++)
        if (sc->is_scored[u]) r = pass(sc, sc->upper, layer, hidden(sc, w, u), e);
    if (r == 0 && has_own_start(sc)) r = pass(sc, sc->upper, layer, hidden(sc, w, head), e);
    return r == 0 ? pass(sc, sc->upper, layer, base, e) : r;
}

/* ---- predictions -------------------------------------------------------------------------------
 */

static void score_base(void *ud, uint32_t i) {
    struct score *sc = ud;
    float *s = sc->base + (size_t)i * sc->ld;
    topk_of(&sc->points[i].base, sc->k, s, sc->h->n_vocab);
    sc->t->ops.log_softmax(s, sc->h->n_vocab);
}

/* Words of the base's set that the other one has not. */
static uint32_t exchanged(const struct topk *base, const struct topk *own, uint32_t k) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < k; i++) {
        bool is_kept = false;
        for (uint32_t j = 0; j < k; j++) is_kept |= own->id[j] == base->id[i];
        n += !is_kept;
    }
    return n;
}

static void score_judged(void *ud, uint32_t i) {
    struct score *sc = ud;
    float *p = sc->judged + (size_t)i * sc->ld;
    struct point *at = &sc->points[i];
    struct topk own;
    topk_of(&own, sc->k, p, sc->h->n_vocab);
    sc->t->ops.log_softmax(p, sc->h->n_vocab);
    double e = exchanged(&at->base, &own, sc->k), k = sc->k;
    at->jaccard = 2.0 * e / (k + e); /* 1 - (k - e) / (k + e) */
    at->pairs = sc->k > 1 ? e * (e - 1.0) / (k * (k - 1.0)) : 0.0;
    at->kl = divergence(sc->base + (size_t)i * sc->ld, p, sc->h->n_vocab);
}

static int predict(struct score *sc, const struct plan *plan, uint32_t w, uint32_t run,
                   uint32_t pos, uint32_t n, float *logits, struct err *e) {
    for (uint32_t i = 0; i < n; i++) sc->rows[pos + i].logits = logits + (size_t)i * sc->ld;
    return engine_head(sc->engine, plan, sc->rows + pos, n,
                       hidden(sc, w, run) + (size_t)pos * sc->h->n_embd, e);
}

/* Positions pos .. pos + n - 1 of a window, all runs. */
static int score_block(struct score *sc, uint32_t w, uint32_t pos, uint32_t n, struct err *e) {
    uint32_t head = sc->h->n_layers;
    int r = predict(sc, sc->upper, w, sc->n_units, pos, n, sc->base, e);
    if (r < 0) return r;
    pool_run(sc->t->pool, score_base, sc, n);
    for (uint32_t u = 0; u < sc->n_units; u++) {
        if (!sc->is_scored[u]) continue;
        /* The head's run is the base's up to the head, unless it began with other embeddings. */
        uint32_t run = u == head && !has_own_start(sc) ? sc->n_units : u;
        r = predict(sc, u == head ? sc->lower : sc->upper, w, run, pos, n, sc->judged, e);
        if (r < 0) return r;
        pool_run(sc->t->pool, score_judged, sc, n);
        for (uint32_t i = 0; i < n; i++) {
            sc->kl[u] += sc->points[i].kl;
            sc->jaccard[u] += sc->points[i].jaccard;
            sc->pairs[u] += sc->points[i].pairs;
        }
        char name[16];
        if (!isfinite(sc->kl[u]))
            return err_set(e, -EBADMSG, "%s at %s: its predictions are not finite",
                           model_unit_name(sc->h, u, name, sizeof(name)),
                           rung_name(sc->task->lower));
    }
    return 0;
}

static int score_window(struct score *sc, uint32_t w, struct err *e) {
    int r = 0;
    for (uint32_t pos = sc->first; r == 0 && pos < sc->window; pos += BLOCK)
        r = score_block(sc, w, pos, MIN(sc->window - pos, (uint32_t)BLOCK), e);
    return r;
}

static int run_group(struct score *sc, uint32_t at, uint32_t n, struct err *e) {
    uint32_t head = sc->h->n_layers;
    int r = embed(sc, at, n, e);
    for (uint32_t l = 0; r == 0 && l < head; l++) {
        r = take_unit(sc, l, e);
        for (uint32_t w = 0; r == 0 && w < n; w++) {
            set_rows(sc, at + w);
            r = run_layer(sc, w, l, e);
        }
        if (r == 0) tell(sc, (uint64_t)(l + 2) * n);
    }
    if (r == 0) r = take_unit(sc, head, e);
    for (uint32_t w = 0; r == 0 && w < n; w++) {
        set_rows(sc, at + w);
        r = score_window(sc, w, e);
        if (r == 0) tell(sc, sc->n_units + 1);
    }
    return r;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static int check(struct score *sc, struct err *e) {
    const struct score_task *task = sc->task;
    const char *upper = rung_name(task->upper), *lower = rung_name(task->lower);
    uint32_t n_scored = 0;
    if (task->lower <= task->upper)
        return err_set(e, -EINVAL, "%s to %s does not go down", upper, lower);
    for (uint32_t u = 0; u < sc->n_units; u++) {
        char name[16];
        if (!has_form(sc, u, task->upper))
            return err_set(e, -EINVAL, "%s has no rung %s",
                           model_unit_name(sc->h, u, name, sizeof(name)), upper);
        sc->is_scored[u] = has_form(sc, u, task->lower);
        n_scored += sc->is_scored[u];
    }
    if (n_scored == 0) return err_set(e, -EINVAL, "no unit of the pack has a rung %s", lower);
    return 0;
}

static struct plan *make_plan(uint32_t n_units) {
    struct plan *p = calloc(1, sizeof(*p) + n_units * sizeof(p->units[0]));
    if (p) p->n_units = n_units;
    return p;
}

static int init(struct score *sc, struct err *e) {
    uint32_t n_units = sc->n_units;
    struct engine_opts opts = {.max_rows = sc->window,
                               .max_ctx = sc->window,
                               .fine_rows = sc->task->upper == RUNG_FULL ? BLOCK : 0};
    sc->is_scored = calloc(n_units, sizeof(*sc->is_scored));
    sc->upper = make_plan(n_units);
    sc->lower = make_plan(n_units);
    sc->rows = calloc(sc->window, sizeof(*sc->rows));
    sc->points = calloc(BLOCK, sizeof(*sc->points));
    sc->kl = calloc(3 * (size_t)n_units, sizeof(*sc->kl));
    if (!sc->is_scored || !sc->upper || !sc->lower || !sc->rows || !sc->points || !sc->kl)
        return err_set(e, -ENOMEM, "no memory to score the units");
    sc->jaccard = sc->kl + n_units;
    sc->pairs = sc->jaccard + n_units;
    int r = check(sc, e);
    if (r < 0) return r;

    size_t one = ((size_t)n_units + 1) * sc->window * sc->h->n_embd * sizeof(float);
    sc->group = MIN((uint32_t)MAX((size_t)GROUP_BYTES / one, (size_t)1), sc->n_windows);
    sc->x_bytes = sc->group * one;
    sc->block_bytes = (size_t)BLOCK * sc->ld * sizeof(float);
    sc->x = mem_alloc(sc->t->mem, MEM_PACKER, sc->x_bytes);
    sc->base = mem_alloc(sc->t->mem, MEM_PACKER, sc->block_bytes);
    sc->judged = mem_alloc(sc->t->mem, MEM_PACKER, sc->block_bytes);
    if (!sc->x || !sc->base || !sc->judged)
        return err_set(e, -ENOMEM, "no memory for the hidden states of %u runs", n_units + 1);
    r = load(sc, PACK_CORE, 0, &sc->core, e);
    if (r == 0 && sc->task->lower == RUNG_SWSC && pack_find(sc->pack, PACK_BOOKS, 0))
        r = load(sc, PACK_BOOKS, 0, &sc->books, e);
    if (r == 0) r = kv_create(sc->t->mem, sc->h, KV_F16, sc->window, &sc->kv, e);
    if (r == 0)
        r = engine_create(sc->t->mem, sc->t->pool, &sc->t->ops, sc->pack, sc->core->data, &opts,
                          &sc->engine, e);
    return r;
}

static void fini(struct score *sc) {
    engine_destroy(sc->engine);
    kv_destroy(sc->kv);
    drop_unit(sc);
    slab_destroy(sc->core);
    slab_destroy(sc->books);
    mem_free(sc->t->mem, MEM_PACKER, sc->x, sc->x_bytes);
    mem_free(sc->t->mem, MEM_PACKER, sc->base, sc->block_bytes);
    mem_free(sc->t->mem, MEM_PACKER, sc->judged, sc->block_bytes);
    free(sc->is_scored);
    free(sc->upper);
    free(sc->lower);
    free(sc->rows);
    free(sc->points);
    free(sc->kl);
}

static void fill(const struct score *sc, struct score_unit *ret, struct score_result *ret_result) {
    uint32_t n = sc->n_windows * (sc->window - sc->first);
    for (uint32_t u = 0; u < sc->n_units; u++) {
        /* A divergence is never negative; the sum of a tiny one's terms may be. */
        if (sc->is_scored[u])
            ret[u] = (struct score_unit){.kl = fmax(sc->kl[u] / n, 0.0),
                                         .jaccard = sc->jaccard[u] / n,
                                         .pairs = sc->pairs[u] / n};
        else
            ret[u] = (struct score_unit){(double)NAN, (double)NAN, (double)NAN};
    }
    *ret_result = (struct score_result){
        .n_windows = sc->n_windows, .window = sc->window, .n_positions = n};
}

int score_run(struct tools *t, const struct score_task *task, struct score_unit *ret,
              struct score_result *ret_result, struct err *e) {
    ASSERT(task->n_windows >= 1 && task->window >= 1);
    struct score sc = {.t = t, .task = task, .pack = task->pack, .h = pack_hparams(task->pack)};
    sc.n_units = model_n_units(sc.h);
    sc.n_windows = MIN(task->n_windows, task->text->n_windows);
    sc.window = MIN(MIN(task->window, task->text->window), (uint32_t)SCORE_WINDOW);
    sc.first = sc.window / 4;
    sc.ld = (sc.h->n_vocab + 7) / 8 * 8;
    sc.k = MIN(sc.h->n_vocab, (uint32_t)SCORE_TOP_K);
    for (uint32_t l = 0; l <= sc.h->n_layers; l++) sc.n_work += l + 2;
    sc.n_work *= sc.n_windows;
    snprintf(sc.what, sizeof(sc.what), "scoring %s>%s", rung_name(task->upper),
             rung_name(task->lower));
    int r = init(&sc, e);
    for (uint32_t w = 0; r == 0 && w < sc.n_windows; w += sc.group)
        r = run_group(&sc, w, MIN(sc.group, sc.n_windows - w), e);
    if (r == 0) fill(&sc, ret, ret_result);
    fini(&sc);
    return r;
}
