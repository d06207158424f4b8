/* Looking up segments, for the NEON kernels and those of later ISAs that stand on them.
 *
 * Four indices are one 64-bit load and a bit-field extract each; an entry is one load with a scaled
 * index straight into a vector register, where shifts with insert put two rows together. */
#ifndef EBB_KERNELS_ARM_SEG_NEON_H
#define EBB_KERNELS_ARM_SEG_NEON_H

#include "kernels/arm/neon.h"
#include "kernels/seg_forms.h"

/* Four inputs of 8 rows: byte r*4 + i is row r, input i. */
struct quad {
    int8x16_t rows0, rows4;
};

/* Rows r and r + 1. Neither single-element loads, which need the address computed first, nor
 * inserts of elements are better by llvm-mca (0.48 and 0.53 against 0.40 cycles a weight). */
KERN_INLINE float32x2_t two_entries4(const int8_t *book, uint64_t half, unsigned bits, unsigned r) {
    uint32_t a, b;
    memcpy(&a, book + (size_t)seg_index4(half, bits, r) * 4, sizeof(a));
    memcpy(&b, book + (size_t)seg_index4(half, bits, r + 1) * 4, sizeof(b));
    return vreinterpret_f32_u64(vsli_n_u64(vcreate_u64(a), vcreate_u64(b), 32));
}

KERN_INLINE int8x16_t four_entries4(const int8_t *book, uint64_t half, unsigned bits) {
    return vreinterpretq_s8_f32(
        vcombine_f32(two_entries4(book, half, bits, 0), two_entries4(book, half, bits, 2)));
}

KERN_INLINE int32x4_t two_entries8(const int8_t *book, uint64_t half, unsigned bits, unsigned r) {
    int8x8_t a = vld1_s8(book + (size_t)seg_index4(half, bits, r) * 8);
    int8x8_t b = vld1_s8(book + (size_t)seg_index4(half, bits, r + 1) * 8);
    return vreinterpretq_s32_s8(vcombine_s8(a, b));
}

/* The weights of one segment column as len / 4 quads. Reads 16 bytes from the column on at most. */
KERN_INLINE void column_quads(const uint8_t *column, const int8_t *book, unsigned len,
                              unsigned bits, struct quad *ret) {
    uint64_t half0, half4; /* indices of rows 0..3 and of rows 4..7 */
    memcpy(&half0, column, sizeof(half0));
    memcpy(&half4, column + bits / 2, sizeof(half4));
    if (len == 4) {
        ret[0].rows0 = four_entries4(book, half0, bits);
        ret[0].rows4 = four_entries4(book, half4, bits);
        return;
    }
    /* Two rows of two quads' inputs each; a quad takes every other element. */
    int32x4_t v0 = two_entries8(book, half0, bits, 0), v2 = two_entries8(book, half0, bits, 2);
    int32x4_t v4 = two_entries8(book, half4, bits, 0), v6 = two_entries8(book, half4, bits, 2);
    ret[0].rows0 = vreinterpretq_s8_s32(vuzp1q_s32(v0, v2));
    ret[1].rows0 = vreinterpretq_s8_s32(vuzp2q_s32(v0, v2));
    ret[0].rows4 = vreinterpretq_s8_s32(vuzp1q_s32(v4, v6));
    ret[1].rows4 = vreinterpretq_s8_s32(vuzp2q_s32(v4, v6));
}

/* A seg_look_up_fn: a tile's 8 quads. */
KERN_INLINE void tile_quads(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                            int8_t *ret) {
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k += len / 4, column += bits) {
        struct quad v[2];
        column_quads(column, book, len, bits, v);
        for (unsigned i = 0; i < len / 4; i++) {
            vst1q_s8(ret + (k + i) * 32, v[i].rows0);
            vst1q_s8(ret + (k + i) * 32 + 16, v[i].rows4);
        }
    }
}

KERN_INLINE struct quad load_quad(const int8_t *p) {
    return (struct quad){vld1q_s8(p), vld1q_s8(p + 16)};
}

KERN_INLINE struct f32x8 load_sums(const float *y) {
    return (struct f32x8){vld1q_f32(y), vld1q_f32(y + 4)};
}

KERN_INLINE void store_sums(float *y, struct f32x8 v) {
    vst1q_f32(y, v.a);
    vst1q_f32(y + 4, v.b);
}

/* The sums of a row tile times its gains. */
KERN_INLINE struct f32x8 times_gains(const uint8_t *gains, struct f32x8 acc) {
    return (struct f32x8){vmulq_f32(load_f16(gains), acc.a), vmulq_f32(load_f16(gains + 8), acc.b)};
}

#endif
