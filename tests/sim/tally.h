/* What a run comes to: how often things changed, where the time was spent, how far and how long the
 * bytes were over the budget, and how long it took to give memory back. */
#ifndef EBB_TESTS_SIM_TALLY_H
#define EBB_TESTS_SIM_TALLY_H

#include <stdio.h>

#include "tests/sim/plant.h"

enum {
    TALLY_LEVELS = 4,
    TALLY_MAX_HOUR = 8192, /* changes of one hour that are counted */
    TALLY_MAX_MS = 60000,  /* longer answers count as this long */
};

/* Zero it to start, all but the first two. */
struct tally {
    const struct ladder *ladder; /* borrowed */
    uint64_t reserve_bytes;      /* memory.reserve */

    bool has_begun;
    uint64_t begun_us, now_us; /* of the first moment and the last */
    uint32_t position, stage, level;
    uint64_t n_turns, n_down, n_up, n_stages;

    uint64_t changes_us[TALLY_MAX_HOUR]; /* of position and stage, the last hour's: a ring */
    uint32_t first_change, n_changes;
    uint32_t worst_hour; /* most changes in any hour */
    uint32_t worst_rise; /* in any hour that ended with a rise, or with a stage left; it included */

    uint64_t at_level_us[TALLY_LEVELS];

    /* Weights held above the greater of the budget and what the last position needs. */
    bool is_over;
    uint64_t over_since_us, longest_over_us, most_over_bytes;
    uint64_t unexplained_bytes; /* of those: neither on their way back nor a cancelled read */
    uint64_t n_too_high;        /* turns that ended at a position that the budget does not allow */

    bool is_short; /* a reading says that less is left than is held, and that is not answered yet */
    uint64_t short_since_us, goal_bytes;
    uint64_t n_answers;
    uint32_t answers[TALLY_MAX_MS + 1]; /* how many took so many ms */
};

/* Weights held that the budget does not allow (the last position's needs are always allowed) and
 * that neither are on their way back nor a read that is cancelled: 0, or the pager is wrong. */
uint64_t tally_unexplained(const struct ladder *l, const struct plant_moment *m);
/* The position published needs more than the budget allows. */
bool tally_is_too_high(const struct ladder *l, const struct plant_moment *m);

/* One moment after the other. */
void tally_add(struct tally *t, const struct plant_moment *m);
/* The time in ms within which `percent` of the falls were answered: from the first reading that
 * said that memory is short until it was given back. 0 if there was none. */
uint32_t tally_answer_ms(const struct tally *t, unsigned percent);
/* As text, for people. 0 or -EIO. */
int tally_print(const struct tally *t, FILE *f) MUST_CHECK;

#endif
