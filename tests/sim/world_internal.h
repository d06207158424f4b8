/* What the two sorts of worlds share: rows of a file. */
#ifndef EBB_TESTS_SIM_WORLD_INTERNAL_H
#define EBB_TESTS_SIM_WORLD_INTERNAL_H

#include "tests/sim/world.h"

struct world_row {
    uint64_t at_us;
    struct world_sample sample;
};

/* rows[n], n > 0, in order of time; owned by the world on success only. 0 or -ENOMEM. */
int world_take_rows(struct world_row *rows, size_t n, struct world **ret, struct err *e) MUST_CHECK;

#endif
