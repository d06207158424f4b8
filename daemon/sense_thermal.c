#include "daemon/sense_thermal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_text.h"

enum {
    MAX_TEXT = 128,
    MAX_LISTED = 1024, /* entries of the folder that are looked at */
};

int sense_thermal_parse_mc(const char *text, size_t n, int32_t *ret_mc, struct err *e) {
    int64_t v;
    int r = sense_text_signed(text, n, &v, e);
    if (r < 0) return r;
    if (v < SENSE_MIN_MC || v > SENSE_MAX_MC)
        return err_set(e, -EBADMSG, "%lld is outside %d to %d thousandths of a degree",
                       (long long)v, SENSE_MIN_MC, SENSE_MAX_MC);
    *ret_mc = (int32_t)v;
    return 0;
}

bool sense_thermal_is_cpu_cooling(const char *type) {
    /* "cpufreq-cpu0", "thermal-cpufreq-0", "thermal-cpuidle-0", "Processor" of ACPI. */
    return strstr(type, "cpufreq") || strstr(type, "cpuidle") || strcmp(type, "Processor") == 0;
}

/* ---- files ---- */

/* <folder>/<name>, for names of one zone or device. */
static int read_text(const char *folder, const char *name, char *text, size_t *ret_n,
                     struct err *e) {
    char path[SENSE_MAX_PATH];
    int r = sense_text_path(path, e, folder, "/%s", name);
    return r < 0 ? r : sense_text_read(path, text, MAX_TEXT, ret_n, e);
}

static int read_word(const char *folder, const char *name, char *ret, size_t cap) {
    char text[MAX_TEXT];
    size_t n;
    int r = read_text(folder, name, text, &n, NULL);
    return r < 0 ? r : sense_text_word(text, n, ret, cap, NULL);
}

static int read_mc(const char *folder, const char *name, int32_t *ret_mc) {
    char text[MAX_TEXT];
    size_t n;
    int r = read_text(folder, name, text, &n, NULL);
    return r < 0 ? r : sense_thermal_parse_mc(text, n, ret_mc, NULL);
}

static void read_trips(const char *folder, struct sense_zone *z) {
    for (unsigned i = 0; i < SENSE_MAX_TRIPS; i++) {
        char name[40], type[SENSE_MAX_TYPE];
        int32_t mc = 0;
        snprintf(name, sizeof(name), "trip_point_%u_type", i);
        int r = read_word(folder, name, type, sizeof(type));
        if (r == -ENOENT) return; /* they are numbered without gaps */
        snprintf(name, sizeof(name), "trip_point_%u_temp", i);
        if (r < 0 || read_mc(folder, name, &mc) < 0) continue;
        sense_zone_add_trip(z, type, mc);
    }
}

/* False if the zone is switched off or has just vanished. */
static bool read_zone(const char *folder, struct sense_zone *z) {
    char mode[16];
    if (read_word(folder, "mode", mode, sizeof(mode)) == 0 && strcmp(mode, "disabled") == 0)
        return false;
    int r = read_word(folder, "type", z->type, sizeof(z->type));
    if (r == -ENOENT) return false;
    if (r < 0) z->type[0] = '\0';
    r = read_mc(folder, "temp", &z->temp_mc);
    z->has_temp = r == 0;
    z->temp_code = r;
    read_trips(folder, z);
    return true;
}

/* Puts it in by its number, and where there is no room in place of one that is not wanted. */
static void add_zone(struct sense_thermal *t, const struct sense_zone *z) {
    if (t->n_zones < SENSE_MAX_ZONES) {
        t->zones[t->n_zones++] = *z;
        return;
    }
    t->n_left_out++;
    for (uint32_t i = t->n_zones; z->is_wanted && i-- > 0;) {
        if (t->zones[i].is_wanted) continue;
        memmove(&t->zones[i], &t->zones[i + 1], (t->n_zones - 1 - i) * sizeof(t->zones[0]));
        t->zones[t->n_zones - 1] = *z;
        return;
    }
}

static int read_zones(const char *root, const char *wanted, struct sense_thermal *t,
                      uint32_t *numbers, struct err *e) {
    char folder[SENSE_MAX_PATH];
    size_t n, n_beyond;
    bool is_auto = strcmp(wanted, "auto") == 0;
    int r = sense_text_path(folder, e, root, "/sys/class/thermal");
    if (r == 0)
        r = sense_text_numbered(folder, "thermal_zone", numbers, MAX_LISTED, &n, &n_beyond, e);
    if (r < 0) return r;
    t->n_left_out = (uint32_t)MIN(n_beyond, UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        struct sense_zone z = {.number = numbers[i]};
        r = sense_text_path(folder, e, root, "/sys/class/thermal/thermal_zone%u", numbers[i]);
        if (r < 0) return r;
        if (!read_zone(folder, &z)) continue;
        /* By itself first: whether there is a chip is known behind the last one. */
        z.is_wanted = is_auto ? sense_zone_is_chip(&z) : sense_zone_is_listed(wanted, z.type);
        add_zone(t, &z);
    }
    sense_zone_choose(wanted, t->zones, t->n_zones);
    if (t->n_zones == 0) return err_set(e, -ENODATA, "there is no thermal zone");
    return 0;
}

static void read_cooling(const char *root, struct sense_thermal *t, uint32_t *numbers) {
    char folder[SENSE_MAX_PATH];
    size_t n, n_beyond;
    int r = sense_text_path(folder, NULL, root, "/sys/class/thermal");
    if (r == 0)
        r = sense_text_numbered(folder, "cooling_device", numbers, MAX_LISTED, &n, &n_beyond, NULL);
    for (size_t i = 0; r == 0 && i < n; i++) {
        char type[64], text[MAX_TEXT];
        size_t n_text;
        uint64_t state;
        r = sense_text_path(folder, NULL, root, "/sys/class/thermal/cooling_device%u", numbers[i]);
        if (r < 0) return;
        if (read_word(folder, "type", type, sizeof(type)) < 0) continue;
        if (!sense_thermal_is_cpu_cooling(type)) continue;
        if (read_text(folder, "cur_state", text, &n_text, NULL) < 0) continue;
        if (sense_text_value(text, n_text, &state, NULL) < 0) continue;
        t->has_cooling = true;
        t->is_cooling |= state > 0;
    }
}

int sense_thermal_read(const char *root, const char *wanted, struct sense_thermal *ret,
                       struct err *e) {
    uint32_t *numbers = malloc(MAX_LISTED * sizeof(numbers[0]));
    struct sense_thermal *t = calloc(1, sizeof(*t));
    int r = -ENOMEM;
    if (!numbers || !t) {
        err_set(e, r, "no memory to read the thermal zones");
        goto out;
    }
    r = read_zones(root, wanted, t, numbers, e);
    if (r < 0) goto out;
    read_cooling(root, t, numbers);
    *ret = *t;
out:
    free(numbers);
    free(t);
    return r;
}
