/* One token times shared segments, AVX2. A pair sum of |q| * (w with the sign of q) fits int16:
 * 2 * 121 * 127 < 2^15; a second one would not, so each is widened at once. */
#include "kernels/x86/variants.h"

#include "kernels/x86/seg_avx2.h"

KERN_INLINE __m256i quad_sum(__m256i w, const int8_t *q) {
    __m256i v = act_quad(q);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(w, v));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
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
            __m256i isum = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (unsigned i = 0; i < PLANE_GROUP; i += len) {
                __m256i v[2];
                column_quads(column, w->book, len, bits, v);
                isum = _mm256_add_epi32(isum, quad_sum(v[0], q + i));
                if (len == 8) isum = _mm256_add_epi32(isum, quad_sum(v[1], q + i + 4));
                column += bits;
            }
            acc = _mm256_fmadd_ps(_mm256_set1_ps(x->scale[g]), _mm256_cvtepi32_ps(isum), acc);
        }
        _mm256_storeu_ps(y + (size_t)rt * PLANE_ROWS, _mm256_mul_ps(row_gains(w, rt), acc));
    }
}

void kern_gemv_seg_avx2(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}
