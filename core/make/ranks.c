#include "core/make/ranks.h"

#include <math.h>

/* n is some hundreds at most (MODEL_MAX_LAYERS + 1): all pairs are looked at. */
void ranks_of(const double *v, uint32_t n, uint32_t *ret) {
    for (uint32_t i = 0; i < n; i++) {
        ret[i] = 0;
        if (isnan(v[i])) continue;
        ret[i] = 1;
        for (uint32_t k = 0; k < n; k++) ret[i] += v[k] > v[i] || (v[k] == v[i] && k < i);
    }
}

static int sign(double x) {
    return (x > 0.0) - (x < 0.0);
}

double ranks_tau(const double *a, const double *b, uint32_t n) {
    double sum = 0.0, n_a = 0.0, n_b = 0.0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < i; k++) {
            if (isnan(a[i]) || isnan(b[i]) || isnan(a[k]) || isnan(b[k])) continue;
            int x = sign(a[i] - a[k]), y = sign(b[i] - b[k]);
            sum += x * y;
            n_a += x != 0;
            n_b += y != 0;
        }
    return n_a > 0.0 && n_b > 0.0 ? sum / sqrt(n_a * n_b) : (double)NAN;
}
