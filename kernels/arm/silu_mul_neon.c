/* Gate of the feed-forward layer, NEON. */
#include "kernels/arm/variants.h"

#include "kernels/arm/neon.h"

KERN_INLINE float32x4_t silu_mul4(float32x4_t gate, float32x4_t up) {
    float32x4_t e = exp4(vnegq_f32(gate));
    return vmulq_f32(vdivq_f32(gate, vaddq_f32(vdupq_n_f32(1), e)), up);
}

void kern_silu_mul_neon(const float *gate, const float *up, uint32_t n, float *ret) {
    uint32_t n4 = n & ~3u;
    for (uint32_t i = 0; i < n4; i += 4)
        vst1q_f32(ret + i, silu_mul4(vld1q_f32(gate + i), vld1q_f32(up + i)));
    float32x4_t g = load_last(gate + n4, n - n4, 0), u = load_last(up + n4, n - n4, 0);
    store_last(ret + n4, n - n4, silu_mul4(g, u));
}
