/* One token times the high plane, AVX2. A code is 0..15 and an activation -121..121, so the pair
 * sums of a whole group fit int16 (8 quads * 2 * 15 * 121 = 29040) and are widened once a tile. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

KERN_INLINE __m256i tile_sum(const uint8_t *high, const int8_t *q) {
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
    for (unsigned v = 0; v < 4; v++) {
        __m256i codes = load32b(high + 32 * v);
        __m256i p0 = _mm256_maddubs_epi16(low_nibbles(codes), act_quad(q + 4 * v));
        __m256i p1 = _mm256_maddubs_epi16(high_nibbles(codes), act_quad(q + 4 * v + 16));
        s0 = _mm256_add_epi16(s0, p0);
        s1 = _mm256_add_epi16(s1, p1);
    }
    return _mm256_add_epi16(s0, s1);
}

void kern_gemv_high_avx2(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt0 * n_groups * PLANE_SCALE_BYTES;
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        __m256 acc = _mm256_setzero_ps(), off = acc;
        for (uint32_t g = 0; g < n_groups; g++) {
            ask_codes(high, AHEAD_ONE);
            ask_scales(group, AHEAD_ONE);
            __m256i isum = tile_sum(high, x->q + (size_t)g * PLANE_GROUP);
            __m256i scaled = _mm256_madd_epi16(isum, scale_pairs(group)); /* sc * sum */
            acc = _mm256_fmadd_ps(_mm256_set1_ps(x->scale[g]), _mm256_cvtepi32_ps(scaled), acc);
            off = _mm256_fmadd_ps(_mm256_set1_ps(x->psum[g]), min_codes(group), off);
            high += PLANE_TILE_BYTES;
            group += PLANE_SCALE_BYTES;
        }
        const uint8_t *rows = w->rows + (size_t)rt * PLANE_ROW_BYTES;
        _mm256_storeu_ps(y + (size_t)rt * PLANE_ROWS,
                         row_tile_end(rows_scale(rows), rows_min(rows), acc, off));
    }
}
