/* Root mean square norm, AVX2. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

void kern_rmsnorm_avx2(const float *x, const float *gain, uint32_t n, float eps, float *ret) {
    uint32_t n8 = n & ~7u;
    __m256i last = first_lanes(n - n8);
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    for (uint32_t i = 0; i < n8; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i);
        s0 = _mm256_fmadd_ps(a, a, s0);
        if (i + 8 == n8) break;
        __m256 b = _mm256_loadu_ps(x + i + 8);
        s1 = _mm256_fmadd_ps(b, b, s1);
    }
    __m256 a = _mm256_maskload_ps(x + n8, last);
    s1 = _mm256_fmadd_ps(a, a, s1);

    float inv = 1 / sqrtf(hsum(_mm256_add_ps(s0, s1)) / (float)n + eps);
    const __m256 k = _mm256_set1_ps(inv);
    for (uint32_t i = 0; i < n8; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), k);
        _mm256_storeu_ps(ret + i, _mm256_mul_ps(v, _mm256_loadu_ps(gain + i)));
    }
    __m256 v = _mm256_mul_ps(a, k);
    _mm256_maskstore_ps(ret + n8, last, _mm256_mul_ps(v, _mm256_maskload_ps(gain + n8, last)));
}
