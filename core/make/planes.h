/* Matrices to planes: scales by weighted clip search, then the codes of both planes.
 *
 * The formats are those of kernels/planes.h. For each row the search picks the fp16 pair D, M and
 * for each group of 32 the u8 pair sc, mn that make the weighted squared error least, the weights
 * being the inputs' second moments E[x^2]: what a weight's error costs is how much goes through
 * it. Both readings count, on the codes as they will be stored: clipping the outermost weights
 * makes the 4-bit step finer, but beyond one step the low plane cannot mend what was clipped.
 * With the full second moments the codes of both planes and the scales then come from error
 * feedback (feedback.h); without, t are nearest codes and l the rounded rest.
 * Rows are independent and blocks of FEEDBACK_ROWS are the pieces of work: the result does not
 * depend on the thread count. */
#ifndef EBB_CORE_MAKE_PLANES_H
#define EBB_CORE_MAKE_PLANES_H

#include "core/defs.h"

struct err;
struct feedback;
struct kern_ops;
struct mem;
struct pool;

/* Largest magnitude that fp16 M times 255 holds, with room to spare. */
#define PLANES_MAX_WEIGHT 1e7f

/* What an error of the full reading counts, beside one of the high reading. Without clipping the
 * full reading's squared error is 1/64 of the high one's. */
#define PLANES_FULL_COUNTS 4.0f

/* Where the arrays of a matrix (or of its rows from a multiple of 8 on) are to be written; all of
 * it is overwritten but for the codes of padding rows, which must be zero already. Without `low`
 * (NULL) all is fitted to the high reading alone. */
struct planes_dst {
    uint8_t *rows, *groups, *high, *low;
};

/* What is known of the inputs of a matrix. */
struct planes_inputs {
    const float *energy;             /* [n_in] E[x^2] >= 0; all zero counts as all one */
    const struct feedback *feedback; /* of n_in inputs, or NULL: nearest codes */
};

struct planes_stats {
    uint64_t n_weights;
    uint64_t n_clipped; /* weights whose rest the low plane does not reach */
    /* Output errors E|(w - q) x|^2 of both readings and E|w x|^2, where there was feedback. */
    double high_error, full_error, output;
};

/* w[n_out][n_in], finite; n_in a multiple of 32. `stats` is added to; NULL:
 * they are not wanted, which saves a good part of the time. 0, -ENOTSUP (a weight beyond
 * PLANES_MAX_WEIGHT) or -ENOMEM. */
int planes_quantise(struct mem *m, struct pool *pool, const struct kern_ops *ops, const float *w,
                    uint32_t n_out, uint32_t n_in, const struct planes_inputs *in,
                    const struct planes_dst *dst, struct planes_stats *stats,
                    struct err *e) MUST_CHECK;

/* The search's own measure of one group: sum over i < 32 of weights[i] * (error of the high
 * reading ^2 + PLANES_FULL_COUNTS * error of the full reading ^2), for scale s and offset o <= 0.
 */
float planes_group_cost(const struct kern_ops *ops, const float *w, const float *weights, float s,
                        float o);

#endif
