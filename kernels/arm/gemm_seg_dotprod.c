/* A batch of tokens times shared segments, sdot: what was looked up meets 4 tokens at once, whose
 * integer and float sums take 16 of the 32 registers. */
#include "kernels/arm/variants.h"

#include "kernels/arm/dotprod.h"
#include "kernels/arm/seg_neon.h"

KERN_INLINE void tile_sums(const int8_t *tile, const int8_t *q, size_t n_in, unsigned n,
                           struct i32x8 *s) {
    int8x16_t q0[4], q1[4];
    for (unsigned i = 0; i < n; i++) {
        q0[i] = vld1q_s8(q + i * n_in);
        q1[i] = vld1q_s8(q + i * n_in + 16);
        s[i] = i32x8_zero();
    }
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k++) {
        struct quad v = load_quad(tile + 32 * k);
        for (unsigned i = 0; i < n; i++) {
            s[i].a = dot_lane(s[i].a, v.rows0, k < 4 ? q0[i] : q1[i], k % 4);
            s[i].b = dot_lane(s[i].b, v.rows4, k < 4 ? q0[i] : q1[i], k % 4);
        }
    }
}

KERN_INLINE void step(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, unsigned n) {
    uint32_t n_in = c->n_in, n_all = n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * n_in + (size_t)c->g0 * PLANE_GROUP;
    const float *scale = x->scale + (size_t)t * n_all + c->g0;
    struct f32x8 acc[4];
    for (unsigned i = 0; i < n; i++) acc[i] = c->g0 ? load_sums(y + i * ldy) : f32x8_zero();
    for (uint32_t g = 0; g < c->n_groups; g++) {
        struct i32x8 sum[4];
        tile_sums(c->tiles + (size_t)g * SEG_TILE_BYTES, q + (size_t)g * PLANE_GROUP, n_in, n, sum);
        for (unsigned i = 0; i < n; i++)
            acc[i] = f32x8_fma(acc[i], f32x8_of(sum[i]), scale[(size_t)i * n_all + g]);
    }
    for (unsigned i = 0; i < n; i++) {
        if (c->gains) acc[i] = times_gains(c->gains, acc[i]);
        store_sums(y + i * ldy, acc[i]);
    }
}

static void step4(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 4);
}

static void step2(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 2);
}

static void step1(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 1);
}

KERN_INLINE void gemm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    static const struct seg_step steps[] = {{4, step4}, {2, step2}, {1, step1}};
    seg_walk(tile_quads, steps, w, x, n_tok, y, ldy, rt0, rt1, len, bits);
}

void kern_gemm_seg_dotprod(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                           float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemm, w, x, n_tok, y, ldy, rt0, rt1);
}
