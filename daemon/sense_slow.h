/* What is read from /sys, on a thread of its own: drivers may take long, and one may never answer.
 * The thread publishes a whole result; whoever asks gets a copy of the newest one and its age.
 *
 * What is there is looked for once in a while; in between the thread opens nothing, so that a
 * cgroup above its limit does not put it to sleep (sense_file.h), and while it is set quiet it
 * looks for nothing either. */
#ifndef EBB_DAEMON_SENSE_SLOW_H
#define EBB_DAEMON_SENSE_SLOW_H

#include "core/err.h"
#include "daemon/sense_cpufreq.h"
#include "daemon/sense_quota.h"
#include "daemon/sense_thermal.h"

struct sense_slow_result {
    uint64_t begun_us; /* CLOCK_MONOTONIC; written by the thread, as is the next one */
    uint64_t ended_us;
    bool has_thermal; /* could be read; else thermal_err, and so on */
    struct sense_thermal thermal;
    struct err thermal_err;
    bool has_cpufreq;
    struct sense_cpufreq cpufreq;
    struct err cpufreq_err;
    bool has_throttle;
    uint32_t throttle_bits, throttle_mask;
    struct err throttle_err;
    bool has_quota;
    struct sense_quota quota;
    struct err quota_err;
};

/* Fills a zeroed result. May block. */
typedef void (*sense_slow_fn)(void *ud, struct sense_slow_result *ret);

struct sense_slow_opts {
    const char *root;     /* copied */
    const char *zones;    /* copied */
    uint64_t interval_us; /* from the end of a reading to the next */
    uint64_t rescan_us;   /* between two looks at which zones, policies and the like there are */
    sense_slow_fn read;   /* NULL = the four sensors; another one is for tests */
    void *ud;             /* of `read`; must outlive the thread */
};

struct sense_slow;

/* 0, -ENAMETOOLONG, -ENOMEM or -EAGAIN (no thread). */
int sense_slow_create(const struct sense_slow_opts *o, struct sense_slow **ret,
                      struct err *e) MUST_CHECK;
/* Accepts NULL. False if the thread does not end within a fifth of a second: it is left behind, and
 * frees what it uses should it ever end. */
bool sense_slow_destroy(struct sense_slow *s);

/* From the next reading on: whether it may open nothing, as our cgroup is above a limit. Any
 * thread; charges nothing. */
void sense_slow_set_quiet(struct sense_slow *s, bool is_quiet);
void sense_slow_set_rescan(struct sense_slow *s, uint64_t rescan_us); /* likewise */

/* Copies the newest result. False, and *ret untouched, before the first one. Never waits for a
 * reading. Any thread. */
bool sense_slow_take(struct sense_slow *s, struct sense_slow_result *ret);
/* Waits for the first result, at most so long. False if none came. */
bool sense_slow_wait(struct sense_slow *s, uint64_t timeout_us);

#endif
