/* `ebb doctor`, the daemon's place in the system: what its unit and its cgroup allow, what its
 * sandbox hides from it, and what the kernel does with its memory. It looks at the process behind
 * the socket, from /proc; what belongs to another user can only be read by that user or root. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_doctor.h"
#include "daemon/ctl_field.h"
#include "daemon/sense_cgroup.h"
#include "daemon/sense_text.h"
#include "daemon/sense_tree.h"

/* A limit closer to what is held than this leaves no room for requests. */
static const uint64_t near_bytes = UINT64_C(32) << 20;

/* --- limits of the process --- */

static void check_limits(struct ctl_doctor *d) {
    char text[4096];
    unsigned long soft;
    if (ctl_doctor_read_pid(d, "limits", text, sizeof(text)) < 0) {
        ctl_doctor_say(d, CTL_NOTE, "limits", "run doctor as the daemon's user or root",
                       "cannot read the daemon's limits");
        return;
    }
    const char *line = strstr(text, "Max open files");
    if (!line || sscanf(line, "Max open files %lu", &soft) != 1) return;
    ctl_doctor_say(d, soft < 256 ? CTL_NOTE : CTL_GOOD, "limits",
                   "raise LimitNOFILE= in the unit: each client is one",
                   "the daemon may open %lu files", soft);
}

/* The number behind a key of /proc/PID/status, in bytes. */
static bool status_bytes(const char *text, const char *key, uint64_t *ret) {
    const char *line = strstr(text, key);
    unsigned long long kib;
    if (!line || sscanf(line + strlen(key), " %llu kB", &kib) != 1) return false;
    if (kib > UINT64_MAX / 1024) return false;
    *ret = (uint64_t)kib * 1024;
    return true;
}

/* Its code is page cache, and a lowered memory.high would have it read from disk again. */
static void check_locked(struct ctl_doctor *d) {
    char text[8192];
    uint64_t bytes;
    if (ctl_doctor_read_pid(d, "status", text, sizeof(text)) < 0) return;
    if (!status_bytes(text, "VmLck:", &bytes)) return;
    ctl_doctor_say(d, bytes > 0 ? CTL_GOOD : CTL_NOTE, "program",
                   "raise LimitMEMLOCK= in the unit to 64M: without it a lowered memory.high can "
                   "stop the daemon for seconds",
                   "%.1f MiB of the daemon's code are locked in memory", (double)bytes / 1048576);
}

static void check_own_swap(struct ctl_doctor *d) {
    char text[8192], b[32];
    uint64_t bytes;
    if (ctl_doctor_read_pid(d, "status", text, sizeof(text)) < 0) return;
    if (!status_bytes(text, "\nVmSwap:", &bytes)) return;
    ctl_doctor_say(d, bytes >= UINT64_C(1) << 20 ? CTL_NOTE : CTL_GOOD, "swapped",
                   "weights in swap are read back page by page at each token, far slower than "
                   "paged units: MemorySwapMax=0 in the unit (needs the memory controller), or no "
                   "swap on disk",
                   "%s of the daemon are in swap", ctl_bytes((double)bytes, b));
}

/* --- its cgroup --- */

struct place {
    struct sense_tree_place at;       /* of what accounts memory, or could */
    char path[SENSE_CGROUP_MAX_PATH]; /* the one looked at: at.path, or one above */
    char unit[SENSE_CGROUP_MAX_PATH]; /* as the service manager has it */
};

static bool find_place(const struct ctl_doctor *d, struct place *ret) {
    char text[SENSE_TREE_MAX_SELF], who[24];
    struct sense_tree_where where;
    snprintf(who, sizeof(who), "%d", (int)d->pid);
    int n = ctl_doctor_read_pid(d, "cgroup", text, sizeof(text));
    if (n < 0 || sense_tree_locate(d->c->root, who, text, (size_t)n, &where, NULL) < 0)
        return false;
    ret->at = where.memory;
    strcpy(ret->path, where.memory.path);
    strcpy(ret->unit, where.has_v2 ? where.v2.path : where.memory.path);
    return true;
}

static int read_place(const struct ctl_doctor *d, const struct place *p, const char *name,
                      char *buf, size_t n) {
    char rel[SENSE_MAX_PATH];
    struct sense_tree_place at = p->at;
    strcpy(at.path, p->path);
    int r = sense_tree_place_path("/", &at, name, rel, NULL);
    return r < 0 ? r : ctl_doctor_read(d, rel, buf, n);
}

static bool read_limit(const struct ctl_doctor *d, const struct place *p, const char *name,
                       uint64_t *ret) {
    char text[64];
    int n = read_place(d, p, name, text, sizeof(text));
    return n >= 0 && sense_cgroup_parse_limit(text, (size_t)n, ret, NULL) == 0;
}

/* To the cgroup above; false at the top. */
static bool go_up(struct place *p) {
    char *slash = strrchr(p->path, '/');
    if (!slash || p->path[1] == '\0') return false;
    slash[slash == p->path] = '\0';
    return true;
}

/* What the daemon holds, by its own count, or else by the kernel's. */
static bool held_bytes(const struct ctl_doctor *d, uint64_t *ret) {
    static const char *const parts[] = {"resident_bytes", "kv_bytes", "scratch_bytes"};
    double sum = 0, x;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (ctl_field_number(d->status, parts[i], &x) && x > 0) sum += x;
    if (!(sum > 0 && sum < 1e18)) return false;
    *ret = (uint64_t)sum;
    return true;
}

/* The least of a limit from the daemon's cgroup up. */
static uint64_t least_limit(const struct ctl_doctor *d, struct place p, const char *name,
                            char where[SENSE_CGROUP_MAX_PATH]) {
    uint64_t least = UINT64_MAX, v;
    do {
        if (!read_limit(d, &p, name, &v) || v >= least) continue;
        least = v;
        strcpy(where, p.path);
    } while (go_up(&p));
    return least;
}

static void check_limit(struct ctl_doctor *d, const struct place *p, const char *name,
                        const char *setting, const char *below) {
    char a[32], b[32], where[SENSE_CGROUP_MAX_PATH] = "", advice[400];
    uint64_t held = 0, limit = least_limit(d, *p, name, where);
    bool has_held = held_bytes(d, &held);
    if (limit == UINT64_MAX) {
        ctl_doctor_say(d, CTL_GOOD, name, NULL, "no %s is set", setting);
        return;
    }
    enum ctl_verdict v = !has_held || limit >= held + near_bytes ? CTL_GOOD
                         : limit >= held                         ? CTL_NOTE
                                                                 : CTL_BAD;
    snprintf(advice, sizeof(advice), "%s; raise %s of %.200s, or set memory.limit of ebbd below it",
             below, setting, where);
    ctl_doctor_say(d, v, name, advice, "%s at %.200s; the daemon holds %s",
                   ctl_bytes((double)limit, a), where,
                   has_held ? ctl_bytes((double)held, b) : "an unknown amount");
}

bool ctl_doctor_may_not_swap(const struct ctl_doctor *d) {
    char where[SENSE_CGROUP_MAX_PATH];
    struct place p;
    return find_place(d, &p) && least_limit(d, p, "memory.swap.max", where) == 0;
}

static void check_events(struct ctl_doctor *d, const struct place *p) {
    char text[1024];
    struct sense_cgroup_events ev;
    int n = read_place(d, p, "memory.events", text, sizeof(text));
    if (n < 0 || sense_cgroup_parse_events(text, (size_t)n, &ev, NULL) < 0) return;
    ctl_doctor_say(d,
                   ev.oom_kill ? CTL_BAD
                   : ev.high   ? CTL_NOTE
                               : CTL_GOOD,
                   "memory.events", "the limits of the cgroup are too tight for what runs in it",
                   "slowed down %" PRIu64 " times at memory.high, killed %" PRIu64
                   " times at memory.max",
                   ev.high, ev.oom_kill);
}

static void check_cgroup(struct ctl_doctor *d) {
    struct place p;
    char text[64];
    if (d->pid == 0) return;
    if (!find_place(d, &p)) {
        ctl_doctor_say(d, CTL_NOTE, "unit", "nothing to do unless limits are wanted",
                       "the daemon is in no cgroup that can be seen from here");
        return;
    }
    bool is_unit = strstr(p.unit, ".service") != NULL;
    ctl_doctor_say(d, is_unit ? CTL_GOOD : CTL_NOTE, "unit",
                   "it was started by hand: no limit, no restart and no sandbox; systemctl start "
                   "ebbd",
                   "cgroup %.300s", p.unit);
    if (p.at.version == 1) {
        check_limit(d, &p, "memory.limit_in_bytes", "MemoryMax=",
                    "above it the kernel kills the daemon (control groups of version 1 have no "
                    "memory.high, which only slows down)");
        return;
    }
    if (read_place(d, &p, "memory.current", text, sizeof(text)) < 0) return; /* see `cgroup` */
    check_limit(d, &p, "memory.high", "MemoryHigh=",
                "the daemon gives way to it; where it cannot, the kernel slows it down");
    check_limit(d, &p, "memory.max", "MemoryMax=", "above it the kernel kills the daemon");
    check_events(d, &p);
}

/* --- its sandbox --- */

/* Of the mount point, the last one mounted there: " <options> ... - type source <super options>".
 */
static const char *find_mount(const char *mountinfo, const char *point) {
    char key[64];
    const char *found = NULL;
    snprintf(key, sizeof(key), " %s ", point);
    for (const char *p = mountinfo; (p = strstr(p, key)); p++) found = p + strlen(key) - 1;
    return found;
}

static void check_sandbox(struct ctl_doctor *d) {
    enum { MAX_TEXT = 128 << 10 }; /* a machine of many containers has hundreds of mounts */
    char *text = malloc(MAX_TEXT);
    if (!text || ctl_doctor_read_pid(d, "mountinfo", text, MAX_TEXT) < 0) {
        free(text);
        return; /* check_limits() has said who can read it */
    }
    const char *proc = find_mount(text, "/proc"), *end = proc ? strchr(proc, '\n') : NULL;
    const char *subset = proc ? strstr(proc, "subset=pid") : NULL;
    if (subset && (!end || subset < end))
        ctl_doctor_say(d, CTL_BAD, "ProcSubset", "remove ProcSubset=pid from the unit",
                       "the daemon cannot see /proc/meminfo, vmstat and pressure");
    const char *cgroup = find_mount(text, "/sys/fs/cgroup");
    bool is_read_only = cgroup &&
                        (strncmp(cgroup, " ro,", 4) == 0 || strncmp(cgroup, " ro ", 4) == 0);
    if (is_read_only)
        ctl_doctor_say(
            d, CTL_GOOD, "control groups", NULL,
            "read-only for the daemon (ProtectControlGroups=): it reads memory.pressure, "
            "and can only be woken by it through MemoryPressureWatch=");
    free(text);
}

/* --- the manager's pressure file --- */

/* A variable of the daemon's environment, as it was at its start; -ENODATA if it had none. */
static int read_variable(const struct ctl_doctor *d, const char *name, char *ret, size_t n_ret) {
    enum { MAX_TEXT = 64 << 10 };
    char *text = malloc(MAX_TEXT);
    if (!text) return -ENOMEM;
    int r = ctl_doctor_read_pid(d, "environ", text, MAX_TEXT), n = r;
    size_t n_name = strlen(name);
    if (r >= 0) r = -ENODATA;
    for (int at = 0; at < n && r == -ENODATA; at += (int)strlen(text + at) + 1) {
        if (strncmp(text + at, name, n_name) != 0 || text[(size_t)at + n_name] != '=') continue;
        snprintf(ret, n_ret, "%s", text + at + n_name + 1);
        r = 0;
    }
    free(text);
    return r;
}

/* Has the daemon that file open? False also if its files cannot be listed from here. */
static bool holds_open(const struct ctl_doctor *d, const char *path) {
    char folder[SENSE_MAX_PATH], to[SENSE_MAX_PATH];
    bool is_open = false;
    if (sense_text_path(folder, NULL, d->c->root, "/proc/%d/fd", (int)d->pid) < 0) return false;
    DIR *dir = opendir(folder);
    if (!dir) return false;
    for (const struct dirent *f; !is_open && (f = readdir(dir)) != NULL;) {
        ssize_t n = readlinkat(dirfd(dir), f->d_name, to, sizeof(to) - 1);
        if (n <= 0) continue;
        to[n] = '\0';
        is_open = strcmp(to, path) == 0;
    }
    closedir(dir);
    return is_open;
}

/* A systemd that could hand out its file: does the unit ask for it, and is it used? */
static void check_handed_out(struct ctl_doctor *d, unsigned version) {
    char value[256];
    int r = read_variable(d, "MEMORY_PRESSURE_WATCH", value, sizeof(value));
    if (r == -ENODATA)
        ctl_doctor_say(d, CTL_NOTE, "watch",
                       "copy 20-memory-pressure.conf to /etc/systemd/system/ebbd.service.d/ and "
                       "restart ebbd; the kernel must account stalls, see `pressure`",
                       "systemd %u could hand out its pressure file, and the unit does not ask for "
                       "it",
                       version);
    else if (r < 0)
        ctl_doctor_say(d, CTL_NOTE, "watch", "run doctor as the daemon's user or root",
                       "systemd %u; %s", version,
                       r == -ESRCH ? "no daemon answers whose environment could be looked at"
                                   : "the daemon's environment cannot be read from here");
    else if (strcmp(value, "/dev/null") == 0)
        ctl_doctor_say(d, CTL_NOTE, "watch", "set MemoryPressureWatch=on in a drop-in of the unit",
                       "systemd %u, and the unit turns MEMORY_PRESSURE_WATCH off", version);
    else if (holds_open(d, value))
        ctl_doctor_say(d, CTL_GOOD, "watch", NULL,
                       "MEMORY_PRESSURE_WATCH is in use: the daemon holds %.200s open", value);
    else
        ctl_doctor_say(d, CTL_NOTE, "watch",
                       "the daemon could not use it: see its log, and the finding `pressure`",
                       "systemd %u hands out %.200s, and it is not in use", version, value);
}

static void check_watch(struct ctl_doctor *d) {
    const char *source = ctl_field_string(ctl_field(d->status, "memory"), "source");
    unsigned version = ctl_doctor_systemd(d);
    if (strcmp(source, "watch") == 0)
        ctl_doctor_say(d, CTL_GOOD, "watch", NULL, "MEMORY_PRESSURE_WATCH is in use");
    else if (version == 0)
        ctl_doctor_say(d, CTL_GOOD, "watch", NULL,
                       "no systemd is installed that could hand out a pressure file");
    else if (version < 254)
        ctl_doctor_say(d, CTL_GOOD, "watch", NULL,
                       "systemd %u does not know MemoryPressureWatch= (254 does, as in Debian 13): "
                       "the daemon looks at the stalls by itself",
                       version);
    else
        check_handed_out(d, version);
}

void ctl_doctor_place(struct ctl_doctor *d) {
    if (d->pid != 0) {
        check_limits(d);
        check_locked(d);
        check_own_swap(d);
        check_cgroup(d);
        check_sandbox(d);
    }
    check_watch(d);
}
