#include "core/bench/spread.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread spread_of(double *v, size_t n) {
    if (n == 0) return (struct spread){0};
    qsort(v, n, sizeof(*v), compare);
    return (struct spread){
        .median = (v[(n - 1) / 2] + v[n / 2]) / 2,
        .min = v[0],
        .max = v[n - 1],
        .n = n,
    };
}

double spread_quantile(const double *v, size_t n, double share) {
    double at = ceil(share * (double)n);
    size_t i = at < 1 ? 0 : (size_t)at - 1;
    return v[MIN(i, n - 1)];
}
