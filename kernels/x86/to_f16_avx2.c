/* float -> fp16 by F16C. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

void kern_to_f16_avx2(const float *x, uint32_t n, uint16_t *ret) {
    uint32_t n8 = n & ~7u;
    for (uint32_t i = 0; i < n8; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(ret + i), h);
    }
    __m256 v = load_last(x + n8, n - n8, 0);
    uint16_t last[8];
    _mm_storeu_si128((__m128i *)last, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    memcpy(ret + n8, last, (n - n8) * sizeof(*ret));
}
