#include "core/make/eval_pack.h"

#include <errno.h>
#include <stdlib.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/ladder.h"
#include "core/make/source.h"
#include "core/make/tools.h"
#include "core/pack.h"
#include "core/slab.h"
#include "core/store.h"

struct eval_pack {
    struct tools *t; /* borrowed, as are the next three */
    const struct pack *pack;
    const struct ladder *ladder;
    const struct model_hparams *h;
    uint32_t n_units, n_plans;
    struct slab *core;   /* owned, as is everything below */
    struct slab **slabs; /* [n_units][2]: high, low or NULL */
    struct plan **plans; /* [n_plans] */
    struct engine *engine;
    struct kv *kv;
};

static int load(struct eval_pack *ep, enum pack_part part, uint32_t unit, struct slab **slab,
                struct err *e) {
    if (*slab) return 0; /* another position has it, too */
    const struct pack_extent *x = pack_find(ep->pack, part, unit);
    ASSERT(x); /* pack_open() has checked that there is one */
    return slab_load(ep->t->mem, ep->pack, x, slab, e);
}

static int add_unit(struct eval_pack *ep, struct plan *plan, uint32_t unit, struct err *e) {
    enum rung rung = ladder_rung(ep->ladder, plan->position, unit);
    if (rung != RUNG_FULL && rung != RUNG_HIGH)
        return err_set(e, -ENOTSUP, "unit %u at rung %s: cannot be evaluated", unit,
                       rung_name(rung));
    bool is_full = rung == RUNG_FULL;
    struct slab **high = &ep->slabs[2 * (size_t)unit], **low = high + 1;
    int r = load(ep, PACK_HIGH, unit, high, e);
    if (r == 0 && is_full) r = load(ep, PACK_LOW, unit, low, e);
    if (r < 0) return r;
    struct plan_unit *u = &plan->units[unit];
    u->high = *high;
    u->low = is_full ? *low : NULL;
    return pack_bind_unit(ep->h, unit, u->high->data, u->high->bytes, is_full ? u->low->data : NULL,
                          is_full ? u->low->bytes : 0, u->mats, e);
}

static int add_plan(struct eval_pack *ep, uint32_t i, uint32_t position, struct err *e) {
    struct plan *plan = calloc(1, sizeof(*plan) + ep->n_units * sizeof(plan->units[0]));
    if (!plan) return err_set(e, -ENOMEM, "no memory for the plan of position %u", position);
    ep->plans[i] = plan;
    plan->epoch = i + 1;
    plan->position = position;
    plan->n_units = ep->n_units;
    int r = 0;
    for (uint32_t u = 0; r == 0 && u < ep->n_units; u++) {
        r = add_unit(ep, plan, u, e);
        progress_tell(&ep->t->progress, "loading the pack", i * (uint64_t)ep->n_units + u + 1,
                      ep->n_plans * (uint64_t)ep->n_units, "units");
    }
    return r;
}

int eval_pack_create(struct tools *t, const struct pack *p, const struct ladder *l,
                     const uint32_t *positions, uint32_t n, uint32_t window, struct eval_pack **ret,
                     struct err *e) {
    ASSERT(n >= 1 && window <= SOURCE_WINDOW);
    struct eval_pack *ep = calloc(1, sizeof(*ep));
    if (!ep) return err_set(e, -ENOMEM, "no memory for the pack");
    ep->t = t;
    ep->pack = p;
    ep->ladder = l;
    ep->h = pack_hparams(p);
    ep->n_units = model_n_units(ep->h);
    ep->n_plans = n;
    ep->slabs = calloc(2 * (size_t)ep->n_units, sizeof(*ep->slabs));
    ep->plans = calloc(n, sizeof(*ep->plans));
    struct engine_opts opts = {.max_rows = window, .max_ctx = window};
    int r = 0;
    if (!ep->slabs || !ep->plans) r = err_set(e, -ENOMEM, "no memory for the pack");
    if (r == 0) r = load(ep, PACK_CORE, 0, &ep->core, e);
    for (uint32_t i = 0; r == 0 && i < n; i++) r = add_plan(ep, i, positions[i], e);
    if (r == 0) r = kv_create(t->mem, ep->h, window, &ep->kv, e);
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
    for (uint32_t i = 0; ep->slabs && i < 2 * ep->n_units; i++) slab_destroy(ep->slabs[i]);
    for (uint32_t i = 0; ep->plans && i < ep->n_plans; i++) free(ep->plans[i]);
    slab_destroy(ep->core);
    free(ep->slabs);
    free(ep->plans);
    free(ep);
}

int eval_pack_run(struct eval_pack *ep, uint32_t i, const uint32_t *ids, uint32_t n, uint32_t first,
                  float *logits, size_t ld, struct err *e) {
    struct engine_row rows[SOURCE_WINDOW];
    ASSERT(i < ep->n_plans && first < n && n <= SOURCE_WINDOW);
    for (uint32_t k = 0; k < n; k++)
        rows[k] = (struct engine_row){.kv = ep->kv,
                                      .pos = k,
                                      .token = ids[k],
                                      .logits = k < first ? NULL : logits + (k - first) * ld};
    return engine_step(ep->engine, ep->plans[i], rows, n, e);
}

uint64_t eval_pack_core_bytes(const struct eval_pack *ep) {
    return ep->core->bytes;
}
