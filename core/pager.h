/* The pager, sans I/O: decides which low planes to drop or read so that the store moves to the
 * target position of the ladder and never exceeds the budget. It owns no slab and reads no file:
 * it says what to do next and is told what happened. No clock, integers only. Thread: loop.
 *
 * Bytes held = what the published position keeps resident, plus low planes being read, plus low
 * planes that arrived and wait for their turn, plus bytes dropped but not yet returned.
 *
 * Invariants
 *  1 a read is started only if bytes held, the new ones included, fit the budget; drops come first
 *  2 positions published are a walk along the ladder: every plan is a prefix of it
 *  3 at most `max_reads` extents are being read */
#ifndef EBB_CORE_PAGER_H
#define EBB_CORE_PAGER_H

#include "core/defs.h"
#include "core/ladder.h"

struct err;
struct pager;

enum pager_verb {
    PAGER_NONE,    /* nothing to do until something changes */
    PAGER_DROP,    /* leave out the low planes of every step in [position_from, position), publish
                    * `position` (going down may take many steps at once) */
    PAGER_DISCARD, /* free the low plane of `unit`, which arrived and is not wanted any more */
    PAGER_READ,    /* read the low extent of `unit`, then call pager_read_done() */
    PAGER_PUBLISH, /* add the low plane of `unit`, which has arrived, and publish `position` */
};

struct pager_action {
    enum pager_verb verb;
    uint32_t unit;          /* DISCARD, READ, PUBLISH */
    uint32_t position_from; /* before the action */
    uint32_t position;      /* after it */
    uint64_t bytes;         /* dropped, discarded, read or published */
};

/* `l` is borrowed for the pager's life. Starts at `position`, everything resident as it says; the
 * target is the same, the budget unlimited. 0, -EINVAL (position, max_reads), -ENOTSUP (a step
 * that is not from full to high) or -ENOMEM. */
int pager_create(const struct ladder *l, uint32_t position, unsigned max_reads, struct pager **ret,
                 struct err *e) MUST_CHECK;
void pager_destroy(struct pager *p); /* accepts NULL */

/* New target and the weight bytes allowed. A position that does not fit the bytes is replaced by
 * the nearest lower one that does. Reads under way for steps above the target are forgotten: their
 * pager_read_done() then answers false (unless the target has come back by then). */
void pager_set_target(struct pager *p, uint32_t position, uint64_t weight_budget_bytes);
/* Dropped bytes that the store has not been able to free yet. They count as held. */
void pager_set_retired(struct pager *p, uint64_t bytes);
/* The next thing to do. Call until PAGER_NONE; each action returned counts as taken. */
struct pager_action pager_next(struct pager *p);
/* A read ended (ok or not). True: keep the slab, PAGER_PUBLISH (in ladder order) or PAGER_DISCARD
 * will follow; false: free it. A failed read is not retried until the target changes. */
bool pager_read_done(struct pager *p, uint32_t unit, bool ok);

uint32_t pager_position(const struct pager *p); /* published */
uint32_t pager_target(const struct pager *p);   /* in force, after the fit to the bytes */
uint64_t pager_reading_bytes(const struct pager *p);
uint64_t pager_arrived_bytes(const struct pager *p); /* read, neither published nor discarded */

#endif
