/* Second moments E[x x^T] of the inputs of a matrix, summed over any number of tokens.
 *
 * The sum is cut into square tiles of the upper triangle, each added to by one piece of work in
 * the order in which the rows come: the result does not depend on the thread count. */
#ifndef EBB_CORE_MAKE_MOMENTS_H
#define EBB_CORE_MAKE_MOMENTS_H

#include "core/defs.h"

struct err;
struct mem;
struct moments;
struct pool;

/* `n` inputs; accounts n * n floats. 0 or -ENOMEM. */
int moments_create(struct mem *m, uint32_t n, struct moments **ret, struct err *e) MUST_CHECK;
void moments_destroy(struct moments *s); /* accepts NULL */

void moments_reset(struct moments *s);
/* x[n_rows][n], dense. Which rows come together in one call is part of the result's rounding, so
 * callers cut the tokens the same way every time. */
void moments_add(struct moments *s, struct pool *pool, const float *x, size_t n_rows);
/* The mean over all rows added, symmetric [n][n]; borrowed, and the sum is over: reset it before
 * the next moments_add(). At least one row must have been added. */
const float *moments_mean(struct moments *s);

#endif
