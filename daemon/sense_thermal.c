#include "daemon/sense_thermal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_folder.h"
#include "daemon/sense_text.h"

enum {
    MAX_TEXT = 128,
    MAX_LISTED = 1024, /* entries of the folder that are looked at */
    MAX_COOLING = 64,  /* devices that slow a processor: one a cluster, or one a CPU (ACPI) */
};

/* A zone as it was found, and what is kept of it. */
struct kept_zone {
    struct sense_zone zone; /* without its temperature */
    struct sense_file temp;
    bool has_first;
    int32_t first_mc; /* the first temperature since the start */
};

struct kept_cooling {
    uint32_t number;
    struct sense_file state;
};

struct zone_table {
    uint32_t n, n_left_out;
    struct kept_zone zones[SENSE_MAX_ZONES]; /* by rising number */
};

struct sense_zones {
    const char *root, *wanted; /* borrowed */
    bool has_scanned;
    uint64_t scanned_us;
    struct sense_folder folder;
    int scan_code; /* of the last look at the folder, with its reason */
    struct err scan_err;
    struct zone_table now, next; /* `next` is being made, or empty */
    uint32_t n_cooling;
    struct kept_cooling cooling[MAX_COOLING];
    uint32_t numbers[MAX_LISTED]; /* of a folder */
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

int sense_thermal_create(const char *root, const char *wanted, struct sense_zones **ret,
                         struct err *e) {
    struct sense_zones *z = calloc(1, sizeof(*z));
    if (!z) return err_set(e, -ENOMEM, "no memory to read the thermal zones");
    z->root = root;
    z->wanted = wanted;
    sense_folder_init(&z->folder);
    *ret = z;
    return 0;
}

static void close_table(struct zone_table *t) {
    for (uint32_t i = 0; i < t->n; i++) sense_file_close(&t->zones[i].temp);
    t->n = t->n_left_out = 0;
}

static void close_cooling(struct sense_zones *z) {
    for (uint32_t i = 0; i < z->n_cooling; i++) sense_file_close(&z->cooling[i].state);
    z->n_cooling = 0;
}

void sense_thermal_destroy(struct sense_zones *z) {
    if (!z) return;
    close_table(&z->now);
    close_cooling(z);
    sense_folder_close(&z->folder);
    free(z);
}

/* ---- what is looked at once in a while ---- */

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

static int zone_folder(const struct sense_zones *z, uint32_t number, char *ret, struct err *e) {
    return sense_text_path(ret, e, z->root, "/sys/class/thermal/thermal_zone%u", number);
}

/* All but the temperature. False if the zone is switched off or has just vanished. */
static bool look_at_zone(const struct sense_zones *z, uint32_t number, struct sense_zone *ret) {
    char folder[SENSE_MAX_PATH], mode[16];
    struct sense_zone zone = {.number = number};
    if (zone_folder(z, number, folder, NULL) < 0) return false;
    if (read_word(folder, "mode", mode, sizeof(mode)) == 0 && strcmp(mode, "disabled") == 0)
        return false;
    int r = read_word(folder, "type", zone.type, sizeof(zone.type));
    if (r == -ENOENT) return false;
    if (r < 0) zone.type[0] = '\0';
    read_trips(folder, &zone);
    /* By itself first: whether there is a chip is known behind the last one. */
    zone.is_wanted = strcmp(z->wanted, "auto") == 0 ? sense_zone_is_chip(&zone)
                                                    : sense_zone_is_listed(z->wanted, zone.type);
    *ret = zone;
    return true;
}

/* Puts it in by its number, and where there is no room in place of one that is not wanted. */
static void add_zone(struct zone_table *t, const struct sense_zone *zone) {
    struct kept_zone kept = {.zone = *zone};
    sense_file_init(&kept.temp);
    if (t->n < SENSE_MAX_ZONES) {
        t->zones[t->n++] = kept;
        return;
    }
    t->n_left_out++;
    for (uint32_t i = t->n; zone->is_wanted && i-- > 0;) {
        if (t->zones[i].zone.is_wanted) continue;
        memmove(&t->zones[i], &t->zones[i + 1], (t->n - 1 - i) * sizeof(t->zones[0]));
        t->zones[t->n - 1] = kept;
        return;
    }
}

/* The same zone as before goes on with what is kept of it. */
static void take_over(struct zone_table *from, struct kept_zone *to) {
    for (uint32_t i = 0; i < from->n; i++) {
        struct kept_zone *old = &from->zones[i];
        if (old->zone.number != to->zone.number || strcmp(old->zone.type, to->zone.type) != 0)
            continue;
        to->temp = old->temp;
        to->has_first = old->has_first;
        to->first_mc = old->first_mc;
        to->zone.has_changed = old->zone.has_changed;
        sense_file_init(&old->temp);
    }
}

static void choose(struct sense_zones *z, struct zone_table *t) {
    struct sense_zone zones[SENSE_MAX_ZONES];
    for (uint32_t i = 0; i < t->n; i++) zones[i] = t->zones[i].zone;
    sense_zone_choose(z->wanted, zones, t->n);
    for (uint32_t i = 0; i < t->n; i++) t->zones[i].zone = zones[i];
}

static int scan_zones(struct sense_zones *z, struct err *e) {
    char folder[SENSE_MAX_PATH];
    size_t n, n_beyond;
    int r = sense_text_path(folder, e, z->root, "/sys/class/thermal");
    if (r == 0)
        r = sense_text_numbered(folder, "thermal_zone", z->numbers, MAX_LISTED, &n, &n_beyond, e);
    if (r < 0) {
        close_table(&z->now);
        return r;
    }
    z->next.n_left_out = (uint32_t)MIN(n_beyond, UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        struct sense_zone zone;
        if (look_at_zone(z, z->numbers[i], &zone)) add_zone(&z->next, &zone);
    }
    choose(z, &z->next);
    for (uint32_t i = 0; i < z->next.n; i++) take_over(&z->now, &z->next.zones[i]);
    close_table(&z->now);
    z->now = z->next;
    z->next.n = z->next.n_left_out = 0;
    return 0;
}

static void scan_cooling(struct sense_zones *z) {
    char folder[SENSE_MAX_PATH];
    size_t n, n_beyond;
    close_cooling(z);
    if (sense_text_path(folder, NULL, z->root, "/sys/class/thermal") < 0) return;
    if (sense_text_numbered(folder, "cooling_device", z->numbers, MAX_LISTED, &n, &n_beyond, NULL) <
        0)
        return;
    for (size_t i = 0; i < n && z->n_cooling < MAX_COOLING; i++) {
        char type[64];
        if (sense_text_path(folder, NULL, z->root, "/sys/class/thermal/cooling_device%u",
                            z->numbers[i]) < 0)
            return;
        if (read_word(folder, "type", type, sizeof(type)) < 0) continue;
        if (!sense_thermal_is_cpu_cooling(type)) continue;
        struct kept_cooling *c = &z->cooling[z->n_cooling++];
        c->number = z->numbers[i];
        sense_file_init(&c->state);
    }
}

static bool has_same_folder(struct sense_zones *z) {
    char path[SENSE_MAX_PATH];
    return sense_text_path(path, NULL, z->root, "/sys/class/thermal") == 0 &&
           sense_folder_is_same(&z->folder, path);
}

static void scan(struct sense_zones *z, const struct sense_when *w) {
    z->has_scanned = true;
    z->scanned_us = w->now_us;
    if (has_same_folder(z)) return;
    z->scan_err = (struct err){0};
    z->scan_code = scan_zones(z, &z->scan_err);
    /* Unless there is none, the next look is a whole one. */
    if (z->scan_code < 0 && z->scan_code != -ENOENT) sense_folder_close(&z->folder);
    scan_cooling(z);
}

/* ---- what is read each time ---- */

/* Between two scans: the zone is looked at anew. False if it is gone. */
static bool look_again(struct sense_zones *z, struct kept_zone *k) {
    struct sense_zone zone;
    if (!look_at_zone(z, k->zone.number, &zone)) return false;
    if (strcmp(zone.type, k->zone.type) != 0) k->has_first = false;
    zone.has_changed = k->has_first && k->zone.has_changed;
    k->zone = zone;
    return true;
}

static int read_temp(const struct sense_zones *z, const struct sense_when *w, struct kept_zone *k,
                     int32_t *ret_mc) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = sense_text_path(path, NULL, z->root, "/sys/class/thermal/thermal_zone%u/temp",
                            k->zone.number);
    if (r == 0) r = sense_file_read(&k->temp, path, w, text, sizeof(text), &n, NULL);
    return r < 0 ? r : sense_thermal_parse_mc(text, n, ret_mc, NULL);
}

/* False if the zone is gone. *ret_is_new: it may be another one now. */
static bool read_zone(struct sense_zones *z, const struct sense_when *w, struct kept_zone *k,
                      bool *ret_is_new) {
    int32_t mc = 0;
    uint64_t looked_us = k->temp.looked_us;
    int r = read_temp(z, w, k, &mc);
    *ret_is_new = k->temp.looked_us != looked_us && z->scanned_us != w->now_us;
    if (*ret_is_new && !look_again(z, k)) return false;
    k->zone.has_temp = r == 0;
    k->zone.temp_code = r;
    k->zone.temp_mc = r == 0 ? mc : 0;
    if (r < 0) return true;
    if (!k->has_first) k->first_mc = mc;
    k->has_first = true;
    k->zone.has_changed |= mc != k->first_mc;
    return true;
}

static void read_zones(struct sense_zones *z, const struct sense_when *w) {
    struct zone_table *t = &z->now;
    bool has_new = false;
    for (uint32_t i = 0; i < t->n;) {
        bool is_new = false;
        if (read_zone(z, w, &t->zones[i], &is_new)) {
            i++;
        } else {
            sense_file_close(&t->zones[i].temp);
            t->n--;
            memmove(&t->zones[i], &t->zones[i + 1], (t->n - i) * sizeof(t->zones[0]));
        }
        has_new |= is_new;
    }
    if (has_new) choose(z, t);
}

static void read_cooling(struct sense_zones *z, const struct sense_when *w,
                         struct sense_thermal *ret) {
    for (uint32_t i = 0; i < z->n_cooling; i++) {
        char path[SENSE_MAX_PATH], text[MAX_TEXT];
        size_t n;
        uint64_t state;
        if (sense_text_path(path, NULL, z->root, "/sys/class/thermal/cooling_device%u/cur_state",
                            z->cooling[i].number) < 0)
            return;
        if (sense_file_read(&z->cooling[i].state, path, w, text, sizeof(text), &n, NULL) < 0)
            continue;
        if (sense_text_value(text, n, &state, NULL) < 0) continue;
        ret->has_cooling = true;
        ret->is_cooling |= state > 0;
    }
}

static bool is_due(const struct sense_zones *z, const struct sense_when *w) {
    return !z->has_scanned || w->now_us < z->scanned_us ||
           w->now_us - z->scanned_us >= w->rescan_us;
}

int sense_thermal_read(struct sense_zones *z, const struct sense_when *w, struct sense_thermal *ret,
                       struct err *e) {
    if (sense_may_open(w) && is_due(z, w)) scan(z, w);
    if (!z->has_scanned)
        return err_set(e, -EAGAIN, "the thermal zones were not looked for before the limit");
    if (z->scan_code < 0) return err_set(e, z->scan_code, "%s", z->scan_err.msg);
    read_zones(z, w);
    if (z->now.n == 0) return err_set(e, -ENODATA, "there is no thermal zone");
    ret->has_cooling = ret->is_cooling = false;
    ret->n_zones = z->now.n;
    ret->n_left_out = z->now.n_left_out;
    for (uint32_t i = 0; i < z->now.n; i++) ret->zones[i] = z->now.zones[i].zone;
    read_cooling(z, w, ret);
    return 0;
}
