/* A governor in a small machine on virtual time, for its tests. */
#ifndef EBB_TESTS_UNIT_GOV_RIG_H
#define EBB_TESTS_UNIT_GOV_RIG_H

#include "core/err.h"
#include "core/gov.h"
#include "core/ladder.h"
#include "tests/t.h"

#define SEC  UINT64_C(1000000)
#define MAXU UINT64_MAX

enum { STEPS = 4, SPARE = 2000 };

/* 1000 bytes at position 0, then 900, 700, 600, 200. */
static inline struct ladder *make_ladder(void) {
    static const uint64_t freed[STEPS] = {100, 200, 100, 400};
    struct ladder_step steps[STEPS];
    for (uint32_t i = 0; i < STEPS; i++)
        steps[i] = (struct ladder_step){
            .unit = i, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = freed[i]};
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", STEPS, 1000, steps, STEPS, &l, &e), &e);
    return l;
}

/* A small machine: 50 bytes of our own beside the weights, `free` bytes that others leave. */
struct rig {
    struct ladder *l;
    struct gov_settings set;
    struct gov_state st;
    struct gov_input in;
    uint64_t now_us;
};

static inline struct rig make_rig(uint32_t position) {
    struct rig r = {
        .l = make_ladder(),
        .set = {.limit_bytes = MAXU,
                .reserve_bytes = SPARE + 100,
                .margin_bytes = 10,
                .hold_us = 30 * SEC,
                .hold_max_us = 1800 * SEC,
                .step_us = SEC,
                .stale_us = 5 * SEC,
                .changes_per_hour = 120,
                .stall_permille = 100,
                .is_heat_on = true,
                .heat_margin_mc = 8000,
                .heat_hysteresis_mc = 3000,
                .heat_hold_us = 30 * SEC,
                .max_threads = 4},
        .in = {.operator_limit_bytes = MAXU, .other_bytes = 50, .position = position},
        .now_us = 1000 * SEC,
    };
    r.in.weight_bytes = ladder_bytes(r.l, position);
    return r;
}

/* One call with `total` bytes for us and 100 more; the world follows at once. The rest of the
 * reserve is SPARE, so that MemAvailable stays above zero. */
static inline struct gov_output step(struct rig *r, uint64_t total) {
    uint64_t own = r->in.weight_bytes + r->in.other_bytes;
    r->in.has_mem = r->in.has_stall = true;
    r->in.mem_available_bytes = total + SPARE - own;
    struct gov_output out = gov_step(&r->st, &r->set, r->l, &r->in, r->now_us);
    r->in.position = out.position;
    r->in.weight_bytes = ladder_bytes(r->l, out.position);
    return out;
}

/* Two readings, a twentieth of a second apart: one alone is not believed. */
static inline struct gov_output twice(struct rig *r, uint64_t total) {
    step(r, total);
    r->now_us += SEC / 20;
    return step(r, total);
}

/* Memory and calm for a while. */
static inline void settle(struct rig *r, uint64_t total) {
    for (int i = 0; i < 5; i++) {
        step(r, total);
        r->now_us += SEC / 10;
    }
}

/* Calls a tenth of a second apart in which tasks waited for so much of the time. */
static inline struct gov_output stall(struct rig *r, unsigned n, unsigned some_permille,
                                      unsigned full_permille) {
    struct gov_output out = {0};
    for (unsigned i = 0; i < n; i++) {
        r->now_us += SEC / 10;
        r->in.stall_some_us += some_permille * 100u;
        r->in.stall_full_us += full_permille * 100u;
        out = step(r, 5000);
    }
    return out;
}

#endif
