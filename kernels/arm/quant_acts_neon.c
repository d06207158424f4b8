/* Activations to int8, NEON. The same roundings as the reference, one group at a time. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

/* Clamped before it is converted: infinities must not leave the range of activations (NaN becomes
 * 0 in the conversion). */
KERN_INLINE int32x4_t round_acts(float32x4_t x, float inv) {
    float32x4_t v = vmulq_n_f32(x, inv);
    v = vmaxq_f32(v, vdupq_n_f32(-PLANE_ACT_MAX));
    return vcvtnq_s32_f32(vminq_f32(v, vdupq_n_f32(PLANE_ACT_MAX)));
}

static void quant_group(const float *x, int8_t *q, float *scale, int32_t *qsum, float *psum) {
    float32x4_t v[8], m = vdupq_n_f32(0);
    for (unsigned i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        m = vmaxq_f32(m, vabsq_f32(v[i]));
    }
    float amax = vmaxvq_f32(m);
    float inv = PLANE_ACT_MAX / amax;
    *scale = amax / PLANE_ACT_MAX;
    if (inv == INFINITY) {
        inv = 0;
        *scale = 0;
    }
    int16x8_t sum = vdupq_n_s16(0);
    for (unsigned i = 0; i < 4; i++) {
        int16x8_t a = vcombine_s16(vmovn_s32(round_acts(v[2 * i], inv)),
                                   vmovn_s32(round_acts(v[2 * i + 1], inv)));
        vst1_s8(q + 8 * i, vmovn_s16(a));
        sum = vaddq_s16(sum, a);
    }
    *qsum = vaddlvq_s16(sum);
    *psum = *scale * (float)*qsum;
}

void kern_quant_acts_neon(const float *x, size_t ldx, uint32_t n_in, uint32_t n_tok,
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
