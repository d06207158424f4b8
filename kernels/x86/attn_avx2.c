/* Attention of one query head over its fp16 cache, AVX2 and F16C. Three passes: scores of eight
 * positions at a time, exponentials, and the weighted sum of the values with up to 64 of its
 * elements held in registers. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

KERN_INLINE __m256 load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(load16b(p));
}

/* Sums of each of 8 registers, in order. */
KERN_INLINE __m256 hsum8(const __m256 *v) {
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* Scores of the first `n` (1..8) positions from k on; lanes beyond are repetitions. */
KERN_INLINE __m256 scores8(const float *q, const uint16_t *k, size_t stride, uint32_t head_dim,
                           uint32_t n) {
    const uint16_t *row[8];
    __m256 acc[8];
    for (uint32_t p = 0; p < 8; p++) {
        row[p] = k + (p < n ? p : n - 1) * stride;
        acc[p] = _mm256_setzero_ps();
    }
    for (uint32_t i = 0; i < head_dim; i += 8) {
        __m256 qv = _mm256_loadu_ps(q + i);
        for (uint32_t p = 0; p < 8; p++) acc[p] = _mm256_fmadd_ps(qv, load_f16(row[p] + i), acc[p]);
    }
    return hsum8(acc);
}

/* Replaces the scores by exp(score - max); returns their sum. */
static float exponents(float *s, uint32_t n, float max) {
    const __m256 m = _mm256_set1_ps(max);
    __m256 sum = _mm256_setzero_ps();
    uint32_t n8 = n & ~7u;
    for (uint32_t p = 0; p < n8; p += 8) {
        __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + p), m));
        _mm256_storeu_ps(s + p, e);
        sum = _mm256_add_ps(sum, e);
    }
    __m256 e = exp8(_mm256_sub_ps(load_last(s + n8, n - n8, -INFINITY), m)); /* exp(-inf) is 0 */
    store_last(s + n8, n - n8, e);
    return hsum(_mm256_add_ps(sum, e));
}

/* ret[0 .. 8n) = sum over positions of weight * v, times k. */
KERN_INLINE void weigh(const float *weight, const uint16_t *v, size_t stride, uint32_t n_pos,
                       __m256 k, unsigned n, float *ret) {
    __m256 acc[8];
    for (unsigned i = 0; i < n; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t p = 0; p < n_pos; p++) {
        __m256 w = _mm256_set1_ps(weight[p]);
        for (unsigned i = 0; i < n; i++)
            acc[i] = _mm256_fmadd_ps(w, load_f16(v + p * stride + 8 * i), acc[i]);
    }
    for (unsigned i = 0; i < n; i++) _mm256_storeu_ps(ret + 8 * i, _mm256_mul_ps(acc[i], k));
}

void kern_attn_avx2(const float *q, const uint16_t *k, const uint16_t *v, size_t stride,
                    uint32_t n_pos, uint32_t head_dim, float scale, float *scratch, float *ret) {
    const __m256 ks = _mm256_set1_ps(scale);
    __m256 max = _mm256_set1_ps(-INFINITY);
    for (uint32_t p = 0; p < n_pos; p += 8) {
        uint32_t n = n_pos - p < 8 ? n_pos - p : 8;
        __m256 s = _mm256_mul_ps(ks, scores8(q, k + p * stride, stride, head_dim, n));
        if (n == 8)
            _mm256_storeu_ps(scratch + p, s);
        else
            store_last(scratch + p, n, s);
        max = _mm256_max_ps(max, s);
    }
    __m256 inv = _mm256_set1_ps(1 / exponents(scratch, n_pos, hmax(max)));

    uint32_t i = 0;
    for (; head_dim - i >= 64; i += 64) weigh(scratch, v + i, stride, n_pos, inv, 8, ret + i);
    if (head_dim - i >= 32) {
        weigh(scratch, v + i, stride, n_pos, inv, 4, ret + i);
        i += 32;
    }
    for (; i < head_dim; i += 8) weigh(scratch, v + i, stride, n_pos, inv, 1, ret + i);
}
