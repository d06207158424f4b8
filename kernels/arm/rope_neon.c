/* Rotary position embedding, NEON: loads part four interleaved pairs, stores join them. */
#include "kernels/arm/variants.h"

#include "kernels/arm/neon.h"

void kern_rope_neon(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
                    const float *cos_sin) {
    uint32_t n8 = rope_dim & ~7u;
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
        for (uint32_t i = 0; i < n8; i += 8) {
            float32x4x2_t v = vld2q_f32(x + i), cs = vld2q_f32(cos_sin + i);
            float32x4_t ac = vmulq_f32(v.val[0], cs.val[0]), as = vmulq_f32(v.val[0], cs.val[1]);
            float32x4_t bc = vmulq_f32(v.val[1], cs.val[0]), bs = vmulq_f32(v.val[1], cs.val[1]);
            v.val[0] = vsubq_f32(ac, bs);
            v.val[1] = vaddq_f32(as, bc);
            vst2q_f32(x + i, v);
        }
        for (uint32_t i = n8; i + 1 < rope_dim; i += 2) {
            float c = cos_sin[i], s = cos_sin[i + 1], a = x[i], b = x[i + 1];
            x[i] = a * c - b * s;
            x[i + 1] = a * s + b * c;
        }
    }
}
