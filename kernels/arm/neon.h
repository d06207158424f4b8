/* Pieces shared by the NEON kernels, and by those of later ISAs that stand on them. Only inline
 * code: a shared function would be compiled for one ISA and might be linked for another.
 *
 * A row tile's 8 rows are two registers of 4: struct f32x8 and struct i32x8, rows 0..3 in .a. */
#ifndef EBB_KERNELS_ARM_NEON_H
#define EBB_KERNELS_ARM_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "kernels/inline.h"
#include "kernels/kernels.h"

struct f32x8 {
    float32x4_t a, b;
};

struct i32x8 {
    int32x4_t a, b;
};

KERN_INLINE struct f32x8 f32x8_zero(void) {
    return (struct f32x8){vdupq_n_f32(0), vdupq_n_f32(0)};
}

/* acc + v * s, fused. */
KERN_INLINE struct f32x8 f32x8_fma(struct f32x8 acc, struct f32x8 v, float s) {
    return (struct f32x8){vfmaq_n_f32(acc.a, v.a, s), vfmaq_n_f32(acc.b, v.b, s)};
}

KERN_INLINE struct f32x8 f32x8_of(struct i32x8 v) {
    return (struct f32x8){vcvtq_f32_s32(v.a), vcvtq_f32_s32(v.b)};
}

KERN_INLINE struct i32x8 i32x8_zero(void) {
    return (struct i32x8){vdupq_n_s32(0), vdupq_n_s32(0)};
}

KERN_INLINE struct i32x8 i32x8_mul(struct i32x8 v, struct i32x8 w) {
    return (struct i32x8){vmulq_s32(v.a, w.a), vmulq_s32(v.b, w.b)};
}

/* Bytes k .. k+7 of a tile's 16 scale and min codes as 32-bit numbers. A table look-up puts a
 * byte in place at once, where widening takes two steps on the one pipe that also shifts. */
KERN_INLINE struct i32x8 codes_at(uint8x16_t codes, uint8_t k) {
    const uint8x16_t first = {
        0, 255, 255, 255, 1, 255, 255, 255,
        2, 255, 255, 255, 3, 255, 255, 255}; /* an index out of range gives 0 */
    uint8x16_t ia = vreinterpretq_u8_u32(vaddq_u32(vreinterpretq_u32_u8(first), vdupq_n_u32(k)));
    uint8x16_t ib = vreinterpretq_u8_u32(
        vaddq_u32(vreinterpretq_u32_u8(first), vdupq_n_u32(k + 4u)));
    return (struct i32x8){vreinterpretq_s32_u8(vqtbl1q_u8(codes, ia)),
                          vreinterpretq_s32_u8(vqtbl1q_u8(codes, ib))};
}

KERN_INLINE struct i32x8 scale_codes(const uint8_t *group) {
    return codes_at(vld1q_u8(group), 0);
}

KERN_INLINE struct f32x8 min_codes(const uint8_t *group) {
    return f32x8_of(codes_at(vld1q_u8(group), PLANE_ROWS));
}

KERN_INLINE float32x4_t load_f16(const void *p) {
    uint16x4_t h;
    memcpy(&h, p, sizeof(h));
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

/* Stores y = fma(-M, off, D' * acc) for the rows of row tile rt. */
KERN_INLINE void row_tile_end(const struct kern_planes *w, uint32_t rt, float d_factor,
                              struct f32x8 acc, struct f32x8 off, float *y) {
    const uint8_t *rows = w->rows + (size_t)rt * PLANE_ROW_BYTES;
    float32x4_t da = vmulq_n_f32(load_f16(rows), d_factor);
    float32x4_t db = vmulq_n_f32(load_f16(rows + 8), d_factor);
    vst1q_f32(y, vfmsq_f32(vmulq_f32(da, acc.a), load_f16(rows + 16), off.a));
    vst1q_f32(y + 4, vfmsq_f32(vmulq_f32(db, acc.b), load_f16(rows + 24), off.b));
}

/* ret[i] = sum over the groups of psum * mn, for n tokens. */
KERN_INLINE void min_sums(const uint8_t *group, const float *psum, uint32_t n_groups, unsigned n,
                          struct f32x8 *ret) {
    for (unsigned i = 0; i < n; i++) ret[i] = f32x8_zero();
    for (uint32_t g = 0; g < n_groups; g++) {
        struct f32x8 mn = min_codes(group + (size_t)g * PLANE_SCALE_BYTES);
        for (unsigned i = 0; i < n; i++)
            ret[i] = f32x8_fma(ret[i], mn, psum[(size_t)i * n_groups + g]);
    }
}

KERN_INLINE int8x16_t low_nibbles(uint8x16_t v) {
    return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
}

KERN_INLINE int8x16_t high_nibbles(uint8x16_t v) {
    return vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

/* Codes 8t + l - 8 (-8..127) of the low and of the high nibbles of one vector of each plane. */
KERN_INLINE int8x16_t full_low_nibbles(uint8x16_t high, uint8x16_t low) {
    uint8x16_t t8 = vandq_u8(vshlq_n_u8(high, 3), vdupq_n_u8(0x78));
    uint8x16_t l = vsubq_u8(vandq_u8(low, vdupq_n_u8(15)), vdupq_n_u8(8));
    return vreinterpretq_s8_u8(vaddq_u8(t8, l));
}

KERN_INLINE int8x16_t full_high_nibbles(uint8x16_t high, uint8x16_t low) {
    uint8x16_t t8 = vandq_u8(vshrq_n_u8(high, 1), vdupq_n_u8(0x78));
    return vreinterpretq_s8_u8(vsraq_n_u8(vsubq_u8(t8, vdupq_n_u8(8)), low, 4));
}

/* exp(x), relative error below 3e-7 for normal results; 0 and infinity where binary32 has them.
 * x = n ln2 + r with |r| <= ln2 / 2; the series of exp(r) ends after r^7, as r^8 / 8! < 6e-9. */
KERN_INLINE float32x4_t exp4(float32x4_t x) {
    x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-104)), vdupq_n_f32(89));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 0x1.715476p+0f));
    float32x4_t r = vfmsq_n_f32(x, n, 0x1.62e43p-1f);
    r = vfmsq_n_f32(r, n, -0x1.05c61p-29f);

    float32x4_t p = vdupq_n_f32(1.0f / 5040);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 720), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
    p = vfmaq_f32(vdupq_n_f32(0.5f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1), p, r);
    p = vfmaq_f32(vdupq_n_f32(1), p, r);

    /* Times 2^n in two halves: n is -150..128, and one power of two reaches -126..127 only. */
    int32x4_t i = vcvtq_s32_f32(n);
    int32x4_t a = vshrq_n_s32(i, 1);
    int32x4_t b = vsubq_s32(i, a);
    const int32x4_t bias = vdupq_n_s32(127);
    float32x4_t pa = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(a, bias), 23));
    float32x4_t pb = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(b, bias), 23));
    return vmulq_f32(vmulq_f32(p, pa), pb);
}

/* The last n < 4 floats of an array, the other lanes `rest`; and their way back. */
KERN_INLINE float32x4_t load_last(const float *p, uint32_t n, float rest) {
    float v[4] = {rest, rest, rest, rest};
    memcpy(v, p, n * sizeof(*p));
    return vld1q_f32(v);
}

KERN_INLINE void store_last(float *p, uint32_t n, float32x4_t v) {
    float f[4];
    vst1q_f32(f, v);
    memcpy(p, f, n * sizeof(*p));
}

#endif
