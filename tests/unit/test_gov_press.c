/* The governor under pressure: what goes for a stall of which length, what does not count as one,
 * and what a share of the machine does. On virtual time, as test_gov.c. */
#include <stdio.h>

#include "tests/unit/gov_rig.h"

/* Sixty steps of 1 % each. */
static struct rig make_fine_rig(void) {
    enum { FINE = 60 };
    struct ladder_step steps[FINE];
    struct rig r = make_rig(0);
    struct err e = {0};
    for (uint32_t i = 0; i < FINE; i++)
        steps[i] = (struct ladder_step){.unit = i, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10};
    ladder_destroy(r.l);
    REQUIRE_OK(ladder_create("t", FINE, 1000, steps, FINE, &r.l, &e), &e);
    r.in.weight_bytes = 1000;
    settle(&r, 5000);
    return r;
}

/* Everything waits from `from_us` on for `length_us`, which a reading each tenth of a second sees
 * (half of one after a suspicious one): what is gone two seconds after it, in permille. */
static uint64_t gone_after(uint64_t from_us, uint64_t length_us, uint64_t *ret_half_us) {
    struct rig r = make_fine_rig();
    uint64_t start_us = r.now_us, begin_us = start_us + from_us, end_us = begin_us + length_us;
    *ret_half_us = MAXU;
    while (r.now_us < end_us + 2 * SEC) {
        struct gov_output out = step(&r, 5000);
        if (*ret_half_us == MAXU && r.in.weight_bytes <= 500) *ret_half_us = r.now_us - begin_us;
        r.now_us += out.is_suspicious ? SEC / 20 : SEC / 10;
        uint64_t until_us = r.now_us < end_us ? r.now_us : end_us;
        r.in.stall_some_us = r.in.stall_full_us = until_us > begin_us ? until_us - begin_us : 0;
    }
    uint64_t gone = 1000 - r.in.weight_bytes;
    ladder_destroy(r.l);
    return gone;
}

/* In a cgroup with one busy process whatever waits is all that there is: `full` is `some`. What
 * goes, at any phase to the readings, and why that is enough: an eighth is back before the shortest
 * of these would have ended by itself, or ends the longer ones; 1 s goes on in spite of it. */
static void a_stall_of_all_takes_by_its_length(void) {
    static const struct {
        unsigned ms;
        uint64_t least, most; /* permille of the weights */
    } want[] = {
        {9, 0, 0},       {20, 0, 130},    {47, 0, 130},     {50, 0, 130},
        {200, 130, 130}, {500, 130, 130}, {1000, 570, 570},
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        uint64_t least = MAXU, most = 0, n_none = 0, half_us;
        for (uint64_t phase = 0; phase < 100; phase++) {
            uint64_t gone = gone_after(SEC + phase * 1000, want[i].ms * UINT64_C(1000), &half_us);
            least = gone < least ? gone : least;
            most = gone > most ? gone : most;
            n_none += gone == 0;
        }
        printf(
            "     a stall of %u ms: %.1f to %.1f %% of the weights, nothing at %u of 100 phases\n",
            want[i].ms, (double)least / 10, (double)most / 10, (unsigned)n_none);
        CHECK_EQU(least, want[i].least);
        CHECK_EQU(most, want[i].most);
    }
}

static void a_stall_that_lasts_sheds_half_soon(void) {
    for (uint64_t phase = 0; phase < 100; phase++) {
        uint64_t half_us;
        CHECK(gone_after(SEC + phase * 1000, 3 * SEC, &half_us) == 600); /* all before paging */
        CHECK(half_us <= 800000);
    }
}

/* Half only for what goes on after an eighth went, not for the next short one. */
static void short_stalls_of_all_do_not_add_up_to_half(void) {
    struct rig r = make_fine_rig();
    CHECK_EQU(stall(&r, 2, 500, 500).position, 13);
    stall(&r, 2, 0, 0);
    CHECK_EQU(stall(&r, 2, 500, 500).position, 13);
    CHECK_EQU(stall(&r, 2, 500, 500).position, 24); /* 870 less an eighth */
    ladder_destroy(r.l);
}

/* Above the own limit the kernel slows us down: the number of bytes decides, and nothing else. */
static void stall_above_the_own_limit_is_no_pressure(void) {
    struct rig r = make_fine_rig();
    r.in.has_cgroup = true;
    r.in.cgroup_left_bytes = MAXU;
    stall(&r, 3, 0, 0);
    r.in.is_over_limit = true;
    r.in.n_alarms = 1;
    r.in.cgroup_over_bytes = 100;
    r.in.cgroup_left_bytes = 0;
    struct gov_output out = stall(&r, 2, 1000, 1000);
    CHECK_EQU(out.position, 10); /* as much as was over */
    CHECK_EQ(out.reason, GOV_CGROUP);
    r.in.is_over_limit = false;
    r.in.cgroup_over_bytes = 0;
    /* The sleep that began above it goes on, and the kernel's alarm comes once more. */
    CHECK_EQU(stall(&r, 20, 1000, 1000).position, 10);
    r.in.n_alarms = 0;
    CHECK_EQU(stall(&r, 6, 0, 0).position, 10); /* over, and counted nowhere */
    CHECK(!r.st.has_ceiling);
    CHECK_EQU(r.st.full.sum, 0);
    CHECK_EQU(stall(&r, 1, 100, 0).position, 10); /* from here on as ever */
    CHECK_EQU(stall(&r, 1, 100, 0).position, 22);
    ladder_destroy(r.l);
}

static void time_above_the_own_limit_is_no_calm(void) {
    struct rig r = make_fine_rig();
    CHECK_EQU(stall(&r, 3, 100, 0).position, 13);
    stall(&r, 200, 0, 0);
    r.in.is_over_limit = true;
    stall(&r, 1, 0, 0);
    r.in.is_over_limit = false;
    CHECK_EQU(stall(&r, 320, 0, 0).position, 13); /* the hold begins 2.5 s later */
    CHECK(stall(&r, 20, 0, 0).position < 13);
    ladder_destroy(r.l);
}

/* A reading that comes late holds the time above the limit too. */
static void a_late_reading_holds_no_throttled_time(void) {
    struct rig r = make_fine_rig();
    stall(&r, 2, 0, 0);
    r.in.is_over_limit = true;
    stall(&r, 1, 1000, 1000);
    r.in.is_over_limit = false;
    r.now_us += 30 * SEC;
    r.in.stall_some_us += 29 * SEC;
    r.in.stall_full_us += 29 * SEC;
    CHECK_EQU(step(&r, 5000).position, 0);
    CHECK_EQU(stall(&r, 1, 1000, 1000).position, 0); /* one interval alone */
    CHECK_EQU(stall(&r, 1, 1000, 1000).position, 13);
    ladder_destroy(r.l);
}

/* ---- a share of the machine ---- */

static void a_share_is_what_the_system_has(void) {
    struct rig r = make_fine_rig();
    r.in.share_bytes = 850;
    CHECK_EQU(step(&r, 5000).position, 0); /* another daemon came: one reading is not believed */
    struct gov_output out = step(&r, 5000);
    CHECK_EQU(out.position, 20);
    CHECK_EQ(out.reason, GOV_SHARE);
    CHECK_EQU(out.budget_bytes, 850);
    r.in.share_bytes = 750;
    CHECK(step(&r, 5000).is_suspicious);
    CHECK_EQU(r.in.position, 20); /* another one not alone */
    CHECK_EQU(step(&r, 5000).position, 30);
    r.in.share_bytes = 864; /* a step up needs half of the margin of 10 */
    for (int i = 0; i < 700; i++) {
        r.now_us += SEC / 10;
        out = step(&r, 5000);
    }
    CHECK_EQU(out.position, 20);
    r.in.share_bytes = 865;
    for (int i = 0; i < 700; i++) {
        r.now_us += SEC / 10;
        out = step(&r, 5000);
    }
    CHECK_EQU(out.position, 19);
    r.in.share_bytes = 0; /* the others are gone */
    for (int i = 0; i < 700; i++) {
        r.now_us += SEC / 10;
        out = step(&r, 5000);
    }
    CHECK_EQU(out.position, 0);
    ladder_destroy(r.l);
}

/* Of a lack that all see, each gives way for its part; what is left of it then is anyone's. */
static void the_others_part_of_a_lack_is_not_ours_at_once(void) {
    struct rig r = make_fine_rig();
    r.in.share_bytes = 950;
    CHECK_EQU(twice(&r, 5000).position, 10);
    CHECK_EQU(twice(&r, 700).position, 10); /* 600 of the system's, 950 of the share */
    for (int i = 0; i < 9; i++) {
        r.now_us += SEC / 10;
        CHECK_EQU(step(&r, 700).position, 10);
    }
    r.now_us += SEC / 10;
    struct gov_output out = step(&r, 700);
    CHECK_EQU(out.position, 45);
    CHECK_EQ(out.reason, GOV_MEM_AVAILABLE);
    ladder_destroy(r.l);
}

/* Two daemons must not grow into the same room. */
static void growth_waits_for_its_turn(void) {
    struct rig r = make_fine_rig();
    CHECK_EQU(twice(&r, 1000).position, 15);
    r.in.is_other_rising = true;
    struct gov_output out = stall(&r, 290, 0, 0);
    CHECK_EQ(out.reason, GOV_STEADY); /* not even wanted yet */
    out = stall(&r, 20, 0, 0);
    CHECK_EQ(out.reason, GOV_TURN);
    CHECK_EQU(stall(&r, 1000, 0, 0).position, 15);
    CHECK_EQU(r.st.n_changes, 1);
    r.in.is_other_rising = false;
    struct gov_input before = r.in;
    CHECK_EQU(stall(&r, 1, 0, 0).position, 14); /* at once: the hold has passed */
    r.in.position = before.position;            /* it is read, and the turn is another's again */
    r.in.weight_bytes = before.weight_bytes;
    r.in.is_other_rising = true;
    CHECK_EQU(stall(&r, 1, 0, 0).position, 14);
    out = stall(&r, 20, 0, 0);
    CHECK_EQU(out.position, 14);
    CHECK_EQ(out.reason, GOV_TURN);
    ladder_destroy(r.l);
}

static const struct t_case cases[] = {
    {"a_stall_of_all_takes_by_its_length", a_stall_of_all_takes_by_its_length},
    {"a_stall_that_lasts_sheds_half_soon", a_stall_that_lasts_sheds_half_soon},
    {"short_stalls_of_all_do_not_add_up_to_half", short_stalls_of_all_do_not_add_up_to_half},
    {"stall_above_the_own_limit_is_no_pressure", stall_above_the_own_limit_is_no_pressure},
    {"time_above_the_own_limit_is_no_calm", time_above_the_own_limit_is_no_calm},
    {"a_late_reading_holds_no_throttled_time", a_late_reading_holds_no_throttled_time},
    {"a_share_is_what_the_system_has", a_share_is_what_the_system_has},
    {"the_others_part_of_a_lack_is_not_ours_at_once",
     the_others_part_of_a_lack_is_not_ours_at_once},
    {"growth_waits_for_its_turn", growth_waits_for_its_turn},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
