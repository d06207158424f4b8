/* The governor on virtual time: exact cases first, then properties over random traces. */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gov.h"
#include "core/ladder.h"
#include "tests/t.h"

#define SEC  UINT64_C(1000000)
#define MAXU UINT64_MAX

enum { STEPS = 4, SPARE = 2000 };

/* 1000 bytes at position 0, then 900, 700, 600, 200. */
static struct ladder *make_ladder(void) {
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

static struct rig make_rig(uint32_t position) {
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
static struct gov_output step(struct rig *r, uint64_t total) {
    uint64_t own = r->in.weight_bytes + r->in.other_bytes;
    r->in.has_mem = r->in.has_stall = true;
    r->in.mem_available_bytes = total + SPARE - own;
    struct gov_output out = gov_step(&r->st, &r->set, r->l, &r->in, r->now_us);
    r->in.position = out.position;
    r->in.weight_bytes = ladder_bytes(r->l, out.position);
    return out;
}

/* Two readings, a twentieth of a second apart: one alone is not believed. */
static struct gov_output twice(struct rig *r, uint64_t total) {
    step(r, total);
    r->now_us += SEC / 20;
    return step(r, total);
}

/* Memory and calm for a while. */
static void settle(struct rig *r, uint64_t total) {
    for (int i = 0; i < 5; i++) {
        step(r, total);
        r->now_us += SEC / 10;
    }
}

static void start_goes_where_there_is_room(void) {
    static const struct {
        uint64_t total;
        uint32_t position;
    } starts[] = {
        {10000, 0}, {1160, 0}, {1159, 1}, {1060, 1}, {1059, 2},
        {760, 3},   {759, 4},  {100, 4},  {0, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        struct rig r = make_rig(STEPS);
        r.in.weight_bytes = 0; /* nothing loaded yet */
        struct gov_output out = step(&r, starts[i].total);
        CHECK_EQU(out.position, starts[i].position);
        CHECK_EQ(out.reason, GOV_START);
        CHECK_EQ(out.is_over, starts[i].total < 350);
        ladder_destroy(r.l);
    }
}

static void memory_sheds_on_the_second_reading(void) {
    struct rig r = make_rig(0);
    struct gov_output out = step(&r, 2000);
    CHECK_EQU(out.position, 0);
    CHECK_EQU(out.budget_bytes, 1900);
    CHECK_EQU(out.weight_budget_bytes, 1850);
    settle(&r, 2000);
    out = twice(&r, 1150); /* exactly enough: no margin is wanted to stay */
    CHECK_EQU(out.position, 0);
    CHECK(!out.is_suspicious);
    out = step(&r, 1149);
    CHECK_EQU(out.position, 0);
    CHECK(out.is_suspicious);
    out = step(&r, 1149);
    CHECK_EQU(out.position, 1);
    CHECK_EQ(out.reason, GOV_MEM_AVAILABLE);
    CHECK_EQU(out.level, 1);
    out = twice(&r, 751);
    CHECK_EQU(out.position, 3);
    CHECK(!out.is_over);
    CHECK_EQU(out.level, 2);
    out = twice(&r, 349);
    CHECK_EQU(out.position, 4);
    CHECK(out.is_over);
    CHECK_EQU(out.level, 3);
    CHECK_EQU(out.weight_budget_bytes, 199);
    out = twice(&r, 120);
    CHECK_EQU(out.weight_budget_bytes, 0);
    CHECK(out.is_over);
    ladder_destroy(r.l);
}

static void one_odd_reading_does_nothing(void) {
    struct rig r = make_rig(0);
    settle(&r, 2000);
    for (int i = 0; i < 1000; i++) {
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, i % 2 ? 2000 : 0).position, 0); /* a single low one, again and again */
    }
    settle(&r, 2000);
    CHECK_EQU(twice(&r, 700).position, 4);
    for (int i = 0; i < 1000; i++) {
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, i % 2 ? 700 : 90000).position, 4); /* a single high one */
    }
    ladder_destroy(r.l);
}

static void growth_waits_and_goes_step_by_step(void) {
    struct rig r = make_rig(0);
    settle(&r, 2000);
    CHECK_EQU(twice(&r, 500).position, 4);
    /* Room is back, but there was a shed. The hold counts from the last reading without room, and
     * one with room is not believed alone. */
    r.now_us += SEC / 10;
    CHECK_EQU(step(&r, 2000).position, 4);
    for (int i = 0; i < 299; i++) {
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, 2000).position, 4);
    }
    r.now_us += SEC / 10;
    struct gov_output out = step(&r, 2000);
    CHECK_EQU(out.position, 3);
    CHECK_EQ(out.reason, GOV_ROOM);
    for (uint32_t want = 3; want > 0; want--) {
        r.now_us += SEC - 1;
        out = step(&r, 2000);
        CHECK_EQU(out.position, want);
        CHECK_EQ(out.reason, GOV_STEADY);
        r.now_us += 1;
        CHECK_EQU(step(&r, 2000).position, want - 1);
    }
    r.now_us += 100 * SEC;
    out = step(&r, 2000);
    CHECK_EQU(out.position, 0);
    CHECK_EQ(out.reason, GOV_STEADY);
    ladder_destroy(r.l);
}

static void lack_of_room_starts_the_hold_again(void) {
    struct rig r = make_rig(0);
    step(&r, 1059); /* fits position 2 */
    CHECK_EQU(r.in.position, 2);
    settle(&r, 1059);
    for (int i = 0; i < 10; i++) {
        r.now_us += 29 * SEC;
        CHECK_EQU(step(&r, 1060).position, 2); /* room for position 1, for a moment */
        r.now_us += SEC;
        CHECK_EQU(step(&r, 1059).position, 2);
    }
    ladder_destroy(r.l);
}

static void a_step_proposed_stays_proposed(void) {
    struct rig r = make_rig(0);
    settle(&r, 2000);
    twice(&r, 500);
    for (int i = 0; i < 310; i++) {
        r.now_us += SEC / 10;
        struct gov_input before = r.in;
        if (step(&r, 2000).position == 3) {
            r.in = before;
            break;
        }
    }
    struct gov_input before = r.in;
    CHECK_EQU(before.position, 4);
    for (int i = 0; i < 50; i++) { /* the read takes five seconds */
        r.in = before;
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, 2000).position, 3);
    }
    CHECK_EQU(step(&r, 2000).position, 2); /* published: more than a pause has passed */
    r.in.position = 3;                     /* and that one is dropped by a sudden lack of room */
    CHECK_EQU(step(&r, 800).position, 3);
    CHECK_EQU(step(&r, 2000).position, 3);
    ladder_destroy(r.l);
}

static void the_operator_acts_at_once(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    r.in.operator_limit_bytes = 250;
    struct gov_output out = step(&r, 5000);
    CHECK_EQU(out.position, 4);
    CHECK_EQ(out.reason, GOV_OPERATOR);
    CHECK_EQU(out.budget_bytes, 250);
    CHECK_EQU(step(&r, 5000).position, 4);
    r.in.operator_limit_bytes = 950; /* 900 + 50: position 1 fits to the byte, without a margin */
    for (uint32_t want = 3; want >= 1; want--) {
        out = step(&r, 5000);
        CHECK_EQU(out.position, want);
        CHECK_EQ(out.reason, GOV_OPERATOR);
    }
    CHECK_EQU(step(&r, 5000).position, 1);
    r.in.operator_limit_bytes = MAXU;
    CHECK_EQU(step(&r, 5000).position, 0);
    r.set.limit_bytes = 949; /* a reload */
    out = step(&r, 5000);
    CHECK_EQU(out.position, 2);
    CHECK_EQ(out.reason, GOV_LIMIT);
    r.set.limit_bytes = 950;
    CHECK_EQU(step(&r, 5000).position, 1);
    CHECK_EQU(r.st.n_changes, 0); /* all that was the operator's will */
    /* The limit may go, the system's memory still rules, with hold and margin. */
    CHECK_EQU(twice(&r, 760).position, 3);
    r.set.limit_bytes = MAXU;
    CHECK_EQU(twice(&r, 859).position, 3);
    CHECK_EQU(twice(&r, 860).position, 3);
    for (int i = 0; i < 299; i++) {
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, 860).position, 3);
    }
    r.now_us += SEC;
    CHECK_EQU(step(&r, 860).position, 2);
    ladder_destroy(r.l);
}

/* The cgroup's limit counts like the system's memory, without a reserve of its own. */
static void the_cgroup_bounds_too(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    r.in.has_cgroup = true;
    r.in.cgroup_left_bytes = MAXU; /* no limit */
    CHECK_EQU(twice(&r, 5000).position, 0);
    r.in.cgroup_left_bytes = 0; /* exactly full: nothing to shed */
    CHECK_EQU(twice(&r, 5000).position, 0);
    CHECK_EQU(r.st.cgroup.last_bytes, 1050);
    r.in.has_cgroup = false; /* lost: what was known stays the ceiling, and then nothing grows */
    r.in.other_bytes = 60;
    struct gov_output out = step(&r, 5000);
    CHECK_EQU(out.position, 1);
    CHECK_EQ(out.reason, GOV_CGROUP);
    for (int i = 0; i < 1000; i++) {
        r.now_us += SEC;
        out = step(&r, 5000);
        CHECK_EQU(out.position, 1);
    }
    CHECK_EQ(out.reason, GOV_MEM_UNKNOWN);
    ladder_destroy(r.l);
}

/* memory.high may be lowered below what is held: as much as is over it goes. */
static void beyond_the_cgroups_limit_as_much_goes(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    r.in.has_cgroup = true;
    r.in.cgroup_over_bytes = 100;
    CHECK_EQU(step(&r, 5000).position, 1); /* the first reading of a source counts at once */
    r.in.cgroup_over_bytes = 0;
    CHECK_EQU(twice(&r, 5000).position, 1);
    r.in.cgroup_over_bytes = 250;
    CHECK_EQU(step(&r, 5000).position, 1);
    struct gov_output out = step(&r, 5000);
    CHECK_EQU(out.position, 3);
    CHECK_EQ(out.reason, GOV_CGROUP);
    ladder_destroy(r.l);
}

/* KV that waits for room takes weights' place, and hides no lack of memory, however large it is. */
static void wanted_bytes_are_needed_and_not_held(void) {
    struct rig r = make_rig(0);
    settle(&r, 1150); /* exactly enough for position 0 */
    r.in.wanted_bytes = 250;
    struct gov_output out = step(&r, 1150);
    CHECK_EQU(out.position, 2); /* 700 + 50 + 250 <= 1050: known before, so no second reading */
    CHECK_EQU(out.weight_budget_bytes, 750);
    r.in.wanted_bytes = 100000;
    out = twice(&r, 300);
    CHECK_EQU(out.budget_bytes, 200);
    CHECK(out.is_over);
    ladder_destroy(r.l);
}

/* Calls a tenth of a second apart in which tasks waited for so much of the time. */
static struct gov_output stall(struct rig *r, unsigned n, unsigned some_permille,
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

static void pressure_sheds_a_share_and_again(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    CHECK_EQU(stall(&r, 20, 99, 0).position, 0); /* below what counts */
    CHECK_EQU(stall(&r, 1, 1000, 1000).position, 0);
    CHECK_EQU(stall(&r, 1, 0, 0).position, 0); /* one interval is not enough */
    struct gov_output out = stall(&r, 2, 100, 0);
    CHECK_EQU(out.position, 2); /* an eighth of 1000 bytes is more than the first step frees */
    CHECK_EQ(out.reason, GOV_PRESSURE);
    CHECK_EQU(out.budget_bytes, 750); /* what is left, and no new KV on top */
    CHECK_EQU(stall(&r, 4, 100, 0).position, 2);
    CHECK_EQU(stall(&r, 1, 100, 0).position, 3); /* half a second later, and still */
    CHECK_EQU(stall(&r, 1, 0, 0).position, 3);
    out = stall(&r, 290, 24, 0); /* calm is a quarter of it */
    CHECK_EQU(out.position, 3);
    CHECK(stall(&r, 20, 24, 0).position < 3);
    CHECK_EQU(stall(&r, 30, 24, 0).position, 0);
    CHECK_EQU(stall(&r, 600, 25, 0).position, 0);
    ladder_destroy(r.l);
}

static void pressure_of_all_sheds_half(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    CHECK_EQU(stall(&r, 2, 1000, 500).position, 4); /* 600 bytes would be more than half */
    ladder_destroy(r.l);
}

static void an_alarm_is_pressure(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    r.in.n_alarms = 1;
    CHECK_EQ(step(&r, 5000).reason, GOV_PRESSURE);
    CHECK_EQU(r.in.position, 2);
    r.in.n_alarms = 0;
    CHECK_EQU(stall(&r, 200, 0, 0).position, 2);
    ladder_destroy(r.l);
}

/* Room alone does not raise anything: something must say that memory is not short. */
static void growth_needs_two_signals(void) {
    struct rig r = make_rig(STEPS);
    struct gov_output out = {0};
    r.st.has_run = true;
    r.st.limit_bytes = MAXU;
    r.st.target = STEPS;
    for (int i = 0; i < 1000; i++) {
        r.now_us += SEC / 10;
        r.in.has_mem = true;
        r.in.mem_available_bytes = 50000;
        out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
        CHECK_EQU(out.position, STEPS);
    }
    CHECK_EQ(out.reason, GOV_CALM_UNKNOWN);
    r.in.has_refaults = true; /* worse than pressure, and good enough */
    for (int i = 0; i < 310 && out.position == STEPS; i++) {
        r.now_us += SEC / 10;
        r.in.refaults += 20;
        out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    }
    CHECK_EQU(out.position, STEPS - 1);
    CHECK_EQ(out.reason, GOV_ROOM);
    for (int i = 0; i < 3; i++) { /* thrashing */
        r.in.position = 1;
        r.in.weight_bytes = 900;
        r.now_us += SEC / 10;
        r.in.refaults += 200;
        out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    }
    CHECK_EQU(out.position, 2);
    CHECK_EQ(out.reason, GOV_PRESSURE);
    ladder_destroy(r.l);
}

static void pressure_never_leads_to_paging(void) {
    static const struct ladder_step steps[] = {
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 100},
        {.unit = 1, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 100},
        {.unit = 0, .from = RUNG_HIGH, .to = RUNG_PAGED, .bytes = 400},
    };
    struct rig r = make_rig(0);
    struct err e = {0};
    ladder_destroy(r.l);
    REQUIRE_OK(ladder_create("t", 2, 1000, steps, ARRAY_LEN(steps), &r.l, &e), &e);
    r.in.weight_bytes = 1000;
    settle(&r, 5000);
    CHECK_EQU(stall(&r, 100, 1000, 1000).position, 2);
    CHECK_EQU(twice(&r, 700).position, 3); /* bytes do */
    ladder_destroy(r.l);
}

static void an_emergency_takes_all(void) {
    struct rig r = make_rig(0);
    r.set.reserve_bytes = 100;
    r.set.emergency_bytes = 50;
    r.in.weight_bytes = 1000;
    settle(&r, 5000);
    r.in.has_mem = true;
    for (int i = 0; i < 2; i++) {
        CHECK(!gov_step(&r.st, &r.set, r.l, &r.in, r.now_us).refuses);
        r.in.mem_available_bytes = 49;
        r.now_us += SEC / 10;
    }
    struct gov_output out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK(out.refuses);
    CHECK_EQU(out.position, STEPS);
    CHECK_EQ(out.reason, GOV_EMERGENCY);
    CHECK_EQU(out.level, 3);
    r.in.position = STEPS;
    r.in.weight_bytes = 200;
    r.in.mem_available_bytes = 60; /* the margin is 10 */
    for (int i = 0; i < 300; i++) {
        r.now_us += SEC / 10;
        out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
        CHECK(out.refuses);
    }
    r.now_us += SEC;
    CHECK(!gov_step(&r.st, &r.set, r.l, &r.in, r.now_us).refuses);
    ladder_destroy(r.l);
}

/* What is grown and soon shed again is grown later and later, and less often than the limit says,
 * whatever the period. */
static void no_period_makes_it_flap(void) {
    static const unsigned periods_ms[] = {100,   200,   300,   500,   1000,  2000,  5000,   10000,
                                          20000, 30000, 40000, 50000, 59000, 60000, 120000, 600000};
    for (size_t k = 0; k < ARRAY_LEN(periods_ms); k++) {
        struct rig r = make_rig(0);
        uint64_t start_us = r.now_us;
        unsigned most = 0, n = 0;
        uint32_t last = step(&r, 2000).position;
        uint64_t hour_us = start_us;
        while (r.now_us - start_us < 24 * 3600 * SEC) {
            r.now_us += SEC / 10;
            uint64_t phase = (r.now_us - start_us) / 1000 % periods_ms[k];
            uint32_t now = step(&r, phase * 2 < periods_ms[k] ? 2000 : 900).position;
            n += now != last;
            last = now;
            if (r.now_us - hour_us >= 3600 * SEC) {
                most = MAX(most, n);
                n = 0;
                hour_us = r.now_us;
            }
        }
        if (most > r.set.changes_per_hour)
            t_fail(__FILE__, __LINE__, "period %u ms: %u changes in an hour", periods_ms[k], most);
        /* Up to a minute none is long enough for the hold of the second try. */
        if (periods_ms[k] <= 60000) CHECK(most <= 12);
        ladder_destroy(r.l);
    }
}

static void the_hour_has_an_end(void) {
    struct rig r = make_rig(0);
    r.set.changes_per_hour = 4;
    r.set.hold_us = r.set.hold_max_us = SEC; /* no back-off */
    settle(&r, 2000);
    uint64_t changes_us[64];
    unsigned n = 0;
    uint32_t last = 0;
    for (int i = 0; i < 5 * 36000 && n < 64; i++) {
        r.now_us += SEC / 10;
        uint32_t now = step(&r, i / 30 % 2 ? 2000 : 1140).position;
        if (now != last) changes_us[n++] = r.now_us;
        last = now;
    }
    CHECK(n >= 8);
    for (unsigned i = 4; i < n; i++) CHECK(changes_us[i] - changes_us[i - 4] >= 3600 * SEC);
    ladder_destroy(r.l);
}

/* ---- heat ---- */

/* A reading of the zones a second later. */
static struct gov_output warm(struct rig *r, int32_t headroom_mc) {
    r->now_us += SEC;
    r->in.has_heat = true;
    r->in.headroom_mc = headroom_mc;
    struct gov_output out = step(r, 5000);
    r->in.has_heat = false;
    return out;
}

/* One degree a second, from 40 to 95 and back, with a trip point at 80: each stage at its edge, one
 * reading later as one alone is not believed; back after the hold, one at a time. */
static void heat_goes_through_the_stages(void) {
    static const struct {
        int32_t celsius; /* at which the stage is seen */
        uint32_t duty, threads, position;
        bool refuses;
    } want[GOV_STAGES] = {
        {0, 1000, 4, 0, false}, {74, 850, 4, 0, false}, {76, 700, 4, 0, false},
        {78, 700, 3, 0, false}, {80, 600, 2, 0, false}, {82, 500, 2, 3, false},
        {84, 350, 2, 4, false}, {86, 200, 2, 4, true},
    };
    struct rig r = make_rig(0);
    uint32_t stage = 0;
    settle(&r, 5000);
    for (int32_t c = 40; c <= 95; c++) {
        struct gov_output out = warm(&r, 80000 - c * 1000);
        if (out.stage != stage) {
            CHECK_EQU(out.stage, stage + 1);
            stage = out.stage;
            CHECK_EQ(c, want[stage].celsius);
        }
        CHECK_EQU(out.duty_permille, want[stage].duty);
        CHECK_EQU(out.threads, want[stage].threads);
        CHECK_EQU(out.position, want[stage].position);
        CHECK_EQ(out.refuses, want[stage].refuses);
        if (stage == 5 && c == 82) CHECK_EQ(out.reason, GOV_HEAT);
    }
    CHECK_EQU(stage, 7);
    int32_t c = 95;
    unsigned since = 0;
    while (stage > 0 && since < 1000) {
        c -= c > 40;
        since++;
        struct gov_output out = warm(&r, 80000 - c * 1000);
        if (out.stage == stage) continue;
        CHECK_EQU(out.stage, stage - 1);
        CHECK(since >= 30);
        stage = out.stage;
        since = 0;
    }
    CHECK_EQU(stage, 0);
    ladder_destroy(r.l);
}

static void one_hot_reading_does_nothing(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    for (int i = 0; i < 100; i++) {
        CHECK_EQU(warm(&r, 40000).stage, 0);
        CHECK_EQU(warm(&r, -20000).stage, 0);
    }
    ladder_destroy(r.l);
}

/* Zones that appear in the middle of the day: the first reading has none before it. */
static void a_first_hot_reading_waits_for_another(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    CHECK_EQU(warm(&r, -20000).stage, 0);
    CHECK_EQU(warm(&r, 40000).stage, 0);
    ladder_destroy(r.l);
    r = make_rig(0);
    settle(&r, 5000);
    CHECK_EQU(warm(&r, -20000).stage, 0);
    CHECK_EQU(warm(&r, -20000).stage, 7);
    ladder_destroy(r.l);
}

static void a_restless_zone_does_not_make_it_flap(void) {
    for (int32_t swing_mc = 1000; swing_mc <= 3000; swing_mc += 2000) {
        for (unsigned period_s = 1; period_s <= 60; period_s++) {
            struct rig r = make_rig(0);
            unsigned n = 0, most = 0;
            uint32_t last = 0;
            settle(&r, 5000);
            for (unsigned t = 0; t < 24 * 3600; t++) {
                int32_t sign = t % period_s * 2 < period_s ? 1 : -1;
                struct gov_output out = warm(&r, sign * swing_mc);
                n += out.stage != last;
                last = out.stage;
                if (t % 3600 == 3599) {
                    most = MAX(most, n);
                    n = 0;
                }
            }
            if (most > 12)
                t_fail(__FILE__, __LINE__, "+-%d mC, period %u s: %u changes in an hour", swing_mc,
                       period_s, most);
            ladder_destroy(r.l);
        }
    }
}

/* The hour's changes are those that people see: a stage and a position are two of them. */
static void a_stage_and_a_position_are_two_changes(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    warm(&r, 20000);
    warm(&r, -500);
    CHECK_EQU(r.st.n_changes, 0);
    struct gov_output out = warm(&r, -500);
    CHECK_EQU(out.stage, 5);
    CHECK_EQU(out.position, 3);
    CHECK_EQU(r.st.n_changes, 2);
    ladder_destroy(r.l);
}

static void lost_zones_are_not_cool(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    CHECK_EQU(r.st.stage, 0); /* never any: a machine without sensors runs */
    r.now_us += 3600 * SEC;
    CHECK_EQU(step(&r, 5000).stage, 0);
    CHECK_EQU(warm(&r, 40000).stage, 0);
    r.now_us += 5 * SEC;
    CHECK_EQU(step(&r, 5000).stage, 0);
    r.now_us += 1;
    struct gov_output out = step(&r, 5000);
    CHECK_EQU(out.stage, 2);
    CHECK_EQU(out.duty_permille, 700);
    for (int i = 0; i < 29; i++) CHECK_EQU(warm(&r, 40000).stage, 2);
    for (int i = 0; i < 35; i++) out = warm(&r, 40000);
    CHECK_EQU(out.stage, 0);
    ladder_destroy(r.l);
}

static void the_kernels_own_cooling_keeps_a_stage(void) {
    struct rig r = make_rig(0);
    settle(&r, 5000);
    warm(&r, 7000);
    CHECK_EQU(warm(&r, 7000).stage, 1);
    r.in.is_cooling = true;
    for (int i = 0; i < 100; i++) CHECK_EQU(warm(&r, 40000).stage, 1);
    r.in.is_cooling = false;
    for (int i = 0; i < 31; i++) warm(&r, 40000);
    CHECK_EQU(r.st.stage, 0);
    ladder_destroy(r.l);
}

static void unknown_memory_is_not_plenty(void) {
    struct rig r = make_rig(0);
    r.in.weight_bytes = 0;
    struct gov_output out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, STEPS); /* never read: the least */
    CHECK_EQ(out.reason, GOV_MEM_UNKNOWN);
    CHECK_EQU(out.budget_bytes, MAXU);
    CHECK_EQU(out.weight_budget_bytes, MAXU);
    CHECK(!out.is_over);
    r.in.position = STEPS;
    r.now_us += 1000 * SEC;
    r.in.operator_limit_bytes = 100000; /* a generous operator does not make it known */
    out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, STEPS);
    CHECK_EQ(out.reason, GOV_MEM_UNKNOWN);

    r.in.cgroup_over_bytes = 1; /* nor does memory beside a cgroup that is there and not read */
    for (int i = 0; i < 320; i++, r.now_us += SEC / 10) CHECK_EQU(step(&r, 1060).position, STEPS);
    r.in.cgroup_over_bytes = 0;

    /* Known, then lost: believed for stale_us, then nothing grows and the ceiling stays. */
    while (r.in.position == STEPS) {
        r.now_us += SEC / 10;
        step(&r, 1060);
        REQUIRE(r.now_us < 2100 * SEC);
    }
    CHECK_EQU(r.in.position, 3);
    uint64_t known_us = r.now_us;
    for (r.in.has_mem = false; r.in.position == 3;) {
        r.now_us += SEC / 10;
        r.in.position = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us).position;
    }
    CHECK(r.now_us - known_us <= SEC);
    r.in.weight_bytes = 700;
    r.now_us = known_us + 5 * SEC + 1;
    out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, 2);
    CHECK_EQ(out.reason, GOV_MEM_UNKNOWN);
    CHECK_EQU(out.budget_bytes, 960);
    r.in.other_bytes = 300; /* more KV under the old ceiling: weights give way */
    out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, 3);
    CHECK_EQ(out.reason, GOV_MEM_AVAILABLE);
    ladder_destroy(r.l);
}

static void odd_numbers_saturate(void) {
    struct rig r = make_rig(0);
    r.in.has_mem = true;
    r.in.mem_available_bytes = MAXU;
    r.in.weight_bytes = MAXU;
    r.in.other_bytes = MAXU;
    struct gov_output out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, STEPS);
    CHECK_EQU(out.weight_budget_bytes, 0);
    CHECK(out.is_over);
    r.set.reserve_bytes = MAXU;
    r.in.other_bytes = 0;
    r.in.position = STEPS;
    out = gov_step(&r.st, &r.set, r.l, &r.in, 0); /* the clock went back */
    CHECK_EQU(out.budget_bytes, 0);
    CHECK_EQU(out.position, STEPS);
    for (int g = GOV_STEADY; g <= GOV_RATE; g++)
        CHECK(strcmp(gov_reason_name((enum gov_reason)g), "?") != 0);
    ladder_destroy(r.l);
}

static uint64_t random_bytes(uint64_t *rng) {
    switch (t_rand(rng) % 8) {
    case 0: return MAXU;
    case 1: return 0;
    case 2: return t_rand(rng);
    default: return t_rand(rng) % 1600;
    }
}

static uint32_t random_steps(uint64_t *rng, struct ladder **ret) {
    struct ladder_step steps[10];
    uint32_t n = (uint32_t)(t_rand(rng) % 11);
    uint64_t full = t_rand(rng) % 300;
    for (uint32_t i = 0; i < n; i++) {
        steps[i] = (struct ladder_step){
            .unit = i, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = t_rand(rng) % 200};
        full += steps[i].bytes;
    }
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", 10, full, steps, n, ret, &e), &e);
    return n;
}

/* What must hold of one answer, whatever the numbers. */
static void check_answer(const struct ladder *l, const struct gov_settings *set,
                         const struct gov_input *in, const struct gov_state *before,
                         const struct gov_state *after, const struct gov_output *out,
                         uint64_t now_us) {
    uint32_t n = ladder_n_steps(l);
    CHECK(out->position <= n);
    CHECK(out->budget_bytes <= set->limit_bytes && out->budget_bytes <= in->operator_limit_bytes);
    CHECK(out->weight_budget_bytes <= out->budget_bytes);
    CHECK_EQ(out->is_over, ladder_bytes(l, n) > out->weight_budget_bytes);
    if (out->is_over)
        CHECK_EQU(out->position, n);
    else
        CHECK(ladder_bytes(l, out->position) <= out->weight_budget_bytes);
    if (!before->has_run || out->position >= in->position) return;
    /* A step up: one, and known to have room. */
    CHECK_EQU(out->position, in->position - 1);
    CHECK(after->mem.has && now_us - after->mem.at_us <= set->stale_us);
    __uint128_t need = (__uint128_t)ladder_bytes(l, out->position) + in->other_bytes;
    CHECK(need + set->margin_bytes + set->reserve_bytes <= after->mem.last_bytes);
    CHECK(need + set->margin_bytes + set->reserve_bytes <= after->mem.before_bytes);
    if (after->cgroup.has) CHECK(need + set->margin_bytes <= after->cgroup.last_bytes);
    CHECK(!after->is_emergency);
    CHECK(out->reason == GOV_ROOM || out->reason == GOV_OPERATOR);
}

/* The same call with less of something: no unit may end higher. */
static void check_monotonic(const struct gov_state *before, const struct gov_settings *set,
                            const struct ladder *l, const struct gov_input *in, uint64_t now_us,
                            const struct gov_output *out, uint64_t *rng) {
    struct gov_state st = *before;
    struct gov_settings less_set = *set;
    struct gov_input less = *in;
    switch (t_rand(rng) % 4) {
    case 0: less.mem_available_bytes -= t_rand(rng) % (less.mem_available_bytes / 2 + 1); break;
    case 1: less.operator_limit_bytes -= t_rand(rng) % (less.operator_limit_bytes / 2 + 1); break;
    case 2: less_set.limit_bytes -= t_rand(rng) % (less_set.limit_bytes / 2 + 1); break;
    default: less_set.reserve_bytes += t_rand(rng) % (MAXU - less_set.reserve_bytes) % 500; break;
    }
    struct gov_output other = gov_step(&st, &less_set, l, &less, now_us);
    CHECK(other.position >= out->position);
    CHECK(other.budget_bytes <= out->budget_bytes);
}

static void random_traces_keep_the_promises(void) {
    uint64_t rng = t_seed();
    for (int trace = 0; trace < 100000; trace++) {
        struct ladder *l;
        uint32_t n = random_steps(&rng, &l);
        struct gov_settings set = {
            .limit_bytes = random_bytes(&rng),
            .reserve_bytes = t_rand(&rng) % 200,
            .margin_bytes = t_rand(&rng) % 100,
            .hold_us = t_rand(&rng) % 20,
            .step_us = t_rand(&rng) % 5,
            .stale_us = t_rand(&rng) % 10,
            .hold_max_us = t_rand(&rng) % 100,
            .emergency_bytes = t_rand(&rng) % 4 ? 0 : t_rand(&rng) % 200,
            .changes_per_hour = (uint32_t)(2 + t_rand(&rng) % 239),
            .stall_permille = (uint32_t)(1 + t_rand(&rng) % 1000),
            .is_heat_on = t_rand(&rng) % 2,
            .heat_margin_mc = (int32_t)(1 + t_rand(&rng) % 20000),
            .heat_hysteresis_mc = (int32_t)(t_rand(&rng) % 5000),
            .heat_hold_us = t_rand(&rng) % 20,
            .max_threads = (uint32_t)(1 + t_rand(&rng) % 8),
        };
        struct gov_state st = {0};
        struct gov_input in = {.operator_limit_bytes = MAXU,
                               .position = (uint32_t)(t_rand(&rng) % (n + 1))};
        uint64_t now_us = t_rand(&rng) % 100, shed_us = 0, shed_limit = 0;
        bool has_shed = false;
        for (unsigned i = (unsigned)(t_rand(&rng) % 30); i > 0; i--) {
            now_us += t_rand(&rng) % 4 ? t_rand(&rng) % 8 : t_rand(&rng) % 20000;
            in.has_stall = t_rand(&rng) % 3 != 0;
            in.stall_some_us = t_rand(&rng) % 8 ? in.stall_some_us + t_rand(&rng) % 3000
                                                : random_bytes(&rng);
            in.stall_full_us = in.stall_some_us / 2;
            in.has_refaults = t_rand(&rng) % 2;
            in.refaults += t_rand(&rng) % 9;
            in.has_cgroup = t_rand(&rng) % 3 == 0;
            in.cgroup_left_bytes = random_bytes(&rng);
            in.n_alarms = t_rand(&rng) % 9 == 0;
            in.has_heat = t_rand(&rng) % 3 == 0;
            in.headroom_mc = (int32_t)(t_rand(&rng) % 60000) - 20000;
            in.is_cooling = t_rand(&rng) % 5 == 0;
            in.is_heat_doubtful = t_rand(&rng) % 3 == 0;
            in.has_mem = t_rand(&rng) % 4 != 0;
            in.mem_available_bytes = random_bytes(&rng);
            in.other_bytes = t_rand(&rng) % 4 ? t_rand(&rng) % 300 : random_bytes(&rng);
            in.wanted_bytes = t_rand(&rng) % 4 ? 0 : random_bytes(&rng);
            in.weight_bytes = ladder_bytes(l, in.position);
            if (t_rand(&rng) % 6 == 0) in.operator_limit_bytes = random_bytes(&rng);
            struct gov_state before = st;
            struct gov_output out = gov_step(&st, &set, l, &in, now_us);
            check_answer(l, &set, &in, &before, &st, &out, now_us);
            check_monotonic(&before, &set, l, &in, now_us, &out, &rng);

            /* After a shed nothing grows within the hold, unless a limit was raised since. */
            uint64_t limit = in.operator_limit_bytes < set.limit_bytes ? in.operator_limit_bytes
                                                                       : set.limit_bytes;
            if (before.has_run && out.position < in.position && has_shed && limit <= shed_limit)
                CHECK(now_us - shed_us >= set.hold_us);
            if (limit > shed_limit) has_shed = false;
            if (before.has_run && out.position > in.position) {
                has_shed = true;
                shed_us = now_us;
                shed_limit = limit;
            } else if (has_shed && limit < shed_limit) {
                shed_limit = limit;
            }
            /* The store follows at once, later, or (a failed read) not at all. */
            if (out.position > in.position || t_rand(&rng) % 3) in.position = out.position;
        }
        ladder_destroy(l);
    }
}

static const struct t_case cases[] = {
    {"start_goes_where_there_is_room", start_goes_where_there_is_room},
    {"memory_sheds_on_the_second_reading", memory_sheds_on_the_second_reading},
    {"one_odd_reading_does_nothing", one_odd_reading_does_nothing},
    {"growth_waits_and_goes_step_by_step", growth_waits_and_goes_step_by_step},
    {"lack_of_room_starts_the_hold_again", lack_of_room_starts_the_hold_again},
    {"a_step_proposed_stays_proposed", a_step_proposed_stays_proposed},
    {"the_operator_acts_at_once", the_operator_acts_at_once},
    {"the_cgroup_bounds_too", the_cgroup_bounds_too},
    {"beyond_the_cgroups_limit_as_much_goes", beyond_the_cgroups_limit_as_much_goes},
    {"wanted_bytes_are_needed_and_not_held", wanted_bytes_are_needed_and_not_held},
    {"pressure_sheds_a_share_and_again", pressure_sheds_a_share_and_again},
    {"pressure_of_all_sheds_half", pressure_of_all_sheds_half},
    {"an_alarm_is_pressure", an_alarm_is_pressure},
    {"growth_needs_two_signals", growth_needs_two_signals},
    {"pressure_never_leads_to_paging", pressure_never_leads_to_paging},
    {"an_emergency_takes_all", an_emergency_takes_all},
    {"no_period_makes_it_flap", no_period_makes_it_flap},
    {"the_hour_has_an_end", the_hour_has_an_end},
    {"heat_goes_through_the_stages", heat_goes_through_the_stages},
    {"one_hot_reading_does_nothing", one_hot_reading_does_nothing},
    {"a_first_hot_reading_waits_for_another", a_first_hot_reading_waits_for_another},
    {"a_restless_zone_does_not_make_it_flap", a_restless_zone_does_not_make_it_flap},
    {"a_stage_and_a_position_are_two_changes", a_stage_and_a_position_are_two_changes},
    {"lost_zones_are_not_cool", lost_zones_are_not_cool},
    {"the_kernels_own_cooling_keeps_a_stage", the_kernels_own_cooling_keeps_a_stage},
    {"unknown_memory_is_not_plenty", unknown_memory_is_not_plenty},
    {"odd_numbers_saturate", odd_numbers_saturate},
    {"random_traces_keep_the_promises", random_traces_keep_the_promises},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
