/* Attention over an int8 or fp16 cache, NEON. What costs is to make floats of what is cached, so
 * that is done once for up to two query heads. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

enum { QUERIES = 2 }; /* 4 positions of 2 queries take 16 of the 32 registers */

/* `size` is the bytes of a cached element, here and below: 1 is int8, 2 is fp16. */
KERN_INLINE struct f32x8 load(const uint8_t *p, unsigned size) {
    if (size == 2) return (struct f32x8){load_f16(p), load_f16(p + 8)};
    int16x8_t v = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)));
    return (struct f32x8){vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))),
                          vcvtq_f32_s32(vmovl_s16(vget_high_s16(v)))};
}

/* Products of n_q queries with 4 keys. */
KERN_INLINE void dots4(const float *q, unsigned n_q, const uint8_t *const *k, unsigned size,
                       uint32_t head_dim, float32x4_t *ret) {
    struct f32x8 acc[QUERIES][4];
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned p = 0; p < 4; p++) acc[i][p] = f32x8_zero();
    for (uint32_t d = 0; d < head_dim; d += 8)
        for (unsigned p = 0; p < 4; p++) {
            struct f32x8 x = load(k[p] + d * size, size);
            for (unsigned i = 0; i < n_q; i++) {
                const float *y = q + i * head_dim + d;
                acc[i][p].a = vfmaq_f32(acc[i][p].a, x.a, vld1q_f32(y));
                acc[i][p].b = vfmaq_f32(acc[i][p].b, x.b, vld1q_f32(y + 4));
            }
        }
    for (unsigned i = 0; i < n_q; i++) {
        float32x4_t s[4];
        for (unsigned p = 0; p < 4; p++) s[p] = vaddq_f32(acc[i][p].a, acc[i][p].b);
        ret[i] = vpaddq_f32(vpaddq_f32(s[0], s[1]), vpaddq_f32(s[2], s[3]));
    }
}

KERN_INLINE void scores(const float *q, unsigned n_q, const uint8_t *k, const float *ks,
                        unsigned size, uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                        size_t ldr) {
    size_t step = (size_t)head_dim * size;
    float32x4_t s[QUERIES];
    uint32_t p = 0;
    for (; p + 4 <= n_pos; p += 4) {
        const uint8_t *row = k + p * step;
        const uint8_t *const rows[] = {row, row + step, row + 2 * step, row + 3 * step};
        dots4(q, n_q, rows, size, head_dim, s);
        float32x4_t x = vdupq_n_f32(scale);
        if (size == 1) x = vmulq_f32(x, vld1q_f32(ks + p));
        for (unsigned i = 0; i < n_q; i++) vst1q_f32(ret + i * ldr + p, vmulq_f32(x, s[i]));
    }
    for (; p < n_pos; p++) { /* the last ones, one by one, in the same order of sums */
        const uint8_t *row = k + p * step;
        const uint8_t *const rows[] = {row, row, row, row};
        dots4(q, n_q, rows, size, head_dim, s);
        for (unsigned i = 0; i < n_q; i++)
            ret[i * ldr + p] = scale * (size == 1 ? ks[p] : 1) * vgetq_lane_f32(s[i], 0);
    }
}

KERN_INLINE void scores_all(const float *q, uint32_t n_q, const uint8_t *k, const float *ks,
                            unsigned size, uint32_t n_pos, uint32_t head_dim, float scale,
                            float *ret, size_t ldr) {
    for (; n_q >= 2; n_q -= 2) {
        scores(q, 2, k, ks, size, n_pos, head_dim, scale, ret, ldr);
        q += 2 * head_dim;
        ret += 2 * ldr;
    }
    if (n_q == 1) scores(q, 1, k, ks, size, n_pos, head_dim, scale, ret, ldr);
}

void kern_attn_scores_neon(const float *q, uint32_t n_q, const void *k, const float *ks,
                           uint32_t n_pos, uint32_t head_dim, float scale, float *ret, size_t ldr) {
    scores_all(q, n_q, k, ks, 1, n_pos, head_dim, scale, ret, ldr);
}

void kern_attn_scores_f16_neon(const float *q, uint32_t n_q, const void *k, const float *ks,
                               uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                               size_t ldr) {
    scores_all(q, n_q, k, ks, 2, n_pos, head_dim, scale, ret, ldr);
}

float kern_attn_exp_neon(float *s, uint32_t n) {
    float32x4_t max = vdupq_n_f32(-INFINITY), sum = vdupq_n_f32(0);
    uint32_t n4 = n & ~3u;
    float32x4_t last = load_last(s + n4, n - n4, -INFINITY); /* exp(-inf) is 0 */
    for (uint32_t p = 0; p < n4; p += 4) max = vmaxq_f32(max, vld1q_f32(s + p));
    const float32x4_t m = vdupq_n_f32(vmaxvq_f32(vmaxq_f32(max, last)));
    for (uint32_t p = 0; p < n4; p += 4) {
        float32x4_t e = exp4(vsubq_f32(vld1q_f32(s + p), m));
        vst1q_f32(s + p, e);
        sum = vaddq_f32(sum, e);
    }
    last = exp4(vsubq_f32(last, m));
    store_last(s + n4, n - n4, last);
    return vaddvq_f32(vaddq_f32(sum, last));
}

/* Elements [d, d + 8n) of the sums; ws[i * KERN_ATTN_BLOCK + p]: weights times scales. */
KERN_INLINE void mix(const float *ws, unsigned n_q, const uint8_t *v, unsigned size, uint32_t n_pos,
                     uint32_t head_dim, unsigned n, float *ret) {
    struct f32x8 acc[QUERIES][4];
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned j = 0; j < n; j++) {
            const float *r = ret + i * head_dim + 8 * j;
            acc[i][j] = (struct f32x8){vld1q_f32(r), vld1q_f32(r + 4)};
        }
    for (uint32_t p = 0; p < n_pos; p++) {
        const uint8_t *row = v + (size_t)p * head_dim * size;
        for (unsigned j = 0; j < n; j++) {
            struct f32x8 x = load(row + 8 * j * size, size);
            for (unsigned i = 0; i < n_q; i++)
                acc[i][j] = f32x8_fma(acc[i][j], x, ws[i * KERN_ATTN_BLOCK + p]);
        }
    }
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned j = 0; j < n; j++) {
            float *r = ret + i * head_dim + 8 * j;
            vst1q_f32(r, acc[i][j].a);
            vst1q_f32(r + 4, acc[i][j].b);
        }
}

KERN_INLINE void mix_some(const float *w, size_t ldw, unsigned n_q, const uint8_t *v,
                          const float *vs, unsigned size, uint32_t n_pos, uint32_t head_dim,
                          float *ret) {
    float ws[QUERIES * KERN_ATTN_BLOCK];
    for (unsigned i = 0; i < n_q; i++)
        for (uint32_t p = 0; p < n_pos; p++)
            ws[i * KERN_ATTN_BLOCK + p] = w[i * ldw + p] * (size == 1 ? vs[p] : 1);
    uint32_t d = 0;
    for (; d + 32 <= head_dim; d += 32)
        mix(ws, n_q, v + d * size, size, n_pos, head_dim, 4, ret + d);
    for (; d < head_dim; d += 8) mix(ws, n_q, v + d * size, size, n_pos, head_dim, 1, ret + d);
}

KERN_INLINE void mix_all(const float *w, size_t ldw, uint32_t n_q, const uint8_t *v,
                         const float *vs, unsigned size, uint32_t n_pos, uint32_t head_dim,
                         float *ret) {
    for (; n_q >= 2; n_q -= 2) {
        mix_some(w, ldw, 2, v, vs, size, n_pos, head_dim, ret);
        w += 2 * ldw;
        ret += 2 * head_dim;
    }
    if (n_q == 1) mix_some(w, ldw, 1, v, vs, size, n_pos, head_dim, ret);
}

void kern_attn_mix_neon(const float *w, size_t ldw, uint32_t n_q, const void *v, const float *vs,
                        uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix_all(w, ldw, n_q, v, vs, 1, n_pos, head_dim, ret);
}

void kern_attn_mix_f16_neon(const float *w, size_t ldw, uint32_t n_q, const void *v,
                            const float *vs, uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix_all(w, ldw, n_q, v, vs, 2, n_pos, head_dim, ret);
}
