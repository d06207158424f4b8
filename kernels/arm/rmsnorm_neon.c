/* Root mean square norm, NEON. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

void kern_rmsnorm_neon(const float *x, const float *gain, uint32_t n, float eps, float *ret) {
    uint32_t n4 = n & ~3u, i = 0;
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    for (; n4 - i >= 8; i += 8) {
        float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + 4);
        s0 = vfmaq_f32(s0, a, a);
        s1 = vfmaq_f32(s1, b, b);
    }
    if (i < n4) {
        float32x4_t a = vld1q_f32(x + i);
        s0 = vfmaq_f32(s0, a, a);
    }
    float32x4_t last = load_last(x + n4, n - n4, 0);
    s1 = vfmaq_f32(s1, last, last);

    float inv = 1 / sqrtf(vaddvq_f32(vaddq_f32(s0, s1)) / (float)n + eps);
    for (i = 0; i < n4; i += 4)
        vst1q_f32(ret + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), inv), vld1q_f32(gain + i)));
    float32x4_t g = load_last(gain + n4, n - n4, 0);
    store_last(ret + n4, n - n4, vmulq_f32(vmulq_n_f32(last, inv), g));
}
