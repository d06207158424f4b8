/* One token times both planes, sdot. The planes are summed apart,
 *   sum (8t + l - 8) q = 8 (sum t q - sum q) + sum l q,
 * as for one token a second sdot is cheaper than joining two codes. */
#include "kernels/arm/variants.h"

#include "kernels/arm/dotprod.h"

KERN_INLINE struct i32x8 tile_sum(const uint8_t *high, const uint8_t *low, const int8_t *q,
                                  const int32_t *qsum) {
    int8x16_t q0 = vld1q_s8(q), q1 = vld1q_s8(q + 16);
    int32x4_t qs = vld1q_dup_s32(qsum);
    struct i32x8 t0 = i32x8_zero(), t1 = t0, l0 = t0, l1 = t0;
#pragma GCC unroll 4
    for (unsigned v = 0; v < 4; v++) {
        uint8x16_t h0 = vld1q_u8(high + 32 * v), h4 = vld1q_u8(high + 32 * v + 16);
        t0.a = dot_lane(t0.a, low_nibbles(h0), q0, v);
        t0.b = dot_lane(t0.b, low_nibbles(h4), q0, v);
        t1.a = dot_lane(t1.a, high_nibbles(h0), q1, v);
        t1.b = dot_lane(t1.b, high_nibbles(h4), q1, v);
        uint8x16_t m0 = vld1q_u8(low + 32 * v), m4 = vld1q_u8(low + 32 * v + 16);
        l0.a = dot_lane(l0.a, low_nibbles(m0), q0, v);
        l0.b = dot_lane(l0.b, low_nibbles(m4), q0, v);
        l1.a = dot_lane(l1.a, high_nibbles(m0), q1, v);
        l1.b = dot_lane(l1.b, high_nibbles(m4), q1, v);
    }
    int32x4_t ta = vsubq_s32(vaddq_s32(t0.a, t1.a), qs);
    int32x4_t tb = vsubq_s32(vaddq_s32(t0.b, t1.b), qs);
    int32x4_t la = vaddq_s32(l0.a, l1.a), lb = vaddq_s32(l0.b, l1.b);
    return (struct i32x8){vaddq_s32(vshlq_n_s32(ta, 3), la), vaddq_s32(vshlq_n_s32(tb, 3), lb)};
}

void kern_gemv_full_dotprod(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                            float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *low = w->low + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt0 * n_groups * PLANE_SCALE_BYTES;
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        struct f32x8 acc = f32x8_zero(), off = acc;
        for (uint32_t g = 0; g < n_groups; g++) {
            struct i32x8 isum = tile_sum(high, low, x->q + (size_t)g * PLANE_GROUP, x->qsum + g);
            struct i32x8 scaled = i32x8_mul(isum, scale_codes(group));
            acc = f32x8_fma(acc, f32x8_of(scaled), x->scale[g]);
            off = f32x8_fma(off, min_codes(group), x->psum[g]);
            high += PLANE_TILE_BYTES;
            low += PLANE_TILE_BYTES;
            group += PLANE_SCALE_BYTES;
        }
        row_tile_end(w, rt, 0.125f, acc, off, y + (size_t)rt * PLANE_ROWS);
    }
}
