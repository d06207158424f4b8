/* Basis Sharing (arXiv 2410.03765): the matrices of one kind in two adjacent layers share their
 * input basis B; each has coefficients A of its own, W_i ~ A_i B.
 *
 * As its section 3 has it, transposed to ours: the matrices are stacked, whitened with the summed
 * moments of both layers' inputs, and the truncated SVD gives the basis (lowrank.h, which never
 * forms the whitening). B is quantised under the summed moments; then the coefficients of each
 * layer are solved again for B as it reads and for the layer's own inputs (its refit), and
 * quantised. */
#ifndef EBB_CORE_MAKE_BASIS_H
#define EBB_CORE_MAKE_BASIS_H

#include "core/defs.h"
#include "core/make/factor.h"

struct err;
struct tools;

enum { BASIS_LAYERS = 2 }; /* at most, that share one */

struct basis_layer {
    const float *w;       /* [n_out][n_in] */
    const float *moments; /* [n_in][n_in], or NULL: inputs all alike */
};

struct basis {
    struct factor b;               /* [rank][n_in] */
    struct factor a[BASIS_LAYERS]; /* [n_out][rank] of each layer */
};

/* n: 1 or 2 layers (the last one of an odd number is alone). rank and bits as lowrank_fit(), and
 * its errors. The basis alone, whose coefficients are lowrank_coefficients()'; and all of it. */
int basis_shared(struct tools *t, const struct basis_layer *layers, uint32_t n, uint32_t n_out,
                 uint32_t n_in, uint32_t rank, uint8_t bits, struct factor *ret,
                 struct err *e) MUST_CHECK;
int basis_fit(struct tools *t, const struct basis_layer *layers, uint32_t n, uint32_t n_out,
              uint32_t n_in, uint32_t rank, uint8_t bits, struct basis *ret,
              struct err *e) MUST_CHECK;
void basis_fini(struct basis *b); /* accepts what is all zero */

/* Layer i as it reads: ret[n_out][n_in]. 0 or -ENOMEM. */
int basis_read(struct tools *t, const struct basis *b, uint32_t i, float *ret,
               struct err *e) MUST_CHECK;

#endif
