/* Logits to log-probabilities, AVX2. A vocabulary is 10^5 long, where one float sum would lose
 * digits: the sum of each block is kept in double. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

enum { BLOCK = 2048 };

static float max_of(const float *x, uint32_t n) {
    uint32_t n8 = n & ~7u;
    __m256 m = load_last(x + n8, n - n8, -INFINITY);
    for (uint32_t i = 0; i < n8; i += 8) m = _mm256_max_ps(m, _mm256_loadu_ps(x + i));
    return hmax(m);
}

/* Sum of exp(x - max) over a block. */
static float sum_exp(const float *x, uint32_t n, float max) {
    const __m256 m = _mm256_set1_ps(max);
    __m256 sum = _mm256_setzero_ps();
    uint32_t n8 = n & ~7u;
    for (uint32_t i = 0; i < n8; i += 8)
        sum = _mm256_add_ps(sum, exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), m)));
    __m256 last = exp8(_mm256_sub_ps(load_last(x + n8, n - n8, -INFINITY), m)); /* exp(-inf) is 0 */
    return hsum(_mm256_add_ps(sum, last));
}

float kern_log_softmax_avx2(float *x, uint32_t n) {
    float max = max_of(x, n);
    double sum = 0;
    for (uint32_t i = 0; i < n; i += BLOCK)
        sum += (double)sum_exp(x + i, n - i < BLOCK ? n - i : BLOCK, max);
    float lse = (float)((double)max + log(sum));

    const __m256 l = _mm256_set1_ps(lse);
    uint32_t n8 = n & ~7u;
    for (uint32_t i = 0; i < n8; i += 8)
        _mm256_storeu_ps(x + i, _mm256_sub_ps(_mm256_loadu_ps(x + i), l));
    for (uint32_t i = n8; i < n; i++) x[i] -= lse;
    return lse;
}
