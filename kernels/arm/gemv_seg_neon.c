/* One token times shared segments, NEON without dot instructions. */
#include "kernels/arm/variants.h"

#include "kernels/arm/seg_mul_neon.h"

KERN_INLINE void gemv(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *column = w->index + seg_column(w->n_in, len, bits, rt0, 0);
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        struct f32x8 acc = f32x8_zero();
        for (uint32_t g = 0; g < n_groups; g++) {
            int32x4_t s[4];
            for (unsigned k = 0; k < 4; k++) s[k] = vdupq_n_s32(0);
            for (unsigned i = 0; i < PLANE_GROUP; i += 8, column += 8 / len * bits) {
                struct quad v[2];
                column_quads(column, w->book, len, bits, v);
                if (len == 4) column_quads(column + bits, w->book, len, bits, v + 1);
                add_pair(s, v, x->q + (size_t)g * PLANE_GROUP + i);
            }
            struct i32x8 isum = {vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])};
            acc = f32x8_fma(acc, f32x8_of(isum), x->scale[g]);
        }
        acc = times_gains(w->gains + (size_t)rt * SEG_GAIN_BYTES, acc);
        store_sums(y + (size_t)rt * PLANE_ROWS, acc);
    }
}

void kern_gemv_seg_neon(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}
