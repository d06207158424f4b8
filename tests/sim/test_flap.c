/* No oscillation: whatever the period of what the world does, the changes of position and stage in
 * the worst hour of a day stay within memory.changes; and a single odd reading changes nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/err.h"
#include "daemon/govern_set.h"
#include "tests/sim/plant.h"
#include "tests/sim/setup.h"
#include "tests/sim/tally.h"
#include "tests/sim/world.h"
#include "tests/t.h"

#define MIB (UINT64_C(1) << 20)

/* What is left of a run. */
struct result {
    uint64_t n_down, n_up, n_stages, n_suspicious;
    uint32_t worst_hour, worst_rise;
    uint32_t position;
};

struct seen {
    struct tally tally;
    uint64_t n_suspicious;
};

static void on_moment(void *ud, const struct plant_moment *m) {
    struct seen *s = ud;
    tally_add(&s->tally, m);
    s->n_suspicious += m->is_fresh && m->out->is_suspicious;
}

/* `sets`: up to 4 settings beside the defaults, NULL at the end. cooling_mc: plant.h. */
static struct result run(const char *spec, const char *const *sets, int32_t cooling_mc) {
    struct err e = {0};
    struct config c;
    struct gov_settings set;
    struct setup setup;
    struct world *w;
    struct seen *s = calloc(1, sizeof(*s));
    REQUIRE(s);
    config_defaults(&c);
    for (; sets && *sets; sets++) REQUIRE_OK(setup_set(*sets, &c, &e), &e);
    govern_set_make(&c, 4, &set);
    REQUIRE_OK(setup_make(&setup, &e), &e);
    REQUIRE_OK(world_make(spec, &w, &e), &e);
    s->tally.ladder = setup.ladder;
    s->tally.reserve_bytes = set.reserve_bytes;
    const struct plant_opts o = {.ladder = setup.ladder,
                                 .units = setup.units,
                                 .set = &set,
                                 .interval_us = c.sense_interval_us,
                                 .trip_mc = 80000,
                                 .cooling_mc = cooling_mc,
                                 .other_bytes = 24 * MIB,
                                 .return_us = 20000,
                                 .read_bytes_per_s = 90 * MIB,
                                 .fn = on_moment,
                                 .ud = s};
    REQUIRE_OK(plant_run(&o, w, world_span_us(w), &e), &e);
    CHECK_EQU(s->tally.unexplained_bytes, 0);
    CHECK_EQU(s->tally.n_too_high, 0);
    struct result r = {.n_down = s->tally.n_down,
                       .n_up = s->tally.n_up,
                       .n_stages = s->tally.n_stages,
                       .n_suspicious = s->n_suspicious,
                       .worst_hour = s->tally.worst_hour,
                       .worst_rise = s->tally.worst_rise,
                       .position = s->tally.position};
    world_destroy(w);
    setup_fini(&setup);
    free(s);
    return r;
}

/* `n` periods from `from` to `to` seconds, each as many times the one before. */
struct sweep {
    const char *world; /* but for its length and period */
    unsigned for_s;
    unsigned n;
    double from, to;
    const char *const *sets;
    uint32_t limit;
    bool has_slow_falls; /* in several steps, which nothing may limit: only rises count */
    int32_t cooling_mc;
};

static void sweep(const struct sweep *w) {
    uint32_t most = 0;
    double at = 0;
    for (unsigned i = 0; i < w->n; i++) {
        char spec[200];
        double period = w->from * pow(w->to / w->from, (double)i / (w->n - 1));
        snprintf(spec, sizeof(spec), "%s,for_s=%u,period_s=%.6f", w->world, w->for_s, period);
        struct result r = run(spec, w->sets, w->cooling_mc);
        uint32_t n = w->has_slow_falls ? r.worst_rise : r.worst_hour;
        if (n > w->limit)
            t_fail(__FILE__, __LINE__, "%s: %u changes in the worst hour, %u are allowed", spec, n,
                   w->limit);
        if (n < most) continue;
        most = n;
        at = period;
    }
    printf("     %s: at most %u changes %s, at a period of %.3g s\n", w->world, most,
           w->has_slow_falls ? "in an hour that ends with a rise" : "an hour", at);
}

enum { DAY = 86400 };

static void memory_of_any_period(void) {
    /* All of the ladder; its upper half; and little more than a step. */
    static const struct sweep all[] = {
        {"square:low_mib=300,high_mib=1024", DAY, 25, 0.1, 60, NULL, 120, false, 0},
        {"square:low_mib=370,high_mib=500", DAY, 6, 0.1, 60, NULL, 120, false, 0},
        {"square:low_mib=410,high_mib=437", DAY, 8, 20, 7200, NULL, 120, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) sweep(&all[i]);
}

static void heat_of_any_period(void) {
    static const struct sweep all[] = {
        {"heat-square:swing_c=3", DAY, 25, 1, 60, NULL, 120, false, 0},
        {"heat-sine:swing_c=3", DAY, 8, 1, 60, NULL, 120, false, 0},
        {"heat-square:swing_c=1", DAY, 4, 1, 60, NULL, 120, false, 0},
        {"heat-sine:swing_c=8,around_c=76", DAY, 8, 60, 7200, NULL, 120, true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) sweep(&all[i]);
}

/* The kernel slows the clock far below the trip point, near it, and above the first stage's edge:
 * what it asks for comes and goes with it, and is held back like any other stage. */
static void a_kernel_that_throttles(void) {
    static const struct sweep all[] = {
        {"heat-square:swing_c=3,around_c=68", DAY, 8, 1, 60, NULL, 120, false, 68000},
        {"heat-sine:swing_c=8,around_c=66", DAY, 8, 4, 7200, NULL, 120, true, 66000},
        {"heat-square:swing_c=1,around_c=75", DAY, 4, 1, 60, NULL, 120, false, 75000},
        {"heat-sine:swing_c=8,around_c=40", DAY, 4, 4, 7200, NULL, 0, false, 40000},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) sweep(&all[i]);
    /* The board of the model, whose kernel throttles at 62, 68 and 75 C. */
    for (int32_t mc = 62000; mc <= 75000; mc += mc == 62000 ? 6000 : 7000) {
        struct result r = run("thermal:ambient_c=35,rise_c=45,for_s=86400", NULL, mc);
        printf("     a kernel that throttles at %d C: %u changes in a day, %u in the worst hour\n",
               mc / 1000, (unsigned)r.n_stages, (unsigned)r.worst_hour);
        CHECK(r.worst_hour <= 12);
    }
}

static void storms(void) {
    static const struct sweep all[] = {
        {"storm:low_mib=300", DAY, 8, 0.3, 3600, NULL, 120, true, 0},
        {"saw:low_mib=300", DAY, 4, 60, 3600, NULL, 120, true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) sweep(&all[i]);
}

/* Where no hold and no back-off help, the limit of the hour does. */
static void the_limit_alone(void) {
    static const char *const sets[] = {"memory.hold=1s", "memory.hold_limit=1s", "heat.hold=1s",
                                       "memory.changes=20", NULL};
    static const struct sweep all[] = {
        {"square:low_mib=410,high_mib=1024", 20000, 6, 3, 300, sets, 20, false, 0},
        {"heat-square:around_c=74,swing_c=6", 20000, 6, 3, 300, sets, 20, true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) sweep(&all[i]);
    /* And without it they would be many more, or this tests nothing. */
    static const char *const loose[] = {"memory.hold=1s", "memory.hold_limit=1s",
                                        "memory.changes=240", NULL};
    struct result r = run("square:low_mib=410,high_mib=1024,for_s=20000,period_s=60", loose, 0);
    CHECK(r.worst_hour > 100 && r.worst_hour <= 240);
}

/* A spike that at most one reading sees, at every phase to the readings. */
static void spike(const char *world, unsigned from_ms, unsigned step_ms, unsigned n,
                  const char *what) {
    uint64_t n_seen = 0;
    uint32_t position = 0;
    for (unsigned i = 0; i < n; i++) {
        char spec[200];
        snprintf(spec, sizeof(spec), "%s,for_s=130,at_s=%.3f", world,
                 (from_ms + i * step_ms) / 1e3);
        struct result r = run(spec, NULL, 0);
        if (r.n_down || r.n_up || r.n_stages)
            t_fail(__FILE__, __LINE__, "%s: %u down, %u up, %u stages", spec, (unsigned)r.n_down,
                   (unsigned)r.n_up, (unsigned)r.n_stages);
        n_seen += r.n_suspicious;
        position = r.position;
    }
    printf("     a spike of %s at position %u: seen %u times\n", what, position, (unsigned)n_seen);
    if (n_seen == 0) t_fail(__FILE__, __LINE__, "no reading saw the spike of %s", what);
}

static void a_single_sample_changes_nothing(void) {
    spike("spike:width_ms=49,low_mib=0", 60000, 7, 30, "memory, down");
    spike("spike:width_ms=49,low_mib=1024,stall_percent=100", 60000, 7, 30, "stall");
    spike("spike:width_ms=990,low_mib=1024,celsius=120", 60000, 70, 30, "heat");
}

/* More memory or less heat for a moment: nobody is in a hurry then, so nothing says that it was
 * seen; at one of these phases a reading falls into it. */
static void a_single_good_sample_changes_nothing(void) {
    for (unsigned i = 0; i < 30; i++) {
        char spec[200];
        snprintf(spec, sizeof(spec),
                 "spike:width_ms=99,high_mib=400,low_mib=4096,for_s=130,at_s=%.3f", 60 + i * 0.007);
        struct result r = run(spec, NULL, 0);
        CHECK(r.position > 0);
        CHECK_EQU(r.n_down + r.n_up + r.n_stages, 0);
    }
}

static const struct t_case cases[] = {
    {"memory_of_any_period", memory_of_any_period},
    {"heat_of_any_period", heat_of_any_period},
    {"a_kernel_that_throttles", a_kernel_that_throttles},
    {"storms", storms},
    {"the_limit_alone", the_limit_alone},
    {"a_single_sample_changes_nothing", a_single_sample_changes_nothing},
    {"a_single_good_sample_changes_nothing", a_single_good_sample_changes_nothing},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
