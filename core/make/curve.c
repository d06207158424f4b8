#include "core/make/curve.h"

#include <math.h>

#include "core/ladder.h"

/* The i-th of n even amounts from top down to bottom. */
static uint64_t amount(uint64_t top, uint64_t bottom, uint32_t i, uint32_t n) {
    return top - (uint64_t)((double)(top - bottom) * i / (n - 1) + 0.5);
}

/* The position nearest to `bytes`. */
static uint32_t nearest(const struct ladder *l, uint64_t bytes) {
    bool fits;
    uint32_t below = ladder_fit(l, bytes, &fits);
    if (below == 0 || !fits) return below;
    uint64_t over = ladder_bytes(l, below - 1) - bytes;
    if (over > bytes - ladder_bytes(l, below)) return below;
    /* Steps that free nothing: the first position of these bytes. */
    return ladder_fit(l, ladder_bytes(l, below - 1), &fits);
}

uint32_t curve_positions(const struct ladder *l, uint64_t top, uint64_t bottom, uint32_t n,
                         uint32_t *ret) {
    ASSERT(n >= 2 && top >= bottom);
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = nearest(l, amount(top, bottom, i, n));
        if (n_found == 0 || at > ret[n_found - 1]) ret[n_found++] = at;
    }
    return n_found;
}

double curve_at(const struct curve_point *p, uint32_t n, uint64_t bytes) {
    ASSERT(n >= 1);
    if (bytes >= p[0].bytes) return p[0].loss;
    for (uint32_t i = 1; i < n; i++) {
        if (bytes < p[i].bytes) continue;
        double part = (double)(p[i - 1].bytes - bytes) / (double)(p[i - 1].bytes - p[i].bytes);
        return p[i - 1].loss + part * (p[i].loss - p[i - 1].loss);
    }
    return p[n - 1].loss;
}

double curve_area(const struct curve_point *p, uint32_t n, uint64_t top, uint64_t bottom) {
    double sum = 0.0;
    for (uint32_t i = 1; i <= CURVE_AREA_POINTS; i++)
        sum += curve_at(p, n, amount(top, bottom, i, CURVE_AREA_POINTS + 2));
    return sum / CURVE_AREA_POINTS;
}

double curve_share(double zero, double one, double x) {
    return zero == one ? (double)NAN : (zero - x) / (zero - one);
}

double curve_jackknife(const double *without, uint32_t n) {
    if (n < 2) return (double)NAN;
    double mean = 0.0, sum = 0.0;
    for (uint32_t i = 0; i < n; i++) mean += without[i] / n;
    for (uint32_t i = 0; i < n; i++) sum += (without[i] - mean) * (without[i] - mean);
    return sqrt(sum * (n - 1) / n);
}
