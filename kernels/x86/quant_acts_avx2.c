/* Activations to int8, AVX2. The same roundings as the reference, one group at a time. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

/* Clamped before it is converted: infinities and NaN must not leave the range of activations. */
KERN_INLINE __m256i round_acts(__m256 x, __m256 inv) {
    const __m256 lim = _mm256_set1_ps(PLANE_ACT_MAX);
    __m256 v = _mm256_mul_ps(x, inv);
    v = _mm256_max_ps(v, _mm256_sub_ps(_mm256_setzero_ps(), lim)); /* the limit, when v is NaN */
    return _mm256_cvtps_epi32(_mm256_min_ps(v, lim));
}

static void quant_group(const float *x, int8_t *q, float *scale, int32_t *qsum, float *psum) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 v[4], m = _mm256_setzero_ps();
    for (unsigned i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        m = _mm256_max_ps(_mm256_andnot_ps(sign, v[i]), m);
    }
    float amax = hmax(m);
    float inv = PLANE_ACT_MAX / amax;
    *scale = amax / PLANE_ACT_MAX;
    if (inv == INFINITY) {
        inv = 0;
        *scale = 0;
    }
    __m256i a[4], sum = _mm256_setzero_si256();
    for (unsigned i = 0; i < 4; i++) {
        a[i] = round_acts(v[i], _mm256_set1_ps(inv));
        sum = _mm256_add_epi32(sum, a[i]);
    }
    /* The two packs work within 128-bit halves; the permutation puts their dwords in order. */
    __m256i p = _mm256_packs_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(a[2], a[3]));
    p = _mm256_permutevar8x32_epi32(p, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)q, p);
    *qsum = hsum_i32(sum);
    *psum = *scale * (float)*qsum;
}

void kern_quant_acts_avx2(const float *x, size_t ldx, uint32_t n_in, uint32_t n_tok,
                          const struct kern_acts *ret) {
    uint32_t n_groups = n_in / PLANE_GROUP;
    for (uint32_t t = 0; t < n_tok; t++) {
        for (uint32_t g = 0; g < n_groups; g++) {
            size_t i = (size_t)t * n_groups + g;
            quant_group(x + t * ldx + (size_t)g * PLANE_GROUP, ret->q + i * PLANE_GROUP,
                        ret->scale + i, ret->qsum + i, ret->psum + i);
        }
    }
}
