/* Streaming of paged units: one or two I/O workers read them in the order of the layers, ahead of
 * the inference thread, into two slabs that are taken at the start and never more.
 *
 *   inference: pages_begin(plan), then for each paged unit in turn pages_take(), compute,
 *              pages_give()
 *   workers:   pages_serve(): keep the next two units of the round in the slabs. The round has no
 *              end: behind the last unit of a pass it goes on with the first ones of the next
 *
 * Where a pass meets a unit that is not there it waits, without a lock held, until the unit is
 * read, its read fails twice, or for `timeout_us` no byte comes from the disk. Then the step fails;
 * the next one tries again. All rows of a step share one read. A round of one or two units stays in
 * the slabs and is read once.
 *
 * One mutex guards the slabs' states and everything else here; it is held neither during a read nor
 * during compute. A slab is written by one worker while READING, and read by the inference thread
 * while taken; each state change under the mutex hands it over.
 *
 * Invariants
 *  1 a unit is in one slab at most
 *  2 a slab that is taken or READING is not given to another unit
 *  3 the workers read only units of the window: the two that will be taken next
 *  4 what is in a READY slab has passed its checksum since the slab was last written */
#ifndef EBB_CORE_PAGES_H
#define EBB_CORE_PAGES_H

#include "core/defs.h"
#include "core/err.h"
#include "core/store.h"

struct mem;
struct pages;
struct reader_watch;

enum { PAGES_SLABS = 2 };

/* A unit as bound to a slab: what the engine uses in place of the plan's. */
struct page {
    struct plan_unit unit;
    struct swsc_mat forms[MODEL_LAYER_MATS]; /* unit.forms points here, if anywhere */
};

struct pages_opts {
    uint32_t n_units;    /* of the model; the last one is the head */
    bool is_tied;        /* a pass uses the head at its start, too */
    uint64_t slab_bytes; /* the largest form that is streamed */
    uint64_t timeout_us; /* see pages_set_timeout() */
    /* Reads the unit's smallest form into slab[slab_bytes], verifies it, and binds *ret to it.
     * 0 or a negative errno. Should end soon after w->is_cancelled. Thread: I/O worker. */
    int (*load)(void *ud, uint32_t unit, void *slab, struct reader_watch *w, struct page *ret,
                struct err *e);
    void *ud;
};

struct pages_stats {
    uint64_t n_reads;        /* units read and verified */
    uint64_t n_bytes;        /* read from disk, failed reads too */
    uint64_t n_failed_reads; /* by error or checksum */
    uint64_t n_failed_takes; /* steps that ended with an error for want of a unit */
    uint64_t n_waits;        /* takes that had to wait */
    uint64_t wait_us;        /* in all */
    bool is_failing;         /* a take has failed, and no pass got through since */
    struct err last;         /* of the last take that failed */
};

/* Takes the two slabs from `m`, as MEM_SCRATCH. 0, -EINVAL (no units, no bytes) or -ENOMEM. */
int pages_create(struct mem *m, const struct pages_opts *o, struct pages **ret,
                 struct err *e) MUST_CHECK;
/* After pages_serve() has returned, and no step will come. Accepts NULL. */
void pages_destroy(struct pages *p);

/* Reads until pages_stop(). Thread: I/O workers; a third would find nothing to do. Two reads under
 * way are for disks that want a queue: direct reads of 1 MiB on a virtual disk, median of 8, 0.74
 * GB/s with one and 1.03 with two. */
void pages_serve(struct pages *p);
/* For good: waits end with -ECANCELED, pages_serve() returns when its read does. Thread: any. */
void pages_stop(struct pages *p);
/* A plan of this epoch, which frees memory, has been published: a step under an older one ends at
 * its next unit that is streamed with -EAGAIN, as memory would come back only after a whole pass of
 * the disk otherwise. Thread: any. */
void pages_interrupt(struct pages *p, uint64_t epoch);
/* How long a step waits without a byte from the disk. From the next wait on. Thread: any. */
void pages_set_timeout(struct pages *p, uint64_t timeout_us);
/* Thread: any. */
void pages_stats(struct pages *p, struct pages_stats *ret);

/* ---- Thread: inference ---- */

/* A step under `plan` begins: its units of RUNG_PAGED will be taken in order, and a tied head
 * before all others as well as after them. is_spared: pages_interrupt() does not end it. */
void pages_begin(struct pages *p, const struct plan *plan, bool is_spared);
/* The next unit of the round, bound; borrowed until pages_give(). 0, -EINVAL (not the next one),
 * -ETIMEDOUT, -ECANCELED (stopped), -EAGAIN (pages_interrupt()) or the error of its read. */
int pages_take(struct pages *p, uint32_t unit, const struct plan_unit **ret,
               struct err *e) MUST_CHECK;
/* Done with it: its slab may be written again. */
void pages_give(struct pages *p, uint32_t unit);

#endif
