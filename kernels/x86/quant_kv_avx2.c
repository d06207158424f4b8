/* A key or value to int8, AVX2. The same roundings as the reference. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

float kern_quant_kv_avx2(const float *x, uint32_t n, int8_t *ret) {
    const __m256 sign = _mm256_set1_ps(-0.0f), lim = _mm256_set1_ps(INT8_MAX);
    __m256 m = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i += 8)
        m = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)), m);
    float amax = hmax(m);
    float inv = INT8_MAX / amax, scale = amax / INT8_MAX;
    if (inv == INFINITY) {
        inv = 0;
        scale = 0;
    }
    for (uint32_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inv));
        v = _mm256_max_ps(v,
                          _mm256_sub_ps(_mm256_setzero_ps(), lim)); /* the limit, when v is NaN */
        __m256i a = _mm256_cvtps_epi32(_mm256_min_ps(v, lim));
        __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        _mm_storel_epi64((__m128i *)(ret + i), _mm_packs_epi16(h, h));
    }
    return scale;
}
