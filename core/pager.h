/* The pager, sans I/O: decides which low planes to drop or read so that the store moves to the
 * target position of the ladder and never exceeds the budget. It owns no slab and reads no file:
 * it says what to do next and is told what happened. No clock, integers only. Thread: loop.
 *
 * Invariants
 *  1 resident + reading bytes <= budget whenever an action was taken under that budget; after the
 *    budget fell, no read is started and drops come first
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
    PAGER_READ,    /* read the low extent of `unit`, then call pager_read_done() */
    PAGER_PUBLISH, /* the low plane of `unit` has arrived: add it and publish `position` */
};

struct pager_action {
    enum pager_verb verb;
    uint32_t unit;
    uint32_t position_from;
    uint32_t position; /* after the action */
    uint64_t bytes;
};

/* `l` is borrowed for the pager's life. Starts at `position`, everything resident as it says. */
int pager_create(const struct ladder *l, uint32_t position, unsigned max_reads, struct pager **ret,
                 struct err *e) MUST_CHECK;
void pager_destroy(struct pager *p); /* accepts NULL */

/* New target and the weight bytes allowed. Reads under way for steps above the target are
 * forgotten: their pager_read_done() then answers PAGER_NONE and the caller frees the slab. */
void pager_set_target(struct pager *p, uint32_t position, uint64_t weight_budget_bytes);
/* The next thing to do. Call until PAGER_NONE; each action returned counts as taken. */
struct pager_action pager_next(struct pager *p);
/* A read ended (ok or not). True: the slab is wanted and PAGER_PUBLISH will follow (in ladder
 * order); false: free it. A failed read is not retried until the target changes. */
bool pager_read_done(struct pager *p, uint32_t unit, bool ok);

uint32_t pager_position(const struct pager *p); /* published */
uint32_t pager_target(const struct pager *p);
uint64_t pager_reading_bytes(const struct pager *p);

#endif
