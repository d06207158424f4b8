/* What each of several daemons may use of one machine: the whole is shared by weight, no share is
 * larger than what its daemon could use, and what that leaves goes to the others by weight, until
 * nothing is left or all have enough. Pure, integers only, all sums saturate. */
#ifndef EBB_CORE_SHARE_H
#define EBB_CORE_SHARE_H

#include "core/defs.h"

enum { SHARE_MAX = 16, SHARE_MAX_WEIGHT = 1000 };

struct share_claim {
    uint32_t weight;     /* taken as 1 .. SHARE_MAX_WEIGHT */
    uint64_t held_bytes; /* now */
    uint64_t most_bytes; /* that it could use, its margin included */
};

/* What there is for all: what they hold and what nobody does, less a reserve. The system may have
 * less left than that: then there is less for them than they hold. */
uint64_t share_total(const struct share_claim *all, uint32_t n, uint64_t available_bytes,
                     uint64_t reserve_bytes);

/* The shares of all[n], n <= SHARE_MAX, into ret[n]. Together they are never more than the total;
 * none is more than its most_bytes; with a larger total none is smaller. */
void share_split(const struct share_claim *all, uint32_t n, uint64_t total_bytes, uint64_t *ret);

#endif
