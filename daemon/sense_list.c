/* A reading in words: for the log, for metrics, for `ebb doctor`. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/sense.h"
#include "daemon/sense_rpi.h"

static const char *const names[] = {
    [SENSE_MEM] = "mem_available", [SENSE_CGROUP] = "cgroup",         [SENSE_STALL] = "stall",
    [SENSE_REFAULTS] = "refaults", [SENSE_OWN_FAULTS] = "own_faults", [SENSE_HEAT] = "heat",
    [SENSE_COOLING] = "cooling",   [SENSE_CLOCK] = "clock",           [SENSE_THROTTLE] = "throttle",
};
static_assert(ARRAY_LEN(names) == SENSE_N_SOURCES, "a name for each source");

const char *sense_state_name(enum sense_state s) {
    switch (s) {
    case SENSE_KNOWN: return "known";
    case SENSE_UNKNOWN: return "unknown";
    case SENSE_ABSENT: return "absent";
    }
    return "unknown";
}

const char *sense_stall_name(enum sense_stall s) {
    switch (s) {
    case SENSE_STALL_NONE: return "none";
    case SENSE_STALL_CGROUP: return "cgroup";
    case SENSE_STALL_SYSTEM: return "system";
    }
    return "none";
}

/* ---- states ---- */

static bool is_known(const struct sense_reading *r, enum sense_source source) {
    switch (source) {
    case SENSE_MEM: return r->has_mem;
    case SENSE_CGROUP: return r->has_cgroup;
    case SENSE_STALL: return r->has_stall;
    case SENSE_REFAULTS: return r->has_refaults;
    case SENSE_OWN_FAULTS: return r->has_own_major_faults;
    case SENSE_HEAT: return r->has_heat;
    case SENSE_COOLING: return r->has_cooling;
    case SENSE_CLOCK: return r->has_clock;
    case SENSE_THROTTLE: return r->has_throttle;
    }
    return false;
}

/* Why it is not known; only then. */
static const struct err *error_of(const struct sense_reading *r, enum sense_source source) {
    static const struct err no_cooling = {.code = -ENODATA,
                                          .msg = "no cooling device of a processor can be read"};
    switch (source) {
    case SENSE_MEM: return &r->mem_err;
    case SENSE_CGROUP: return &r->cgroup_err;
    case SENSE_STALL: return &r->stall_err;
    case SENSE_REFAULTS:
    case SENSE_OWN_FAULTS: return &r->refault_err;
    case SENSE_HEAT: return &r->heat_err;
    case SENSE_COOLING: return r->heat_us == 0 ? &r->heat_err : &no_cooling;
    case SENSE_CLOCK: return &r->clock_err;
    case SENSE_THROTTLE: return &r->throttle_err;
    }
    return &r->mem_err;
}

static enum sense_state state_of(const struct sense_reading *r, enum sense_source source) {
    if (is_known(r, source)) return SENSE_KNOWN;
    if (source == SENSE_CGROUP && r->is_cgroup_hidden) return SENSE_UNKNOWN;
    switch (error_of(r, source)->code) {
    case -ENOENT:
    case -ENODATA:
    case -ENODEV:
    case -EOPNOTSUPP: return SENSE_ABSENT;
    default: return SENSE_UNKNOWN;
    }
}

/* ---- values ---- */

static void put_heat(const struct sense_reading *r, char *ret, size_t cap) {
    const struct sense_zone *hottest = NULL;
    uint32_t n_known = 0;
    for (uint32_t i = 0; i < r->n_zones; i++) {
        const struct sense_zone *z = &r->zones[i];
        if (!z->is_wanted || !z->has_temp) continue;
        n_known++;
        if (!hottest || z->temp_mc > hottest->temp_mc) hottest = z;
    }
    if (!hottest) return;
    snprintf(ret, cap, "%.1f C at %s, the hottest of %u", (double)hottest->temp_mc / 1000,
             hottest->type, n_known);
}

static void put_throttle(const struct sense_reading *r, char *ret, size_t cap) {
    static const char *const texts[] = {"under-voltage", "capped", "throttled", "soft limit"};
    size_t n = 0;
    if (cap > 0) ret[0] = '\0';
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
        for (unsigned since_boot = 0; since_boot < 2; since_boot++) {
            if (!(r->throttle_bits >> (i + 16 * since_boot) & 1)) continue;
            /* Now is also since boot. */
            if (since_boot && (r->throttle_bits >> i & 1)) continue;
            int more = snprintf(ret + n, cap - n, "%s%s %s", n ? ", " : "", texts[i],
                                since_boot ? "since boot" : "now");
            if (more < 0 || (size_t)more >= cap - n) return;
            n += (size_t)more;
        }
    if (n == 0) snprintf(ret, cap, "none");
}

static void put_cgroup(const struct sense_reading *r, char *ret, size_t cap) {
    const char *fallback = r->is_cgroup_fallback ? ", ours is not below the mount" : "";
    if (r->cgroup_left_bytes == UINT64_MAX) {
        snprintf(ret, cap, "no limit (version %u, from %s up%s)", r->cgroup_version, r->cgroup_at,
                 fallback);
        return;
    }
    const char *name = r->cgroup_version == 1    ? "limit_in_bytes"
                       : r->is_cgroup_limit_high ? "high"
                                                 : "max";
    int n = snprintf(ret, cap, "%" PRIu64 " MiB left of %" PRIu64 " MiB",
                     r->cgroup_left_bytes >> 20, r->cgroup_limit_bytes >> 20);
    if (r->cgroup_over_bytes > 0)
        n = snprintf(ret, cap, "%" PRIu64 " MiB above %" PRIu64 " MiB", r->cgroup_over_bytes >> 20,
                     r->cgroup_limit_bytes >> 20);
    if (n < 0 || (size_t)n >= cap) return;
    snprintf(ret + n, cap - (size_t)n, " (version %u, memory.%s of %s%s)", r->cgroup_version, name,
             r->cgroup_at, fallback);
}

static void put_value(const struct sense_reading *r, enum sense_source source, char *ret,
                      size_t cap) {
    switch (source) {
    case SENSE_MEM: snprintf(ret, cap, "%" PRIu64 " MiB", r->mem_available_bytes >> 20); break;
    case SENSE_CGROUP: put_cgroup(r, ret, cap); break;
    case SENSE_STALL:
        snprintf(ret, cap, "some %.3f s, full %.3f s in all (%s)", (double)r->stall_some_us / 1e6,
                 (double)r->stall_full_us / 1e6, sense_stall_name(r->stall_source));
        break;
    case SENSE_REFAULTS:
        snprintf(ret, cap, "%" PRIu64 " pages, %" PRIu64 " stalls, %" PRIu64 " swapped out",
                 r->refaults, r->alloc_stalls, r->swap_outs);
        break;
    case SENSE_OWN_FAULTS: snprintf(ret, cap, "%" PRIu64, r->own_major_faults); break;
    case SENSE_HEAT: put_heat(r, ret, cap); break;
    case SENSE_COOLING: snprintf(ret, cap, "%s", r->is_cooling ? "throttling" : "idle"); break;
    case SENSE_CLOCK:
        snprintf(ret, cap, "%u.%u %% of the greatest", r->clock_permille / 10,
                 r->clock_permille % 10);
        break;
    case SENSE_THROTTLE: put_throttle(r, ret, cap); break;
    }
}

void sense_list(const struct sense_reading *r, struct sense_status ret[SENSE_N_SOURCES]) {
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        enum sense_source source = (enum sense_source)i;
        struct sense_status *st = &ret[i];
        *st = (struct sense_status){.name = names[i], .state = state_of(r, source)};
        if (st->state == SENSE_KNOWN)
            put_value(r, source, st->value, sizeof(st->value));
        else
            snprintf(st->why, sizeof(st->why), "%s", error_of(r, source)->msg);
    }
}

/* ---- changes ---- */

/* What is absent, and what has not answered yet, is nothing to tell at the start. */
static bool is_quiet(const struct sense_reading *r, enum sense_source source) {
    return state_of(r, source) == SENSE_ABSENT ||
           (!is_known(r, source) && error_of(r, source)->code == -EINPROGRESS);
}

static bool has_changed(const struct sense_reading *before, const struct sense_reading *now,
                        enum sense_source source) {
    bool was_quiet = !before || is_quiet(before, source);
    bool was_known = before && is_known(before, source);
    if (is_quiet(now, source)) return before && !was_quiet;
    if (!is_known(now, source)) return was_quiet || was_known;
    if (source == SENSE_CGROUP && was_known && before->cgroup_generation != now->cgroup_generation)
        return true; /* another one */
    return before && !was_known;
}

static void put_change(const struct sense_reading *now, enum sense_source source,
                       struct sense_change *ret) {
    enum sense_state state = state_of(now, source);
    char value[sizeof(((struct sense_status *)0)->value)] = "";
    *ret = (struct sense_change){.is_good = state == SENSE_KNOWN, .source = source};
    if (ret->is_good) put_value(now, source, value, sizeof(value));
    snprintf(ret->text, sizeof(ret->text), "%s is %s: %s", names[source], sense_state_name(state),
             ret->is_good ? value : error_of(now, source)->msg);
}

/* Wanted zones of that type that have a temperature. */
static uint32_t n_known(const struct sense_reading *r, const char *type) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_zones; i++)
        n += r->zones[i].is_wanted && r->zones[i].has_temp && strcmp(r->zones[i].type, type) == 0;
    return n;
}

static bool is_first_of_type(const struct sense_reading *r, uint32_t at) {
    for (uint32_t i = 0; i < at; i++)
        if (r->zones[i].is_wanted && strcmp(r->zones[i].type, r->zones[at].type) == 0) return false;
    return r->zones[at].is_wanted;
}

/* Types of `r`, but not those that `known` has too. */
static unsigned zone_changes(const struct sense_reading *r, const struct sense_reading *known,
                             const struct sense_reading *before, const struct sense_reading *now,
                             struct sense_change *ret, unsigned n) {
    for (uint32_t i = 0; i < r->n_zones && n < SENSE_MAX_CHANGES; i++) {
        const char *type = r->zones[i].type;
        if (!is_first_of_type(r, i)) continue;
        bool is_told = false;
        for (uint32_t k = 0; known && k < known->n_zones && !is_told; k++)
            is_told = known->zones[k].is_wanted && strcmp(known->zones[k].type, type) == 0;
        uint32_t was = n_known(before, type), is = n_known(now, type);
        if (is_told || was == is) continue;
        ret[n] = (struct sense_change){.is_good = is > was, .source = SENSE_HEAT};
        snprintf(ret[n].text, sizeof(ret[n].text),
                 "thermal zones %s: %u with a temperature, %u before", type[0] ? type : "(no type)",
                 is, was);
        n++;
    }
    return n;
}

unsigned sense_changes(const struct sense_reading *before, const struct sense_reading *now,
                       struct sense_change ret[SENSE_MAX_CHANGES]) {
    unsigned n = 0;
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++)
        if (has_changed(before, now, (enum sense_source)i))
            put_change(now, (enum sense_source)i, &ret[n++]);
    /* While there is no result at all, that is told above. */
    if (!before || before->n_zones == 0 || now->n_zones == 0) return n;
    n = zone_changes(now, NULL, before, now, ret, n);
    return zone_changes(before, now, before, now, ret, n);
}
