/* The governor and heat that is not plainly a temperature: a clock that is throttled, zones that
 * may be stuck. The stages themselves are in test_gov.c. */
#include "core/err.h"
#include "core/gov.h"
#include "core/ladder.h"
#include "tests/t.h"

#define SEC UINT64_C(1000000)

struct rig {
    struct ladder *l;
    struct gov_settings set;
    struct gov_state st;
    struct gov_input in;
    uint64_t now_us;
};

static struct rig make_rig(void) {
    static const struct ladder_step steps[] = {
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 100}};
    struct rig r = {
        .set = {.limit_bytes = UINT64_MAX,
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
        .in = {.operator_limit_bytes = UINT64_MAX, .has_mem = true, .mem_available_bytes = 1 << 30},
        .now_us = 1000 * SEC};
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", 1, 1000, steps, 1, &r.l, &e), &e);
    return r;
}

/* A second later; with a reading of the zones, and without. */
static struct gov_output wait(struct rig *r) {
    r->now_us += SEC;
    struct gov_output out = gov_step(&r->st, &r->set, r->l, &r->in, r->now_us);
    r->in.position = out.position;
    return out;
}

static struct gov_output warm(struct rig *r, int32_t headroom_mc) {
    r->in.has_heat = true;
    r->in.headroom_mc = headroom_mc;
    struct gov_output out = wait(r);
    r->in.has_heat = false;
    return out;
}

/* The kernel throttles although the zones leave headroom: their trip points are too high. */
static void throttling_takes_a_stage(void) {
    static const struct {
        int32_t headroom_mc;
        uint32_t stage;
    } cases[] = {{40000, 0}, {16000, 0}, {15999, 1}, {8000, 1}, {7000, 1}, {5000, 2}, {-3000, 6}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig r = make_rig();
        r.in.is_cooling = true;
        for (int n = 0; n < 40; n++) warm(&r, cases[i].headroom_mc);
        CHECK_EQU(r.st.stage, cases[i].stage);
        CHECK_EQU(warm(&r, cases[i].headroom_mc).refuses, false);
        ladder_destroy(r.l);
    }
    /* It takes two readings, and is given back after the hold. */
    struct rig r = make_rig();
    warm(&r, 12000);
    r.in.is_cooling = true;
    CHECK_EQU(warm(&r, 12000).stage, 0);
    CHECK_EQU(warm(&r, 12000).stage, 0);
    CHECK_EQU(warm(&r, 12000).stage, 1);
    r.in.is_cooling = false;
    for (int n = 0; n < 29; n++) CHECK_EQU(warm(&r, 12000).stage, 1);
    warm(&r, 12000);
    CHECK_EQU(warm(&r, 12000).stage, 0);
    r.in.is_cooling = true;
    CHECK_EQU(warm(&r, 12000).stage, 0);
    r.in.is_cooling = false;
    for (int n = 0; n < 5; n++) CHECK_EQU(warm(&r, 12000).stage, 0);
    ladder_destroy(r.l);
}

/* No zone says anything, but the firmware does. */
static void throttling_without_zones_is_a_middle_stage(void) {
    struct rig r = make_rig();
    r.in.is_cooling = true;
    for (int n = 0; n < 10; n++) {
        wait(&r);
    }
    CHECK_EQU(r.st.stage, 2);
    r.in.is_cooling = false;
    for (int n = 0; n < 65; n++) {
        wait(&r);
    }
    CHECK_EQU(r.st.stage, 0);
    ladder_destroy(r.l);
}

/* A zone that says 100 C since the start, and never anything else. */
static void doubtful_heat_neither_lowers_nor_refuses(void) {
    struct rig r = make_rig();
    r.in.is_heat_doubtful = true;
    struct gov_output out = {0};
    for (int n = 0; n < 100; n++) out = warm(&r, -20000);
    CHECK_EQU(out.stage, 2);
    CHECK_EQU(out.duty_permille, 700);
    CHECK_EQU(out.threads, 4);
    CHECK_EQU(out.position, 0);
    CHECK(!out.refuses && !out.is_suspicious);
    CHECK_EQ(gov_doubtful_mc(&r.set), 4000);
    CHECK_EQU(warm(&r, 5000).stage, 2); /* what is not that hot is as it was */
    for (int n = 0; n < 31; n++) out = warm(&r, 7000);
    CHECK_EQU(out.stage, 2);
    /* It changes: from then on it is believed. */
    r.in.is_heat_doubtful = false;
    warm(&r, -20000);
    out = warm(&r, -20000);
    CHECK_EQU(out.stage, 7);
    CHECK(out.refuses);
    ladder_destroy(r.l);
}

static const struct t_case cases[] = {
    {"throttling_takes_a_stage", throttling_takes_a_stage},
    {"throttling_without_zones_is_a_middle_stage", throttling_without_zones_is_a_middle_stage},
    {"doubtful_heat_neither_lowers_nor_refuses", doubtful_heat_neither_lowers_nor_refuses},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
