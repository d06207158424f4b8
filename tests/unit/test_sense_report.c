/* Sensors that flap: a line at once, then a count once in a while, and the last line is true. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/sense_report.h"
#include "tests/t.h"

enum { SECOND = 1000000 };
static const uint64_t every = 30 * (uint64_t)SECOND, tick = SECOND / 10;

static struct sense_reading known, unknown; /* of MemAvailable; large */
static struct sense_report st;
static struct sense_change lines[SENSE_MAX_LINES];

static void start(void) {
    st = (struct sense_report){0};
    const struct err absent = {.code = -ENOENT, .msg = "not here"};
    known = (struct sense_reading){
        .has_mem = true,
        .mem_available_bytes = 7 << 20,
        .cgroup_err = absent,
        .stall_err = absent,
        .refault_err = absent,
        .heat_err = absent,
        .clock_err = absent,
        .throttle_err = absent,
    };
    unknown = known;
    unknown.has_mem = false;
    err_set(&unknown.mem_err, -EIO, "the disk of it all");
}

/* From one reading to the next. */
static unsigned step(const struct sense_reading *before, const struct sense_reading *now,
                     uint64_t at_us, bool may_say) {
    struct sense_change changes[SENSE_MAX_CHANGES];
    unsigned n = sense_changes(before, now, changes);
    return sense_report(&st, changes, n, now, at_us, every, may_say, lines);
}

static void the_first_change_is_reported_at_once(void) {
    start();
    CHECK_EQU(step(NULL, &known, 0, true), 0);
    CHECK_EQU(step(&known, &known, tick, true), 0);
    REQUIRE(step(&known, &unknown, 2 * tick, true) == 1);
    CHECK(!lines[0].is_good && lines[0].source == SENSE_MEM);
    CHECK_STR(lines[0].text, "mem_available is unknown: the disk of it all");
    /* One change alone is reported as such, later. */
    CHECK_EQU(step(&unknown, &known, 3 * tick, true), 0);
    CHECK_EQU(step(&known, &known, 2 * tick + every - 1, true), 0);
    REQUIRE(step(&known, &known, 2 * tick + every, true) == 1);
    CHECK(lines[0].is_good);
    CHECK_STR(lines[0].text, "mem_available is known: 7 MiB");
    CHECK_EQU(step(&known, &known, 100 * every, true), 0);
    /* After a long quiet time at once again. */
    REQUIRE(step(&known, &unknown, 101 * every, true) == 1);
}

/* A source that fails at every second reading for ten minutes: a line in 30 s, and the end. */
static void flapping_is_counted(void) {
    const uint64_t end = 600 * (uint64_t)SECOND;
    unsigned n_lines = 0, n_counted = 0;
    char last[400] = "";
    start();
    for (uint64_t at = 0, i = 0; at <= end + 2 * every; at += tick, i++) {
        bool was = i % 2 || at > end, is = i % 2 == 0 || at >= end;
        unsigned n = step(was ? &known : &unknown, is ? &known : &unknown, at, true), changes;
        for (unsigned k = 0; k < n; k++) {
            snprintf(last, sizeof(last), "%s", lines[k].text);
            if (sscanf(last, "mem_available: %u changes in 30 s, now", &changes) == 1)
                n_counted += changes;
        }
        n_lines += n;
    }
    CHECK(n_lines >= 20 && n_lines <= 22);
    CHECK(n_counted >= 5800 && n_counted <= 6001);
    CHECK(strstr(last, "known: 7 MiB") && !strstr(last, "unknown"));
}

static void sources_do_not_wait_for_each_other(void) {
    start();
    CHECK_EQU(step(&known, &unknown, 0, true), 1);
    struct sense_reading other = unknown;
    other.has_stall = true;
    other.stall_source = SENSE_STALL_SYSTEM;
    REQUIRE(step(&unknown, &other, tick, true) == 1);
    CHECK_EQ(lines[0].source, SENSE_STALL);
    CHECK(strncmp(lines[0].text, "stall is known: ", 16) == 0);
}

/* Several lines of one reading, as of zones, are reported together. */
static void one_reading_is_one_report(void) {
    start();
    struct sense_change changes[3] = {{.source = SENSE_HEAT, .text = "a"},
                                      {.source = SENSE_HEAT, .text = "b"},
                                      {.source = SENSE_CLOCK, .text = "c"}};
    CHECK_EQU(sense_report(&st, changes, 3, &known, 0, every, true, lines), 3);
    CHECK_EQU(sense_report(&st, changes, 3, &known, tick, every, true, lines), 0);
    REQUIRE(sense_report(&st, changes, 2, &known, every, every, true, lines) == 2);
    CHECK(strncmp(lines[0].text, "heat: 4 changes in 30 s, now ", 29) == 0);
    CHECK(strncmp(lines[1].text, "clock is ", 9) == 0);
    /* Without a bound each is reported. */
    CHECK_EQU(sense_report(&st, changes, 3, &known, every + 1, 0, true, lines), 3);
    CHECK_EQU(sense_report(&st, changes, 3, &known, every + 2, 0, true, lines), 3);
}

/* While the log may not be written nothing is lost. */
static void what_may_not_be_said_is_kept(void) {
    start();
    CHECK_EQU(step(&known, &unknown, 0, false), 0);
    CHECK_EQU(step(&unknown, &known, tick, false), 0);
    CHECK_EQU(step(&known, &unknown, 20 * tick, false), 0);
    REQUIRE(step(&unknown, &unknown, 30 * tick, true) == 1);
    CHECK_STR(lines[0].text, "mem_available: 3 changes in 3 s, now unknown: the disk of it all");
    CHECK_EQU(step(&unknown, &unknown, 31 * tick, true), 0);
    /* A clock that goes back is no reason to wait. */
    REQUIRE(step(&unknown, &known, tick, true) == 1);
}

static const struct t_case cases[] = {
    {"the_first_change_is_reported_at_once", the_first_change_is_reported_at_once},
    {"flapping_is_counted", flapping_is_counted},
    {"sources_do_not_wait_for_each_other", sources_do_not_wait_for_each_other},
    {"one_reading_is_one_report", one_reading_is_one_report},
    {"what_may_not_be_said_is_kept", what_may_not_be_said_is_kept},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
