/* One token times both planes, VNNI on 256-bit registers: sum (8t + l - 8) q = sum u q - 8 sum q.
 */
#ifndef EBB_KERNELS_X86_GEMV_FULL_VNNI_H
#define EBB_KERNELS_X86_GEMV_FULL_VNNI_H

#include "kernels/x86/vnni.h"

/* sc * sum of one tile; qsum: the group's sum of q. */
KERN_INLINE __m256i tile_sum(const uint8_t *high, const uint8_t *low, const uint8_t *group,
                             const int8_t *q, int32_t qsum) {
    __m256i s0 = _mm256_set1_epi32(-8 * qsum), s1 = _mm256_setzero_si256();
    for (unsigned v = 0; v < 4; v++) {
        __m256i h = load32b(high + 32 * v), l = load32b(low + 32 * v);
        s0 = dot_quad(s0, full_low_nibbles(h, l), act_quad(q + 4 * v));
        s1 = dot_quad(s1, full_high_nibbles(h, l), act_quad(q + 4 * v + 16));
    }
    return _mm256_mullo_epi32(_mm256_add_epi32(s0, s1), scale_codes(group));
}

KERN_INLINE void gemv_full_vnni(const struct kern_planes *w, const struct kern_acts *x,
                                uint32_t n_tok, float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
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

#endif
