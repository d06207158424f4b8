/* The files of a memory cgroup, versions 1 and 2: what their texts say, and how many bytes are left
 * before it is slowed down (memory.high) or killed (memory.max, memory.limit_in_bytes). All pure,
 * and without allocation: any thread. Where the files lie is sense_tree.h's business.
 *
 * What counts as used is the kernel's number less the page cache (inactive_file, active_file),
 * which the kernel drops when it is needed. */
#ifndef EBB_DAEMON_SENSE_CGROUP_H
#define EBB_DAEMON_SENSE_CGROUP_H

#include "core/defs.h"

struct err;

enum { SENSE_CGROUP_MAX_PATH = 512 };

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

/* Which cgroup is the top of what is mounted at `point`, from the text of /proc/self/mountinfo,
 * into ret[SENSE_CGROUP_MAX_PATH]: "/" of a whole hierarchy, "/docker/x" of a part of it, "/.." of
 * more than our namespace. Pure. 0, -ENODATA (no cgroups are mounted there) or -EBADMSG. */
int sense_cgroup_parse_top(const char *text, size_t n, const char *point, char *ret,
                           struct err *e) MUST_CHECK;

/* Our path from the text of /proc/self/cgroup, into ret[SENSE_CGROUP_MAX_PATH]: of version 2, and
 * below such a top of either version (1: of the hierarchy that has the memory controller).
 * *ret_is_outside: our cgroup is not below the top, or only the kernel knows where; "/" stands in
 * for it. Pure. 0, -ENODATA (no such line), or -EBADMSG (not absolute, "..", control characters,
 * too long, cut). */
int sense_cgroup_parse_path(const char *text, size_t n, char *ret, bool *ret_is_outside,
                            struct err *e) MUST_CHECK;
int sense_cgroup_parse_below(unsigned version, const char *text, size_t n, const char *top,
                             char *ret, bool *ret_is_outside, struct err *e) MUST_CHECK;

/* Of memory.high, memory.max and memory.limit_in_bytes: bytes, UINT64_MAX for "max" and for what
 * version 1 says instead (2^63 less a page). Pure. 0 or -EBADMSG. */
int sense_cgroup_parse_limit(const char *text, size_t n, uint64_t *ret_bytes,
                             struct err *e) MUST_CHECK;
/* Of memory.events and memory.stat, version 2. Pure. 0, -ENODATA (a line is missing) or
 * -EBADMSG. */
int sense_cgroup_parse_events(const char *text, size_t n, struct sense_cgroup_events *ret,
                              struct err *e) MUST_CHECK;
int sense_cgroup_parse_stat(const char *text, size_t n, struct sense_cgroup_stat *ret,
                            struct err *e) MUST_CHECK;

/* One file's text; NULL = there is no such file. */
struct sense_cgroup_text {
    const char *s;
    size_t n;
};

/* The files of one cgroup. Version 1 has no `high`, and its `stat` may be missing: then nothing
 * counts as page cache. */
struct sense_cgroup_texts {
    unsigned version; /* 1 or 2 */
    struct sense_cgroup_text high, max, current, stat;
};

struct sense_cgroup_count {
    uint64_t limit_bytes; /* the lesser of the two; UINT64_MAX = none */
    uint64_t used_bytes;  /* without a limit 0 if `current` or `stat` says nothing */
    uint64_t left_bytes;  /* UINT64_MAX without a limit */
    uint64_t over_bytes;
    bool is_high; /* the limit is memory.high, which slows down and does not kill */
};

/* What of a cgroup is left, and by how much it is over. Pure. 0, -EBADMSG, or -ENODATA (a file or a
 * line is missing); the message names the file. */
int sense_cgroup_count(const struct sense_cgroup_texts *t, struct sense_cgroup_count *ret,
                       struct err *e) MUST_CHECK;

#endif
