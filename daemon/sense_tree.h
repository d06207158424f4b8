/* The cgroups that we lie in, from our own to the top, read by kept descriptors (sense_file.h).
 *
 * Where we are is read from /proc/self/cgroup each time. Memory is accounted by version 2 (mounted
 * at sys/fs/cgroup) or by the memory controller of version 1 (sys/fs/cgroup/memory), never by both.
 * A hybrid system has version 2 at sys/fs/cgroup/unified: without accounting, but with the pressure
 * of each cgroup. Where a part of a hierarchy is mounted, as in a container, the path is taken
 * below that part (/proc/self/mountinfo). One that is not below the mount means the nearest cgroup
 * above it that is there, at last the mount's top.
 *
 * All files of all levels are opened and read as soon as the place is known, also where no limit is
 * set yet, so that later readings open nothing. What is not there is looked for again after
 * sense_when.rescan_us, as is a place that was not found. Thread: one at a time. */
#ifndef EBB_DAEMON_SENSE_TREE_H
#define EBB_DAEMON_SENSE_TREE_H

#include "core/err.h"
#include "daemon/sense_cgroup.h"
#include "daemon/sense_file.h"
#include "daemon/sense_psi.h"
#include "daemon/sense_text.h"

enum {
    SENSE_MAX_LEVELS = 16,      /* cgroups from our own up; those above are not looked at */
    SENSE_TREE_MAX_SELF = 8192, /* a line for each of a dozen hierarchies */
    SENSE_TREE_FILES = 5,
};

struct sense_tree_place {
    unsigned version;                 /* 1 or 2 */
    bool is_hybrid;                   /* version 2 below sys/fs/cgroup/unified */
    bool is_fallback;                 /* ours is not there: one above it */
    char path[SENSE_CGROUP_MAX_PATH]; /* below the mount: "/system.slice/ebbd.service", "/" */
};

struct sense_tree_where {
    struct sense_tree_place memory; /* what accounts memory, or could */
    bool has_v2;
    struct sense_tree_place v2; /* for memory.pressure */
};

struct sense_tree_level {
    size_t n_path; /* of the place's path; 0 = the top */
    struct sense_file files[SENSE_TREE_FILES];
    bool is_accounted; /* it has limits, or had them when it was last read */
};

/* Kept; no field is others' business but `generation`. */
struct sense_tree {
    char root[SENSE_MAX_PATH];
    struct sense_file self, controllers, pressure;
    char text[SENSE_TREE_MAX_SELF]; /* of /proc/self/cgroup when the place was last looked for */
    size_t n_text;
    uint64_t looked_us;
    bool has_looked, has_place, must_look, has_read;
    struct err err; /* why there is no place */
    struct sense_tree_where at;
    uint32_t generation; /* another number: another place, or a level that has files only now */
    unsigned n_levels;
    struct sense_tree_level levels[SENSE_MAX_LEVELS];
};

/* What is nearest: one limit over all levels. */
struct sense_tree_reading {
    unsigned version;
    struct sense_cgroup_count least; /* the level with the least left; of those, most over */
    unsigned level;                  /* which one that is, 0 = our own; only with a limit */
    bool is_fallback;
    bool has_events; /* of the nearest cgroup that has them: not the top, and not version 1 */
    struct sense_cgroup_events events;
};

/* root: shorter than SENSE_MAX_PATH. Opens nothing. */
void sense_tree_init(struct sense_tree *t, const char *root);
void sense_tree_fini(struct sense_tree *t);

/* Where the process `who` ("self", "123") is, below `root`; text[n] is that of its
 * /proc/WHO/cgroup. 0, -ENODATA (no hierarchy that could account memory), -EBADMSG, -ENAMETOOLONG
 * or -ENOMEM. Looks for folders and mounts, so not above a limit. */
int sense_tree_locate(const char *root, const char *who, const char *text, size_t n,
                      struct sense_tree_where *ret, struct err *e) MUST_CHECK;

/* Looks where we are. 0, -EAGAIN (we were moved, and nothing may be opened now), and those of
 * locate and of the system. */
int sense_tree_look(struct sense_tree *t, const struct sense_when *w, struct err *e) MUST_CHECK;

/* Reads all levels; only after a look that gave 0. 0, -ENODATA (this hierarchy does not account
 * memory), -ESTALE (our cgroup is not there, nor one above it with limits) or -EBADMSG. */
int sense_tree_read(struct sense_tree *t, const struct sense_when *w,
                    struct sense_tree_reading *ret, struct err *e) MUST_CHECK;

/* memory.pressure of our own cgroup; only after a look that gave 0. 0, -ENODATA (no version 2),
 * those of sense_psi_parse() and the system's. The second closes it, for someone else's trigger. */
int sense_tree_read_pressure(struct sense_tree *t, const struct sense_when *w,
                             struct sense_psi *ret, struct err *e) MUST_CHECK;
void sense_tree_close_pressure(struct sense_tree *t);

/* Path of a file of the level, or of its folder (name ""), into ret[SENSE_MAX_PATH].
 * 0 or -ENAMETOOLONG. */
int sense_tree_path(const struct sense_tree *t, unsigned level, const char *name, char *ret,
                    struct err *e) MUST_CHECK;
/* The same of a place's own cgroup, without a tree. */
int sense_tree_place_path(const char *root, const struct sense_tree_place *at, const char *name,
                          char *ret, struct err *e) MUST_CHECK;

#endif
