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
                .step_us = SEC,
                .stale_us = 5 * SEC},
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
    r->in.has_mem = true;
    r->in.mem_available_bytes = total + SPARE - own;
    struct gov_output out = gov_step(&r->st, &r->set, r->l, &r->in, r->now_us);
    r->in.position = out.position;
    r->in.weight_bytes = ladder_bytes(r->l, out.position);
    return out;
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

static void memory_sheds_at_once(void) {
    struct rig r = make_rig(0);
    struct gov_output out = step(&r, 2000);
    CHECK_EQU(out.position, 0);
    CHECK_EQU(out.budget_bytes, 1900);
    CHECK_EQU(out.weight_budget_bytes, 1850);
    r.now_us += SEC / 10;
    out = step(&r, 1150); /* exactly enough: no margin is wanted to stay */
    CHECK_EQU(out.position, 0);
    out = step(&r, 1149);
    CHECK_EQU(out.position, 1);
    CHECK_EQ(out.reason, GOV_MEM_AVAILABLE);
    out = step(&r, 751);
    CHECK_EQU(out.position, 3);
    CHECK(!out.is_over);
    out = step(&r, 349);
    CHECK_EQU(out.position, 4);
    CHECK(out.is_over);
    CHECK_EQU(out.weight_budget_bytes, 199);
    out = step(&r, 120);
    CHECK_EQU(out.weight_budget_bytes, 0);
    CHECK(out.is_over);
    ladder_destroy(r.l);
}

static void growth_waits_and_goes_step_by_step(void) {
    struct rig r = make_rig(0);
    step(&r, 2000);
    CHECK_EQU(step(&r, 500).position, 4);
    /* Room is back, but there was a shed. The hold counts from the last call without room. */
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
    step(&r, 2000);
    step(&r, 500);
    r.now_us += 30 * SEC;
    struct gov_input before = r.in;
    CHECK_EQU(step(&r, 2000).position, 3);
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
    step(&r, 5000);
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
    /* The limit may go, the system's memory still rules, with hold and margin. */
    CHECK_EQU(step(&r, 760).position, 3);
    r.set.limit_bytes = MAXU;
    CHECK_EQU(step(&r, 859).position, 3);
    CHECK_EQU(step(&r, 860).position, 3);
    r.now_us += 30 * SEC;
    CHECK_EQU(step(&r, 860).position, 2);
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

    /* Known, then lost: believed for stale_us, then nothing grows and the ceiling stays. */
    CHECK_EQU(step(&r, 1060).position, STEPS);
    r.now_us += 30 * SEC;
    CHECK_EQU(step(&r, 1060).position, 3);
    r.in.has_mem = false;
    r.now_us += 5 * SEC;
    out = gov_step(&r.st, &r.set, r.l, &r.in, r.now_us);
    CHECK_EQU(out.position, 2);
    r.in.position = 2;
    r.in.weight_bytes = 700;
    r.now_us += 1;
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
    for (int g = GOV_STEADY; g <= GOV_MEM_UNKNOWN; g++)
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
    CHECK(after->has_mem && now_us - after->last_mem_us <= set->stale_us);
    __uint128_t need = (__uint128_t)ladder_bytes(l, out->position) + in->other_bytes;
    CHECK(need + set->margin_bytes + set->reserve_bytes <= after->last_mem_bytes);
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
        };
        struct gov_state st = {0};
        struct gov_input in = {.operator_limit_bytes = MAXU,
                               .position = (uint32_t)(t_rand(&rng) % (n + 1))};
        uint64_t now_us = t_rand(&rng) % 100, shed_us = 0, shed_limit = 0;
        bool has_shed = false;
        for (unsigned i = (unsigned)(t_rand(&rng) % 30); i > 0; i--) {
            now_us += t_rand(&rng) % 8;
            in.has_mem = t_rand(&rng) % 4 != 0;
            in.mem_available_bytes = random_bytes(&rng);
            in.other_bytes = t_rand(&rng) % 4 ? t_rand(&rng) % 300 : random_bytes(&rng);
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

/* Other programs take and give back memory in a saw: the daemon must not follow every tooth. */
static void a_restless_neighbour_does_not_make_it_flap(void) {
    struct rig r = make_rig(0);
    unsigned n_changes = 0;
    uint32_t last = step(&r, 2000).position;
    for (int i = 0; i < 36000; i++) { /* an hour, ten readings a second */
        r.now_us += SEC / 10;
        uint32_t now = step(&r, i / 50 % 2 ? 900 : 2000).position;
        n_changes += now != last;
        last = now;
    }
    CHECK_EQU(n_changes, 1);
    CHECK_EQU(last, 2); /* 700 + 50 + 100 <= 900 */
    ladder_destroy(r.l);
}

static const struct t_case cases[] = {
    {"start_goes_where_there_is_room", start_goes_where_there_is_room},
    {"memory_sheds_at_once", memory_sheds_at_once},
    {"growth_waits_and_goes_step_by_step", growth_waits_and_goes_step_by_step},
    {"lack_of_room_starts_the_hold_again", lack_of_room_starts_the_hold_again},
    {"a_step_proposed_stays_proposed", a_step_proposed_stays_proposed},
    {"the_operator_acts_at_once", the_operator_acts_at_once},
    {"unknown_memory_is_not_plenty", unknown_memory_is_not_plenty},
    {"odd_numbers_saturate", odd_numbers_saturate},
    {"random_traces_keep_the_promises", random_traces_keep_the_promises},
    {"a_restless_neighbour_does_not_make_it_flap", a_restless_neighbour_does_not_make_it_flap},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
