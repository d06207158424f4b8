#include "daemon/sense_zone.h"

#include <string.h>
#include <strings.h>

enum {
    DEFAULT_TRIP_MC = 80000,
    /* Critical is where the kernel switches off, which a program must stay away from. */
    CRITICAL_DISTANCE_MC = 10000,
};

/* What chips call their own sensors: cpu-thermal, CPU-therm, bigcore0-thermal, package-thermal,
 * x86_pkg_temp, tj-thermal. An acpitz of a PC may be anything, but mostly is the processor. */
static const char *const chip_words[] = {"cpu", "core", "package", "pkg", "tj-", "acpitz"};

/* What a zone is whose type has the word. They come first: "thermal-fan-est" is no chip, nor is
 * "mdm-core-usr". None of these is heated by computing alone, and some are no temperatures. */
static const struct {
    const char *word, *what;
} never[] = {
    {"pmic", "a power regulator"}, /* Jetson's PMIC-Die says 100 C, always */
    {"pm8", "a power regulator"},  /* Qualcomm's: pm8150_tz, pmi8998_tz, pmk8350 */
    {"pm6", "a power regulator"},
    {"pm7", "a power regulator"},
    {"pmi", "a power regulator"},
    {"pmk", "a power regulator"},
    {"pmr", "a power regulator"},
    {"axp", "a power regulator"},
    {"buck", "a power regulator"},
    {"vreg", "a power regulator"},
    {"regulator", "a power regulator"},
    {"fan", "a fan"}, /* thermal-fan-est: an average of others, for a fan */
    {"-est", "an estimate"},
    {"_est", "an estimate"},
    {"bat", "a battery"},
    {"bms", "a battery"},
    {"bcl", "a battery"},    /* vbat, ibat and bcl zones give volts and amperes */
    {"charge", "a charger"}, /* also a battery's state of charge */
    {"chg", "a charger"},
    {"gauge", "a battery"},
    {"usb", "a plug"},
    {"typec", "a plug"},
    {"nvme", "a disk"},
    {"ssd", "a disk"},
    {"wifi", "a radio"}, /* iwlwifi_1 says 0 or nothing while it is off */
    {"wlan", "a radio"},
    {"ath1", "a radio"},
    {"mt76", "a radio"},
    {"wmt", "a radio"},
    {"modem", "a radio"},
    {"mdm", "a radio"},
    {"phy", "a network port"},
    {"sfp", "a network port"},
    {"pa-therm", "a radio"},
    {"pa_therm", "a radio"},
    {"skin", "the case"},
    {"tskn", "the case"},
    {"board", "the board"},
    {"quiet", "the board"},
    {"xo-therm", "the board"},
    {"ambient", "the air"},
    {"camera", "a camera"},
    {"flash", "a camera"},
    {"display", "a display"},
    {"lcd", "a display"},
    {"backlight", "a display"},
};

static const char odd_soc[] = "perhaps a battery's charge";
static const char not_chip[] = "not the processor";

static void take_lowest(int32_t mc, bool *has, int32_t *lowest_mc) {
    if (!*has || mc < *lowest_mc) *lowest_mc = mc;
    *has = true;
}

void sense_zone_add_trip(struct sense_zone *z, const char *kind, int32_t mc) {
    const struct {
        const char *kind;
        bool *has;
        int32_t *mc;
    } kinds[] = {
        {"passive", &z->has_passive, &z->passive_mc},
        {"hot", &z->has_hot, &z->hot_mc},
        {"critical", &z->has_critical, &z->critical_mc},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i].kind) != 0) continue;
        if (mc >= SENSE_LEAST_TRIP_MC) {
            if (i == 0) z->passive_last_mc = z->has_passive ? MAX(z->passive_last_mc, mc) : mc;
            take_lowest(mc, kinds[i].has, kinds[i].mc);
        } else if (!z->odd_kind) {
            z->odd_kind = kinds[i].kind;
            z->odd_mc = mc;
        }
    }
}

bool sense_zone_is_listed(const char *wanted, const char *type) {
    size_t n_type = strlen(type);
    if (n_type == 0) return false;
    for (const char *at = wanted;;) {
        size_t n = strcspn(at, ",");
        const char *name = at, *next = at + n;
        while (n > 0 && *name == ' ') name++, n--;
        while (n > 0 && name[n - 1] == ' ') n--;
        if (n == n_type && strncasecmp(name, type, n) == 0) return true;
        if (*next == '\0') return false;
        at = next + 1;
    }
}

const char *sense_zone_why_never(const char *type) {
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        if (strcasestr(type, never[i].word)) return never[i].what;
    return NULL;
}

static bool has_trip(const struct sense_zone *z) {
    return z->has_passive || z->has_hot || z->has_critical;
}

/* Whether anything but "soc" says that it is a temperature. */
static bool is_temperature(const struct sense_zone *z) {
    return has_trip(z) || strcasestr(z->type, "therm") || strcasestr(z->type, "temp");
}

bool sense_zone_is_chip(const struct sense_zone *z) {
    if (sense_zone_why_never(z->type)) return false;
    for (size_t i = 0; i < ARRAY_LEN(chip_words); i++)
        if (strcasestr(z->type, chip_words[i])) return true;
    return strcasestr(z->type, "soc") && is_temperature(z);
}

static const char *why_not(const struct sense_zone *z) {
    const char *what = sense_zone_why_never(z->type);
    if (what) return what;
    return strcasestr(z->type, "soc") && !is_temperature(z) ? odd_soc : NULL;
}

static void choose_auto(struct sense_zone *zones, uint32_t n) {
    bool has_chip = false;
    for (uint32_t i = 0; i < n; i++) {
        struct sense_zone *z = &zones[i];
        z->is_wanted = sense_zone_is_chip(z);
        z->why_not = z->is_wanted ? NULL : why_not(z);
        has_chip |= z->is_wanted;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct sense_zone *z = &zones[i];
        if (z->is_wanted || z->why_not) continue;
        z->is_wanted = !has_chip;
        z->why_not = has_chip ? not_chip : NULL;
    }
}

void sense_zone_choose(const char *wanted, struct sense_zone *zones, uint32_t n) {
    if (strcmp(wanted, "auto") == 0) {
        choose_auto(zones, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        zones[i].is_wanted = sense_zone_is_listed(wanted, zones[i].type);
        zones[i].why_not = NULL;
    }
}

const char *sense_trip_name(enum sense_trip_source s) {
    switch (s) {
    case SENSE_TRIP_SET: return "set";
    case SENSE_TRIP_PASSIVE: return "passive";
    case SENSE_TRIP_HOT: return "hot";
    case SENSE_TRIP_CRITICAL: return "critical";
    case SENSE_TRIP_DEFAULT: return "default";
    }
    return "default";
}

struct sense_trip sense_zone_trip(const struct sense_zone *z) {
    if (z->has_passive) return (struct sense_trip){SENSE_TRIP_PASSIVE, z->passive_last_mc};
    if (z->has_hot) return (struct sense_trip){SENSE_TRIP_HOT, z->hot_mc};
    if (!z->has_critical) return (struct sense_trip){SENSE_TRIP_DEFAULT, DEFAULT_TRIP_MC};
    int32_t mc = MIN(z->critical_mc - CRITICAL_DISTANCE_MC, DEFAULT_TRIP_MC);
    return (struct sense_trip){SENSE_TRIP_CRITICAL, MAX(mc, SENSE_LEAST_TRIP_MC)};
}

struct sense_headroom sense_zone_headroom(const struct sense_zone *zones, uint32_t n,
                                          int32_t set_mc) {
    struct sense_headroom ret = {.least_mc = INT32_MAX, .sure_mc = INT32_MAX};
    for (uint32_t i = 0; i < n; i++) {
        const struct sense_zone *z = &zones[i];
        if (!z->is_wanted || !z->has_temp) continue;
        int32_t trip_mc = set_mc == SENSE_TRIP_AUTO ? sense_zone_trip(z).mc : set_mc;
        ret.has = true;
        ret.least_mc = MIN(ret.least_mc, trip_mc - z->temp_mc);
        if (z->has_changed) ret.sure_mc = MIN(ret.sure_mc, trip_mc - z->temp_mc);
    }
    return ret;
}
