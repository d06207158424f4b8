/* A key or value to int8, NEON. The same roundings as the reference. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

/* Clamped before it is converted: infinities must not leave int8's symmetric range. */
KERN_INLINE int16x4_t round_kv(const float *x, float inv) {
    float32x4_t v = vmulq_n_f32(vld1q_f32(x), inv);
    v = vminq_f32(vmaxq_f32(v, vdupq_n_f32(-INT8_MAX)), vdupq_n_f32(INT8_MAX));
    return vmovn_s32(vcvtnq_s32_f32(v));
}

float kern_quant_kv_neon(const float *x, uint32_t n, int8_t *ret) {
    float32x4_t m = vdupq_n_f32(0);
    for (uint32_t i = 0; i < n; i += 4) m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + i)));
    float amax = vmaxvq_f32(m);
    float inv = INT8_MAX / amax, scale = amax / INT8_MAX;
    if (inv == INFINITY) {
        inv = 0;
        scale = 0;
    }
    for (uint32_t i = 0; i < n; i += 8)
        vst1_s8(ret + i, vmovn_s16(vcombine_s16(round_kv(x + i, inv), round_kv(x + i + 4, inv))));
    return scale;
}
