/* The pager, sans I/O: decides which parts of which units to drop and to read so that what is
 * resident moves to the target position of the ladder and never exceeds the budget. It owns no
 * slab and reads no file: it says what to do next and is told what happened. No clock but the time
 * it is given, integers only. Thread: loop.
 *
 * A rung holds parts of a unit: `full` high and low plane, `high` the high one, `swsc` its own
 * extent, `paged` none. A unit without a part is streamed from its smallest form on disk, and that
 * is the form of `swsc` where the pack has one. So a unit that stands at `swsc` gives the same
 * numbers while its extent is not resident: it is slow, not wrong. That is what makes going down
 * immediate at every depth: planes are dropped first, and what is to replace them is read into the
 * room that they left.
 *
 * Bytes held = parts in the next plan + being read + arrived and waiting for their turn + dropped
 * but not returned to the system yet (`retired`).
 *
 * Invariants
 *  1 a read is started only if the bytes held, the new ones included, fit the budget
 *  2 every position published is one of the ladder's. Down it may be many steps at once and needs
 *    no read; up it is one step at a time
 *  3 a plan published as a position holds no part that the position's rungs do not hold, and every
 *    part that they hold but for the swsc extents not read yet
 *  4 going up, a unit's planes join the plan before its swsc extent leaves it. Only if the budget
 *    has no room for both does the extent go first; the unit is streamed meanwhile
 *  5 reads are started in the order in which they can be published. What arrived ahead of its turn
 *    is given up if the one whose turn it is has no room otherwise
 *  6 at most `max_reads` parts are being read
 *  7 a read that failed is tried again after a pause: RETRY_US, twice as long after each failure in
 *    a row, RETRY_MAX_US at most. Nothing behind it is read meanwhile, as it could not be published
 *  8 when there is nothing to do, the bytes held fit the budget but for those retired and those of
 *    reads that are cancelled (if not even the last position fits, it is what is held). For that,
 *    when the budget falls, what is ahead of its turn is given up first, then the extent that the
 *    next step replaces, then what was read for that step
 * So bytes held exceed the budget only when the budget falls, by what a step of the engine has yet
 * to let go of (`retired`) and by a read that is then cancelled. */
#ifndef EBB_CORE_PAGER_H
#define EBB_CORE_PAGER_H

#include "core/defs.h"
#include "core/ladder.h"

struct err;
struct pager;

enum pager_part { PAGER_HIGH, PAGER_LOW, PAGER_SWSC };
enum { PAGER_PARTS = PAGER_SWSC + 1 };

enum { PAGER_RETRY_US = 1000000, PAGER_RETRY_MAX_US = 64000000 };

struct pager_unit {
    uint64_t bytes[PAGER_PARTS]; /* enum pager_part; 0 for a part that the pack has not */
};

enum pager_verb {
    PAGER_NONE,    /* nothing to do until something changes, or retry time comes */
    PAGER_DROP,    /* leave `part` of `unit` out of the next plan */
    PAGER_ADD,     /* `part` of `unit`, which has arrived, joins the next plan */
    PAGER_PUBLISH, /* publish the next plan as `position`, which may be the one there is */
    PAGER_DISCARD, /* free `part` of `unit`, which arrived and is not wanted any more */
    PAGER_READ,    /* read `part` of `unit`, then call pager_read_done() */
    PAGER_CANCEL,  /* let the read of `part` of `unit` end early; pager_read_done() is still due */
};

struct pager_action {
    enum pager_verb verb;
    uint32_t unit; /* all but NONE and PUBLISH */
    enum pager_part part;
    uint32_t position_from; /* published before the action */
    uint32_t position;      /* and after it */
    uint64_t bytes; /* of the part; PUBLISH: dropped since the last one (going down), or added */
};

enum pager_end { PAGER_READ_OK, PAGER_READ_FAILED, PAGER_READ_CANCELLED };

/* `l` is borrowed for the pager's life, `units` [ladder_n_units(l)] copied. Starts at `position`,
 * everything resident as it says; the target is the same, the budget unlimited. 0, -EINVAL
 * (position, max_reads, or sizes that are not the ladder's) or -ENOMEM. */
int pager_create(const struct ladder *l, const struct pager_unit *units, uint32_t position,
                 unsigned max_reads, struct pager **ret, struct err *e) MUST_CHECK;
void pager_destroy(struct pager *p); /* accepts NULL */

/* New target and the weight bytes allowed. A position that does not fit the bytes is replaced by
 * the nearest lower one that does. */
void pager_set_target(struct pager *p, uint32_t position, uint64_t weight_budget_bytes);
/* Dropped bytes that the store has not been able to free yet. They count as held. */
void pager_set_retired(struct pager *p, uint64_t bytes);
/* The next thing to do. Call until PAGER_NONE; each action returned counts as taken. */
struct pager_action pager_next(struct pager *p, uint64_t now_us);
/* A read ended. True: keep the slab, PAGER_ADD or PAGER_DISCARD will follow; false: free it. */
bool pager_read_done(struct pager *p, uint32_t unit, enum pager_part part, enum pager_end end,
                     uint64_t now_us);

uint32_t pager_position(const struct pager *p); /* published */
uint32_t pager_target(const struct pager *p);   /* in force, after the fit to the bytes */
uint64_t pager_held_bytes(const struct pager *p);
uint64_t pager_reading_bytes(const struct pager *p);
uint64_t pager_arrived_bytes(const struct pager *p); /* read, neither added nor discarded */
/* Parts of a unit in the next plan: bit (1 << enum pager_part). 0: the unit is streamed. */
unsigned pager_parts(const struct pager *p, uint32_t unit);
/* Parts that a unit holds at a rung, as above. */
unsigned pager_rung_parts(enum rung r);

#endif
