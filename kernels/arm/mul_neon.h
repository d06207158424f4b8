/* Sums of one tile for a few tokens, without dot instructions: what gemv and gemm of the NEON
 * variant are made of. Bytes are multiplied into int16, two rows a register (4 products a row).
 *
 * High plane: |15 * 121| * 8 quads = 14520 stays int16 for the whole group. Both planes: at most
 * |127 * 121| * 2 = 30734, so pairs of quads are widened. */
#ifndef EBB_KERNELS_ARM_MUL_NEON_H
#define EBB_KERNELS_ARM_MUL_NEON_H

#include "kernels/arm/neon.h"

/* Four activations, twice: one quad's worth for two rows. */
KERN_INLINE int8x8_t act_quad(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, sizeof(v));
    return vreinterpret_s8_s32(vdup_n_s32(v));
}

/* Adds 8 rows' products with one quad to s: rows 0-1, 2-3, 4-5, 6-7. */
KERN_INLINE void add_products(int16x8_t *s, int8x16_t rows0, int8x16_t rows4, int8x8_t q) {
    int8x16_t qq = vcombine_s8(q, q);
    s[0] = vmlal_s8(s[0], vget_low_s8(rows0), q);
    s[1] = vmlal_high_s8(s[1], rows0, qq);
    s[2] = vmlal_s8(s[2], vget_low_s8(rows4), q);
    s[3] = vmlal_high_s8(s[3], rows4, qq);
}

/* ret[i] = sum of code t * q over the group, for n <= 4 tokens n_in activations apart. */
KERN_INLINE void high_sums(const uint8_t *high, const int8_t *q, size_t n_in, unsigned n,
                           struct i32x8 *ret) {
    int16x8_t s[4][4];
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < 4; k++) s[i][k] = vdupq_n_s16(0);
    for (unsigned v = 0; v < 4; v++) {
        uint8x16_t c0 = vld1q_u8(high + 32 * v), c4 = vld1q_u8(high + 32 * v + 16);
        int8x16_t lo0 = low_nibbles(c0), lo4 = low_nibbles(c4);
        int8x16_t hi0 = high_nibbles(c0), hi4 = high_nibbles(c4);
        for (unsigned i = 0; i < n; i++) {
            const int8_t *qv = q + i * n_in + 4 * v;
            add_products(s[i], lo0, lo4, act_quad(qv));
            add_products(s[i], hi0, hi4, act_quad(qv + 16));
        }
    }
    for (unsigned i = 0; i < n; i++) {
        ret[i].a = vpaddq_s32(vpaddlq_s16(s[i][0]), vpaddlq_s16(s[i][1]));
        ret[i].b = vpaddq_s32(vpaddlq_s16(s[i][2]), vpaddlq_s16(s[i][3]));
    }
}

/* The same with codes 8t + l - 8. */
KERN_INLINE void full_sums(const uint8_t *high, const uint8_t *low, const int8_t *q, size_t n_in,
                           unsigned n, struct i32x8 *ret) {
    int32x4_t s[4][4];
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < 4; k++) s[i][k] = vdupq_n_s32(0);
    for (unsigned v = 0; v < 4; v++) {
        uint8x16_t h0 = vld1q_u8(high + 32 * v), h4 = vld1q_u8(high + 32 * v + 16);
        uint8x16_t l0 = vld1q_u8(low + 32 * v), l4 = vld1q_u8(low + 32 * v + 16);
        int8x16_t lo0 = full_low_nibbles(h0, l0), lo4 = full_low_nibbles(h4, l4);
        int8x16_t hi0 = full_high_nibbles(h0, l0), hi4 = full_high_nibbles(h4, l4);
        for (unsigned i = 0; i < n; i++) {
            const int8_t *qv = q + i * n_in + 4 * v;
            int16x8_t p[4];
            for (unsigned k = 0; k < 4; k++) p[k] = vdupq_n_s16(0);
            add_products(p, lo0, lo4, act_quad(qv));
            add_products(p, hi0, hi4, act_quad(qv + 16));
            for (unsigned k = 0; k < 4; k++) s[i][k] = vpadalq_s16(s[i][k], p[k]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        ret[i].a = vpaddq_s32(s[i][0], s[i][1]);
        ret[i].b = vpaddq_s32(s[i][2], s[i][3]);
    }
}

/* Row tile rt times tokens t .. t+n-1, n <= 4; is_full: both planes. */
KERN_INLINE void mul_step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t,
                          float *y, size_t ldy, uint32_t rt, unsigned n, int is_full) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    size_t tile = (size_t)rt * n_groups;
    const uint8_t *group = w->groups + tile * PLANE_SCALE_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    struct f32x8 acc[4], off[4];
    for (unsigned i = 0; i < n; i++) acc[i] = f32x8_zero();
    for (uint32_t g = 0; g < n_groups; g++) {
        struct i32x8 sum[4];
        size_t at = (tile + g) * PLANE_TILE_BYTES;
        if (is_full)
            full_sums(w->high + at, w->low + at, q + (size_t)g * PLANE_GROUP, w->n_in, n, sum);
        else
            high_sums(w->high + at, q + (size_t)g * PLANE_GROUP, w->n_in, n, sum);
        struct i32x8 sc = scale_codes(group + (size_t)g * PLANE_SCALE_BYTES);
        for (unsigned i = 0; i < n; i++)
            acc[i] = f32x8_fma(acc[i], f32x8_of(i32x8_mul(sum[i], sc)),
                               scale[(size_t)i * n_groups + g]);
    }
    min_sums(group, x->psum + (size_t)t * n_groups, n_groups, n, off);
    for (unsigned i = 0; i < n; i++)
        row_tile_end(w, rt, is_full ? 0.125f : 1, acc[i], off[i],
                     y + (t + i) * ldy + (size_t)rt * PLANE_ROWS);
}

#endif
