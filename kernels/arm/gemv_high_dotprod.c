/* One token times the high plane, sdot. Four chains of sums, so that neither the latency of sdot
 * nor the two pipes of a Cortex-A76 leave a gap. */
#include "kernels/arm/variants.h"

#include "kernels/arm/dotprod.h"

KERN_INLINE struct i32x8 tile_sum(const uint8_t *high, const int8_t *q) {
    int8x16_t q0 = vld1q_s8(q), q1 = vld1q_s8(q + 16);
    struct i32x8 s0 = i32x8_zero(), s1 = s0;
#pragma GCC unroll 4
    for (unsigned v = 0; v < 4; v++) {
        uint8x16_t c0 = vld1q_u8(high + 32 * v), c4 = vld1q_u8(high + 32 * v + 16);
        s0.a = dot_lane(s0.a, low_nibbles(c0), q0, v);
        s0.b = dot_lane(s0.b, low_nibbles(c4), q0, v);
        s1.a = dot_lane(s1.a, high_nibbles(c0), q1, v);
        s1.b = dot_lane(s1.b, high_nibbles(c4), q1, v);
    }
    return (struct i32x8){vaddq_s32(s0.a, s1.a), vaddq_s32(s0.b, s1.b)};
}

void kern_gemv_high_dotprod(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                            float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt0 * n_groups * PLANE_SCALE_BYTES;
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        struct f32x8 acc = f32x8_zero(), off = acc;
        for (uint32_t g = 0; g < n_groups; g++) {
            struct i32x8 isum = tile_sum(high, x->q + (size_t)g * PLANE_GROUP);
            struct i32x8 scaled = i32x8_mul(isum, scale_codes(group));
            acc = f32x8_fma(acc, f32x8_of(scaled), x->scale[g]);
            off = f32x8_fma(off, min_codes(group), x->psum[g]);
            high += PLANE_TILE_BYTES;
            group += PLANE_SCALE_BYTES;
        }
        row_tile_end(w, rt, 1, acc, off, y + (size_t)rt * PLANE_ROWS);
    }
}
