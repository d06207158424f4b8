#include "core/make/bound.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/ladder.h"

/* A step down a unit's hull. */
struct edge {
    double price; /* loss per byte freed, >= 0 */
    double loss;
    uint64_t bytes;
};

/* Whether a is better than b at no more bytes, or as good at fewer. */
static bool is_better(const struct bound_form *a, const struct bound_form *b) {
    return a->loss < b->loss || (!(a->loss > b->loss) && a->bytes < b->bytes);
}

/* Adds the edges of one unit's lower convex hull, from its best form down to its smallest; returns
 * their number. *at: the best form. */
static uint32_t add_hull(const struct bound_unit *u, struct bound_form *at, struct edge *ret) {
    const struct bound_form *now = &u->forms[0];
    for (uint32_t i = 1; i < u->n_forms; i++)
        if (is_better(&u->forms[i], now)) now = &u->forms[i];
    *at = *now;
    uint32_t n = 0;
    for (;;) {
        /* The flattest way down from here, the longest of several. */
        const struct bound_form *next = NULL;
        double price = 0.0;
        for (uint32_t i = 0; i < u->n_forms; i++) {
            const struct bound_form *f = &u->forms[i];
            if (f->bytes >= now->bytes) continue;
            double p = (f->loss - now->loss) / (double)(now->bytes - f->bytes);
            if (next && (p > price || (!(p < price) && f->bytes >= next->bytes))) continue;
            next = f;
            price = p;
        }
        if (!next) return n;
        ret[n++] = (struct edge){price, next->loss - now->loss, now->bytes - next->bytes};
        now = next;
    }
}

static int by_price(const void *a, const void *b) {
    double x = ((const struct edge *)a)->price, y = ((const struct edge *)b)->price;
    return (x > y) - (x < y);
}

/* The edges are taken until the bytes fit, the last one in part. */
static void take(const struct edge *edges, size_t n, uint64_t held, uint64_t bytes,
                 struct bound *ret) {
    for (size_t i = 0; i < n && held > bytes; i++) {
        ret->price = edges[i].price;
        if (held - bytes >= edges[i].bytes) {
            ret->loss += edges[i].loss;
            held -= edges[i].bytes;
        } else {
            ret->loss += edges[i].loss * ((double)(held - bytes) / (double)edges[i].bytes);
            held = bytes;
        }
    }
}

int bound_solve(const struct bound_unit *units, uint32_t n_units, uint64_t bytes, struct bound *ret,
                struct err *e) {
    size_t n = 0, n_forms = 0;
    for (uint32_t u = 0; u < n_units; u++) n_forms += units[u].n_forms;
    struct edge *edges = calloc(n_forms + 1, sizeof(*edges));
    if (!edges) return err_set(e, -ENOMEM, "no memory for %zu forms", n_forms);
    struct bound b = {0};
    uint64_t best_bytes = 0;
    for (uint32_t u = 0; u < n_units; u++) {
        struct bound_form best;
        n += add_hull(&units[u], &best, edges + n);
        best_bytes += best.bytes;
        b.loss += best.loss;
    }
    b.min_bytes = best_bytes;
    for (size_t i = 0; i < n; i++) b.min_bytes -= edges[i].bytes;
    int r = 0;
    if (bytes < b.min_bytes) {
        ret->min_bytes = b.min_bytes;
        r = err_set(e, -ENOSPC, "%" PRIu64 " bytes: the smallest plan takes %" PRIu64, bytes,
                    b.min_bytes);
    } else {
        qsort(edges, n, sizeof(*edges), by_price);
        take(edges, n, best_bytes, bytes, &b);
        *ret = b;
    }
    free(edges);
    return r;
}

/* All forms of the ladder's units, with their bytes above the unit's last one. forms[n_units][
 * RUNG_COUNT]. Returns the bytes of every unit at its last resident form. */
static uint64_t list_forms(const struct ladder *l, struct bound_form *forms,
                           struct bound_unit *units) {
    uint64_t rest = ladder_bytes(l, 0);
    for (uint32_t u = 0; u < ladder_n_units(l); u++)
        units[u] = (struct bound_unit){.forms = forms + (size_t)u * RUNG_COUNT, .n_forms = 1};
    for (uint32_t i = 0; i < ladder_n_steps(l); i++) {
        const struct ladder_step *s = ladder_step_at(l, i);
        if (s->to == RUNG_PAGED) continue;
        struct bound_form *f = forms + (size_t)s->unit * RUNG_COUNT;
        uint32_t n = units[s->unit].n_forms++;
        f[n] = (struct bound_form){.bytes = 0, .loss = f[n - 1].loss + (double)s->cost};
        for (uint32_t k = 0; k < n; k++) f[k].bytes += s->bytes;
        rest -= s->bytes;
    }
    return rest;
}

int bound_of_ladder(const struct ladder *l, uint64_t bytes, struct bound *ret, struct err *e) {
    uint32_t n = ladder_n_units(l);
    struct bound_form *forms = calloc((size_t)n * RUNG_COUNT + 1, sizeof(*forms));
    struct bound_unit *units = calloc((size_t)n + 1, sizeof(*units));
    int r = forms && units ? 0
                           : err_set(e, -ENOMEM, "no memory for the forms of %" PRIu32 " units", n);
    if (r == 0) {
        uint64_t rest = list_forms(l, forms, units);
        if (bytes < rest) {
            ret->min_bytes = rest;
            r = err_set(e, -ENOSPC, "%" PRIu64 " bytes: the smallest resident plan takes %" PRIu64,
                        bytes, rest);
        } else {
            r = bound_solve(units, n, bytes - rest, ret, e);
            if (r == 0) ret->min_bytes += rest;
        }
    }
    free(units);
    free(forms);
    return r;
}
