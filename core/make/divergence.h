/* Kullback-Leibler divergence of two predictions, as an inline loop that compilers vectorise. */
#ifndef EBB_CORE_MAKE_DIVERGENCE_H
#define EBB_CORE_MAKE_DIVERGENCE_H

#include <stdint.h>

#include "core/make/fexp.h"

/* KL(s || p) = sum over the words of exp(s) * (s - p), of log-probabilities s[n] and p[n], in eight
 * running sums. */
static inline double divergence(const float *s, const float *p, uint32_t n) {
    float sum[8] = {0};
    double all = 0.0;
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint32_t j = 0; j < 8; j++) sum[j] += fexp(s[i + j]) * (s[i + j] - p[i + j]);
    for (; i < n; i++) all += (double)(fexp(s[i]) * (s[i] - p[i]));
    for (uint32_t j = 0; j < 8; j++) all += (double)sum[j];
    return all;
}

#endif
