/* Rows to segments: which entry of the book stands for each, so that outputs come out right.
 *
 * What counts for a row w and its stored form q is E|(w - q) x|^2 = (w - q) A (w - q)^T, A = E[x
 * x^T], as in feedback.h; but here a code is an entry of a book and stands for `len` inputs at
 * once.
 *
 *   Feedback (GPTQ, arXiv 2210.17323, with blocks for its columns): segments one after the other,
 *   those with the most energy first. With inv(A) = u^T u and u_s the diagonal block of segment s,
 *   what is left open after s costs |e inv(u_s)|^2 for an error e in s, when all later segments
 *   make up for it as well as they can: so the entry is the nearest one in the coordinates x
 *   inv(u_s), and z = e inv(u_s) is passed on, w_k -= z u_sk.
 *   Refit: with the entries fixed, the gain of a row is a least-squares problem of one unknown.
 *   Descent: each segment in turn takes the entry that is best while all others stay: the nearest
 *   one, in the coordinates of a root of A's block, to where the others pull.
 *
 * Measured (float prototype, 135M model, all layers, segments of 4, one book of 4096 a kind: 3.03
 * bits; layers fitted in order, KL on 128 windows; in brackets with tokens weighted as inorder.h
 * says):
 *   natural order, diagonal metric 1/u_jj^2                     0.307
 *   blocks as metric, segments by energy                        0.185 (0.170)
 *   the same, one round of refit and descent                    0.250 (0.158)
 *   two and three rounds                                        0.234, 0.219
 *   a pair of rank 32 and k = 1024 for out / for down instead   0.264 / 0.176
 *   book made again from the segments that feedback meets       0.218
 * Descent lowers the output error by up to half and yet makes KL worse while one loud token is most
 * of that error; with the weights it helps. With weights and
 * aiming (segfit_aim()): one round 0.105; two rounds and the book made again 0.101; one round, the
 * book made again and damping of 0.3 % 0.101. The pairs were not tried with weights. To make the
 * book again needs all layers' moments before the first one is fitted: left out for what it gains.
 */
#ifndef EBB_CORE_MAKE_SEGFIT_H
#define EBB_CORE_MAKE_SEGFIT_H

#include "core/defs.h"

struct codebook;
struct err;
struct kern_ops;
struct mem;
struct pool;
struct segfit;

/* What damping adds to each input's energy, as a share of the mean. */
#define SEGFIT_DAMPING 0.01f

/* From the moments a[n][n] (symmetric; n a multiple of 32), borrowed for the call only, or NULL:
 * inputs that are all alike and independent. len: 4 or 8. 0, -EDOM (singular even when damped: all
 * zero, or not finite) or -ENOMEM. Immutable. */
int segfit_create(struct mem *m, const float *moments, uint32_t n, uint32_t len,
                  struct segfit **ret, struct err *e) MUST_CHECK;
void segfit_destroy(struct segfit *f); /* accepts NULL */

/* A matrix as segments: w[row][s * len + j] ~ gain[row] * book[index[row][s]][j], book in steps. */
struct segfit_mat {
    const struct codebook *book; /* borrowed */
    uint32_t n_out, n_in;
    uint16_t *gain;  /* owned: [n_out] fp16, not negative */
    uint16_t *index; /* owned: [n_out][n_in / len] */
};

/* Room for a matrix. 0 or -ENOMEM; after either it may be ended. */
int segfit_mat_init(struct segfit_mat *m, const struct codebook *book, uint32_t n_out,
                    uint32_t n_in, struct err *e) MUST_CHECK;
void segfit_mat_fini(struct segfit_mat *m);

/* Output errors, E|(w - q) x|^2 and E|w x|^2 summed over the rows. */
struct segfit_error {
    double error, output;
};

/* w[n_out][n_in], finite. gain and index are written; `rounds` of refit and descent after the first
 * pass. Errors are in the damped moments, scaled to a mean energy of 1. 0 or -ENOMEM. */
int segfit_run(const struct segfit *f, struct pool *pool, const struct kern_ops *ops,
               const float *w, unsigned rounds, const struct segfit_mat *mat,
               struct segfit_error *ret, struct err *e) MUST_CHECK;

/* The weights that are best to aim at where the inputs x' seen now are not those, x, of the
 * uncompressed model (GPTAQ, arXiv 2504.02692, with a share): w + share * d inv(A) puts the share
 * of d x' right, for d[n_out][n] = E[(wanted - w x') x'^T], in the scale of the moments that f was
 * made from. ret[n_out][n], not w or d. 0 or -ENOMEM. */
int segfit_aim(const struct segfit *f, struct pool *pool, const float *w, const float *d,
               float share, uint32_t n_out, float *ret, struct err *e) MUST_CHECK;

/* ret[n_out][n_in]: what the matrix reads as. */
void segfit_read(const struct segfit_mat *mat, float *ret);

#endif
