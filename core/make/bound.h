/* What no plan of a given size can lose less than.
 *
 * Choosing one form for each unit so that the bytes fit and the summed loss is least is a knapsack
 * with one choice a unit. CVXQ's allocation (arXiv 2409.02026, section 3: minimise the distortion
 * subject to the rate, by the Lagrangian) puts one price lambda on every byte and lets each unit
 * choose for itself: g(lambda) = sum over units of min over forms (loss + lambda * bytes), minus
 * lambda * budget. Every g(lambda) is a lower bound, and the greatest is met where the units' lower
 * convex hulls, taken down in order of loss per byte, reach the budget, the last edge in part. It
 * is therefore found without a search. At budgets where that edge ends the bound is a plan, and so
 * the best one. Pure; any thread. */
#ifndef EBB_CORE_MAKE_BOUND_H
#define EBB_CORE_MAKE_BOUND_H

#include "core/defs.h"

struct err;
struct ladder;

struct bound_form { /* one way to hold a unit */
    uint64_t bytes;
    double loss; /* a number */
};

struct bound_unit {
    const struct bound_form *forms; /* borrowed: [n_forms], in any order, at least one */
    uint32_t n_forms;
};

struct bound {
    double loss;
    double price;       /* lambda: loss per byte at the budget; 0 if everything fits at its best */
    uint64_t min_bytes; /* the smallest plan's */
};

/* The bound for `bytes`. 0, -ENOMEM, or -ENOSPC: no plan is that small, and only ret->min_bytes is
 * set. */
int bound_solve(const struct bound_unit *units, uint32_t n_units, uint64_t bytes, struct bound *ret,
                struct err *e) MUST_CHECK;

/* The same for the units of a ladder, whose forms are those that its steps lead to and whose losses
 * are the steps' costs. Paged ones do not count: paging costs time and not quality, so that a bound
 * that may page would be met by paging alone. `bytes` as ladder_bytes(). As above; -ENOSPC then
 * means that units must be paged. */
int bound_of_ladder(const struct ladder *l, uint64_t bytes, struct bound *ret,
                    struct err *e) MUST_CHECK;

#endif
