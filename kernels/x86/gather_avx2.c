/* Whole channels, AVX2: the gains are what wants wide registers, the look-ups are scalar loads. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

void kern_gather_avx2(const uint16_t *gains, const uint16_t *labels, const float *t, uint32_t n,
                      float *ret) {
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint16_t *l = labels + i;
        __m256 v = _mm256_setr_ps(t[l[0]], t[l[1]], t[l[2]], t[l[3]], t[l[4]], t[l[5]], t[l[6]],
                                  t[l[7]]);
        _mm256_storeu_ps(ret + i, _mm256_mul_ps(_mm256_cvtph_ps(load16b(gains + i)), v));
    }
    for (; i < n; i++) {
        __m128 gain = _mm_cvtph_ps(_mm_cvtsi32_si128(gains[i]));
        ret[i] = _mm_cvtss_f32(gain) * t[labels[i]];
    }
}
