/* One row tile times a few tokens, smmla: what both batched products of the i8mm variant are made
 * of. */
#ifndef EBB_KERNELS_ARM_MUL_I8MM_H
#define EBB_KERNELS_ARM_MUL_I8MM_H

#include "kernels/arm/i8mm.h"

enum { MAX_PAIRS = 4 };

/* Two vectors of a plane zipped: ret[k] has the packed codes of rows 2k and 2k+1 for 16 inputs,
 * 8 in the low nibbles and 8 in the high ones. */
KERN_INLINE void zip_codes(const uint8_t *plane, uint8x16_t *ret) {
    uint8x16_t a0 = vld1q_u8(plane), a4 = vld1q_u8(plane + 16);
    uint8x16_t b0 = vld1q_u8(plane + 32), b4 = vld1q_u8(plane + 48);
    ret[0] = zip_low(a0, b0);
    ret[1] = zip_high(a0, b0);
    ret[2] = zip_low(a4, b4);
    ret[3] = zip_high(a4, b4);
}

/* Adds the products with two vectors v of 32 bytes of a tile; acts[p]: as pair_acts() gives them.
 */
KERN_INLINE void add_vectors(const uint8_t *high, const uint8_t *low, unsigned v,
                             int8x16_t (*acts)[4], unsigned n_pairs, int32x4_t (*s)[PAIR_REGS]) {
    uint8x16_t h[PAIR_REGS], l[PAIR_REGS];
    int8x16_t lo[PAIR_REGS], hi[PAIR_REGS];
    zip_codes(high + 64 * v, h);
    if (low) zip_codes(low + 64 * v, l);
    for (unsigned k = 0; k < PAIR_REGS; k++) {
        lo[k] = low ? full_low_nibbles(h[k], l[k]) : low_nibbles(h[k]);
        hi[k] = low ? full_high_nibbles(h[k], l[k]) : high_nibbles(h[k]);
    }
    for (unsigned p = 0; p < n_pairs; p++) pair_add(s[p], acts[p][v], lo);
    for (unsigned p = 0; p < n_pairs; p++) pair_add(s[p], acts[p][v + 2], hi);
}

/* ret[p] = sum of code * q over the group for tokens 2p and 2p + second, n_in activations apart.
 * low: NULL in the high reading. */
KERN_INLINE void pair_sums(const uint8_t *high, const uint8_t *low, const int8_t *q, size_t n_in,
                           unsigned n_pairs, unsigned second, int32x4_t (*ret)[PAIR_REGS]) {
    int8x16_t acts[MAX_PAIRS][4];
    for (unsigned p = 0; p < n_pairs; p++) {
        const int8_t *q0 = q + 2 * p * n_in;
        pair_acts(q0, q0 + second * n_in, acts[p]);
        for (unsigned k = 0; k < PAIR_REGS; k++) ret[p][k] = vdupq_n_s32(0);
    }
    add_vectors(high, low, 0, acts, n_pairs, ret);
    add_vectors(high, low, 1, acts, n_pairs, ret);
}

/* A tile's scale codes, the same for both tokens of a pair. */
KERN_INLINE void pair_scale_codes(const uint8_t *group, int32x4_t *ret) {
    /* An index out of range gives 0. */
    const uint8x16_t first = {0, 255, 255, 255, 1, 255, 255, 255,
                              0, 255, 255, 255, 1, 255, 255, 255};
    uint8x16_t codes = vld1q_u8(group);
    for (unsigned k = 0; k < PAIR_REGS; k++) {
        uint32x4_t i = vaddq_u32(vreinterpretq_u32_u8(first), vdupq_n_u32(2 * k));
        ret[k] = vreinterpretq_s32_u8(vqtbl1q_u8(codes, vreinterpretq_u8_u32(i)));
    }
}

/* Row tile rt times tokens t .. t+n-1; n is 1 (then both tokens of the pair are that one), 2, 4 or
 * 8; is_full: both planes. */
KERN_INLINE void mul_step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t,
                          float *y, size_t ldy, uint32_t rt, unsigned n, int is_full) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    unsigned n_pairs = (n + 1) / 2, second = n > 1; /* token 2p + second of pair p */
    size_t tile = (size_t)rt * n_groups;
    const uint8_t *group = w->groups + tile * PLANE_SCALE_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    float32x4_t acc[MAX_PAIRS][PAIR_REGS];
    for (unsigned p = 0; p < n_pairs; p++)
        for (unsigned k = 0; k < PAIR_REGS; k++) acc[p][k] = vdupq_n_f32(0);
    for (uint32_t g = 0; g < n_groups; g++) {
        int32x4_t sum[MAX_PAIRS][PAIR_REGS], sc[PAIR_REGS];
        size_t at = (tile + g) * PLANE_TILE_BYTES;
        pair_sums(w->high + at, is_full ? w->low + at : NULL, q + (size_t)g * PLANE_GROUP, w->n_in,
                  n_pairs, second, sum);
        pair_scale_codes(group + (size_t)g * PLANE_SCALE_BYTES, sc);
        for (unsigned p = 0; p < n_pairs; p++) {
            const float *s0 = scale + (size_t)(2 * p) * n_groups + g;
            float32x4_t s = pair_floats(s0, s0 + second * n_groups);
            for (unsigned k = 0; k < PAIR_REGS; k++)
                acc[p][k] = vfmaq_f32(acc[p][k], vcvtq_f32_s32(vmulq_s32(sum[p][k], sc[k])), s);
        }
    }
    struct f32x8 off[2 * MAX_PAIRS];
    min_sums(group, x->psum + (size_t)t * n_groups, n_groups, n, off);
    for (unsigned p = 0; p < n_pairs; p++) {
        struct f32x8 rows[2];
        pair_split(acc[p], &rows[0], &rows[1]);
        for (unsigned i = 0; i <= second; i++)
            row_tile_end(w, rt, is_full ? 0.125f : 1, rows[i], off[2 * p + i],
                         y + (t + 2 * p + i) * ldy + (size_t)rt * PLANE_ROWS);
    }
}

#endif
