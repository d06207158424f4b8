#include "core/make/hull.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"

/* A step and what it is sorted by: price, then unit, then how far down it is. */
struct edge {
    struct ladder_step step;
    double price;
};

static int check(const struct hull_unit *u, uint32_t unit, bool with_losses, struct err *e) {
    if (!(u->rungs >> RUNG_FULL & 1))
        return err_set(e, -EINVAL, "unit %" PRIu32 " has no rung full", unit);
    for (uint32_t r = 0; with_losses && r < HULL_RUNGS; r++)
        if (u->rungs >> r & 1 && !isfinite(u->loss[r]))
            return err_set(e, -EINVAL, "unit %" PRIu32 ": its loss at %s was not measured", unit,
                           rung_name((enum rung)r));
    return 0;
}

/* Loss per byte freed, from rung a down to b. */
static double price(const struct hull_unit *u, uint32_t a, uint32_t b) {
    return (u->loss[b] - u->loss[a]) / (double)(u->bytes[a] - u->bytes[b]);
}

/* The rungs that free bytes, from full down; with is_convex only those on the lower hull, so that
 * prices never fall on the way. Returns how many. */
static uint32_t walk(const struct hull_unit *u, bool is_convex, uint32_t ret[HULL_RUNGS]) {
    uint32_t n = 0;
    for (uint32_t r = 0; r < HULL_RUNGS; r++) {
        if (!(u->rungs >> r & 1)) continue;
        if (n > 0 && u->bytes[r] >= u->bytes[ret[n - 1]]) continue;
        while (is_convex && n >= 2 && price(u, ret[n - 2], ret[n - 1]) > price(u, ret[n - 1], r))
            n--;
        ret[n++] = r;
    }
    return n;
}

static int compare(const void *pa, const void *pb) {
    const struct edge *a = pa, *b = pb;
    if (a->price != b->price) return a->price < b->price ? -1 : 1;
    if (a->step.unit != b->step.unit) return a->step.unit < b->step.unit ? -1 : 1;
    return (a->step.from > b->step.from) - (a->step.from < b->step.from);
}

/* Steps to paged, behind the n that there are. */
static uint32_t add_paged(const struct hull_unit *units, uint32_t n_units, struct ladder_step *ret,
                          uint32_t n) {
    uint32_t n_resident = n;
    for (uint32_t pass = 0; pass < 2; pass++) {
        /* First those that have not moved, then each where its last step is. */
        uint32_t n_places = pass == 0 ? n_units : n_resident;
        for (uint32_t i = 0; i < n_places; i++) {
            uint32_t unit = pass == 0 ? i : ret[i].unit;
            enum rung last = pass == 0 ? RUNG_FULL : ret[i].to;
            bool is_last = true;
            for (uint32_t k = pass == 0 ? 0 : i + 1; is_last && k < n_resident; k++)
                is_last = ret[k].unit != unit;
            if (!is_last || !units[unit].may_page) continue;
            ret[n++] = (struct ladder_step){
                .unit = unit, .from = last, .to = RUNG_PAGED, .bytes = units[unit].bytes[last]};
        }
    }
    return n;
}

static struct ladder_step step_of(const struct hull_unit *u, uint32_t unit, uint32_t from,
                                  uint32_t to, float cost) {
    return (struct ladder_step){.unit = unit,
                                .from = (enum rung)from,
                                .to = (enum rung)to,
                                .bytes = u->bytes[from] - u->bytes[to],
                                .cost = cost};
}

/* Takes over the edges. */
static int finish(struct edge *edges, uint32_t n, const struct hull_unit *units, uint32_t n_units,
                  bool with_paged, struct ladder_step *ret, uint32_t *ret_n_steps) {
    for (uint32_t i = 0; i < n; i++) ret[i] = edges[i].step;
    *ret_n_steps = with_paged ? add_paged(units, n_units, ret, n) : n;
    free(edges);
    return 0;
}

int hull_ladder(const struct hull_unit *units, uint32_t n_units, bool with_paged,
                struct ladder_step *ret, uint32_t *ret_n_steps, struct err *e) {
    for (uint32_t u = 0; u < n_units; u++) {
        int r = check(&units[u], u, true, e);
        if (r < 0) return r;
    }
    struct edge *edges = calloc((size_t)n_units * HULL_RUNGS + 1, sizeof(*edges));
    if (!edges) return err_set(e, -ENOMEM, "no memory for the ladder");
    uint32_t n = 0;
    for (uint32_t u = 0; u < n_units; u++) {
        const struct hull_unit *x = &units[u];
        uint32_t at[HULL_RUNGS], n_at = walk(x, true, at);
        for (uint32_t i = 1; i < n_at; i++)
            edges[n++] = (struct edge){
                .step = step_of(x, u, at[i - 1], at[i],
                                (float)(x->loss[at[i]] - x->loss[at[i - 1]])),
                .price = price(x, at[i - 1], at[i]),
            };
    }
    qsort(edges, n, sizeof(*edges), compare);
    return finish(edges, n, units, n_units, with_paged, ret, ret_n_steps);
}

int hull_ranked(const struct hull_unit *units, uint32_t n_units, const float *importance,
                bool with_paged, struct ladder_step *ret, uint32_t *ret_n_steps, struct err *e) {
    for (uint32_t u = 0; u < n_units; u++) {
        int r = check(&units[u], u, false, e);
        if (r < 0) return r;
        if (!isfinite(importance[u]))
            return err_set(e, -EINVAL, "unit %" PRIu32 ": its importance was not measured", u);
    }
    struct edge *edges = calloc((size_t)n_units * HULL_RUNGS + 1, sizeof(*edges));
    if (!edges) return err_set(e, -ENOMEM, "no memory for the ladder");
    uint32_t n = 0, done = 0;
    /* One rung after the other: full to the next, all of them, and so on. */
    for (uint32_t level = 1; level < HULL_RUNGS; level++) {
        for (uint32_t u = 0; u < n_units; u++) {
            uint32_t at[HULL_RUNGS], n_at = walk(&units[u], false, at);
            for (uint32_t i = 1; i < n_at; i++)
                if (at[i] == level)
                    edges[n++] = (struct edge){
                        .step = step_of(&units[u], u, at[i - 1], level, importance[u]),
                        .price = (double)importance[u],
                    };
        }
        qsort(edges + done, n - done, sizeof(*edges), compare);
        done = n;
    }
    return finish(edges, n, units, n_units, with_paged, ret, ret_n_steps);
}
