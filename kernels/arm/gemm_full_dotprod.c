/* A batch of tokens times both planes, sdot. Each pair of quads is joined to 8t + l - 8 once for 4
 * tokens, whose integer and float sums take 16 of the 32 registers. */
#include "kernels/arm/variants.h"

#include "kernels/arm/dotprod.h"
#include "kernels/gemm.h"

KERN_INLINE void tile_sums(const uint8_t *high, const uint8_t *low, const int8_t *q, size_t n_in,
                           unsigned n, struct i32x8 *s) {
    int8x16_t q0[4], q1[4];
    for (unsigned i = 0; i < n; i++) {
        q0[i] = vld1q_s8(q + i * n_in);
        q1[i] = vld1q_s8(q + i * n_in + 16);
        s[i] = i32x8_zero();
    }
#pragma GCC unroll 4
    for (unsigned v = 0; v < 4; v++) {
        uint8x16_t h0 = vld1q_u8(high + 32 * v), h4 = vld1q_u8(high + 32 * v + 16);
        uint8x16_t l0 = vld1q_u8(low + 32 * v), l4 = vld1q_u8(low + 32 * v + 16);
        int8x16_t lo0 = full_low_nibbles(h0, l0), lo4 = full_low_nibbles(h4, l4);
        int8x16_t hi0 = full_high_nibbles(h0, l0), hi4 = full_high_nibbles(h4, l4);
        for (unsigned i = 0; i < n; i++) {
            s[i].a = dot_lane(s[i].a, lo0, q0[i], v);
            s[i].b = dot_lane(s[i].b, lo4, q0[i], v);
        }
        for (unsigned i = 0; i < n; i++) {
            s[i].a = dot_lane(s[i].a, hi0, q1[i], v);
            s[i].b = dot_lane(s[i].b, hi4, q1[i], v);
        }
    }
}

KERN_INLINE void step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, uint32_t rt, unsigned n) {
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
        tile_sums(w->high + at, w->low + at, q + (size_t)g * PLANE_GROUP, w->n_in, n, sum);
        struct i32x8 sc = scale_codes(group + (size_t)g * PLANE_SCALE_BYTES);
        for (unsigned i = 0; i < n; i++)
            acc[i] = f32x8_fma(acc[i], f32x8_of(i32x8_mul(sum[i], sc)),
                               scale[(size_t)i * n_groups + g]);
    }
    min_sums(group, x->psum + (size_t)t * n_groups, n_groups, n, off);
    for (unsigned i = 0; i < n; i++)
        row_tile_end(w, rt, 0.125f, acc[i], off[i], y + (t + i) * ldy + (size_t)rt * PLANE_ROWS);
}

static void step1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 1);
}

static void step2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 2);
}

static void step4(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 4);
}

void kern_gemm_full_dotprod(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                            float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{4, step4, NULL}, {2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, 2 * PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
