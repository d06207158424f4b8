/* What the header says of the units' losses: scores of all pairs of rungs, and the ladders.
 *
 * A pack's resident rungs go full > high > swsc, the last one not in every pack nor for every unit.
 * Each pair of neighbours is measured by score.h. The loss of a rung is that of the pairs down to
 * it, full's being 0; importance is the loss of the first pair.
 *
 * A ladder needs losses that add up: over the pairs of a unit, and over units, as its price of a
 * byte compares one large unit with several small ones. Divergences do: independent changes of the
 * logits add their variances, and a small KL is half of such a variance. The Jaccard loss j goes
 * with the deviation, the root of that (on a 135M model j is 1.0 to 1.26 times the root of the KL
 * for every unit). So ebb.distortion.<rung>.jaccard is the root of the sum of squares. With j as a
 * step's cost that model's head, worth eight layers in bytes, would go before all layers.
 *
 * The cost of a step of the ladder `jaccard` is the share of pairs of words that it exchanges
 * (score.h), the square as it should be. The square of a mean is too small for units whose effect
 * differs much between positions, the head above all, and the mean of squares too large, as the
 * number e of words exchanged is small and whole: if words go at a rate r, E[e * e] is r * r + r,
 * but E[e * (e - 1)] is r * r, and the mean over positions that of r * r. */
#ifndef EBB_CORE_MAKE_DISTORTION_H
#define EBB_CORE_MAKE_DISTORTION_H

#include "core/defs.h"
#include "core/make/score.h"
#include "core/pack_write.h"

struct err;
struct text;
struct tools;

enum { DISTORTION_LADDERS = 3, DISTORTION_SCORES = 3 + 3 * 3 };

struct distortion {
    /* ebb.importance.* and ebb.distortion.*.{kl,jaccard,pairs} */
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
