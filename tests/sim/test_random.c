/* A hundred thousand short random worlds, each with a ladder, settings and a disk of its own, whose
 * reads fail now and then: no position is published that the budget does not allow, and no byte is
 * held beyond it but what is on its way back. */
#include <stdio.h>

#include "core/err.h"
#include "tests/sim/plant.h"
#include "tests/sim/tally.h"
#include "tests/sim/world.h"
#include "tests/t.h"

#define SEC UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

enum { WORLDS = 100000, MAX_UNITS = 8, MAX_STEPS = 3 * MAX_UNITS };

struct made {
    struct ladder *ladder;
    struct pager_unit units[MAX_UNITS];
};

static uint64_t below(uint64_t *rng, uint64_t n) {
    return t_rand(rng) % n;
}

static uint64_t bytes_at(const struct pager_unit *u, enum rung r) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < PAGER_PARTS; k++)
        if (pager_rung_parts(r) & 1u << k) sum += u->bytes[k];
    return sum;
}

/* Units in any order, one rung or more at a time; some have no swsc, some never go to disk. */
static struct made make_ladder(uint64_t *rng) {
    struct made m = {0};
    struct ladder_step steps[MAX_STEPS];
    struct err e = {0};
    enum rung at[MAX_UNITS] = {RUNG_FULL}, last[MAX_UNITS];
    uint32_t n_units = 1 + (uint32_t)below(rng, MAX_UNITS), n = 0;
    uint64_t full = 0;
    for (uint32_t u = 0; u < n_units; u++) {
        at[u] = RUNG_FULL;
        last[u] = below(rng, 4) ? RUNG_PAGED : RUNG_HIGH;
        m.units[u].bytes[PAGER_HIGH] = 1 + below(rng, 4 * MIB);
        m.units[u].bytes[PAGER_LOW] = 1 + below(rng, 4 * MIB);
        m.units[u].bytes[PAGER_SWSC] = below(rng, 4) ? below(rng, m.units[u].bytes[PAGER_HIGH]) : 0;
        full += bytes_at(&m.units[u], RUNG_FULL);
    }
    for (unsigned tries = 0; tries < 4 * MAX_STEPS; tries++) {
        uint32_t u = (uint32_t)below(rng, n_units);
        enum rung to = (enum rung)(at[u] + 1 + below(rng, 2));
        if (at[u] >= last[u] || to > last[u]) continue;
        if (to == RUNG_SWSC && m.units[u].bytes[PAGER_SWSC] == 0) continue;
        steps[n++] = (struct ladder_step){.unit = u,
                                          .from = at[u],
                                          .to = to,
                                          .bytes = bytes_at(&m.units[u], at[u]) -
                                                   bytes_at(&m.units[u], to)};
        at[u] = to;
    }
    REQUIRE_OK(ladder_create("r", n_units, full, steps, n, &m.ladder, &e), &e);
    return m;
}

static struct gov_settings make_settings(uint64_t *rng) {
    return (struct gov_settings){
        .limit_bytes = below(rng, 4) ? UINT64_MAX : below(rng, 64 * MIB),
        .reserve_bytes = below(rng, 32) * MIB,
        .margin_bytes = below(rng, 4) * MIB,
        .emergency_bytes = below(rng, 2) * 4 * MIB,
        .hold_us = below(rng, 2 * SEC),
        .hold_max_us = below(rng, 4 * SEC),
        .step_us = below(rng, SEC / 2),
        .stale_us = below(rng, 3 * SEC),
        .changes_per_hour = 2 + (uint32_t)below(rng, 239),
        .stall_permille = 10 + (uint32_t)below(rng, 500),
        .is_heat_on = below(rng, 2),
        .heat_margin_mc = 1000 + (int32_t)below(rng, 9000),
        .heat_hysteresis_mc = (int32_t)below(rng, 3000),
        .heat_hold_us = below(rng, 3 * SEC),
        .max_threads = 1 + (uint32_t)below(rng, 4),
    };
}

struct seen {
    const struct ladder *ladder;
    uint64_t n_turns, n_down, n_up, n_retired, n_cancelled;
    uint32_t position;
    uint64_t unexplained_bytes, n_too_high, n_off; /* all zero, or something is wrong */
};

static void on_moment(void *ud, const struct plant_moment *m) {
    struct seen *s = ud;
    s->n_turns++;
    s->n_down += m->position > s->position;
    s->n_up += m->position < s->position;
    s->n_retired += m->retired_bytes > 0;
    s->n_cancelled += m->is_cancelled;
    /* Up is one step at a time, but for the first moment. */
    if (s->n_turns > 1 && m->position + 1 < s->position) s->n_off++;
    s->position = m->position;
    s->unexplained_bytes += tally_unexplained(s->ladder, m);
    s->n_too_high += tally_is_too_high(s->ladder, m);
}

static void run(uint64_t seed, struct seen *all) {
    char spec[200];
    struct err e = {0};
    struct world *w;
    uint64_t rng = seed;
    struct made m = make_ladder(&rng);
    struct gov_settings set = make_settings(&rng);
    uint64_t other = below(&rng, 8) * MIB;
    uint64_t need = (ladder_bytes(m.ladder, 0) + set.reserve_bytes + other) / MIB;
    snprintf(spec, sizeof(spec), "random:seed=%llu,low_mib=%llu,high_mib=%llu,swing_c=10",
             (unsigned long long)(seed & INT64_MAX), (unsigned long long)below(&rng, need + 1),
             (unsigned long long)(need + below(&rng, 40)));
    REQUIRE_OK(world_make(spec, &w, &e), &e);
    struct seen s = {.ladder = m.ladder};
    const struct plant_opts o = {.ladder = m.ladder,
                                 .units = m.units,
                                 .set = &set,
                                 .interval_us = SEC / 10,
                                 .trip_mc = 80000,
                                 .other_bytes = other,
                                 .return_us = below(&rng, 2) ? 20000 : below(&rng, SEC),
                                 .read_bytes_per_s = (1 + below(&rng, 90)) * MIB,
                                 .fails_one_in = below(&rng, 4) ? 0 : 1 + (uint32_t)below(&rng, 5),
                                 .fn = on_moment,
                                 .ud = &s};
    REQUIRE_OK(plant_run(&o, w, (1 + below(&rng, 10)) * SEC, &e), &e);
    if (s.unexplained_bytes || s.n_too_high || s.n_off)
        t_fail(__FILE__, __LINE__,
               "world %llu: %llu bytes too many, %llu times too high, %llu times up too far",
               (unsigned long long)seed, (unsigned long long)s.unexplained_bytes,
               (unsigned long long)s.n_too_high, (unsigned long long)s.n_off);
    all->n_turns += s.n_turns;
    all->n_down += s.n_down;
    all->n_up += s.n_up;
    all->n_retired += s.n_retired;
    all->n_cancelled += s.n_cancelled;
    all->n_off += s.unexplained_bytes || s.n_too_high || s.n_off;
    world_destroy(w);
    ladder_destroy(m.ladder);
}

static void worlds(void) {
    struct seen all = {0};
    uint64_t rng = t_seed();
    for (unsigned i = 0; i < WORLDS && all.n_off < 10; i++) run(t_rand(&rng), &all);
    printf("     %llu decisions, %llu falls, %llu rises; %llu with bytes on their way back, %llu "
           "with a cancelled read\n",
           (unsigned long long)all.n_turns, (unsigned long long)all.n_down,
           (unsigned long long)all.n_up, (unsigned long long)all.n_retired,
           (unsigned long long)all.n_cancelled);
    CHECK(all.n_down > WORLDS);
    CHECK(all.n_up > WORLDS / 4);
    CHECK(all.n_cancelled > WORLDS / 100);
}

static const struct t_case cases[] = {
    {"worlds", worlds},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
