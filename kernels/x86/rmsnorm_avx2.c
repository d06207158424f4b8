/* Root mean square norm, AVX2. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

void kern_rmsnorm_avx2(const float *x, const float *gain, uint32_t n, float eps, float *ret) {
    uint32_t n8 = n & ~7u;
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    for (uint32_t i = 0; i < n8; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i);
        s0 = _mm256_fmadd_ps(a, a, s0);
        if (i + 8 == n8) break;
        __m256 b = _mm256_loadu_ps(x + i + 8);
        s1 = _mm256_fmadd_ps(b, b, s1);
    }
    __m256 last = load_last(x + n8, n - n8, 0);
    s1 = _mm256_fmadd_ps(last, last, s1);

    float inv = 1 / sqrtf(hsum(_mm256_add_ps(s0, s1)) / (float)n + eps);
    const __m256 k = _mm256_set1_ps(inv);
    for (uint32_t i = 0; i < n8; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), k);
        _mm256_storeu_ps(ret + i, _mm256_mul_ps(v, _mm256_loadu_ps(gain + i)));
    }
    __m256 g = load_last(gain + n8, n - n8, 0);
    store_last(ret + n8, n - n8, _mm256_mul_ps(_mm256_mul_ps(last, k), g));
}
