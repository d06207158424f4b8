/* Sums for two tokens and two rows at a time, by smmla: a 2 x 8 matrix of int8 times another one,
 * added to four int32. 32 products an instruction, twice those of sdot.
 *
 * A quad holds 4 consecutive inputs of a row and smmla wants 8, so that two quads are zipped: while
 * the codes of a tile are still packed, and once for all the tokens that they meet. The sums stay
 * as smmla leaves them, two rows of two tokens a register, through all groups; every float
 * operation on the way is that of one row and one token, so the bits are the same. */
#ifndef EBB_KERNELS_ARM_I8MM_H
#define EBB_KERNELS_ARM_I8MM_H

#include "kernels/arm/neon.h"

/* Sums of a pair of tokens are four registers, int32x4_t or float32x4_t, register k being
 *   { token 0 row 2k, token 0 row 2k+1, token 1 row 2k, token 1 row 2k+1 };
 * weights of 8 inputs of 8 rows are four too, register k having those of rows 2k and 2k+1. */
enum { PAIR_REGS = 4 };

/* 32 activations of two tokens, 8 of each a register. */
KERN_INLINE void pair_acts(const int8_t *q0, const int8_t *q1, int8x16_t *ret) {
    for (unsigned i = 0; i < 2; i++) {
        int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(q0 + 16 * i));
        int64x2_t b = vreinterpretq_s64_s8(vld1q_s8(q1 + 16 * i));
        ret[2 * i] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
        ret[2 * i + 1] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
    }
}

KERN_INLINE void pair_add(int32x4_t *s, int8x16_t acts, const int8x16_t *w) {
    for (unsigned k = 0; k < PAIR_REGS; k++) s[k] = vmmlaq_s32(s[k], acts, w[k]);
}

/* The float of each token for its elements of a register. */
KERN_INLINE float32x4_t pair_floats(const float *s0, const float *s1) {
    float64x2_t a = vreinterpretq_f64_f32(vld1q_dup_f32(s0));
    float64x2_t b = vreinterpretq_f64_f32(vld1q_dup_f32(s1));
    return vreinterpretq_f32_f64(vzip1q_f64(a, b));
}

/* The two tokens' rows, apart. */
KERN_INLINE void pair_split(const float32x4_t *r, struct f32x8 *ret0, struct f32x8 *ret1) {
    ret0->a = vcombine_f32(vget_low_f32(r[0]), vget_low_f32(r[1]));
    ret0->b = vcombine_f32(vget_low_f32(r[2]), vget_low_f32(r[3]));
    ret1->a = vcombine_f32(vget_high_f32(r[0]), vget_high_f32(r[1]));
    ret1->b = vcombine_f32(vget_high_f32(r[2]), vget_high_f32(r[3]));
}

/* And put together. */
KERN_INLINE void pair_join(struct f32x8 v0, struct f32x8 v1, float32x4_t *ret) {
    ret[0] = vcombine_f32(vget_low_f32(v0.a), vget_low_f32(v1.a));
    ret[1] = vcombine_f32(vget_high_f32(v0.a), vget_high_f32(v1.a));
    ret[2] = vcombine_f32(vget_low_f32(v0.b), vget_low_f32(v1.b));
    ret[3] = vcombine_f32(vget_high_f32(v0.b), vget_high_f32(v1.b));
}

/* 16 bytes each of two registers, 4 a row, as 8 a row: rows 0 1 and rows 2 3. */
KERN_INLINE uint8x16_t zip_low(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

KERN_INLINE uint8x16_t zip_high(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

#endif
