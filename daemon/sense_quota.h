/* How much of the CPUs a cgroup may use by time: cpu.max of version 2, or cpu.cfs_quota_us over
 * cpu.cfs_period_us of version 1; the least over the cgroup and all that it lies in. More threads
 * than that many CPUs use the time up sooner and then all wait for the next period.
 *
 * The place is looked for once in sense_when.rescan_us; in between the files are read by
 * descriptors that are kept. Where the path in /proc is not below the mount (a container that has a
 * cgroup mount of its own), the mount's top counts. */
#ifndef EBB_DAEMON_SENSE_QUOTA_H
#define EBB_DAEMON_SENSE_QUOTA_H

#include "core/defs.h"

struct err;
struct sense_when;

enum { SENSE_QUOTA_MAX_PATH = 512 };

/* In thousandths of one CPU, rounded up. */
#define SENSE_QUOTA_NONE UINT32_MAX

struct sense_quota {
    uint32_t permille;             /* SENSE_QUOTA_NONE = no limit */
    bool is_v1;                    /* of the limit; false without one, as is the next */
    char at[SENSE_QUOTA_MAX_PATH]; /* the cgroup that has it: "/ebb"; "/" is the mount's top */
};

/* Of cpu.max: "max 100000\n" or "50000 100000\n". Pure. 0 or -EBADMSG. */
int sense_quota_parse(const char *text, size_t n, uint32_t *ret_permille, struct err *e) MUST_CHECK;
/* Of the two files of version 1; a quota of -1 is none. Pure. 0 or -EBADMSG. */
int sense_quota_parse_v1(const char *quota, size_t n_quota, const char *period, size_t n_period,
                         uint32_t *ret_permille, struct err *e) MUST_CHECK;
/* The path of the hierarchy of version 1 that has the controller "cpu", from the text of
 * /proc/PID/cgroup, into ret[SENSE_QUOTA_MAX_PATH]; "/" stands in for one that begins above what
 * can be seen. Pure. 0, -ENODATA (no such line) or -EBADMSG (not absolute, too long). */
int sense_quota_parse_path_v1(const char *text, size_t n, char *ret, struct err *e) MUST_CHECK;

/* Threads that can run at once: 1..n. */
uint32_t sense_quota_threads(uint32_t permille, uint32_t n);

/* What is kept between two readings. One thread at a time. */
struct sense_quotas;

/* self: "/proc/self/cgroup" or another process's. Both are borrowed until the end. 0 or -ENOMEM.
 * Reads nothing yet. */
int sense_quota_create(const char *root, const char *self, struct sense_quotas **ret,
                       struct err *e) MUST_CHECK;
void sense_quota_destroy(struct sense_quotas *q); /* accepts NULL */

/* 0, -ENODATA (no level has such a file: no limit is known, nor that there is none), -EBADMSG (one
 * cannot be read as one), -EAGAIN (nothing is known yet, and nothing may be opened now) or the
 * system's errors. */
int sense_quota_read(struct sense_quotas *q, const struct sense_when *w, struct sense_quota *ret,
                     struct err *e) MUST_CHECK;

#endif
