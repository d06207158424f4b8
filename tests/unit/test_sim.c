/* The parts of ebb-sim that other tests lean on: worlds, the plant, what a run comes to, replay. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gov_trace.h"
#include "core/ladder.h"
#include "daemon/govern_set.h"
#include "tests/sim/chart.h"
#include "tests/sim/fixed.h"
#include "tests/sim/plant.h"
#include "tests/sim/replay.h"
#include "tests/sim/setup.h"
#include "tests/sim/tally.h"
#include "tests/sim/world.h"
#include "tests/t.h"

#define SEC    UINT64_C(1000000)
#define MIB    (UINT64_C(1) << 20)
#define HEADER "time_s,left_mib,stall_percent,celsius\n"

static void numbers(void) {
    static const struct {
        const char *text;
        int64_t want; /* in thousandths */
        int code;
    } all[] = {
        {"0", 0, 0},
        {"12", 12000, 0},
        {"-3.5", -3500, 0},
        {"0.0019", 1, 0},
        {"1.", 0, -EINVAL},
        {".5", 0, -EINVAL},
        {"", 0, -EINVAL},
        {"-", 0, -EINVAL},
        {"+1", 0, -EINVAL},
        {" 1", 0, -EINVAL},
        {"1 ", 0, -EINVAL},
        {"1e3", 0, -EINVAL},
        {"nan", 0, -EINVAL},
        {"inf", 0, -EINVAL},
        {"0x10", 0, -EINVAL},
        {"1.5.2", 0, -EINVAL},
        {"1000.001", 0, -ERANGE},
        {"-1000.001", 0, -ERANGE},
        {"99999999999999999999999999", 0, -ERANGE},
        {"9223372036854775807", 0, -ERANGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int64_t v = 0;
        int r = fixed_parse(all[i].text, strlen(all[i].text), 3, -1000000, 1000000, &v);
        if (r != all[i].code || v != all[i].want)
            t_fail(__FILE__, __LINE__, "'%s' gives %d, %" PRId64, all[i].text, r, v);
    }
    int64_t v;
    CHECK_EQ(fixed_parse("12345", 2, 0, 0, 100, &v), 0);
    CHECK_EQ(v, 12);
}

/* ---- worlds ---- */

static struct world *parse(const char *text) {
    struct world *w;
    struct err e = {0};
    REQUIRE_OK(world_parse("w", text, strlen(text), &w, &e), &e);
    return w;
}

static void a_file_holds_until_the_next_row(void) {
    struct world *w = parse("# recorded\n" HEADER
                            "1,100,0,45\n2.5,50.5,12.3,\r\n# and\n4,,,-3.25\n");
    struct world_sample s;
    CHECK_EQU(world_span_us(w), 4 * SEC);
    CHECK(!world_thermal(w));
    world_at(w, 0, &s);
    CHECK(!s.has_left && !s.has_stall && !s.has_temp);
    world_at(w, SEC, &s);
    CHECK(s.has_left && s.has_stall && s.has_temp);
    CHECK_EQU(s.left_bytes, 100 * MIB);
    CHECK_EQ(s.temp_mc, 45000);
    world_at(w, 2500000 - 1, &s);
    CHECK_EQU(s.left_bytes, 100 * MIB);
    world_at(w, 2500000, &s);
    CHECK_EQU(s.left_bytes, 50 * MIB + MIB / 2);
    CHECK_EQU(s.stall_permille, 123);
    CHECK(!s.has_temp);
    world_at(w, 100 * SEC, &s);
    CHECK(!s.has_left && !s.has_stall);
    CHECK_EQ(s.temp_mc, -3250);
    world_destroy(w);
}

static void bad_files_are_refused_with_their_line(void) {
    static const struct {
        const char *text, *where;
    } all[] = {
        {"", "w:0: "},
        {"\n", "w:1: "},
        {"time_s,left_mib\n", "w:1: "},
        {HEADER, "w:1: "},
        {HEADER "1,2,3,4\n", "w:2: "},
        {HEADER "1,2,3,4\n2,2,3,4", "w:3: the last line has no end"},
        {HEADER "1,2,3,4\n2,2,3\n", "w:3: a row has four fields"},
        {HEADER "1,2,3,4\n2,2,3,4,5\n", "w:3: a row has four fields"},
        {HEADER "1,2,3,4\n\n3,2,3,4\n", "w:3: a row has four fields"},
        {HEADER "1,2,3,4\n,2,3,4\n", "w:3: time_s is empty"},
        {HEADER "1,2,3,4\n1,2,3,4\n", "w:3: time_s does not go on"},
        {HEADER "# a\n5,2,3,4\n4.999999,2,3,4\n", "w:4: time_s does not go on"},
        {HEADER "-1,2,3,4\n", "w:2: time_s is too small or too large"},
        {HEADER "1e9,2,3,4\n", "w:2: time_s is not a number"},
        {HEADER "99999999999,2,3,4\n", "w:2: time_s is too small or too large"},
        {HEADER "1,nan,3,4\n", "w:2: left_mib is not a number"},
        {HEADER "1,-1,3,4\n", "w:2: left_mib is too small or too large"},
        {HEADER "1,16777217,3,4\n", "w:2: left_mib is too small or too large"},
        {HEADER "1,2,100.1,4\n", "w:2: stall_percent is too small or too large"},
        {HEADER "1,2,3,inf\n", "w:2: celsius is not a number"},
        {HEADER "1,2,3,-300\n", "w:2: celsius is too small or too large"},
        {HEADER "1,2,3,4 \n", "w:2: celsius is not a number"},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct world *w;
        struct err e = {0};
        CHECK_EQ(world_parse("w", all[i].text, strlen(all[i].text), &w, &e), -EINVAL);
        if (strncmp(e.msg, all[i].where, strlen(all[i].where)) != 0)
            t_fail(__FILE__, __LINE__, "'%s' gives '%s'", all[i].text, e.msg);
    }
    char nul[] = HEADER "1,2,3,4\n2,2\0,3,4\n", longest[400];
    struct world *w;
    CHECK_EQ(world_parse("w", nul, sizeof(nul) - 1, &w, NULL), -EINVAL);
    memset(longest, '1', sizeof(longest));
    longest[399] = '\n';
    CHECK_EQ(world_parse("w", longest, sizeof(longest), &w, NULL), -EINVAL);
}

static void a_million_rows(void) {
    enum { ROWS = 1000000 };
    char *text = malloc(64 + 24 * (size_t)ROWS);
    REQUIRE(text);
    size_t n = (size_t)sprintf(text, HEADER);
    for (unsigned i = 0; i < ROWS; i++)
        n += (size_t)sprintf(text + n, "%u,%u,,\n", i + 1, i % 1000);
    struct world *w;
    struct world_sample s;
    struct err e = {0};
    REQUIRE_OK(world_parse("w", text, n, &w, &e), &e);
    CHECK_EQU(world_span_us(w), ROWS * SEC);
    for (unsigned i = 0; i < ROWS; i += 997) {
        world_at(w, (i + 1) * SEC, &s);
        CHECK_EQU(s.left_bytes, i % 1000 * MIB);
    }
    world_destroy(w);
    /* And cut anywhere it is refused or another world, never read beyond its end. */
    for (size_t cut = 0; cut < 400; cut++) {
        char *part = malloc(cut + 1);
        REQUIRE(part);
        memcpy(part, text, cut);
        if (world_parse("w", part, cut, &w, NULL) == 0) world_destroy(w);
        free(part);
    }
    free(text);
}

static struct world *make(const char *spec) {
    struct world *w;
    struct err e = {0};
    REQUIRE_OK(world_make(spec, &w, &e), &e);
    return w;
}

static void check_at(const struct world *w, double at_s, double left_mib, double celsius) {
    struct world_sample s;
    world_at(w, (uint64_t)(at_s * 1e6), &s);
    CHECK_NEAR((double)s.left_bytes / (double)MIB, left_mib, 0.01);
    CHECK_NEAR(s.temp_mc / 1000.0, celsius, 0.01);
}

static void formulas(void) {
    struct world *w = make("square:period_s=10,low_mib=300,high_mib=900,for_s=100.5");
    CHECK_EQU(world_span_us(w), 100500000);
    check_at(w, 0, 900, 45);
    check_at(w, 4.999, 900, 45);
    check_at(w, 5, 300, 45);
    check_at(w, 10, 900, 45);
    world_destroy(w);
    w = make("ramp:at_s=10,period_s=10,low_mib=300,high_mib=900");
    check_at(w, 9, 900, 45);
    check_at(w, 15, 600, 45);
    check_at(w, 21, 300, 45);
    world_destroy(w);
    w = make("step:at_s=10,low_mib=300,high_mib=900");
    check_at(w, 9.9, 900, 45);
    check_at(w, 10, 300, 45);
    world_destroy(w);
    w = make("saw:period_s=10,low_mib=300,high_mib=900");
    check_at(w, 5, 600, 45);
    check_at(w, 10, 900, 45);
    world_destroy(w);
    w = make("spike:at_s=10,width_ms=40,low_mib=300,high_mib=900,celsius=90");
    check_at(w, 9.999, 900, 45);
    check_at(w, 10.039, 300, 90);
    check_at(w, 10.040, 900, 45);
    world_destroy(w);
    w = make("heat-square:period_s=10,around_c=70,swing_c=2,high_mib=900");
    check_at(w, 0, 900, 72);
    check_at(w, 5, 900, 68);
    world_destroy(w);
    w = make("heat-sine:period_s=8,around_c=70,swing_c=2,high_mib=900");
    check_at(w, 0, 900, 70);
    check_at(w, 2, 900, 72);
    check_at(w, 6, 900, 68);
    world_destroy(w);
    w = make("heat-ramp:period_s=100,around_c=80,swing_c=40,high_mib=900");
    check_at(w, 0, 900, 40);
    check_at(w, 50, 900, 40 + 40 * 4 / 3.0);
    check_at(w, 100, 900, 40);
    check_at(w, 1000, 900, 40);
    world_destroy(w);
    w = make("thermal:ambient_c=-5,rise_c=10,tau_s=0.5");
    const struct world_thermal *t = world_thermal(w);
    REQUIRE(t);
    CHECK_EQ(t->ambient_mc, -5000);
    CHECK_EQ(t->rise_mc, 10000);
    CHECK_EQU(t->tau_us, SEC / 2);
    world_destroy(w);
}

static void random_worlds_keep_their_bounds(void) {
    unsigned n_unknown = 0, n_stall = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        char spec[100];
        snprintf(spec, sizeof(spec), "random:seed=%u,low_mib=10,high_mib=20,swing_c=5", seed);
        struct world *w = make(spec);
        for (uint64_t t = 0; t < 20 * SEC; t += SEC / 10) {
            struct world_sample s, again;
            world_at(w, t, &s);
            world_at(w, t, &again);
            CHECK_EQU(s.left_bytes, again.left_bytes);
            CHECK(s.left_bytes >= 10 * MIB && s.left_bytes <= 20 * MIB);
            CHECK(s.temp_mc >= 75000 && s.temp_mc <= 85000);
            CHECK(s.stall_permille <= 1000);
            n_unknown += !s.has_left;
            n_stall += s.stall_permille > 0;
        }
        world_destroy(w);
    }
    CHECK(n_unknown > 1000 && n_unknown < 5000); /* a sixteenth of 40000 */
    CHECK(n_stall > 4000);
}

static void odd_worlds_are_refused(void) {
    static const char *const all[] = {"",
                                      "sq",
                                      "squares",
                                      "square:",
                                      "square:period_s",
                                      "square:period_s=",
                                      "square:period_s=0",
                                      "square:period_s=-1",
                                      "square:period_s=nan",
                                      "square:period_s=1e9",
                                      "square:period_s=99999999999999999999",
                                      "square:period_s=1,",
                                      "square:period=1",
                                      "square:swing_c=1",
                                      "square:for_s=0",
                                      "square;period_s=1",
                                      "random:low_mib=16777217"};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct world *w;
        struct err e = {0};
        if (world_make(all[i], &w, &e) != -EINVAL || !e.msg[0])
            t_fail(__FILE__, __LINE__, "'%s' is taken", all[i]);
    }
}

/* ---- what a run comes to ---- */

/* Moments made by hand: 24 MiB beside the weights, 256 MiB left to others. */
struct hand {
    struct setup setup;
    struct tally *t;
    struct world_sample world;
    struct gov_input in;
    struct gov_output out;
    struct plant_moment m;
};

static struct hand make_hand(void) {
    struct err e = {0};
    struct hand h = {.t = calloc(1, sizeof(*h.t))};
    REQUIRE(h.t);
    REQUIRE_OK(setup_make(&h.setup, &e), &e);
    h.t->ladder = h.setup.ladder;
    h.t->reserve_bytes = 256 * MIB;
    h.in.other_bytes = 24 * MIB;
    h.in.has_mem = true;
    h.m.held_bytes = h.in.weight_bytes = ladder_bytes(h.setup.ladder, 0);
    h.out.weight_budget_bytes = 500 * MIB;
    h.world.left_bytes = 900 * MIB;
    return h;
}

static void drop_hand(struct hand *h) {
    setup_fini(&h->setup);
    free(h->t);
}

static void see(struct hand *h, uint64_t ms, bool is_fresh) {
    h->m.now_us = ms * 1000;
    h->m.is_fresh = is_fresh;
    h->m.world = &h->world;
    h->m.in = &h->in;
    h->m.out = &h->out;
    tally_add(h->t, &h->m);
}

static void the_worst_hour_slides(void) {
    struct hand h = make_hand();
    see(&h, 0, true);
    /* Ten changes half before and half behind the end of the first hour; then ten an hour. */
    for (unsigned i = 0; i < 10; i++) {
        h.out.stage ^= 1;
        see(&h, 3600000 - 5000 + 1000 * i, true);
    }
    CHECK_EQU(h.t->worst_hour, 10);
    for (unsigned i = 0; i < 100; i++) {
        h.m.position ^= 1;
        see(&h, 10 * 3600000 + 360000 * i, true);
    }
    CHECK_EQU(h.t->worst_hour, 10);
    CHECK_EQU(h.t->n_down, 50);
    CHECK_EQU(h.t->n_up, 50);
    CHECK_EQU(h.t->n_stages, 10);
    drop_hand(&h);
}

static void levels_and_bytes_over(void) {
    struct hand h = make_hand();
    see(&h, 0, true);
    h.out.level = 2;
    see(&h, 100, true);
    h.out.weight_budget_bytes = h.m.held_bytes - 5;
    h.m.retired_bytes = 3;
    see(&h, 400, true); /* two of the five are not on their way */
    h.m.retired_bytes = 0;
    h.m.reading_bytes = 9;
    h.m.is_cancelled = true;
    see(&h, 450, true);
    h.m.held_bytes -= 5;
    see(&h, 475, true);
    CHECK_EQU(h.t->at_level_us[0], 100000);
    CHECK_EQU(h.t->at_level_us[2], 375000);
    CHECK_EQU(h.t->longest_over_us, 75000);
    CHECK_EQU(h.t->most_over_bytes, 5);
    CHECK_EQU(h.t->unexplained_bytes, 2);
    CHECK_EQU(h.t->n_too_high, 3);
    /* Less than the last position needs: nothing more can go. */
    h.m.position = ladder_n_steps(h.setup.ladder);
    h.m.held_bytes = ladder_bytes(h.setup.ladder, h.m.position);
    h.m.reading_bytes = 0;
    h.out.weight_budget_bytes = 0;
    see(&h, 500, true);
    CHECK_EQU(h.t->n_too_high, 3);
    CHECK_EQU(h.t->most_over_bytes, 5);
    drop_hand(&h);
}

static void an_answer_is_timed_from_the_first_reading(void) {
    struct hand h = make_hand();
    uint64_t low = ladder_bytes(h.setup.ladder, 31);
    see(&h, 0, true);
    h.world.left_bytes = 256 * MIB + 24 * MIB + low;
    see(&h, 100, true);
    h.world.left_bytes = 900 * MIB; /* it comes back by itself: no answer */
    see(&h, 150, true);
    CHECK_EQU(h.t->n_answers, 0);
    h.world.left_bytes = 256 * MIB + 24 * MIB + low;
    see(&h, 200, true);
    see(&h, 250, true);
    h.m.held_bytes = low + 1;
    see(&h, 260, false);
    CHECK_EQU(h.t->n_answers, 0);
    h.m.held_bytes = low;
    see(&h, 270, false);
    CHECK_EQU(h.t->n_answers, 1);
    CHECK_EQU(tally_answer_ms(h.t, 50), 70);
    CHECK_EQU(tally_answer_ms(h.t, 99), 70);
    h.t->answers[500] += 1;
    h.t->n_answers += 1;
    CHECK_EQU(tally_answer_ms(h.t, 50), 70);
    CHECK_EQU(tally_answer_ms(h.t, 99), 500);
    drop_hand(&h);
}

/* ---- runs ---- */

struct run {
    struct setup setup;
    struct gov_settings set;
    struct tally *tally;
    char *trace; /* with room for all of it */
    size_t n_trace;
};

enum { MAX_TRACE = 8 << 20 };

static void on_moment(void *ud, const struct plant_moment *m) {
    struct run *r = ud;
    tally_add(r->tally, m);
    REQUIRE(MAX_TRACE - r->n_trace > GOV_TRACE_MAX);
    size_t n = gov_trace_put_call(m->now_us, m->in, m->out, r->trace + r->n_trace, GOV_TRACE_MAX);
    REQUIRE(n > 0);
    r->n_trace += n;
}

static struct run run_world(const char *spec) {
    struct config c;
    struct err e = {0};
    struct run r = {.tally = calloc(1, sizeof(*r.tally)), .trace = malloc(MAX_TRACE)};
    struct world *w = make(spec);
    REQUIRE(r.tally && r.trace);
    config_defaults(&c);
    govern_set_make(&c, 4, &r.set);
    REQUIRE_OK(setup_make(&r.setup, &e), &e);
    r.tally->ladder = r.setup.ladder;
    r.tally->reserve_bytes = r.set.reserve_bytes;
    r.n_trace = gov_trace_put_ladder(r.setup.ladder, r.trace, GOV_TRACE_MAX);
    r.n_trace += gov_trace_put_settings(&r.set, r.trace + r.n_trace, GOV_TRACE_MAX);
    const struct plant_opts o = {.ladder = r.setup.ladder,
                                 .units = r.setup.units,
                                 .set = &r.set,
                                 .interval_us = SEC / 10,
                                 .trip_mc = 80000,
                                 .other_bytes = 24 * MIB,
                                 .return_us = 20000,
                                 .read_bytes_per_s = 90 * MIB,
                                 .fn = on_moment,
                                 .ud = &r};
    REQUIRE_OK(plant_run(&o, w, world_span_us(w), &e), &e);
    world_destroy(w);
    return r;
}

static void end_run(struct run *r) {
    setup_fini(&r->setup);
    free(r->tally);
    free(r->trace);
}

/* Down within two readings and the return of the bytes; up after the hold, step by step, as fast as
 * the disk brings it. */
static void a_step_down_and_up(void) {
    struct run r = run_world("square:period_s=40,low_mib=370,high_mib=1024,for_s=60");
    const struct tally *t = r.tally;
    CHECK_EQU(t->n_down, 1);
    CHECK_EQU(t->n_answers, 1);
    CHECK_EQU(tally_answer_ms(t, 99), 70);
    CHECK_EQU(t->longest_over_us, 20000);
    CHECK(t->most_over_bytes > 0);
    CHECK_EQU(t->unexplained_bytes, 0);
    CHECK_EQU(t->n_too_high, 0);
    CHECK_EQU(t->n_up, 0);
    uint32_t lowest = ladder_fit(r.setup.ladder, (370 - 256 - 24) * MIB, &(bool){0});
    CHECK_EQU(t->position, lowest);
    end_run(&r);

    r = run_world("square:period_s=400,low_mib=370,high_mib=1024,for_s=599");
    CHECK_EQU(r.tally->n_down, 1);
    CHECK_EQU(r.tally->n_up, lowest); /* all the way, one at a time */
    CHECK_EQU(r.tally->position, 0);
    CHECK_EQU(r.tally->unexplained_bytes, 0);
    end_run(&r);
}

/* The board of the model settles where its cooling can bear it. */
static void heat_settles(void) {
    struct run r = run_world("thermal:ambient_c=35,rise_c=70,for_s=3600");
    CHECK(r.tally->n_stages > 0);
    CHECK(r.tally->worst_hour <= r.set.changes_per_hour);
    CHECK(r.tally->stage > 0 && r.tally->stage < GOV_STAGES - 1);
    end_run(&r);
}

static void a_run_replays(void) {
    static const char *const worlds[] = {"square:period_s=100,for_s=900", "storm:for_s=900",
                                         "random:seed=7,for_s=900", "thermal:rise_c=70,for_s=900"};
    for (size_t i = 0; i < ARRAY_LEN(worlds); i++) {
        struct run r = run_world(worlds[i]);
        struct replay_result got;
        struct err e = {0};
        REQUIRE_OK(replay_run("t", r.trace, r.n_trace, NULL, NULL, &got, &e), &e);
        CHECK_EQU(got.n_calls, r.tally->n_turns);
        CHECK_EQU(got.n_same, got.n_calls);
        CHECK_EQU(got.first_line, 0);
        end_run(&r);
    }
}

static void replay_finds_what_differs(void) {
    struct run r = run_world("step:at_s=5,for_s=10");
    struct replay_result got;
    struct err e = {0};
    char *at = strstr(r.trace, ",mem_available\n");
    REQUIRE(at && at < r.trace + r.n_trace);
    memcpy(at, ",mem_unknown\n# ", 15); /* what is left of the line is a remark */
    unsigned line = 1;
    for (const char *c = r.trace; c < at; c++) line += *c == '\n';
    REQUIRE_OK(replay_run("t", r.trace, r.n_trace, NULL, NULL, &got, &e), &e);
    CHECK_EQU(got.n_same, got.n_calls - 1);
    CHECK_EQU(got.first_line, line);
    CHECK(strstr(got.first, "mem_unknown; computed") && strstr(got.first, ", mem_available"));
    end_run(&r);
}

static void odd_traces_are_refused(void) {
#define L       "L,1,10,0:0:1:5\n"
#define S       "S,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1\n"
#define C(t, p) "C," t ",0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0," p ",0,0,0,0,0,0,steady\n"
    static const struct {
        const char *text, *where;
    } all[] = {
        {"X\n", "t:1: not a line of a trace"},
        {L "L,1,10\n", "t:2: a second ladder"},
        {L C("1", "0"), "t:2: a call before"},
        {S C("1", "0"), "t:2: a call before"},
        {L S C("1", "2"), "t:3: the ladder has no position 2"},
        {L S C("5", "1") "# ok\n" C("4", "1"), "t:5: the time goes back"},
        {L S "C,1,", "t:3: the last line has no end"},
        {L S "C,1\n", "t:3: "},
        {"L,1,9,0:0:1:10\n", "t:1: "},
    };
    struct replay_result got;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct err e = {0};
        CHECK_EQ(replay_run("t", all[i].text, strlen(all[i].text), NULL, NULL, &got, &e), -EBADMSG);
        if (strncmp(e.msg, all[i].where, strlen(all[i].where)) != 0)
            t_fail(__FILE__, __LINE__, "'%s' gives '%s'", all[i].text, e.msg);
    }
    static const char good[] = L S "\n# a remark\n" C("5", "1") C("5", "1");
    CHECK_EQ(replay_run("t", good, strlen(good), NULL, NULL, &got, NULL), 0);
    CHECK_EQU(got.n_calls, 2);
    static const char nul[] = L "S\0\n";
    CHECK_EQ(replay_run("t", nul, sizeof(nul) - 1, NULL, NULL, &got, NULL), -EBADMSG);
    char *longest = malloc(2 * GOV_TRACE_MAX);
    REQUIRE(longest);
    memset(longest, '#', 2 * GOV_TRACE_MAX);
    longest[2 * GOV_TRACE_MAX - 1] = '\n';
    CHECK_EQ(replay_run("t", longest, 2 * GOV_TRACE_MAX, NULL, NULL, &got, NULL), -EBADMSG);
    free(longest);
}

/* ---- settings and pictures ---- */

static void settings(void) {
    static const char *const bad[] = {"",
                                      "memory.hold",
                                      "memory.hold=",
                                      "memory.hold=5",
                                      "memory.changes=1",
                                      "memory.nothing=5",
                                      "serve.slots=2",
                                      "heat.zones=a",
                                      "=5"};
    struct config c;
    config_defaults(&c);
    CHECK_EQ(setup_set("memory.hold=5s", &c, NULL), 0);
    CHECK_EQU(c.memory_hold_us, 5 * SEC);
    CHECK_EQ(setup_set("heat.trip=71C", &c, NULL), 0);
    CHECK_EQU(c.heat_trip_mc, 71000);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        if (setup_set(bad[i], &c, &e) != -EINVAL || !e.msg[0])
            t_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
    }
}

static void the_made_up_ladder(void) {
    struct setup s;
    struct err e = {0};
    REQUIRE_OK(setup_make(&s, &e), &e);
    CHECK_EQU(ladder_n_units(s.ladder), 31);
    CHECK_EQU(ladder_bytes(s.ladder, 0) / 1000000, 143);
    CHECK_EQU(ladder_bytes(s.ladder, ladder_all_at(s.ladder, RUNG_HIGH)) / 1000000, 75);
    CHECK(gov_n_resident(s.ladder) < ladder_n_steps(s.ladder));
    setup_fini(&s);
}

static void a_chart_stays_small(void) {
    struct chart *c = calloc(1, sizeof(*c));
    char *text = NULL;
    size_t n;
    REQUIRE(c);
    FILE *f = open_memstream(&text, &n);
    REQUIRE(f);
    CHECK_EQ(chart_write(c, "none", f), -EINVAL);
    for (unsigned i = 0; i < 200000; i++) {
        chart_add(c, CHART_POSITION, i, i % 7);
        chart_add(c, CHART_STAGE, i, 3);
    }
    CHECK_EQU(c->lines[CHART_STAGE].n, 1);
    CHECK(c->lines[CHART_POSITION].n > CHART_MAX / 4);
    CHECK_EQ(chart_write(c, "full", f), 0);
    fclose(f);
    CHECK(n < 1000000);
    CHECK(strstr(text, "heat stage") && !strstr(text, "memory allows"));
    free(text);
    free(c);
}

static const struct t_case cases[] = {
    {"numbers", numbers},
    {"a_file_holds_until_the_next_row", a_file_holds_until_the_next_row},
    {"bad_files_are_refused_with_their_line", bad_files_are_refused_with_their_line},
    {"a_million_rows", a_million_rows},
    {"formulas", formulas},
    {"random_worlds_keep_their_bounds", random_worlds_keep_their_bounds},
    {"odd_worlds_are_refused", odd_worlds_are_refused},
    {"the_worst_hour_slides", the_worst_hour_slides},
    {"levels_and_bytes_over", levels_and_bytes_over},
    {"an_answer_is_timed_from_the_first_reading", an_answer_is_timed_from_the_first_reading},
    {"a_step_down_and_up", a_step_down_and_up},
    {"heat_settles", heat_settles},
    {"a_run_replays", a_run_replays},
    {"replay_finds_what_differs", replay_finds_what_differs},
    {"odd_traces_are_refused", odd_traces_are_refused},
    {"settings", settings},
    {"the_made_up_ladder", the_made_up_ladder},
    {"a_chart_stays_small", a_chart_stays_small},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
