/* What is chosen on boards as their kernels describe them: the zones that count, how warm each may
 * become, and where the first stage begins. The table of tests/board/boards.md is made of the same
 * trees, so that it cannot say anything else. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/err.h"
#include "core/gov.h"
#include "core/ladder.h"
#include "daemon/govern_set.h"
#include "daemon/sense_file.h"
#include "daemon/sense_thermal.h"
#include "tests/t.h"
#include "tests/unit/root.h"

enum { SECOND = 1000000, MAX_TRIPS = 6, MAX_ZONES = 10 };

struct trip {
    const char *kind;
    int32_t mc;
};

struct zone {
    const char *type;
    struct trip trips[MAX_TRIPS]; /* in the order of the board, which is the system's */
    bool is_silent;               /* its sensor answers nothing */
};

struct board {
    const char *name;
    struct zone zones[MAX_ZONES];
    const char *source;
};

#define PI_FAN                                                                                     \
    {"active", 50000}, {"active", 60000}, {"active", 67500}, {                                     \
        "active", 75000                                                                            \
    }

static const struct board boards[] = {
    {"Raspberry Pi 3",
     {{"cpu-thermal", {{"critical", 90000}}, false}},
     "Linux, bcm283x.dtsi; the firmware slows it from 80 C on, a 3B+ a little from 60 C on"},
    {"Raspberry Pi 4",
     {{"cpu-thermal", {{"critical", 90000}}, false}},
     "Linux, bcm2711.dtsi, which takes bcm283x.dtsi's; the firmware slows it from 80 C on"},
    {"Raspberry Pi 5",
     {{"cpu-thermal", {{"critical", 110000}, PI_FAN}, false}},
     "raspberrypi/linux, bcm2712.dtsi and bcm2712-rpi-5-b.dts; the firmware slows it from 80 C on, "
     "hard at 85"},
    {"Jetson Nano",
     {{"AO-therm", {{"critical", 110000}, {"active", 15000}, {"active", 70000}}, false},
      {"CPU-therm",
       {{"active", 66000},
        {"active", 86000},
        {"critical", 102000},
        {"hot", 100500},
        {"passive", 97000}},
       false},
      {"GPU-therm", {{"critical", 102500}, {"hot", 101000}, {"passive", 97500}}, false},
      {"PLL-therm", {{"passive", 70000}}, false},
      {"PMIC-Die", {{"active", 120000}}, false},
      {"thermal-fan-est", {{0}}, false}},
     "NVIDIA's kernel 4.9, device tree of tegra210-p3448-0000-p3449-0000-b00 as reported to "
     "linux-tegra; PMIC-Die says 100 C, always"},
    {"Jetson Orin Nano",
     {{"cpu-thermal", {{0}}, false},
      {"gpu-thermal", {{0}}, false},
      {"cv0-thermal", {{0}}, true},
      {"cv1-thermal", {{0}}, true},
      {"cv2-thermal", {{0}}, true},
      {"soc0-thermal", {{0}}, false},
      {"soc1-thermal", {{0}}, false},
      {"soc2-thermal", {{0}}, false},
      {"tj-thermal", {{"active", 35000}, {"active", 74000}, {"active", 95000}}, false}},
     "Linux, tegra234.dtsi and tegra234-p3767.dtsi: trip points for the fan alone"},
    {"RK3588",
     {{"package-thermal", {{"critical", 115000}}, false},
      {"bigcore0-thermal", {{"passive", 85000}, {"critical", 115000}}, false},
      {"bigcore2-thermal", {{"passive", 85000}, {"critical", 115000}}, false},
      {"littlecore-thermal", {{"passive", 85000}, {"critical", 115000}}, false},
      {"center-thermal", {{"critical", 115000}}, false},
      {"gpu-thermal", {{"passive", 85000}, {"critical", 115000}}, false},
      {"npu-thermal", {{"critical", 115000}}, false}},
     "Linux, rk3588-base.dtsi"},
    {"RK3588, vendor's kernel",
     {{"soc-thermal", {{"passive", 75000}, {"passive", 85000}, {"critical", 115000}}, false},
      {"bigcore0-thermal", {{"critical", 115000}}, false},
      {"bigcore1-thermal", {{"critical", 115000}}, false},
      {"littlecore-thermal", {{"critical", 115000}}, false},
      {"center-thermal", {{"critical", 115000}}, false},
      {"gpu-thermal", {{"critical", 115000}}, false},
      {"npu-thermal", {{"critical", 115000}}, false}},
     "Rockchip's kernel 5.10, rk3588s.dtsi"},
    {"Allwinner H616, H618",
     {{"cpu-thermal", {{"passive", 60000}, {"passive", 70000}, {"critical", 110000}}, false},
      {"gpu-thermal", {{"critical", 110000}}, false},
      {"ve-thermal", {{"critical", 110000}}, false},
      {"ddr-thermal", {{"critical", 110000}}, false}},
     "Linux, sun50i-h616.dtsi"},
    {"Allwinner A64",
     {{"cpu0-thermal", {{"passive", 75000}, {"hot", 90000}, {"critical", 110000}}, false},
      {"gpu0-thermal", {{0}}, false},
      {"gpu1-thermal", {{0}}, false}},
     "Linux, sun50i-a64.dtsi"},
    {"x86 with ACPI",
     {{"acpitz", {{"passive", 20000}, {"critical", 110000}}, false},
      {"x86_pkg_temp", {{"passive", 0}, {"passive", 0}}, false},
      {"iwlwifi_1", {{0}}, true}},
     "an ACPI table as reported; Linux before 6.2, x86_pkg_temp_thermal.c: 0 for a trip point that "
     "is not set"},
    {"x86 with ACPI, Linux 6.2 and later",
     {{"acpitz", {{"critical", 119000}}, false},
      {"x86_pkg_temp", {{"passive", -274000}, {"passive", -274000}}, false},
      {"BAT0", {{0}}, false}},
     "an ACPI table as reported; x86_pkg_temp_thermal.c: THERMAL_TEMP_INVALID"},
    {"phone with a Qualcomm chip",
     {{"cpu-0-0-usr", {{0}}, false},
      {"soc", {{"passive", 10}}, false},
      {"pm8150_tz", {{"passive", 95000}}, false},
      {"battery", {{0}}, false}},
     "Qualcomm's kernel: soc is the battery's charge in percent"},
};

/* ---- the tree ---- */

static struct sense_thermal thermal; /* large */

static void read_board(const struct board *b) {
    const struct sense_when when = {.now_us = SECOND, .rescan_us = SECOND, .may_open = true};
    struct sense_zones *z;
    struct err e = {0};
    const char *root = root_make();
    for (unsigned i = 0; i < MAX_ZONES && b->zones[i].type; i++) {
        const struct zone *zone = &b->zones[i];
        root_put_zone(i, zone->type, zone->is_silent ? "" : "45000");
        for (unsigned t = 0; t < MAX_TRIPS && zone->trips[t].kind; t++) {
            char mc[20];
            snprintf(mc, sizeof(mc), "%d", zone->trips[t].mc);
            root_put_trip(i, t, zone->trips[t].kind, mc);
        }
    }
    REQUIRE_OK(sense_thermal_create(root, "auto", &z, &e), &e);
    REQUIRE_OK(sense_thermal_read(z, &when, &thermal, &e), &e);
    sense_thermal_destroy(z);
}

/* ---- what is made of it ---- */

/* The stage after two readings with every zone at that temperature. */
static uint32_t stage_at(const struct gov_settings *set, const struct ladder *l, int32_t mc) {
    struct gov_state *st = calloc(1, sizeof(*st)); /* large */
    struct gov_output out = {0};
    REQUIRE(st);
    for (uint32_t i = 0; i < thermal.n_zones; i++) thermal.zones[i].temp_mc = mc;
    struct sense_headroom h = sense_zone_headroom(thermal.zones, thermal.n_zones, SENSE_TRIP_AUTO);
    REQUIRE(h.has);
    for (unsigned i = 1; i <= 2; i++) {
        const struct gov_input in = {.has_heat = true,
                                     .headroom_mc = h.least_mc,
                                     .operator_limit_bytes = UINT64_MAX,
                                     .cgroup_left_bytes = UINT64_MAX};
        out = gov_step(st, set, l, &in, i * SECOND);
    }
    free(st);
    return out.stage;
}

/* The highest temperature at which nothing is done yet. */
static int32_t first_stage_mc(void) {
    static const struct ladder_step steps[] = {
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 1, .cost = 1}};
    struct config c;
    struct gov_settings set;
    struct ladder *l;
    struct err e = {0};
    int32_t mc = 0;
    config_defaults(&c);
    govern_set_make(&c, 4, &set);
    REQUIRE_OK(ladder_create("one", 1, 2, steps, 1, &l, &e), &e);
    while (mc < 150000 && stage_at(&set, l, mc + 500) == 0) mc += 500;
    ladder_destroy(l);
    return mc;
}

static void add(char *text, size_t cap, const char *more) {
    size_t n = strlen(text);
    snprintf(text + n, cap - n, "%s%s", n ? ", " : "", more);
}

/* "| board | zones: trip points | does not count | first stage | tree |" */
static void make_row(const struct board *b, char *ret, size_t cap) {
    char wanted[400] = "", others[400] = "", more[120];
    for (uint32_t i = 0; i < thermal.n_zones; i++) {
        const struct sense_zone *z = &thermal.zones[i];
        struct sense_trip trip = sense_zone_trip(z);
        if (z->is_wanted)
            snprintf(more, sizeof(more), "%s %g (%s)", z->type, (double)trip.mc / 1000,
                     sense_trip_name(trip.source));
        else
            snprintf(more, sizeof(more), "%s: %s", z->type, z->why_not);
        if (z->is_wanted)
            add(wanted, sizeof(wanted), more);
        else
            add(others, sizeof(others), more);
        if (z->odd_kind) {
            snprintf(more, sizeof(more), "%s's %s %g", z->type, z->odd_kind,
                     (double)z->odd_mc / 1000);
            add(others, sizeof(others), more);
        }
    }
    snprintf(ret, cap, "| %s | %s | %s | %g | %s |", b->name, wanted, others[0] ? others : "-",
             (double)first_stage_mc() / 1000, b->source);
}

static void the_table_is_what_is_done(void) {
    static char text[16384], row[2048];
    const char *source = getenv("EBB_SOURCE");
    char path[1024];
    if (!source) t_skip("EBB_SOURCE is not set");
    snprintf(path, sizeof(path), "%s/tests/board/boards.md", source);
    FILE *f = fopen(path, "r");
    REQUIRE(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(boards); i++) {
        read_board(&boards[i]);
        make_row(&boards[i], row, sizeof(row));
        if (!strstr(text, row))
            t_fail(__FILE__, __LINE__, "tests/board/boards.md lacks this row:\n%s", row);
    }
}

/* Not more than the kernel or the firmware of the board bears, and not so early that it is slow
 * while it is cool. */
static void first_stages_are_in_reason(void) {
    for (size_t i = 0; i < ARRAY_LEN(boards); i++) {
        read_board(&boards[i]);
        int32_t mc = first_stage_mc();
        if (mc < 50000 || mc > 90000)
            t_fail(__FILE__, __LINE__, "%s: first stage above %d mC", boards[i].name, mc);
    }
}

static const struct t_case cases[] = {
    {"the_table_is_what_is_done", the_table_is_what_is_done},
    {"first_stages_are_in_reason", first_stages_are_in_reason},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
