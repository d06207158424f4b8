/* `ebb doctor`, the CPUs: which are big enough to compute, how much of their time the daemon's
 * cgroup may have, and how fast they may run. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"
#include "core/topology.h"
#include "daemon/ctl.h"
#include "daemon/ctl_doctor.h"
#include "daemon/ctl_field.h"
#include "daemon/sense.h"
#include "daemon/sense_file.h"

/* The CPUs that the daemon may run on, or else this program. */
static bool allowed_cpus(const struct ctl_doctor *d, cpu_set_t *ret) {
    static const char key[] = "\nCpus_allowed_list:\t";
    char text[8192];
    if (ctl_doctor_read_pid(d, "status", text, sizeof(text)) > 0) {
        const char *list = strstr(text, key);
        const char *end = list ? strchr(list + 1, '\n') : NULL;
        list = list ? list + sizeof(key) - 1 : NULL;
        if (end && topology_parse_list(list, (size_t)(end + 1 - list), ret) == 0) return true;
    }
    return sched_getaffinity(0, sizeof(*ret), ret) == 0 && CPU_COUNT(ret) > 0;
}

static void say_cores(struct ctl_doctor *d) {
    cpu_set_t allowed;
    struct topology t;
    if (!allowed_cpus(d, &allowed)) return;
    topology_choose(d->c->root, &allowed, &t);
    const char *source = topology_source_name(t.source);
    if (!source)
        ctl_doctor_say(d, CTL_GOOD, "cores", NULL,
                       "CPUs %s, as nothing says which of them are big (no cpu_capacity, no "
                       "cpuinfo_max_freq): cores to compute on: %u",
                       t.cpus_text, t.n_cores);
    else
        ctl_doctor_say(d, CTL_GOOD, "cores", NULL, "CPUs %s, %s by %s: cores to compute on: %u",
                       t.cpus_text, t.leaves_some ? "the big ones" : "all alike", source,
                       t.n_cores);
}

/* The quota of the daemon's cgroup, which another user's process may not be asked for. */
static int read_quota(const struct ctl_doctor *d, struct sense_quota *ret, struct err *e) {
    const struct sense_when w = {.now_us = 1, .rescan_us = 1, .may_open = true};
    struct sense_quotas *q;
    char self[64];
    snprintf(self, sizeof(self), "/proc/%d/cgroup", (int)d->pid);
    int r = sense_quota_create(d->c->root, self, &q, e);
    if (r < 0) return r;
    r = sense_quota_read(q, &w, ret, e);
    sense_quota_destroy(q);
    return r;
}

static void say_quota(struct ctl_doctor *d) {
    struct sense_quota q;
    struct err e = {0};
    double threads = 0;
    if (d->pid <= 0) return;
    int r = read_quota(d, &q, &e);
    if (r == -ENODATA || (r == 0 && q.permille == SENSE_QUOTA_NONE)) {
        ctl_doctor_say(d, CTL_GOOD, "cpu quota", NULL, "no limit%s%s", r < 0 ? ": " : "",
                       r < 0 ? e.msg : "");
        return;
    }
    if (r < 0) {
        ctl_doctor_say(d, CTL_NOTE, "cpu quota", "run doctor as the daemon's user or root",
                       "unknown: %s", e.msg);
        return;
    }
    /* Without a status: as if there were more threads than any quota allows. */
    uint32_t n = UINT32_MAX;
    if (ctl_field_number(d->status, "threads_max", &threads) && threads >= 1 && threads <= 1024)
        n = (uint32_t)threads;
    uint32_t most = sense_quota_threads(q.permille, n);
    ctl_doctor_say(d, most < n ? CTL_NOTE : CTL_GOOD, "cpu quota",
                   "CPUQuota= of the unit (docker: --cpus) limits it; more threads would use that "
                   "time up sooner and then wait",
                   "%.2f CPUs by %s at %.200s: threads that compute: %u at most",
                   (double)q.permille / 1000, q.is_v1 ? "cpu.cfs_quota_us" : "cpu.max", q.at, most);
}

static void say_clocks(struct ctl_doctor *d, const struct sense_reading *r) {
    for (uint32_t i = 0; i < r->n_clocks; i++) {
        const struct sense_clock *c = &r->clocks[i];
        char rel[96], governor[32] = "", driver[32] = "", cur[32] = "an unknown clock";
        snprintf(rel, sizeof(rel), "/sys/devices/system/cpu/cpufreq/policy%u/scaling_governor",
                 c->number);
        if (!ctl_doctor_word(d, rel, governor, sizeof(governor))) strcpy(governor, "unknown");
        snprintf(rel, sizeof(rel), "/sys/devices/system/cpu/cpufreq/policy%u/scaling_driver",
                 c->number);
        if (!ctl_doctor_word(d, rel, driver, sizeof(driver))) strcpy(driver, "unknown");
        if (c->has_cur) snprintf(cur, sizeof(cur), "%u MHz", c->cur_khz / 1000);
        /* What intel_pstate and amd-pstate call powersave follows the load. */
        bool is_slow = strcmp(governor, "powersave") == 0 && !strstr(driver, "pstate");
        bool is_capped = c->cap_khz < c->top_khz;
        ctl_doctor_say(d, is_slow || is_capped ? CTL_NOTE : CTL_GOOD, "cpufreq",
                       is_slow
                           ? "powersave keeps the lowest clock: set the governor to ondemand or "
                             "schedutil"
                           : "capped by heat or by someone's setting: see the zones, and "
                             "scaling_max_freq",
                       "CPU %u: %s now, at most %u of %u MHz, governor %s", c->number, cur,
                       c->cap_khz / 1000, c->top_khz / 1000, governor);
    }
}

void ctl_doctor_cpus(struct ctl_doctor *d, const struct sense_reading *r) {
    say_cores(d);
    say_quota(d);
    say_clocks(d, r);
}
