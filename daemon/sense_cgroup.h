/* Our own cgroup (version 2): how many bytes are left before it, or one that it lies in, is slowed
 * down (memory.high) or killed (memory.max).
 *
 * What counts as used is memory.current less the page cache (inactive_file, active_file), which
 * the kernel drops when it is needed. Where no limit is set anywhere the answer is a known "none".
 * Where the kernel does not account memory, or an old hierarchy does it, the answer is unknown. */
#ifndef EBB_DAEMON_SENSE_CGROUP_H
#define EBB_DAEMON_SENSE_CGROUP_H

#include "core/defs.h"

struct err;

enum { SENSE_CGROUP_MAX_PATH = 512 };

struct sense_cgroup_place {
    bool is_hybrid;                   /* mounted below sys/fs/cgroup/unified */
    char path[SENSE_CGROUP_MAX_PATH]; /* "/system.slice/ebbd.service", "/" */
};

struct sense_cgroup_events {
    uint64_t high; /* times that it was over memory.high and slowed down */
    uint64_t max;
    uint64_t oom;
    uint64_t oom_kill;
};

struct sense_cgroup_stat {
    uint64_t inactive_file; /* bytes */
    uint64_t active_file;   /* bytes */
    uint64_t refaults;      /* workingset_refault_file, before Linux 5.9 workingset_refault */
    uint64_t major_faults;
};

struct sense_cgroup {
    uint64_t left_bytes; /* least over all limits; UINT64_MAX = there is none */
    uint64_t over_bytes; /* most over one of them; then nothing is left */
    bool has_events;     /* of the nearest cgroup that has them: not the root */
    struct sense_cgroup_events events;
};

/* Our path from the text of /proc/self/cgroup, into ret[SENSE_CGROUP_MAX_PATH]. Pure. 0, -ENODATA
 * (no line "0::"), or -EBADMSG (not absolute, "..", control characters, too long, cut). */
int sense_cgroup_parse_path(const char *text, size_t n, char *ret, struct err *e) MUST_CHECK;
/* Of memory.high and memory.max: bytes, UINT64_MAX for "max". Pure. 0 or -EBADMSG. */
int sense_cgroup_parse_limit(const char *text, size_t n, uint64_t *ret_bytes,
                             struct err *e) MUST_CHECK;
/* Of memory.events and memory.stat. Pure. 0, -ENODATA (a line is missing) or -EBADMSG. */
int sense_cgroup_parse_events(const char *text, size_t n, struct sense_cgroup_events *ret,
                              struct err *e) MUST_CHECK;
int sense_cgroup_parse_stat(const char *text, size_t n, struct sense_cgroup_stat *ret,
                            struct err *e) MUST_CHECK;

/* Where we are, below `root`. 0, -ENODATA (no version 2 hierarchy), the errors of parse_path or the
 * system's. */
int sense_cgroup_find(const char *root, struct sense_cgroup_place *ret, struct err *e) MUST_CHECK;
/* Path of one of our cgroup's files ("memory.pressure"), into ret[SENSE_MAX_PATH] (sense_text.h).
 * 0 or -ENAMETOOLONG. */
int sense_cgroup_file(const char *root, const struct sense_cgroup_place *at, const char *name,
                      char *ret, struct err *e) MUST_CHECK;
/* Reads ours and those that it lies in. 0, -ENODATA (no memory accounting in this hierarchy),
 * -ESTALE (our folder is not there: we were moved), -EBADMSG or the system's errors. */
int sense_cgroup_read(const char *root, const struct sense_cgroup_place *at,
                      struct sense_cgroup *ret, struct err *e) MUST_CHECK;

#endif
