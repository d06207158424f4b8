/* Median, least and greatest of a few measurements: what a busy machine leaves comparable. */
#ifndef EBB_CORE_BENCH_SPREAD_H
#define EBB_CORE_BENCH_SPREAD_H

#include "core/defs.h"

struct spread {
    double median, min, max; /* all 0 if n is 0 */
    size_t n;
};

/* Sorts v[n] in place; no NaN. The median of an even number is the mean of the two in the middle.
 */
struct spread spread_of(double *v, size_t n);
/* Of v[n] in rising order, n > 0: the least one that `share` (0 .. 1) of them do not exceed. */
double spread_quantile(const double *v, size_t n, double share);

#endif
