#include "core/make/order.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/model.h"
#include "core/pack.h"

void order_front(uint32_t n_units, uint32_t *units) {
    for (uint32_t i = 0; i < n_units; i++) units[i] = i;
}

void order_back(uint32_t n_units, uint32_t *units) {
    for (uint32_t i = 0; i + 1 < n_units; i++) units[i] = n_units - 2 - i;
    if (n_units > 0) units[n_units - 1] = n_units - 1;
}

/* splitmix64: a good mix of any seed, zero included. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void order_random(uint32_t n_units, uint64_t seed, uint32_t *units) {
    order_front(n_units, units);
    /* Fisher and Yates. The remainder of 64 random bits favours small numbers by less than one part
     * in 2^50. */
    for (uint32_t left = n_units > 0 ? n_units - 1 : 0; left > 1; left--) {
        uint32_t i = (uint32_t)(next_random(&seed) % left), last = units[left - 1];
        units[left - 1] = units[i];
        units[i] = last;
    }
}

/* Loss per byte; a unit that frees nothing or has no loss comes after all others. */
static double price_of(double loss, uint64_t freed) {
    return freed > 0 && !isnan(loss) ? loss / (double)freed : (double)INFINITY;
}

void order_by_price(uint32_t n_units, const double *loss, const uint64_t *freed, uint32_t *units) {
    for (uint32_t u = 0; u < n_units; u++) {
        double price = price_of(loss[u], freed[u]);
        uint32_t at = u;
        for (; at > 0 && price_of(loss[units[at - 1]], freed[units[at - 1]]) > price; at--)
            units[at] = units[at - 1];
        units[at] = u;
    }
}

uint64_t order_freed(const struct pack *p, uint32_t unit, enum rung from, enum rung to) {
    uint64_t above = pack_unit_bytes(p, unit, from), below = pack_unit_bytes(p, unit, to);
    return below > 0 && above > below ? above - below : 0;
}

static void add_step(const struct pack *p, uint32_t unit, enum rung from, enum rung to, double loss,
                     struct ladder_step *steps, uint32_t *n) {
    uint64_t freed = order_freed(p, unit, from, to);
    if (freed > 0)
        steps[(*n)++] = (struct ladder_step){
            .unit = unit, .from = from, .to = to, .bytes = freed, .cost = (float)loss};
}

int order_ladder(const struct pack *p, const char *name, enum rung from, enum rung to,
                 const uint32_t *units, const double *loss, struct ladder **ret, struct err *e) {
    ASSERT(from < to && to < RUNG_PAGED);
    uint32_t n_units = model_n_units(pack_hparams(p)), n = 0;
    uint64_t full_bytes = 0;
    struct ladder_step *steps = calloc((size_t)n_units * RUNG_COUNT, sizeof(*steps));
    if (!steps) return err_set(e, -ENOMEM, "ladder %s: no memory", name);
    for (uint32_t u = 0; u < n_units; u++) full_bytes += pack_unit_bytes(p, u, RUNG_FULL);
    for (int rung = RUNG_FULL; rung < (int)from; rung++)
        for (uint32_t u = 0; u < n_units; u++)
            add_step(p, u, (enum rung)rung, (enum rung)(rung + 1), 0.0, steps, &n);
    for (uint32_t i = 0; i < n_units; i++)
        add_step(p, units[i], from, to, loss ? loss[units[i]] : 0.0, steps, &n);
    int r = ladder_create(name, n_units, full_bytes, steps, n, ret, e);
    free(steps);
    return r;
}
