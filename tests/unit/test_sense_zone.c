/* Which zones count and how warm they may become, by types and trip points as boards have them. */
#include <stdio.h>
#include <string.h>

#include "core/defs.h"
#include "daemon/sense_zone.h"
#include "tests/t.h"

static struct sense_zone make(const char *type) {
    struct sense_zone z = {.has_temp = true};
    snprintf(z.type, sizeof(z.type), "%s", type);
    return z;
}

static void types_are_chosen(void) {
    static const char *const chips[] = {
        "cpu-thermal",      "cpu_thermal",        "package-thermal",
        "bigcore0-thermal", "littlecore-thermal", "soc-thermal",
        "soc0-thermal",     "x86_pkg_temp",       "tj-thermal",
        "acpitz",           "CPU-therm",          "MCPU-therm",
        "BCPU-therm",       "cpu-0-0-usr",        "CPU",
        "mtktscpu",         "SoC-Temp",           "TCPU",
        "cpu_thermal_zone",
    };
    for (size_t i = 0; i < ARRAY_LEN(chips); i++) {
        struct sense_zone z = make(chips[i]);
        if (!sense_zone_is_chip(&z)) t_fail(__FILE__, __LINE__, "%s", chips[i]);
    }
    static const char *const others[] = {
        "gpu-thermal", "npu-thermal", "center-thermal", "GPU-therm",
        "PLL-therm",   "AO-therm",    "ddr-thermal",    ""};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct sense_zone z = make(others[i]);
        if (sense_zone_is_chip(&z)) t_fail(__FILE__, __LINE__, "%s", others[i]);
        if (sense_zone_why_never(others[i])) t_fail(__FILE__, __LINE__, "never %s", others[i]);
    }
}

static void some_are_never_the_chip(void) {
    static const char *const nevers[] = {
        "PMIC-Die",         "pmic-thermal0", "pm8150_tz",  "pmi8998-tz", "thermal-fan-est",
        "cpu-fan",          "battery",       "BAT0",       "vbat-lvl0",  "soc-battery",
        "charger_ic",       "chg-therm",     "nvme",       "iwlwifi_1",  "wifi-cpu",
        "mdm-core-usr",     "modem-cpu",     "Tskin_est",  "skin-core",  "Tboard_tegra",
        "pm8350b-bcl-lvl0", "mtktsbuck",     "soc-charge",
    };
    for (size_t i = 0; i < ARRAY_LEN(nevers); i++) {
        struct sense_zone z = make(nevers[i]);
        sense_zone_add_trip(&z, "passive", 80000);
        if (!sense_zone_why_never(nevers[i]) || sense_zone_is_chip(&z))
            t_fail(__FILE__, __LINE__, "%s", nevers[i]);
    }
}

static void a_list_is_taken_at_its_word(void) {
    CHECK(sense_zone_is_listed("cpu-thermal", "cpu-thermal"));
    CHECK(sense_zone_is_listed("cpu-therm", "CPU-therm"));
    CHECK(sense_zone_is_listed(" gpu , Cpu-Thermal ", "cpu-thermal"));
    CHECK(sense_zone_is_listed("a b,c", "a b"));
    CHECK(!sense_zone_is_listed("cpu-thermal2,cpu", "cpu-thermal"));
    CHECK(!sense_zone_is_listed("", "cpu"));
    CHECK(!sense_zone_is_listed("", ""));
    CHECK(!sense_zone_is_listed(",,", ""));
    struct sense_zone zones[] = {make("PMIC-Die"), make("cpu-thermal")};
    sense_zone_choose("pmic-die", zones, 2);
    CHECK(zones[0].is_wanted && !zones[1].is_wanted && !zones[1].why_not);
}

/* The first Jetson: one zone of the processor, and a regulator that says 100 C for ever. */
static void the_chip_is_found_among_others(void) {
    struct sense_zone z[] = {make("AO-therm"),  make("CPU-therm"), make("GPU-therm"),
                             make("PLL-therm"), make("PMIC-Die"),  make("thermal-fan-est")};
    sense_zone_choose("auto", z, ARRAY_LEN(z));
    for (size_t i = 0; i < ARRAY_LEN(z); i++) CHECK_EQ(z[i].is_wanted, i == 1);
    CHECK(!z[1].why_not);
    CHECK_STR(z[0].why_not, "not the processor");
    CHECK_STR(z[4].why_not, "a power regulator");
    CHECK_STR(z[5].why_not, "a fan");
}

static void where_none_is_the_chip_all_but_the_odd_count(void) {
    struct sense_zone z[] = {make("BIG"),       make("G3D"), make("battery"),
                             make("iwlwifi_1"), make("soc"), make("")};
    sense_zone_choose("auto", z, ARRAY_LEN(z));
    for (size_t i = 0; i < ARRAY_LEN(z); i++) CHECK_EQ(z[i].is_wanted, i < 2 || i == 5);
    CHECK_STR(z[3].why_not, "a radio");
    CHECK_STR(z[4].why_not, "perhaps a battery's charge");
    sense_zone_choose("auto", z + 2, 3);
    for (size_t i = 2; i < 5; i++) CHECK(!z[i].is_wanted);
}

/* 97 % of a battery are no 97 C. */
static void a_bare_soc_needs_a_trip_point(void) {
    struct sense_zone z = make("soc");
    CHECK(!sense_zone_is_chip(&z));
    sense_zone_add_trip(&z, "passive", 10); /* a battery's: 10 % */
    CHECK(!sense_zone_is_chip(&z));
    sense_zone_add_trip(&z, "active", 60000);
    CHECK(!sense_zone_is_chip(&z));
    sense_zone_add_trip(&z, "critical", 105000);
    CHECK(sense_zone_is_chip(&z));
}

struct trip {
    const char *kind;
    int32_t mc;
};

static void trips_are_chosen(void) {
    static const struct {
        struct trip trips[6];
        enum sense_trip_source source;
        int32_t mc, odd_mc; /* odd_mc: INT32_MAX = there is none */
    } cases[] = {
        {{{0}}, SENSE_TRIP_DEFAULT, 80000, INT32_MAX},
        {{{"passive", 85000}, {"passive", 75000}, {"hot", 60000}, {"critical", 115000}},
         SENSE_TRIP_PASSIVE,
         85000,
         INT32_MAX},
        {{{"hot", 90000}, {"critical", 110000}}, SENSE_TRIP_HOT, 90000, INT32_MAX},
        /* Where only the end is known. */
        {{{"critical", 110000}}, SENSE_TRIP_CRITICAL, 80000, INT32_MAX},
        {{{"critical", 85000}}, SENSE_TRIP_CRITICAL, 75000, INT32_MAX},
        {{{"critical", 55000}}, SENSE_TRIP_CRITICAL, 50000, INT32_MAX},
        /* A fan's points are not ours. */
        {{{"active", 50000}, {"active", 60000}, {"critical", 110000}},
         SENSE_TRIP_CRITICAL,
         80000,
         INT32_MAX},
        /* Not believed: the next source. */
        {{{"passive", 0}, {"critical", 110000}}, SENSE_TRIP_CRITICAL, 80000, 0},
        {{{"passive", 0}, {"passive", 95000}}, SENSE_TRIP_PASSIVE, 95000, 0},
        {{{"passive", 20000}, {"hot", 99000}}, SENSE_TRIP_HOT, 99000, 20000},
        {{{"critical", 0}}, SENSE_TRIP_DEFAULT, 80000, 0},
        {{{"passive", 49999}, {"critical", 0}}, SENSE_TRIP_DEFAULT, 80000, 49999},
        {{{"passive", 50000}}, SENSE_TRIP_PASSIVE, 50000, INT32_MAX},
        {{{"hot", -1}, {"warm", 1}}, SENSE_TRIP_DEFAULT, 80000, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sense_zone z = make("cpu");
        for (const struct trip *t = cases[i].trips; t->kind; t++)
            sense_zone_add_trip(&z, t->kind, t->mc);
        struct sense_trip got = sense_zone_trip(&z);
        if (got.source != cases[i].source || got.mc != cases[i].mc)
            t_fail(__FILE__, __LINE__, "case %zu: %s %d", i, sense_trip_name(got.source), got.mc);
        CHECK_EQ(z.odd_kind != NULL, cases[i].odd_mc != INT32_MAX);
        if (z.odd_kind) CHECK_EQ(z.odd_mc, cases[i].odd_mc);
    }
    for (int s = SENSE_TRIP_SET; s <= SENSE_TRIP_DEFAULT; s++)
        CHECK(strlen(sense_trip_name((enum sense_trip_source)s)) > 0);
}

static void headroom_is_the_least(void) {
    struct sense_zone z[] = {make("cpu0"), make("cpu1"), make("gpu"), make("cpu2")};
    sense_zone_choose("auto", z, ARRAY_LEN(z));
    z[0].temp_mc = 50000;
    z[0].has_changed = true;
    z[1].temp_mc = 90000; /* since the start */
    z[2].temp_mc = 120000;
    z[3].has_temp = false;
    struct sense_headroom h = sense_zone_headroom(z, ARRAY_LEN(z), SENSE_TRIP_AUTO);
    CHECK(h.has && h.least_mc == -10000 && h.sure_mc == 30000);
    h = sense_zone_headroom(z, ARRAY_LEN(z), 60000);
    CHECK(h.has && h.least_mc == -30000 && h.sure_mc == 10000);
    h = sense_zone_headroom(z + 1, 3, SENSE_TRIP_AUTO);
    CHECK(h.has && h.least_mc == -10000 && h.sure_mc == INT32_MAX);
    CHECK(!sense_zone_headroom(z + 2, 2, SENSE_TRIP_AUTO).has);
    CHECK(!sense_zone_headroom(NULL, 0, SENSE_TRIP_AUTO).has);
}

static const struct t_case cases[] = {
    {"types_are_chosen", types_are_chosen},
    {"some_are_never_the_chip", some_are_never_the_chip},
    {"a_list_is_taken_at_its_word", a_list_is_taken_at_its_word},
    {"the_chip_is_found_among_others", the_chip_is_found_among_others},
    {"where_none_is_the_chip_all_but_the_odd_count", where_none_is_the_chip_all_but_the_odd_count},
    {"a_bare_soc_needs_a_trip_point", a_bare_soc_needs_a_trip_point},
    {"trips_are_chosen", trips_are_chosen},
    {"headroom_is_the_least", headroom_is_the_least},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
