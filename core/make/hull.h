/* Rate-distortion ladders (CVXQ's view of rate allocation, arXiv 2409.02026: one price of a byte
 * for all units): from each unit's bytes and loss at the rungs it has to one ordered list of steps.
 *
 * Per unit only the lower convex hull of (bytes, loss) counts: a rung above the line between two
 * others is never worth its bytes. All edges of all hulls, sorted by loss per byte freed, are the
 * ladder. So plans are nested, one step changes one unit, and if losses add up, every prefix has
 * the least loss of all plans that hold as many bytes; from the first step with a loss on, of all
 * that hold at most as many.
 *
 * Ties go in order of the unit's number. A loss that falls on the way down is taken as it is: its
 * step is worth taking for its own sake, has a negative price and comes first. (What score.h
 * measures is never negative.) */
#ifndef EBB_CORE_MAKE_HULL_H
#define EBB_CORE_MAKE_HULL_H

#include "core/defs.h"
#include "core/ladder.h"

struct err;

enum { HULL_RUNGS = RUNG_SWSC + 1 }; /* full, high, swsc: what is resident */

struct hull_unit {
    uint32_t rungs;             /* bit r: the unit has rung r; full must be one */
    uint64_t bytes[HULL_RUNGS]; /* resident at the rung */
    double loss[HULL_RUNGS];    /* against full, whose loss is 0 or what there is */
    bool may_page;
};

/* At most this many steps for n_units units. */
static inline uint32_t hull_max_steps(uint32_t n_units) {
    return n_units * (RUNG_COUNT - 1);
}

/* Fills ret[hull_max_steps(n_units)]; the cost of a step is the loss it adds. with_paged: the units
 * that may page go to `paged` last, at no cost (it takes time, not quality), in the order in which
 * they reached their last resident rung, those with no other step first. A rung that frees no bytes
 * against the one above it is not used. 0, -EINVAL (a unit without the rung full, or with a loss
 * that is no number: the message names it by number) or -ENOMEM. */
int hull_ladder(const struct hull_unit *units, uint32_t n_units, bool with_paged,
                struct ladder_step *ret, uint32_t *ret_n_steps, struct err *e) MUST_CHECK;

/* A ladder in a given order of units, as LSAQ moves them (its table goes from all 8-bit to all
 * 4-bit before anything lower): all units down one rung, the one with the least importance first,
 * equal ones in order of their number; then all down the next. The cost of a step is the importance
 * of its unit. Otherwise as above; the losses are not read. */
int hull_ranked(const struct hull_unit *units, uint32_t n_units, const float *importance,
                bool with_paged, struct ladder_step *ret, uint32_t *ret_n_steps,
                struct err *e) MUST_CHECK;

#endif
