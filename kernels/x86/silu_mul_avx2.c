/* Gate of the feed-forward layer, AVX2. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

KERN_INLINE __m256 silu_mul8(__m256 gate, __m256 up) {
    __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), gate));
    __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1), e));
    return _mm256_mul_ps(silu, up);
}

void kern_silu_mul_avx2(const float *gate, const float *up, uint32_t n, float *ret) {
    uint32_t n8 = n & ~7u;
    for (uint32_t i = 0; i < n8; i += 8)
        _mm256_storeu_ps(ret + i, silu_mul8(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    __m256 g = load_last(gate + n8, n - n8, 0), u = load_last(up + n8, n - n8, 0);
    store_last(ret + n8, n - n8, silu_mul8(g, u));
}
