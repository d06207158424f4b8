/* What counts of a matrix: its output. E|R x|^2 = sum over the rows r of R of r A r^T, A = E[x x^T]
 * the second moments of the inputs. R is a matrix, or what is left of it when its stored form is
 * taken away. All forms are measured by this one function, so that they can be compared.
 *
 * Blocks of rows are the pieces of work: the result does not depend on the thread count. */
#ifndef EBB_CORE_MAKE_OUTPUT_H
#define EBB_CORE_MAKE_OUTPUT_H

#include "core/defs.h"

struct err;
struct tools;

/* r[n_rows][n], finite; minus q[n_rows][n] unless that is NULL. moments[n][n], or NULL: inputs all
 * alike and independent. 0 or -ENOMEM. */
int output_energy(struct tools *t, const float *r, const float *q, uint32_t n_rows, uint32_t n,
                  const float *moments, double *ret, struct err *e) MUST_CHECK;

#endif
