/* Attention of one query head over its fp16 cache, NEON. Three passes: scores of four positions
 * at a time, exponentials, and the weighted sum of the values with up to 64 of its elements held
 * in registers. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

/* Scores of the first `n` (1..4) positions from k on; lanes beyond repeat the last one. */
KERN_INLINE float32x4_t scores4(const float *q, const uint16_t *k, size_t stride, uint32_t head_dim,
                                uint32_t n) {
    const uint16_t *row[4];
    struct f32x8 acc[4];
    for (uint32_t p = 0; p < 4; p++) {
        row[p] = k + (p < n ? p : n - 1) * stride;
        acc[p] = f32x8_zero();
    }
    for (uint32_t i = 0; i < head_dim; i += 8) {
        float32x4_t q0 = vld1q_f32(q + i), q1 = vld1q_f32(q + i + 4);
        for (uint32_t p = 0; p < 4; p++) {
            acc[p].a = vfmaq_f32(acc[p].a, q0, load_f16(row[p] + i));
            acc[p].b = vfmaq_f32(acc[p].b, q1, load_f16(row[p] + i + 4));
        }
    }
    float32x4_t s[4];
    for (uint32_t p = 0; p < 4; p++) s[p] = vaddq_f32(acc[p].a, acc[p].b);
    return vpaddq_f32(vpaddq_f32(s[0], s[1]), vpaddq_f32(s[2], s[3]));
}

/* Replaces the scores by exp(score - max); returns their sum. */
static float exponents(float *s, uint32_t n, float max) {
    const float32x4_t m = vdupq_n_f32(max);
    float32x4_t sum = vdupq_n_f32(0);
    uint32_t n4 = n & ~3u;
    for (uint32_t p = 0; p < n4; p += 4) {
        float32x4_t e = exp4(vsubq_f32(vld1q_f32(s + p), m));
        vst1q_f32(s + p, e);
        sum = vaddq_f32(sum, e);
    }
    float32x4_t e = exp4(vsubq_f32(load_last(s + n4, n - n4, -INFINITY), m)); /* exp(-inf) is 0 */
    store_last(s + n4, n - n4, e);
    return vaddvq_f32(vaddq_f32(sum, e));
}

/* ret[0 .. 8n) = sum over positions of weight * v, times k. */
KERN_INLINE void weigh(const float *weight, const uint16_t *v, size_t stride, uint32_t n_pos,
                       float k, unsigned n, float *ret) {
    struct f32x8 acc[8];
    for (unsigned i = 0; i < n; i++) acc[i] = f32x8_zero();
    for (uint32_t p = 0; p < n_pos; p++) {
        const uint16_t *vp = v + p * stride;
        for (unsigned i = 0; i < n; i++) {
            struct f32x8 x = {load_f16(vp + 8 * i), load_f16(vp + 8 * i + 4)};
            acc[i] = f32x8_fma(acc[i], x, weight[p]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        vst1q_f32(ret + 8 * i, vmulq_n_f32(acc[i].a, k));
        vst1q_f32(ret + 8 * i + 4, vmulq_n_f32(acc[i].b, k));
    }
}

void kern_attn_neon(const float *q, const uint16_t *k, const uint16_t *v, size_t stride,
                    uint32_t n_pos, uint32_t head_dim, float scale, float *scratch, float *ret) {
    float32x4_t max = vdupq_n_f32(-INFINITY);
    for (uint32_t p = 0; p < n_pos; p += 4) {
        uint32_t n = n_pos - p < 4 ? n_pos - p : 4;
        float32x4_t s = vmulq_n_f32(scores4(q, k + p * stride, stride, head_dim, n), scale);
        if (n == 4)
            vst1q_f32(scratch + p, s);
        else
            store_last(scratch + p, n, s);
        max = vmaxq_f32(max, s);
    }
    float inv = 1 / exponents(scratch, n_pos, vmaxvq_f32(max));

    uint32_t i = 0;
    for (; head_dim - i >= 64; i += 64) weigh(scratch, v + i, stride, n_pos, inv, 8, ret + i);
    if (head_dim - i >= 32) {
        weigh(scratch, v + i, stride, n_pos, inv, 4, ret + i);
        i += 32;
    }
    for (; i < head_dim; i += 8) weigh(scratch, v + i, stride, n_pos, inv, 1, ret + i);
}
