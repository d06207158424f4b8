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

#endif
