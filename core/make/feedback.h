/* Error feedback: codes that make the output of a matrix right, not its weights.
 *
 * What counts for a row w and its stored form q is the error of the output, E|(w - q) x|^2 =
 * (w - q) A (w - q)^T with A = E[x x^T], the second moments of the inputs. Three methods share it:
 *
 *   GPTQ (Frantar et al. 2022, arXiv 2210.17323, sections 3.3 and 4): inputs one after the other;
 *   the error of each is passed on to those still open, w_k -= err_j * u_jk, err_j = (w_j - q_j) /
 *   u_jj, with inv(A) = u^T u. Ours takes the inputs with the most energy first; the groups' scales
 *   are fixed before, so the order costs nothing when the weights are read.
 *   Refit: with the codes fixed, scale and min of each group are a least-squares problem of two
 *   unknowns under A; the solution is rounded to the codes that are stored and kept where it helps.
 *   Descent: with the scales fixed, each code in turn takes the value that is best while all the
 *   others stay.
 *
 * The low plane gets GPTQ of its own: its codes make the *full* reading's output right, whatever
 * the high codes left over.
 *
 * Measured (135M model, KL on 128 windows; a float prototype): natural order 0.0482, by energy
 * 0.0406, with one round of refit and descent 0.0373, three rounds 0.0362; full reading with
 * rounded low codes 0.0036, with feedback 0.0015. Reordering the channels of the whole model by
 * energy, so that a group holds inputs of like size, made it worse: 0.0523. Correcting the mean of
 * each output (CVXQ) by the calibration text's means gained nothing, 0.03468 to 0.03467, and by the
 * means of the quantised model lost, 0.0408. */
#ifndef EBB_CORE_MAKE_FEEDBACK_H
#define EBB_CORE_MAKE_FEEDBACK_H

#include "core/defs.h"

struct err;
struct feedback;
struct mem;

/* Rows of one call. A fixed number, so that sums (whose order may depend on a product's shape) do
 * not depend on how rows are shared out. */
enum { FEEDBACK_ROWS = 64 };

/* What damping adds to each input's energy, as a share of the mean. Three times less or more made
 * no difference. */
#define FEEDBACK_DAMPING 0.01f

/* From the moments a[n][n] (symmetric; n a multiple of 32), borrowed for the call only.
 * 0, -EDOM (singular even when damped: all zero, or not finite) or -ENOMEM. Immutable. */
int feedback_create(struct mem *m, const float *moments, uint32_t n, struct feedback **ret,
                    struct err *e) MUST_CHECK;
void feedback_destroy(struct feedback *f); /* accepts NULL */

/* Up to FEEDBACK_ROWS rows of a matrix. A weight reads as d*sc*t - m*mn (high) or
 * d*sc*(8t + l - 8)/8 - m*mn (full); G = n / 32 groups. */
struct feedback_rows {
    uint32_t n_rows;
    uint8_t top;        /* largest high code: 15 for planes, less to see what fewer bits would do */
    const float *w;     /* [n_rows][n], the original weights */
    const float *d, *m; /* [n_rows], as stored (fp16 values) */
    uint8_t *sc, *mn;   /* [n_rows][G], refined in place */
    uint8_t *high;      /* [n_rows][n], 0..top, written */
    uint8_t *low;       /* [n_rows][n], 0..15, written; NULL: no low plane, and no error of it */
};

size_t feedback_scratch_bytes(const struct feedback *f);
/* `rounds` of refit and descent after the first pass. `scratch`: feedback_scratch_bytes(), aligned
 * to 64, used by one thread at a time. Thread: any. */
void feedback_run(const struct feedback *f, const struct feedback_rows *r, unsigned rounds,
                  void *scratch);

/* Output errors of some rows, E|(w - q) x|^2 and E|w x|^2 summed over them. */
struct feedback_error {
    double high, full, norm;
};
void feedback_error(const struct feedback *f, const struct feedback_rows *r, void *scratch,
                    struct feedback_error *ret);

#endif
