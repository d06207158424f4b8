/* One or two row tiles times a few tokens, VNNI on 256-bit registers: what both batched products
 * are made of. A pair of quads is unpacked once and meets all tokens: to t, or to u = 8t + l, and 8
 * q is then taken from every sum of u q. */
#ifndef EBB_KERNELS_X86_MUL_VNNI_H
#define EBB_KERNELS_X86_MUL_VNNI_H

#include "kernels/x86/vnni.h"

/* r row tiles, 1 or 2, times n tokens, 1, 2, 4 or 8; is_full: both planes. Two row tiles share what
 * is read of the activations. */
KERN_INLINE void mul_step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t,
                          float *y, size_t ldy, uint32_t rt, unsigned r, unsigned n, int is_full) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt * n_groups * PLANE_TILE_BYTES;
    const uint8_t *low = is_full ? w->low + (size_t)rt * n_groups * PLANE_TILE_BYTES : NULL;
    const uint8_t *group = w->groups + (size_t)rt * n_groups * PLANE_SCALE_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    const int32_t *qsum = x->qsum + (size_t)t * n_groups;
    __m256 acc[2][8], off[8];
    for (unsigned j = 0; j < r; j++)
        for (unsigned i = 0; i < n; i++) acc[j][i] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < n_groups; g++) {
        const int8_t *qg = q + (size_t)g * PLANE_GROUP;
        if (r == 2) {
            ask_pair_codes(high, n_groups, g);
            if (is_full) ask_pair_codes(low, n_groups, g);
            ask_pair_scales(group, n_groups, g);
        } else if (n <= FEW_TOKENS) {
            ask_codes(high + (size_t)g * PLANE_TILE_BYTES, AHEAD_FEW);
            if (is_full) ask_codes(low + (size_t)g * PLANE_TILE_BYTES, AHEAD_FEW);
            ask_scales(group + (size_t)g * PLANE_SCALE_BYTES, AHEAD_FEW);
        }
        __m256i sum[2][8], lo[2], hi[2];
        for (unsigned j = 0; j < r; j++)
            for (unsigned i = 0; i < n; i++) sum[j][i] = _mm256_setzero_si256();
        for (unsigned v = 0; v < 4; v++) {
            for (unsigned j = 0; j < r; j++) {
                size_t at = ((size_t)j * n_groups + g) * PLANE_TILE_BYTES + 32 * v;
                __m256i h = load32b(high + at);
                lo[j] = is_full ? full_low_nibbles(h, load32b(low + at)) : low_nibbles(h);
                hi[j] = is_full ? full_high_nibbles(h, load32b(low + at)) : high_nibbles(h);
            }
            for (unsigned i = 0; i < n; i++) {
                const int8_t *qv = qg + (size_t)i * w->n_in + 4 * v;
                __m256i q0 = act_quad(qv), q1 = act_quad(qv + 16);
                for (unsigned j = 0; j < r; j++) {
                    sum[j][i] = dot_quad(sum[j][i], lo[j], q0);
                    sum[j][i] = dot_quad(sum[j][i], hi[j], q1);
                }
            }
        }
        for (unsigned j = 0; j < r; j++) {
            size_t tile = (size_t)j * n_groups + g;
            __m256i sc = scale_codes(group + tile * PLANE_SCALE_BYTES);
            for (unsigned i = 0; i < n; i++) {
                __m256i isum = sum[j][i];
                if (is_full) {
                    __m256i qs = _mm256_set1_epi32(qsum[(size_t)i * n_groups + g]);
                    isum = _mm256_sub_epi32(isum, _mm256_slli_epi32(qs, 3));
                }
                __m256 scaled = _mm256_cvtepi32_ps(_mm256_mullo_epi32(isum, sc));
                __m256 s = _mm256_set1_ps(scale[(size_t)i * n_groups + g]);
                acc[j][i] = _mm256_fmadd_ps(s, scaled, acc[j][i]);
            }
        }
    }
    for (unsigned j = 0; j < r; j++) {
        const uint8_t *rows = w->rows + (size_t)(rt + j) * PLANE_ROW_BYTES;
        min_sums(group + (size_t)j * n_groups * PLANE_SCALE_BYTES, x->psum + (size_t)t * n_groups,
                 n_groups, n, off);
        __m256 d = rows_scale(rows);
        if (is_full) d = _mm256_mul_ps(d, _mm256_set1_ps(0.125f));
        for (unsigned i = 0; i < n; i++)
            _mm256_storeu_ps(y + (t + i) * ldy + (size_t)(rt + j) * PLANE_ROWS,
                             row_tile_end(d, rows_min(rows), acc[j][i], off[i]));
    }
}

#endif
