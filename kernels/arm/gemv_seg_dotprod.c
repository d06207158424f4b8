/* One token times shared segments, sdot. */
#include "kernels/arm/variants.h"

#include "kernels/arm/dotprod.h"
#include "kernels/arm/seg_neon.h"

KERN_INLINE struct i32x8 tile_sum(const uint8_t *column, const int8_t *book, const int8_t *q,
                                  unsigned len, unsigned bits) {
    int8x16_t q0 = vld1q_s8(q), q1 = vld1q_s8(q + 16);
    struct i32x8 s = i32x8_zero();
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k += len / 4, column += bits) {
        struct quad v[2];
        column_quads(column, book, len, bits, v);
        for (unsigned i = 0; i < len / 4; i++) {
            s.a = dot_lane(s.a, v[i].rows0, k < 4 ? q0 : q1, (k + i) % 4);
            s.b = dot_lane(s.b, v[i].rows4, k < 4 ? q0 : q1, (k + i) % 4);
        }
    }
    return s;
}

KERN_INLINE void gemv(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *column = w->index + seg_column(w->n_in, len, bits, rt0, 0);
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        struct f32x8 acc = f32x8_zero();
        for (uint32_t g = 0; g < n_groups; g++, column += PLANE_GROUP / len * bits) {
            struct i32x8 isum = tile_sum(column, w->book, x->q + (size_t)g * PLANE_GROUP, len,
                                         bits);
            acc = f32x8_fma(acc, f32x8_of(isum), x->scale[g]);
        }
        acc = times_gains(w->gains + (size_t)rt * SEG_GAIN_BYTES, acc);
        store_sums(y + (size_t)rt * PLANE_ROWS, acc);
    }
}

void kern_gemv_seg_dotprod(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                           float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}
