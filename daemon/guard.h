/* The guard: gives memory back when the own cgroup is above its memory.high, while nobody else can.
 *
 * Above that limit the kernel puts each thread that charges memory to sleep on its way back to user
 * space, for up to two seconds at a time: the loop, as soon as it writes a log line or a reply or
 * opens a file. So a thread of its own watches the limits, and does nothing that charges: poll,
 * pread of descriptors that are kept, madvise, atomics, futex and eventfd; no open, malloc, log,
 * socket, munmap, and no lock that another thread may hold while it charges.
 *
 * It is woken by inotify when memory.high or memory.max of a level is written, and looks by itself
 * every GUARD_PERIOD_US, as a fake root, a file that inotify does not reach, and what is held
 * growing past the limit are not announced. What is over goes at once (shed.h): kept prefixes, then
 * a plan further down the ladder, published in the loop's place (store.h, "The guard"). The
 * inference thread adopts it between two steps, or the guard does while that thread waits. If no
 * step ends for GUARD_PATIENCE_US, the one that runs is broken off, and no other begins until it is
 * below, has nothing left to give, or GUARD_HALT_US have passed: on a slow board a step is longer
 * than all the rest.
 *
 *   BELOW --above a limit--> ABOVE --below all limits--> BELOW
 *
 * The loop is woken at each move and each decision. It must then stay away from whatever charges
 * until guard_wait() says that the guard is below or has nothing left to give.
 *
 * memory.max is watched alike, with GUARD_RESERVE_BYTES kept below it: when it is written below
 * what is held the kernel kills before it wakes anyone. So it may come down in steps of less than
 * that; only memory.high can be lowered at once. */
#ifndef EBB_DAEMON_GUARD_H
#define EBB_DAEMON_GUARD_H

#include <stdatomic.h>

#include "core/defs.h"
#include "daemon/sense_text.h"

struct err;
struct guard;
struct ladder;
struct mem;
struct prefix;
struct reader;
struct sense;
struct store;

enum {
    GUARD_PERIOD_US = 50000,
    GUARD_HURRY_US = 5000,   /* above a limit */
    GUARD_SPENT_US = 250000, /* above it, with nothing left to give */
    GUARD_PATIENCE_US = 20000,
    GUARD_HALT_US = 1000000,
    GUARD_MAX_LEVELS = 16,
    GUARD_RESERVE_BYTES = 8 << 20, /* or a sixteenth of memory.max, if that is less */
};

/* Borrowed until guard_stop() has returned. */
struct guard_opts {
    struct store *store;
    const struct ladder *ladder;
    struct prefix *prefix;
    struct mem *mem;        /* held above the limit (mem_hold()) */
    struct reader *reader;  /* likewise (reader_hold()) */
    struct sense *sense;    /* likewise (sense_set_quiet()); NULL: there is none */
    void (*wake)(void *ud); /* thread: guard; must not charge (uv_async_send) */
    void *ud;
};

/* One decision. */
struct guard_act {
    uint64_t at_us;           /* CLOCK_MONOTONIC */
    uint64_t over_bytes;      /* above the nearest limit */
    uint64_t limit_bytes;     /* that limit */
    uint64_t held_kept_bytes; /* kept prefixes that there were */
    uint64_t kept_bytes;      /* and what of them went */
    uint64_t plan_bytes;      /* that the new plan does without */
    uint32_t position_from, position;
};

/* Starts the thread, without a level to watch. 0, -ENOMEM or the system's error. */
int guard_start(const struct guard_opts *o, struct guard **ret, struct err *e) MUST_CHECK;
/* Joins it: its longest wait is GUARD_PERIOD_US. Accepts NULL. */
void guard_stop(struct guard *g);

/* ---- Thread: loop ---- */

/* Folders of the own cgroup and its ancestors (version 2), nearest first; n may be 0, and beyond
 * GUARD_MAX_LEVELS the furthest are left out. Opens and reads their files once, so it is to be
 * called while below. 0, -ENOMEM or -EMFILE. */
int guard_set_levels(struct guard *g, char (*folders)[SENSE_MAX_PATH], unsigned n,
                     struct err *e) MUST_CHECK;
/* A level's files no longer answer: it was moved or removed. Set the levels anew, below. */
bool guard_has_lost(const struct guard *g);
bool guard_is_over(const struct guard *g);
/* Above, and there is nothing left to give: waiting is in vain. */
bool guard_is_exhausted(const struct guard *g);
/* Looks at the limits now, on the calling thread, before something that charges; above one it wakes
 * the guard. Reads two small files a level. */
bool guard_look(struct guard *g);
/* Waits until the guard is below or has something new, at most so long. */
void guard_wait(struct guard *g, uint64_t timeout_us);
/* Was above a limit at any time since the last call. */
bool guard_was_over(struct guard *g);
/* Its decisions, oldest first; false if there is none now. If the loop does not come for them, the
 * oldest are lost, and so counted. */
bool guard_next(struct guard *g, struct guard_act *ret);
/* Rises with each look of the thread: a sign of life. Thread: any. */
uint64_t guard_beats(const struct guard *g);

#endif
