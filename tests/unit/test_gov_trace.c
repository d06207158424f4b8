/* The governor's calls as text: what is written is read back the same, and what is read is written
 * back the same, whatever became of the line. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gov_trace.h"
#include "tests/t.h"

enum { LADDER_UNITS = 3, ROUNDS = 2000 };

/* Mostly ordinary, at times at an edge. */
static uint64_t odd(uint64_t *rng) {
    static const uint64_t edges[] = {0, 1, INT64_MAX, UINT64_MAX, UINT64_MAX - 1};
    uint64_t r = t_rand(rng);
    return r % 4 == 0 ? edges[(r >> 8) % ARRAY_LEN(edges)] : t_rand(rng) >> (r >> 8) % 64;
}

static struct gov_input random_input(uint64_t *rng) {
    uint64_t flags = t_rand(rng);
    return (struct gov_input){
        .has_mem = flags & 1,
        .has_cgroup = flags & 2,
        .has_stall = flags & 4,
        .has_refaults = flags & 8,
        .has_heat = flags & 16,
        .mem_available_bytes = odd(rng),
        .cgroup_left_bytes = odd(rng),
        .stall_some_us = odd(rng),
        .stall_full_us = odd(rng),
        .refaults = odd(rng),
        .n_alarms = (uint32_t)odd(rng),
        .headroom_mc = (int32_t)odd(rng),
        .is_cooling = flags & 32,
        .operator_limit_bytes = odd(rng),
        .is_heat_doubtful = t_rand(rng) % 2,
        .is_over_limit = t_rand(rng) % 2,
        .share_bytes = odd(rng),
        .is_other_rising = t_rand(rng) % 2,
        .weight_bytes = odd(rng),
        .other_bytes = odd(rng),
        .wanted_bytes = odd(rng),
        .cgroup_over_bytes = odd(rng),
        .position = (uint32_t)odd(rng),
    };
}

static struct gov_settings random_settings(uint64_t *rng) {
    return (struct gov_settings){
        .limit_bytes = odd(rng),
        .reserve_bytes = odd(rng),
        .margin_bytes = odd(rng),
        .emergency_bytes = odd(rng),
        .hold_us = odd(rng),
        .hold_max_us = odd(rng),
        .step_us = odd(rng),
        .stale_us = odd(rng),
        .changes_per_hour = (uint32_t)odd(rng),
        .stall_permille = (uint32_t)odd(rng),
        .is_heat_on = t_rand(rng) % 2,
        .heat_margin_mc = 1 + (int32_t)(t_rand(rng) % INT32_MAX),
        .heat_hysteresis_mc = (int32_t)odd(rng),
        .heat_hold_us = odd(rng),
        .max_threads = 1 + (uint32_t)(t_rand(rng) % UINT32_MAX),
    };
}

static struct ladder *make_ladder(void) {
    static const struct ladder_step steps[] = {
        {.unit = 2, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 100},
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_SWSC, .bytes = 250},
        {.unit = 2, .from = RUNG_HIGH, .to = RUNG_PAGED, .bytes = UINT64_C(1) << 40},
    };
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", LADDER_UNITS, (UINT64_C(1) << 41) + 350, steps, ARRAY_LEN(steps),
                             &l, &e),
               &e);
    return l;
}

/* Without its newline, which must be there. */
static void chop(char *line, size_t n) {
    REQUIRE(n > 1 && line[n - 1] == '\n' && line[n] == '\0');
    line[n - 1] = '\0';
}

static size_t put_random_call(uint64_t *rng, char *line, size_t cap) {
    struct gov_input in = random_input(rng);
    struct gov_output out = {.position = (uint32_t)odd(rng),
                             .stage = (uint32_t)odd(rng),
                             .reason = (enum gov_reason)(t_rand(rng) % GOV_REASONS)};
    return gov_trace_put_call(odd(rng) >> 1, &in, &out, line, cap);
}

/* Reads any line as what its letter says, and writes what was read; 0 if it is refused. */
static size_t again(const char *line, char *ret, size_t cap) {
    struct err e = {0};
    struct ladder *l;
    struct gov_settings set;
    uint64_t now_us;
    struct gov_input in;
    struct gov_trace_answer a;
    size_t n = 0;
    int r = -EBADMSG;
    if (line[0] == 'L' && (r = gov_trace_get_ladder(line, &l, &e)) == 0) {
        n = gov_trace_put_ladder(l, ret, cap);
        ladder_destroy(l);
    } else if (line[0] == 'S' && (r = gov_trace_get_settings(line, &set, &e)) == 0) {
        n = gov_trace_put_settings(&set, ret, cap);
    } else if (line[0] == 'C' && (r = gov_trace_get_call(line, &now_us, &in, &a, &e)) == 0) {
        struct gov_output out = {.position = a.position, .stage = a.stage, .reason = a.reason};
        n = gov_trace_put_call(now_us, &in, &out, ret, cap);
    }
    if (r == 0) {
        CHECK(n > 0);
        chop(ret, n);
    } else if (line[0] == 'L' || line[0] == 'S' || line[0] == 'C') {
        CHECK_EQ(r, -EBADMSG);
        CHECK(e.msg[0] != '\0');
    }
    return n;
}

static void calls_come_back(void) {
    uint64_t rng = t_seed();
    for (unsigned i = 0; i < ROUNDS; i++) {
        char line[GOV_TRACE_MAX];
        struct gov_input in = random_input(&rng), got;
        struct gov_output out = {.position = (uint32_t)odd(&rng),
                                 .stage = (uint32_t)odd(&rng),
                                 .reason = (enum gov_reason)(i % GOV_REASONS)};
        uint64_t now_us = odd(&rng) >> 1, got_us;
        struct gov_trace_answer a;
        struct err e = {0};
        chop(line, gov_trace_put_call(now_us, &in, &out, line, sizeof(line)));
        REQUIRE_OK(gov_trace_get_call(line, &got_us, &got, &a, &e), &e);
        CHECK_EQU(got_us, now_us);
        CHECK_EQU(a.position, out.position);
        CHECK_EQU(a.stage, out.stage);
        CHECK_EQ(a.reason, out.reason);
        CHECK_EQ(got.has_mem, in.has_mem);
        CHECK_EQ(got.has_cgroup, in.has_cgroup);
        CHECK_EQ(got.has_stall, in.has_stall);
        CHECK_EQ(got.has_refaults, in.has_refaults);
        CHECK_EQ(got.has_heat, in.has_heat);
        CHECK_EQU(got.mem_available_bytes, in.mem_available_bytes);
        CHECK_EQU(got.cgroup_left_bytes, in.cgroup_left_bytes);
        CHECK_EQU(got.stall_some_us, in.stall_some_us);
        CHECK_EQU(got.stall_full_us, in.stall_full_us);
        CHECK_EQU(got.refaults, in.refaults);
        CHECK_EQU(got.n_alarms, in.n_alarms);
        CHECK_EQ(got.headroom_mc, in.headroom_mc);
        CHECK_EQ(got.is_cooling, in.is_cooling);
        CHECK_EQU(got.operator_limit_bytes, in.operator_limit_bytes);
        CHECK(got.is_heat_doubtful == in.is_heat_doubtful);
        CHECK(got.is_over_limit == in.is_over_limit);
        CHECK_EQU(got.share_bytes, in.share_bytes);
        CHECK(got.is_other_rising == in.is_other_rising);
        CHECK_EQU(got.weight_bytes, in.weight_bytes);
        CHECK_EQU(got.other_bytes, in.other_bytes);
        CHECK_EQU(got.wanted_bytes, in.wanted_bytes);
        CHECK_EQU(got.cgroup_over_bytes, in.cgroup_over_bytes);
        CHECK_EQU(got.position, in.position);
    }
}

static void settings_come_back(void) {
    uint64_t rng = t_seed();
    for (unsigned i = 0; i < ROUNDS; i++) {
        char line[GOV_TRACE_MAX];
        struct gov_settings set = random_settings(&rng), got;
        struct err e = {0};
        chop(line, gov_trace_put_settings(&set, line, sizeof(line)));
        REQUIRE_OK(gov_trace_get_settings(line, &got, &e), &e);
        CHECK_EQU(got.limit_bytes, set.limit_bytes);
        CHECK_EQU(got.reserve_bytes, set.reserve_bytes);
        CHECK_EQU(got.margin_bytes, set.margin_bytes);
        CHECK_EQU(got.emergency_bytes, set.emergency_bytes);
        CHECK_EQU(got.hold_us, set.hold_us);
        CHECK_EQU(got.hold_max_us, set.hold_max_us);
        CHECK_EQU(got.step_us, set.step_us);
        CHECK_EQU(got.stale_us, set.stale_us);
        CHECK_EQU(got.changes_per_hour, set.changes_per_hour);
        CHECK_EQU(got.stall_permille, set.stall_permille);
        CHECK_EQ(got.is_heat_on, set.is_heat_on);
        CHECK_EQ(got.heat_margin_mc, set.heat_margin_mc);
        CHECK_EQ(got.heat_hysteresis_mc, set.heat_hysteresis_mc);
        CHECK_EQU(got.heat_hold_us, set.heat_hold_us);
        CHECK_EQU(got.max_threads, set.max_threads);
    }
}

static void a_ladder_comes_back(void) {
    char line[GOV_TRACE_MAX];
    struct ladder *l = make_ladder(), *got;
    struct err e = {0};
    chop(line, gov_trace_put_ladder(l, line, sizeof(line)));
    CHECK_STR(line, "L,3,2199023255902,2:0:1:100,0:0:2:250,2:1:3:1099511627776");
    REQUIRE_OK(gov_trace_get_ladder(line, &got, &e), &e);
    CHECK_EQU(ladder_n_units(got), LADDER_UNITS);
    REQUIRE(ladder_n_steps(got) == ladder_n_steps(l));
    for (uint32_t p = 0; p <= ladder_n_steps(l); p++) {
        CHECK_EQU(ladder_bytes(got, p), ladder_bytes(l, p));
        for (uint32_t u = 0; u < LADDER_UNITS; u++)
            CHECK_EQ(ladder_rung(got, p, u), ladder_rung(l, p, u));
    }
    ladder_destroy(got);
    ladder_destroy(l);
}

static void what_does_not_fit_is_not_written(void) {
    char line[GOV_TRACE_MAX], part[GOV_TRACE_MAX];
    uint64_t rng = t_seed();
    struct ladder *l = make_ladder();
    struct gov_settings set = random_settings(&rng);
    size_t n = gov_trace_put_ladder(l, line, sizeof(line));
    for (size_t cap = 1; cap <= n; cap++) CHECK_EQU(gov_trace_put_ladder(l, part, cap), 0);
    CHECK_EQU(gov_trace_put_ladder(l, part, n + 1), n);
    n = gov_trace_put_settings(&set, line, sizeof(line));
    for (size_t cap = 1; cap <= n; cap++) CHECK_EQU(gov_trace_put_settings(&set, part, cap), 0);
    uint64_t same = rng;
    n = put_random_call(&rng, line, sizeof(line));
    for (size_t cap = 1; cap <= n; cap++) {
        uint64_t state = same;
        CHECK_EQU(put_random_call(&state, part, cap), 0);
    }
    ladder_destroy(l);
}

/* Every cut, and every byte with each of its bits flipped. */
static void damage(const char *line) {
    char text[GOV_TRACE_MAX], back[GOV_TRACE_MAX];
    size_t n = strlen(line), n_refused = 0;
    REQUIRE(again(line, back, sizeof(back)) > 0);
    CHECK_STR(back, line);
    for (size_t cut = 1; cut < n; cut++) {
        memcpy(text, line, cut);
        text[cut] = '\0';
        if (again(text, back, sizeof(back)) > 0)
            CHECK_STR(back, text);
        else
            n_refused++;
    }
    for (size_t at = 0; at < n; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(text, line, n + 1);
            text[at] = (char)(text[at] ^ 1 << bit);
            if (again(text, back, sizeof(back)) > 0)
                CHECK_STR(back, text);
            else
                n_refused++;
        }
    CHECK(n_refused > n); /* it does refuse */
}

static void damage_is_refused_or_kept(void) {
    char line[GOV_TRACE_MAX];
    uint64_t rng = t_seed();
    struct ladder *l = make_ladder();
    chop(line, gov_trace_put_ladder(l, line, sizeof(line)));
    damage(line);
    ladder_destroy(l);
    for (unsigned i = 0; i < 50; i++) {
        struct gov_settings set = random_settings(&rng);
        chop(line, gov_trace_put_settings(&set, line, sizeof(line)));
        damage(line);
        chop(line, put_random_call(&rng, line, sizeof(line)));
        damage(line);
    }
}

static void odd_lines_are_refused(void) {
    static const char *const lines[] = {
        "L",
        "L,",
        "L,0,10",
        "L,1",
        "L,1,-1",
        "L,1,10,",
        "L,1,10,0:0:1",
        "L,1,10,0:0:1:11",
        "L,1,10,0:0:4:1",
        "L,1,10,1:0:1:1",
        "L,01,10",
        "L,+1,10",
        "L, 1,10",
        "L,1,18446744073709551616",
        "L,4097,10",
        "L,1,10,0:0:1:1 ",
        "S",
        "S,1,2,3",
        "S,1,1,1,1,1,1,1,1,1,1,1,1,1,1,0",
        "S,1,1,1,1,1,1,1,1,1,1,1,0,1,1,1",
        "S,1,1,1,1,1,1,1,1,1,1,2,1,1,1,1",
        "S,1,1,1,1,1,1,1,1,4294967296,1,1,1,1,1,1",
        "S,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
        "S,1,1,1,1,1,1,1,1,1,1,1,2147483648,1,1,1",
        "C",
        "C,1",
        "C,-1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,steady",
        "C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
        "C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,",
        "C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,?",
        "C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,steady,",
        "C,1,0,0,0,0,0,0,0,-0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,steady",
        "C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,-1,0,0,0,0,0,0,steady",
    };
    char back[GOV_TRACE_MAX];
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (again(lines[i], back, sizeof(back)) > 0)
            t_fail(__FILE__, __LINE__, "'%s' is accepted", lines[i]);
    CHECK(again("C,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,steady", back,
                sizeof(back)) > 0);
    CHECK(again("S,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", back, sizeof(back)) > 0);
    CHECK(again("L,1,10", back, sizeof(back)) > 0);
}

static const struct t_case cases[] = {
    {"calls_come_back", calls_come_back},
    {"settings_come_back", settings_come_back},
    {"a_ladder_comes_back", a_ladder_comes_back},
    {"what_does_not_fit_is_not_written", what_does_not_fit_is_not_written},
    {"damage_is_refused_or_kept", damage_is_refused_or_kept},
    {"odd_lines_are_refused", odd_lines_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
