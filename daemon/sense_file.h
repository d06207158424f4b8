/* A small file of the kernel's that is read again and again, by a descriptor that is kept.
 *
 * In a cgroup above its memory.high each open (also one that fails), the first read of a fresh
 * descriptor and each access() are charged, and the thread sleeps for up to two seconds; pread()
 * of a kept descriptor is not. So a file is opened and read once in time, and while `may_open` is
 * false nothing new is looked for.
 *
 * The kernel's own files (proc, sysfs, cgroups) are what they are for as long as the descriptor
 * answers. Elsewhere, as in a root that a test made, a file may be replaced by rename: there each
 * reading compares the path's inode with the kept one, also while `may_open` is false.
 *
 * What is not there is remembered with its error, and looked for again after `rescan_us`. So is
 * what says at the first read that it does not work here (a kernel without that accounting). A
 * driver that fails now and then keeps its descriptor.
 *
 * No function allocates. One thread at a time. */
#ifndef EBB_DAEMON_SENSE_FILE_H
#define EBB_DAEMON_SENSE_FILE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "core/defs.h"

struct err;

/* When a reading is made, and what it may cost. */
struct sense_when {
    uint64_t now_us;              /* CLOCK_MONOTONIC */
    uint64_t rescan_us;           /* an absent file is looked for again after so long */
    bool may_open;                /* false above a limit */
    const _Atomic bool *is_quiet; /* the same while the reading goes on; NULL: it stays as it is */
};

static inline bool sense_may_open(const struct sense_when *w) {
    if (!w->may_open) return false;
    return !w->is_quiet || !atomic_load_explicit(w->is_quiet, memory_order_relaxed);
}

/* Of the owner's memory; its fields are this module's. */
struct sense_file {
    int fd;             /* -1 = not open */
    int code;           /* why it is not, or why the last read failed: negative errno, 0 = fine */
    bool is_kernels;    /* no need to look whether it was replaced */
    bool is_odd;        /* it is there, and no regular file */
    dev_t dev;          /* of the open file */
    ino_t ino;          /* the same */
    uint64_t looked_us; /* when it was last opened, or looked for */
};

/* Of caller's memory; opens nothing. */
void sense_file_init(struct sense_file *f);

/* Also forgets that the file was absent. Accepts one that is not open. */
void sense_file_close(struct sense_file *f);

/* At most `cap` bytes of the file from its start into ret[*ret_n]; what lies beyond is not looked
 * at. `path` is the same at each call until sense_file_close().
 * 0, or with the path in front: -EISDIR, -ENOTSUP (a FIFO, a device, a socket), the system's errors
 * (of now, or those remembered), or -EAGAIN (not open, and may not be opened now). */
int sense_file_read(struct sense_file *f, const char *path, const struct sense_when *w, char *ret,
                    size_t cap, size_t *ret_n, struct err *e) MUST_CHECK;

/* The descriptor is of a file system of the kernel's own. */
bool sense_file_is_kernels(int fd);

/* An open descriptor is at hand: a reading opens nothing. */
static inline bool sense_file_is_open(const struct sense_file *f) {
    return f->fd >= 0;
}

#endif
