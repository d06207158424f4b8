/* Factorisations in f64 for the packer, through LAPACK: the one door to it.
 *
 * The library runs with one thread (gemm_init()); no state. Thread: any. */
#ifndef EBB_CORE_LINALG_H
#define EBB_CORE_LINALG_H

#include "core/defs.h"

struct err;

/* u[n][n] becomes the upper triangular factor with inv(a) = u^T u, a[n][n] symmetric and positive
 * definite, both row-major; below u's diagonal stand zeros. `a` and `u` may be the same.
 * 0, -EDOM (not positive definite, or not finite: the message says at which row). */
int linalg_inverse_factor(uint32_t n, const double *a, double *u, struct err *e) MUST_CHECK;

/* Symmetric a[n][n] becomes its orthonormal eigenvectors, one a row, their values[n] falling.
 * 0, -EDOM (not finite, or no convergence) or -ENOMEM. */
int linalg_eigen(uint32_t n, double *a, double *values, struct err *e) MUST_CHECK;

/* x[m][n], 1 <= m <= n: the rows become an orthonormal set that spans them; rows that depend on
 * those before them become directions of no meaning. 0, -EDOM (not finite) or -ENOMEM. */
int linalg_orthonormal(uint32_t m, uint32_t n, double *x, struct err *e) MUST_CHECK;

/* Each row of b[m][n] becomes the x with a x = row; a[n][n], symmetric and positive definite, is
 * used up. 0, or -EDOM (not positive definite, or not finite): b is then of no meaning. */
int linalg_solve(uint32_t n, double *a, uint32_t m, double *b, struct err *e) MUST_CHECK;

#endif
