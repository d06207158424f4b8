/* Reads of extents on libuv's worker threads. The caller bounds how many are under way. */
#ifndef EBB_DAEMON_IOWORK_H
#define EBB_DAEMON_IOWORK_H

#include <uv.h>

#include "core/defs.h"

struct err;
struct iowork;
struct mem;
struct pack_extent;
struct reader;
struct slab;

/* One at a time: reading from the page cache is work for a core, and two reads beside two compute
 * threads stretched the longest gap between tokens from 3.7 to 6.1 times the median. */
enum { IOWORK_MAX_READS = 1 };
/* While nothing is computed yet: one is copied while the disk brings the other. */
enum { IOWORK_FIRST_READS = 2 };

/* Called on the loop, exactly once per started read: the slab is the callee's, or NULL with *e,
 * whose code is -ECANCELED after iowork_cancel(). */
typedef void (*iowork_done_fn)(void *ud, const struct pack_extent *x, struct slab *slab,
                               const struct err *e);

/* 0, or -ENOMEM or libuv's error; then `done` is not called. All pointers are borrowed until it
 * is, and *ret is valid until then. Thread: loop. */
int iowork_read(uv_loop_t *loop, struct mem *m, struct reader *reader, const struct pack_extent *x,
                iowork_done_fn done, void *ud, struct iowork **ret) MUST_CHECK;
/* Lets a read end early; `done` still comes, and may have a slab. Thread: loop. */
void iowork_cancel(struct iowork *w);

#endif
