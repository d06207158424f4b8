#include "core/make/eval_pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/ladder.h"
#include "core/make/eval.h"
#include "core/make/source.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/slab.h"
#include "core/store.h"

/* States that are kept at once at most; without room for one its layers are run again. Orders
 * branch off each other at fewer depths than that nearly always. */
enum { MAX_SAVED = 16 };

struct eval_pack {
    struct tools *t; /* borrowed, as are the next two */
    const struct pack *pack;
    const struct model_hparams *h;
    uint32_t n_units, n_places; /* the reference counts as a place */
    uint32_t n_plans, window;
    uint32_t *plan_of;                     /* [n_places]; owned, as is everything below */
    uint8_t *rungs;                        /* [n_plans][n_units] */
    struct plan_unit (*bound)[RUNG_COUNT]; /* [n_units]: at every rung that a plan holds it at */
    struct plan *plan;                     /* the one in work */
    /* The plans' work in common: states of the residual stream that plans yet to come start from,
     * along the path of the plan that was run last. */
    const uint32_t *ids; /* borrowed: the window in work, NULL before the first */
    uint32_t n_ids, first, last_plan, n_saved;
    struct {
        uint32_t depth; /* before this layer */
        float *x;       /* [window][n_embd] */
    } saved[MAX_SAVED];
    float *x; /* the same, of the plan in work */
    size_t x_bytes;
    struct slab *core, *books;            /* books: NULL if the pack has none */
    struct slab *(*slabs)[PACK_SWSC + 1]; /* [n_units]: by part of a unit, or NULL */
    struct engine *engine;
    struct kv *kv;
};

/* ---- units -------------------------------------------------------------------------------------
 */

static int load(struct eval_pack *ep, enum pack_part part, uint32_t unit, struct slab **slab,
                struct err *e) {
    if (*slab) return 0; /* another plan has it, too */
    const struct pack_extent *x = pack_find(ep->pack, part, unit);
    ASSERT(x); /* pack_open() has checked that there is one */
    return slab_load(ep->t->mem, ep->pack, x, slab, e);
}

static int bind_form(struct eval_pack *ep, uint32_t unit, struct plan_unit *u, struct err *e) {
    struct slab **slab = &ep->slabs[unit][PACK_SWSC];
    int r = load(ep, PACK_SWSC, unit, slab, e);
    if (r == 0) r = slab_bind_swsc(*slab, ep->h, pack_swsc(ep->pack), ep->books, e);
    if (r < 0) return r;
    u->swsc = *slab;
    u->forms = (*slab)->forms;
    return 0;
}

static int bind_unit(struct eval_pack *ep, uint32_t unit, enum rung rung, struct err *e) {
    struct plan_unit *u = &ep->bound[unit][rung];
    u->rung = rung;
    if (rung == RUNG_SWSC) return bind_form(ep, unit, u, e);
    bool is_full = rung == RUNG_FULL;
    struct slab **slabs = ep->slabs[unit];
    int r = load(ep, PACK_HIGH, unit, &slabs[PACK_HIGH], e);
    if (r == 0 && is_full) r = load(ep, PACK_LOW, unit, &slabs[PACK_LOW], e);
    if (r < 0) return r;
    u->high = slabs[PACK_HIGH];
    u->low = is_full ? slabs[PACK_LOW] : NULL;
    return pack_bind_unit(ep->h, unit, u->high->data, u->high->bytes, is_full ? u->low->data : NULL,
                          is_full ? u->low->bytes : 0, u->mats, e);
}

/* Reads and binds what the plans need. */
static int bind_all(struct eval_pack *ep, struct err *e) {
    int r = 0;
    for (uint32_t u = 0; r == 0 && u < ep->n_units; u++) {
        bool is_needed[RUNG_COUNT] = {0};
        for (uint32_t p = 0; p < ep->n_plans; p++)
            is_needed[ep->rungs[(size_t)p * ep->n_units + u]] = true;
        for (int rung = 0; r == 0 && rung < RUNG_COUNT; rung++)
            if (is_needed[rung]) r = bind_unit(ep, u, (enum rung)rung, e);
        progress_tell(&ep->t->progress, "loading the pack", u + 1, ep->n_units, "units");
    }
    return r;
}

/* ---- plans -------------------------------------------------------------------------------------
 */

/* What a plan is sorted by: units in the order in which they are met. A tied head is met first, as
 * the embedding. */
static uint8_t key_at(const struct eval_pack *ep, uint32_t plan, uint32_t i) {
    const uint8_t *rungs = ep->rungs + (size_t)plan * ep->n_units;
    if (!ep->h->is_tied) return rungs[i];
    return i == 0 ? rungs[ep->n_units - 1] : rungs[i - 1];
}

/* How many units of the key two plans have in common. */
static uint32_t common(const struct eval_pack *ep, uint32_t a, uint32_t b) {
    uint32_t i = 0;
    while (i < ep->n_units && key_at(ep, a, i) == key_at(ep, b, i)) i++;
    return i;
}

/* Plan `from`, that of place i, goes to its place in the order, unless it is there already. */
static void sort_in(struct eval_pack *ep, uint32_t i) {
    uint32_t at = ep->n_plans, last = ep->n_plans;
    while (at > 0) {
        uint32_t n = common(ep, at - 1, last);
        if (n == ep->n_units) {
            ep->plan_of[i] = at - 1;
            return;
        }
        if (key_at(ep, at - 1, n) < key_at(ep, last, n)) break;
        at--;
    }
    uint8_t *rungs = ep->rungs, *mine = rungs + (size_t)ep->n_places * ep->n_units;
    memcpy(mine, rungs + (size_t)last * ep->n_units, ep->n_units);
    memmove(rungs + (size_t)(at + 1) * ep->n_units, rungs + (size_t)at * ep->n_units,
            (size_t)(last - at) * ep->n_units);
    memcpy(rungs + (size_t)at * ep->n_units, mine, ep->n_units);
    for (uint32_t k = 0; k < i; k++) ep->plan_of[k] += ep->plan_of[k] >= at;
    ep->plan_of[i] = at;
    ep->n_plans++;
}

/* A paged unit is computed in its smallest form. */
static enum rung computed(const struct eval_pack *ep, uint32_t unit, enum rung rung) {
    if (rung != RUNG_PAGED) return rung;
    return pack_has_rung(ep->pack, unit, RUNG_SWSC) ? RUNG_SWSC : RUNG_HIGH;
}

static void add_place(struct eval_pack *ep, uint32_t i, const struct eval_place *at) {
    uint8_t *mine = ep->rungs + (size_t)ep->n_plans * ep->n_units;
    for (uint32_t u = 0; u < ep->n_units; u++)
        mine[u] = (uint8_t)computed(ep, u, ladder_rung(at->ladder, at->position, u));
    sort_in(ep, i);
}

static int make_plans(struct eval_pack *ep, const struct eval_place *places, uint32_t n,
                      const struct eval_place *reference, struct err *e) {
    ep->n_places = n + (reference ? 1 : 0);
    ep->plan_of = calloc(ep->n_places, sizeof(*ep->plan_of));
    ep->rungs = calloc((size_t)ep->n_places + 1, ep->n_units); /* one more: to sort with */
    ep->bound = calloc(ep->n_units, sizeof(*ep->bound));
    ep->slabs = calloc(ep->n_units, sizeof(*ep->slabs));
    ep->plan = calloc(1, sizeof(*ep->plan) + ep->n_units * sizeof(ep->plan->units[0]));
    if (!ep->plan_of || !ep->rungs || !ep->bound || !ep->slabs || !ep->plan)
        return err_set(e, -ENOMEM, "no memory for the plans of %u places", ep->n_places);
    ep->plan->epoch = 1;
    ep->plan->n_units = ep->n_units;
    for (uint32_t i = 0; i < n; i++) add_place(ep, i, &places[i]);
    if (reference) add_place(ep, n, reference);
    return 0;
}

/* ---- life --------------------------------------------------------------------------------------
 */

int eval_pack_create(struct tools *t, const struct pack *p, const struct eval_place *places,
                     uint32_t n, const struct eval_place *reference, uint32_t window,
                     struct eval_pack **ret, struct err *e) {
    ASSERT(n >= 1 && window <= SOURCE_WINDOW);
    struct eval_pack *ep = calloc(1, sizeof(*ep));
    if (!ep) return err_set(e, -ENOMEM, "no memory for the pack");
    ep->t = t;
    ep->pack = p;
    ep->h = pack_hparams(p);
    ep->n_units = model_n_units(ep->h);
    ep->window = window;
    ep->x_bytes = (size_t)window * ep->h->n_embd * sizeof(float);
    struct engine_opts opts = {.max_rows = window, .max_ctx = window};
    int r = make_plans(ep, places, n, reference, e);
    if (r == 0 && !(ep->x = mem_alloc(t->mem, MEM_PACKER, ep->x_bytes)))
        r = err_set(e, -ENOMEM, "no memory for the hidden states of a window");
    if (r == 0) r = load(ep, PACK_CORE, 0, &ep->core, e);
    if (r == 0 && pack_find(p, PACK_BOOKS, 0)) r = load(ep, PACK_BOOKS, 0, &ep->books, e);
    if (r == 0) r = bind_all(ep, e);
    if (r == 0) r = kv_create(t->mem, ep->h, KV_Q8, window, &ep->kv, e);
    if (r == 0)
        r = engine_create(t->mem, t->pool, &t->ops, p, ep->core->data, &opts, &ep->engine, e);
    if (r < 0) {
        eval_pack_destroy(ep);
        return r;
    }
    *ret = ep;
    return 0;
}

void eval_pack_destroy(struct eval_pack *ep) {
    if (!ep) return;
    engine_destroy(ep->engine);
    kv_destroy(ep->kv);
    for (uint32_t u = 0; ep->slabs && u < ep->n_units; u++)
        for (size_t part = 0; part < ARRAY_LEN(ep->slabs[0]); part++)
            slab_destroy(ep->slabs[u][part]);
    slab_destroy(ep->books);
    slab_destroy(ep->core);
    for (uint32_t i = 0; i < MAX_SAVED; i++)
        mem_free(ep->t->mem, MEM_PACKER, ep->saved[i].x, ep->x_bytes);
    mem_free(ep->t->mem, MEM_PACKER, ep->x, ep->x_bytes);
    free(ep->slabs);
    free(ep->plan);
    free(ep->bound);
    free(ep->rungs);
    free(ep->plan_of);
    free(ep);
}

uint32_t eval_pack_n_plans(const struct eval_pack *ep) {
    return ep->n_plans;
}

uint32_t eval_pack_plan(const struct eval_pack *ep, uint32_t i) {
    ASSERT(i < ep->n_places);
    return ep->plan_of[i];
}

uint64_t eval_pack_core_bytes(const struct eval_pack *ep) {
    return ep->core->bytes + (ep->books ? ep->books->bytes : 0);
}

/* ---- running -----------------------------------------------------------------------------------
 */

void eval_pack_begin(struct eval_pack *ep, const uint32_t *ids, uint32_t n, uint32_t first) {
    ASSERT(first < n && n <= ep->window);
    ep->ids = ids;
    ep->n_ids = n;
    ep->first = first;
    ep->n_saved = 0;
}

/* Layers of the states that two plans have in common; -1 if not even the embedding. */
static int common_depth(const struct eval_pack *ep, uint32_t a, uint32_t b) {
    int n = (int)common(ep, a, b) - (ep->h->is_tied ? 1 : 0);
    return MIN(n, (int)ep->h->n_layers);
}

/* The least depth above `depth` that a plan after this one starts from; beyond the last layer if
 * there is none. */
static int next_start(const struct eval_pack *ep, uint32_t plan, int depth) {
    int none = (int)ep->h->n_layers + 1, least = none, shared = none;
    for (uint32_t p = plan + 1; p < ep->n_plans && shared > depth; p++) {
        shared = MIN(shared, common_depth(ep, p - 1, p));
        if (shared > depth) least = shared;
    }
    return least;
}

/* Keeps x as the state before layer `depth`, if there is room. */
static int save(struct eval_pack *ep, uint32_t depth, struct err *e) {
    if (ep->n_saved == MAX_SAVED) return 0;
    float **x = &ep->saved[ep->n_saved].x;
    if (!*x) *x = mem_alloc(ep->t->mem, MEM_PACKER, ep->x_bytes);
    if (!*x) return err_set(e, -ENOMEM, "no memory for the hidden states of a window");
    memcpy(*x, ep->x, (size_t)ep->n_ids * ep->h->n_embd * sizeof(float));
    ep->saved[ep->n_saved++].depth = depth;
    return 0;
}

/* x as it is where the plan leaves the path of the last one; *depth: before which layer, -1 if the
 * plan has nothing in common with it. */
static void go_back(struct eval_pack *ep, uint32_t plan, int *depth) {
    int shared = ep->n_saved > 0 ? common_depth(ep, ep->last_plan, plan) : -1;
    while (ep->n_saved > 0 && (int)ep->saved[ep->n_saved - 1].depth > shared) ep->n_saved--;
    ep->last_plan = plan;
    *depth = -1;
    if (ep->n_saved == 0) return;
    *depth = (int)ep->saved[ep->n_saved - 1].depth;
    memcpy(ep->x, ep->saved[ep->n_saved - 1].x, (size_t)ep->n_ids * ep->h->n_embd * sizeof(float));
}

int eval_pack_run(struct eval_pack *ep, uint32_t plan, float *logits, size_t ld, struct err *e) {
    struct engine_row rows[SOURCE_WINDOW];
    ASSERT(ep->ids && plan < ep->n_plans);
    for (uint32_t k = 0; k < ep->n_ids; k++)
        rows[k] = (struct engine_row){.kv = ep->kv,
                                      .pos = k,
                                      .token = ep->ids[k],
                                      .logits = k < ep->first ? NULL
                                                              : logits + (k - ep->first) * ld};
    for (uint32_t u = 0; u < ep->n_units; u++)
        ep->plan->units[u] = ep->bound[u][ep->rungs[(size_t)plan * ep->n_units + u]];
    int depth, r = 0, n_layers = (int)ep->h->n_layers;
    go_back(ep, plan, &depth);
    uint32_t at = (uint32_t)MAX(depth, 0);
    if (depth < 0) r = engine_embed(ep->engine, ep->plan, rows, ep->n_ids, ep->x, e);
    while (r == 0 && depth <= n_layers) {
        int next = next_start(ep, plan, depth);
        uint32_t to = (uint32_t)MIN(next, n_layers);
        r = engine_layers(ep->engine, ep->plan, rows, ep->n_ids, at, to, ep->x, e);
        if (r == 0 && next <= n_layers) r = save(ep, to, e);
        at = to;
        depth = next;
    }
    if (r == 0) r = engine_head(ep->engine, ep->plan, rows, ep->n_ids, ep->x, e);
    if (r < 0) ep->n_saved = 0;
    return r;
}
