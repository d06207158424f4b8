/* One token times both planes, AVX2. Codes t and l are summed apart, each a whole group in int16:
 *   sum (8t + l - 8) q = 8 (sum t q - sum q) + sum l q.
 * Taking sum q from one half of a row's sum of t q cannot overflow it either: that half then is
 * a sum of 16 terms (t - 1) q and 16 terms -q, at most 16 * 14 * 121 + 16 * 121 = 29040. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

/* sc * sum of one tile; qsum: the group's sum of q. */
KERN_INLINE __m256i tile_sum(const uint8_t *high, const uint8_t *low, const uint8_t *group,
                             const int8_t *q, int32_t qsum) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i t0 = _mm256_blend_epi16(zero, _mm256_set1_epi32(-qsum), 0x55), t1 = zero;
    __m256i l0 = zero, l1 = zero;
    for (unsigned v = 0; v < 4; v++) {
        __m256i h = load32b(high + 32 * v), l = load32b(low + 32 * v);
        __m256i q0 = act_quad(q + 4 * v), q1 = act_quad(q + 4 * v + 16);
        t0 = _mm256_add_epi16(t0, _mm256_maddubs_epi16(low_nibbles(h), q0));
        t1 = _mm256_add_epi16(t1, _mm256_maddubs_epi16(high_nibbles(h), q1));
        l0 = _mm256_add_epi16(l0, _mm256_maddubs_epi16(low_nibbles(l), q0));
        l1 = _mm256_add_epi16(l1, _mm256_maddubs_epi16(high_nibbles(l), q1));
    }
    __m256i sc = scale_pairs(group);
    __m256i t = _mm256_madd_epi16(_mm256_add_epi16(t0, t1), sc);
    __m256i l = _mm256_madd_epi16(_mm256_add_epi16(l0, l1), sc);
    return _mm256_add_epi32(_mm256_slli_epi32(t, 3), l);
}

void kern_gemv_full_avx2(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)n_tok;
    (void)ldy;
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *low = w->low + (size_t)rt0 * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt0 * n_groups * PLANE_SCALE_BYTES;
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        __m256 acc = _mm256_setzero_ps(), off = acc;
        for (uint32_t g = 0; g < n_groups; g++) {
            ask_codes(high, AHEAD_ONE);
            ask_codes(low, AHEAD_ONE);
            ask_scales(group, AHEAD_ONE);
            __m256i scaled = tile_sum(high, low, group, x->q + (size_t)g * PLANE_GROUP, x->qsum[g]);
            acc = _mm256_fmadd_ps(_mm256_set1_ps(x->scale[g]), _mm256_cvtepi32_ps(scaled), acc);
            off = _mm256_fmadd_ps(_mm256_set1_ps(x->psum[g]), min_codes(group), off);
            high += PLANE_TILE_BYTES;
            low += PLANE_TILE_BYTES;
            group += PLANE_SCALE_BYTES;
        }
        const uint8_t *rows = w->rows + (size_t)rt * PLANE_ROW_BYTES;
        __m256 d = _mm256_mul_ps(rows_scale(rows), _mm256_set1_ps(0.125f));
        _mm256_storeu_ps(y + (size_t)rt * PLANE_ROWS, row_tile_end(d, rows_min(rows), acc, off));
    }
}
