/* Whole channels, NEON: the gains are what wants wide registers, the look-ups are scalar loads. */
#include "kernels/arm/variants.h"

#include "kernels/arm/neon.h"

void kern_gather_neon(const uint16_t *gains, const uint16_t *labels, const float *t, uint32_t n,
                      float *ret) {
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16_t *l = labels + i;
        float32x4_t v = {t[l[0]], t[l[1]], t[l[2]], t[l[3]]};
        vst1q_f32(ret + i, vmulq_f32(load_f16(gains + i), v));
    }
    for (; i < n; i++) {
        uint16x4_t gain = vdup_n_u16(gains[i]);
        ret[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(gain)), 0) * t[labels[i]];
    }
}
