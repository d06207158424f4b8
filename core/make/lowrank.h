/* Low-rank pairs: A B in place of a matrix, or of what another form leaves of it.
 *
 * For a matrix E (n_out x n_in) whose inputs have the second moments M = E[x x^T], the pair of rank
 * r with the least output error E|(E - A B) x|^2 is the truncated SVD of the whitened matrix E L, M
 * = L L^T, with L undone on the right factor (SVD-LLM; LQER and QERA for what a quantiser leaves).
 * With U the left singular vectors of E L that pair is U U^T E: only U is wanted, the eigenvectors
 * of E M E^T, and L is never formed, so singular moments do no harm. U comes from a randomised
 * range finder (Halko, Martinsson, Tropp 2011, algorithm 4.4) with two power iterations and a fixed
 * seed. The singular values are shared out evenly, A = U S^1/2, B = S^-1/2 U^T E, which is what
 * makes the error of quantised factors least where their entries are of like size. Then B is
 * quantised (planes, with error feedback under M); A is solved again for B as it reads, E M B^T (B
 * M B^T)^-1 (Basis Sharing, arXiv 2410.03765, its refit of coefficients), and quantised under the
 * moments B M B^T of its own inputs; a factor for each of the r singular values is solved by least
 * squares on the activations (SoCo, arXiv 2502.15092, learns these end to end): min over d of E|(E
 * - A diag(d) B) x|^2. It goes into the scales of B's rows and costs no bytes. The same input gives
 * the same pair, whatever the thread count. */
#ifndef EBB_CORE_MAKE_LOWRANK_H
#define EBB_CORE_MAKE_LOWRANK_H

#include "core/defs.h"
#include "core/make/factor.h"

struct err;
struct tools;

struct lowrank {
    struct factor a; /* [n_out][rank] */
    struct factor b; /* [rank][n_in] */
};

/* e[n_out][n_in]. Moments that are all zero count as none. rank: a multiple of 32; beyond the
 * smaller side the rest is zero. bits: 4 or 8. 0, -EDOM (not finite, or out of all proportion),
 * -ENOTSUP (beyond what planes hold) or -ENOMEM. */
int lowrank_fit(struct tools *t, const float *e, uint32_t n_out, uint32_t n_in,
                const struct factor_inputs *in, uint32_t rank, uint8_t bits, struct lowrank *ret,
                struct err *err) MUST_CHECK;
void lowrank_fini(struct lowrank *l); /* accepts what is all zero */

/* As it reads: ret[n_out][n_in] = A B. 0 or -ENOMEM. */
int lowrank_read(struct tools *t, const struct lowrank *l, float *ret, struct err *err) MUST_CHECK;

/* What another form leaves of a matrix, for a pair to take up. */
struct lowrank_rest {
    const float *w; /* [n_out][n_in] what is to be held */
    float *q;       /* likewise, what the other form reads as; afterwards with the pair */
    uint32_t n_out, n_in;
    struct factor_inputs in;
    uint32_t rank;
    uint8_t bits;
    struct factor *basis; /* borrowed: the B of several matrices, as it reads; NULL: one's own */
};
/* q += A B as they read. ret->b stays all zero if the basis is given. Errors as lowrank_fit(). */
int lowrank_add(struct tools *t, const struct lowrank_rest *rest, struct lowrank *ret,
                struct err *err) MUST_CHECK;

/* ---- the steps, for who shares a basis among matrices ---- */

/* b[rank][n_in] = S^-1/2 U^T E, before quantisation. Errors as above. */
int lowrank_basis(struct tools *t, const float *e, uint32_t n_out, uint32_t n_in,
                  const float *moments, uint32_t rank, float *b, struct err *err) MUST_CHECK;
/* The best A for a matrix and a basis as it reads, quantised. `scale_b`: the basis is this
 * matrix's own, and takes the singular values' factors. */
int lowrank_coefficients(struct tools *t, const float *e, uint32_t n_out, const float *moments,
                         struct factor *b, bool scale_b, struct factor *ret,
                         struct err *err) MUST_CHECK;

#endif
