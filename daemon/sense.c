/* Gathers the sources into one reading. What to make of it is the governor's business; here is only
 * said which values can be believed. */
#include "daemon/sense.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sense_file.h"
#include "daemon/sense_meminfo.h"
#include "daemon/sense_psi.h"
#include "daemon/sense_slow.h"
#include "daemon/sense_text.h"
#include "daemon/sense_tree.h"
#include "daemon/sense_vmstat.h"

/* A total as it was last read. */
struct total {
    bool has;
    bool is_other; /* what is read next is that of another cgroup */
    uint64_t last;
};

/* What vmstat and our own stat said last. */
struct faults {
    uint64_t at_us; /* 0 = never read */
    bool has_refaults, has_own;
    uint64_t refaults, alloc_stalls, swap_outs, own;
    struct err err;
};

struct sense {
    bool owns_pressure;
    _Atomic bool is_quiet; /* relaxed: a file more or less */
    uint64_t rescan_us;
    struct sense_slow *slow;
    struct sense_slow_result newest; /* taken from `slow`; kept here for its size */
    uint64_t first_read_us;          /* 0 = sense_read() has not been called */

    struct sense_file meminfo, vmstat, self_stat, pressure;
    struct sense_tree tree; /* also has the root */
    bool has_place;         /* where we are is known at this reading */
    uint32_t generation;    /* of the tree when it was last read */
    enum sense_stall stall_source;
    struct total stall_some, stall_full;
    struct total high_events, oom_events;
    struct total refaults, alloc_stalls, swap_outs, own_major_faults;
    uint64_t faults_us; /* between two readings of them where stalls are known */
    struct faults faults;
};

int sense_create(const struct sense_opts *o, struct sense **ret, struct err *e) {
    struct sense *s = calloc(1, sizeof(*s));
    if (!s) return err_set(e, -ENOMEM, "no memory to start");
    const struct sense_slow_opts so = {
        .root = o->root,
        .zones = o->zones ? o->zones : "auto",
        .interval_us = o->slow_us ? o->slow_us : 1000000,
        .rescan_us = o->rescan_us ? o->rescan_us : SENSE_RESCAN_US,
    };
    /* Also checks that the root fits. */
    int r = sense_slow_create(&so, &s->slow, e);
    if (r < 0) {
        free(s);
        return r;
    }
    struct sense_file *const files[] = {&s->meminfo, &s->vmstat, &s->self_stat, &s->pressure};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) sense_file_init(files[i]);
    sense_tree_init(&s->tree, o->root);
    s->owns_pressure = o->owns_pressure;
    s->rescan_us = o->rescan_us ? o->rescan_us : SENSE_RESCAN_US;
    s->faults_us = o->faults_us ? o->faults_us : SENSE_FAULTS_US;
    *ret = s;
    return 0;
}

bool sense_destroy(struct sense *s) {
    if (!s) return true;
    bool has_ended = sense_slow_destroy(s->slow);
    struct sense_file *const files[] = {&s->meminfo, &s->vmstat, &s->self_stat, &s->pressure};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) sense_file_close(files[i]);
    sense_tree_fini(&s->tree);
    free(s);
    return has_ended;
}

bool sense_wait(struct sense *s, uint64_t timeout_us) {
    return sense_slow_wait(s->slow, timeout_us);
}

void sense_set_owns_pressure(struct sense *s, bool owns) {
    s->owns_pressure = owns;
    if (owns) sense_tree_close_pressure(&s->tree);
}

void sense_set_quiet(struct sense *s, bool is_quiet) {
    atomic_store_explicit(&s->is_quiet, is_quiet, memory_order_relaxed);
    sense_slow_set_quiet(s->slow, is_quiet);
}

void sense_set_rescan(struct sense *s, uint64_t rescan_us) {
    s->rescan_us = rescan_us;
    sense_slow_set_rescan(s->slow, rescan_us);
}

unsigned sense_levels(const struct sense *s, struct sense_level ret[SENSE_MAX_LEVELS],
                      uint32_t *ret_generation) {
    unsigned n = 0;
    for (; s->has_place && n < s->tree.n_levels; n++) {
        ret[n].version = s->tree.at.memory.version;
        if (sense_tree_path(&s->tree, n, "", ret[n].folder, NULL) < 0) break;
    }
    *ret_generation = s->tree.generation;
    return n;
}

/* ---- totals ---- */

/* False if the value went back or is another's: then it is only remembered. */
static bool goes_on(struct total *t, uint64_t v) {
    bool ok = !t->is_other && (!t->has || v >= t->last);
    *t = (struct total){.has = true, .last = v};
    return ok;
}

static void began_anew(struct err *e, const char *what) {
    err_set(e, -EBADMSG, "%s began anew: it went back, or we were moved to another cgroup", what);
}

/* ---- memory ---- */

static void put_limit(const struct sense *s, const struct sense_tree_reading *c,
                      struct sense_reading *r) {
    char path[SENSE_MAX_PATH];
    r->cgroup_version = c->version;
    r->is_cgroup_fallback = c->is_fallback;
    r->cgroup_generation = s->tree.generation;
    r->cgroup_limit_bytes = c->least.limit_bytes;
    r->cgroup_used_bytes = c->least.used_bytes;
    r->is_cgroup_limit_high = c->least.is_high;
    r->cgroup_level = c->level;
    if (sense_tree_path(&s->tree, c->level, "", path, NULL) < 0) return;
    /* Its end says which one it is. */
    size_t n = strlen(path), keep = sizeof(r->cgroup_at) - 1;
    strcpy(r->cgroup_at, path + (n > keep ? n - keep : 0));
}

/* The totals of another cgroup are distrusted when they are read next, whenever. */
static void note_generation(struct sense *s) {
    if (s->generation != 0 && s->tree.generation != s->generation) {
        s->high_events.is_other = s->oom_events.is_other = true;
        if (s->stall_source == SENSE_STALL_CGROUP)
            s->stall_some.is_other = s->stall_full.is_other = true;
    }
    s->generation = s->tree.generation;
}

static void read_cgroup(struct sense *s, const struct sense_when *w, struct sense_reading *r) {
    struct sense_tree_reading c;
    int code = sense_tree_read(&s->tree, w, &c, &r->cgroup_err);
    note_generation(s);
    if (code < 0) return;
    r->has_cgroup = true;
    r->cgroup_left_bytes = c.least.left_bytes;
    r->cgroup_over_bytes = c.least.over_bytes;
    put_limit(s, &c, r);
    if (!c.has_events) return;
    uint64_t ooms;
    if (__builtin_add_overflow(c.events.oom, c.events.oom_kill, &ooms)) ooms = UINT64_MAX;
    bool ok = goes_on(&s->high_events, c.events.high);
    ok = goes_on(&s->oom_events, ooms) && ok;
    if (!ok) {
        began_anew(&r->cgroup_err, "a total of memory.events");
        return;
    }
    r->has_cgroup_events = true;
    r->cgroup_high_events = c.events.high;
    r->cgroup_oom_events = ooms;
}

/* The best source that can be read now. */
static enum sense_stall read_psi(struct sense *s, const struct sense_when *w, struct sense_psi *ret,
                                 struct err *e) {
    char path[SENSE_MAX_PATH];
    if (s->has_place && !s->owns_pressure && sense_tree_read_pressure(&s->tree, w, ret, e) == 0)
        return SENSE_STALL_CGROUP;
    if (sense_text_path(path, e, s->tree.root, "/proc/pressure/memory") == 0 &&
        sense_psi_read(&s->pressure, path, w, ret, e) == 0)
        return SENSE_STALL_SYSTEM;
    return SENSE_STALL_NONE;
}

static void read_stall(struct sense *s, const struct sense_when *w, struct sense_reading *r) {
    struct sense_psi p;
    struct err e = {0};
    enum sense_stall source = read_psi(s, w, &p, &e);
    if (source == SENSE_STALL_NONE) {
        r->stall_err = e;
        return;
    }
    if (source != s->stall_source) {
        s->stall_source = source;
        s->stall_some = s->stall_full = (struct total){0};
    }
    bool ok = goes_on(&s->stall_some, p.some_us);
    ok = goes_on(&s->stall_full, p.full_us) && ok;
    if (!ok) {
        began_anew(&r->stall_err, "a total of memory pressure");
        return;
    }
    r->has_stall = true;
    r->stall_source = source;
    r->stall_some_us = p.some_us;
    r->stall_full_us = p.full_us;
}

static void read_vmstat(struct sense *s, const struct sense_when *w, struct faults *f) {
    struct sense_vmstat v;
    if (sense_vmstat_read(&s->vmstat, s->tree.root, w, &v, &f->err) < 0) return;
    bool ok = goes_on(&s->refaults, v.refaults);
    ok = goes_on(&s->alloc_stalls, v.alloc_stalls) && ok;
    ok = goes_on(&s->swap_outs, v.swap_outs) && ok;
    if (!ok) {
        began_anew(&f->err, "a total of proc/vmstat");
        return;
    }
    f->has_refaults = true;
    f->refaults = v.refaults;
    f->alloc_stalls = v.alloc_stalls;
    f->swap_outs = v.swap_outs;
}

static void read_own_faults(struct sense *s, const struct sense_when *w, struct faults *f) {
    struct err e = {0};
    if (sense_vmstat_read_self(&s->self_stat, s->tree.root, w, &f->own, &e) == 0) {
        f->has_own = goes_on(&s->own_major_faults, f->own);
        if (!f->has_own) began_anew(&e, "the major faults of proc/self/stat");
    }
    if (f->err.code == 0) f->err = e;
}

/* Where stalls are known nothing acts on these, and the kernel adds them up over all CPUs: that is
 * half of what a reading costs. */
static void read_faults(struct sense *s, const struct sense_when *w, struct sense_reading *r) {
    struct faults *f = &s->faults;
    bool is_kept = f->at_us != 0 && r->has_stall && w->now_us >= f->at_us &&
                   w->now_us - f->at_us < s->faults_us;
    if (!is_kept) {
        *f = (struct faults){.at_us = w->now_us};
        read_vmstat(s, w, f);
        read_own_faults(s, w, f);
    }
    r->faults_us = f->at_us;
    r->has_refaults = f->has_refaults;
    if (f->has_refaults) {
        r->refaults = f->refaults;
        r->alloc_stalls = f->alloc_stalls;
        r->swap_outs = f->swap_outs;
    }
    r->has_own_major_faults = f->has_own;
    if (f->has_own) r->own_major_faults = f->own;
    r->refault_err = f->err;
}

/* There is none, or memory is not accounted by them. */
static bool is_without_cgroup(const struct sense_reading *r) {
    return r->cgroup_err.code == -ENOENT || r->cgroup_err.code == -ENODATA;
}

static void read_memory(struct sense *s, const struct sense_when *w, struct sense_reading *r) {
    r->has_mem = sense_meminfo_read(&s->meminfo, s->tree.root, w, &r->mem_available_bytes,
                                    &r->mem_err) == 0;
    s->has_place = sense_tree_look(&s->tree, w, &r->cgroup_err) == 0;
    if (s->has_place) note_generation(s);
    if (s->has_place) read_cgroup(s, w, r);
    r->is_cgroup_hidden = !r->has_cgroup && !is_without_cgroup(r);
    read_stall(s, w, r);
    read_faults(s, w, r);
}

/* ---- what the thread found ---- */

/* Why there is no fresh result: one that is too old, or none yet. */
static int check_age(const struct sense *s, bool has_result, uint64_t now_us, struct err *e) {
    uint64_t since_us = has_result ? s->newest.ended_us : s->first_read_us;
    uint64_t age_us = now_us > since_us ? now_us - since_us : 0;
    if (age_us > SENSE_STALE_US)
        return err_set(e, -ETIMEDOUT, "no answer from /sys for %" PRIu64 " s", age_us / 1000000);
    return has_result ? 0 : err_set(e, -EINPROGRESS, "no answer from /sys yet");
}

static void put_heat(const struct sense_slow_result *n, struct sense_reading *r) {
    uint32_t n_wanted = 0;
    const struct sense_zone *bad = NULL;
    if (!n->has_thermal) {
        r->heat_err = n->thermal_err;
        return;
    }
    r->heat_us = n->begun_us;
    r->n_zones = n->thermal.n_zones;
    r->n_zones_left_out = n->thermal.n_left_out;
    r->has_cooling = n->thermal.has_cooling;
    r->is_cooling = n->thermal.is_cooling;
    for (uint32_t i = 0; i < r->n_zones; i++) {
        const struct sense_zone *z = &n->thermal.zones[i];
        r->zones[i] = *z;
        if (!z->is_wanted) continue;
        n_wanted++;
        if (z->has_temp)
            r->has_heat = true;
        else if (!bad)
            bad = z;
    }
    if (r->has_heat) return;
    if (bad)
        err_set(&r->heat_err, -EIO,
                "none of %u thermal zones has a temperature; thermal_zone%u (%s) says '%s'",
                n_wanted, bad->number, bad->type, strerror(-bad->temp_code));
    else
        err_set(&r->heat_err, -EIO, "none of %u thermal zones has a type that is wanted",
                r->n_zones);
}

static void read_slow(struct sense *s, uint64_t now_us, struct sense_reading *r) {
    struct sense_slow_result *n = &s->newest;
    bool has_result = sense_slow_take(s->slow, n);
    struct err e = {0};
    if (check_age(s, has_result, now_us, &e) < 0) {
        r->heat_err = r->clock_err = r->throttle_err = r->quota_err = e;
        return;
    }
    put_heat(n, r);
    r->has_clock = n->has_cpufreq;
    r->clock_err = n->cpufreq_err;
    if (n->has_cpufreq) {
        r->clock_permille = n->cpufreq.least_permille;
        r->n_clocks = n->cpufreq.n_clocks;
        for (uint32_t i = 0; i < r->n_clocks; i++) r->clocks[i] = n->cpufreq.clocks[i];
    }
    r->has_throttle = n->has_throttle;
    r->throttle_bits = n->throttle_bits;
    r->throttle_mask = n->throttle_mask;
    r->throttle_err = n->throttle_err;
    r->has_quota = n->has_quota;
    r->quota = n->quota;
    r->quota_err = n->quota_err;
}

void sense_read(struct sense *s, uint64_t now_us, struct sense_reading *ret) {
    *ret = (struct sense_reading){0};
    const struct sense_when w = {
        .now_us = now_us,
        .rescan_us = s->rescan_us,
        .may_open = true,
        .is_quiet = &s->is_quiet,
    };
    if (s->first_read_us == 0) s->first_read_us = now_us;
    read_memory(s, &w, ret);
    read_slow(s, now_us, ret);
}
