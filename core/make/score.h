/* Measured importance: how much each unit's coming down a rung changes what the model says.
 *
 * With every unit at the upper rung as the base, and for each unit a run in which it alone is at
 * the lower one, over many positions of a text, on the daemon's own engine (int8 activations; in
 * two vectors below the rung full, whose losses are as small as what one vector loses):
 *   kl       mean KL(base || lowered) of the predictions
 *   jaccard  mean Jaccard loss 1 - |A & B| / |A | B| of the sets of the k = 30 likeliest words:
 *            LSAQ's measure (importance.h), taken between the model's own final predictions
 *   pairs    mean share of the pairs of words in A of which B has neither, e (e - 1) / (k (k - 1))
 *            with e words exchanged: what of a Jaccard loss adds up over units (distortion.h)
 *
 * What a lowered run shares with the base is not computed twice: the runs go through the layers
 * together, one layer after the other, and a unit's own run branches off the base at its layer. So
 * a layer is read once for a group of windows and only one is in memory at a time, beside the
 * hidden states of all runs: the model need not fit. Where embeddings are tied they are rows of the
 * head, so that the head's run goes through all layers. Results do not depend on the thread count
 * or on how many windows go together. */
#ifndef EBB_CORE_MAKE_SCORE_H
#define EBB_CORE_MAKE_SCORE_H

#include "core/defs.h"
#include "core/ladder.h"

struct err;
struct pack;
struct text;
struct tools;

enum {
    SCORE_TOP_K = 30,
    SCORE_WINDOW = 256, /* tokens of a window at most */
    /* With the losses of 8, 12 and 16 windows the ladder made of pairs goes 97.7, 97.7 and 98.6 %
     * of the way from random orders to the best one (full to high, losses added up, 135M model). */
    SCORE_WINDOWS = 8,
    SCORE_FAST_WINDOWS = 4,
};

struct score_task {
    const struct pack *pack; /* borrowed, as is the text; its scores and ladders are not read */
    const struct text *text; /* ids below the model's vocabulary */
    enum rung upper, lower;  /* upper above lower; both resident forms */
    /* That are used, at most: windows spread evenly over the text's, of each its beginning; the
     * first quarter of it is context, the rest is scored. Both at least 1. */
    uint32_t n_windows, window;
};

struct score_unit {
    double kl;      /* nats, >= 0; NaN if the unit has no lower rung */
    double jaccard; /* 0 .. 1; NaN likewise, as the next */
    double pairs;   /* 0 .. 1 */
};

struct score_result {
    uint32_t n_windows, window, n_positions; /* that there were; positions of all windows */
};

/* ret[n_units]. 0, -EINVAL (the rungs do not go down, a unit lacks the upper rung or all lack the
 * lower one, a token beyond the vocabulary), -EBADMSG
 * (damaged; predictions that are not finite), -ENOMEM or the system's error. */
int score_run(struct tools *t, const struct score_task *task, struct score_unit *ret,
              struct score_result *ret_result, struct err *e) MUST_CHECK;

#endif
