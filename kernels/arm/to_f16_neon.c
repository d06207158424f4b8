/* float -> fp16 by the conversion instruction. */
#include "kernels/arm/variants.h"

#include "kernels/arm/neon.h"

void kern_to_f16_neon(const float *x, uint32_t n, uint16_t *ret) {
    uint32_t n4 = n & ~3u;
    for (uint32_t i = 0; i < n4; i += 4)
        vst1_u16(ret + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    uint16_t last[4];
    vst1_u16(last, vreinterpret_u16_f16(vcvt_f16_f32(load_last(x + n4, n - n4, 0))));
    memcpy(ret + n4, last, (n - n4) * sizeof(*ret));
}
