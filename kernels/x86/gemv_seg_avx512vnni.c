/* One token times shared segments, VNNI on 256-bit registers. Its dot product wants one side
 * unsigned: that is w + 128, and 128 * sum of q is taken off. */
#include "kernels/x86/variants.h"

#include "kernels/x86/seg_avx2.h"

KERN_INLINE __m256i add_quad(__m256i isum, __m256i w, const int8_t *q) {
    return _mm256_dpbusd_epi32(isum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), act_quad(q));
}

KERN_INLINE void gemv(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *column = w->index + seg_column(w->n_in, len, bits, rt0, 0);
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        __m256 acc = _mm256_setzero_ps();
        for (uint32_t g = 0; g < n_groups; g++) {
            const int8_t *q = x->q + (size_t)g * PLANE_GROUP;
            __m256i isum = _mm256_set1_epi32(-128 * x->qsum[g]);
#pragma GCC unroll 8
            for (unsigned i = 0; i < PLANE_GROUP; i += len) {
                __m256i v[2];
                column_quads(column, w->book, len, bits, v);
                isum = add_quad(isum, v[0], q + i);
                if (len == 8) isum = add_quad(isum, v[1], q + i + 4);
                column += bits;
            }
            acc = _mm256_fmadd_ps(_mm256_set1_ps(x->scale[g]), _mm256_cvtepi32_ps(isum), acc);
        }
        _mm256_storeu_ps(y + (size_t)rt * PLANE_ROWS, _mm256_mul_ps(row_gains(w, rt), acc));
    }
}

void kern_gemv_seg_avx512vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                              float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}
