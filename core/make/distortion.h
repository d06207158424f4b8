/* What the header says of the units' losses: scores of all pairs of rungs, and the ladders.
 *
 * A pack's resident rungs go full > high > swsc, the last one not in every pack nor for every unit.
 * Each pair of neighbours is measured by score.h. The loss of a rung is the sum of the pairs down
 * to it: full 0; high that of full > high; swsc that plus high > swsc. Importance is the loss of
 * the first pair. */
#ifndef EBB_CORE_MAKE_DISTORTION_H
#define EBB_CORE_MAKE_DISTORTION_H

#include "core/defs.h"
#include "core/make/score.h"
#include "core/pack_write.h"

struct err;
struct text;
struct tools;

enum { DISTORTION_LADDERS = 3, DISTORTION_SCORES = 3 + 2 * 3 };

struct distortion {
    /* ebb.importance.* and ebb.distortion.*.{kl,jaccard} */
    struct pack_score_in scores[DISTORTION_SCORES];
    uint32_t n_scores;
    /* jaccard, lsaq, kl: what is asked for when nothing is, comes first. */
    struct pack_ladder_in ladders[DISTORTION_LADDERS];
    struct score_result result; /* of the first pair */
    char keys[DISTORTION_SCORES][40];
    float *values;             /* owned: what the scores point to */
    struct ladder_step *steps; /* owned: what the ladders point to */
};

/* `pack` needs neither scores nor ladders; lsaq[n_units] are importance_lsaq()'s. `text` is what
 * is scored on. is_fast: on few short windows. ret is to be ended by distortion_fini(), whatever is
 * returned: 0, or the errors of score_run() and hull_ladder(). */
int distortion_measure(struct tools *t, const struct pack *pack, const struct text *text,
                       bool is_fast, const float *lsaq, struct distortion *ret,
                       struct err *e) MUST_CHECK;
void distortion_fini(struct distortion *d); /* accepts zeroed */

#endif
