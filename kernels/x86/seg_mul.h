/* Products with shared segments, written once for AVX2 and VNNI, which differ in how a quad's
 * products are added. */
#ifndef EBB_KERNELS_X86_SEG_MUL_H
#define EBB_KERNELS_X86_SEG_MUL_H

#include "kernels/x86/seg_avx2.h"

/* sum + what a quad (w) gives with four activations, repeated (q), for each row; KERN_INLINE. The
 * quad may be read as w - bias, then bias * (sum of q) is where sum begins. */
typedef __m256i add_quad_fn(__m256i sum, __m256i w, __m256i q);

struct seg_isa {
    add_quad_fn *add;
    int32_t bias;
};

/* The AVX2 way. A pair sum of |w| * (q with the sign of w) fits int16: 2 * 127 * 121 < 2^15; a
 * second one beside it would not, so each is widened at once. */
KERN_INLINE __m256i add_quad_avx2(__m256i sum, __m256i w, __m256i q) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

KERN_INLINE __m256i sum_begin(struct seg_isa isa, const int32_t *qsum) {
    return isa.bias ? _mm256_set1_epi32(isa.bias * *qsum) : _mm256_setzero_si256();
}

/* Up to n tokens at once, without a detour through memory; n is 1, 2 or 4. Where n_tok is less,
 * the last token is computed again. */
KERN_INLINE void seg_few(struct seg_isa isa, const struct kern_seg *w, const struct kern_acts *x,
                         uint32_t n_tok, float *y, size_t ldy, uint32_t rt0, uint32_t rt1,
                         unsigned len, unsigned bits, unsigned n) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *column = w->index + seg_column(w->n_in, len, bits, rt0, 0);
    size_t at[4];
    for (unsigned t = 0; t < n; t++) at[t] = t < n_tok ? t : n_tok - 1;
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        __m256 acc[4];
        for (unsigned t = 0; t < n; t++) acc[t] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < n_groups; g++) {
            const int8_t *q[4];
            __m256i sum[4];
            for (unsigned t = 0; t < n; t++) {
                q[t] = x->q + at[t] * w->n_in + (size_t)g * PLANE_GROUP;
                sum[t] = sum_begin(isa, x->qsum + at[t] * n_groups + g);
            }
#pragma GCC unroll 8
            for (unsigned i = 0; i < PLANE_GROUP; i += len, column += bits) {
                __m256i v[2];
                column_quads(column, w->book, len, bits, v);
                for (unsigned k = 0; k < len / 4; k++)
                    for (unsigned t = 0; t < n; t++)
                        sum[t] = isa.add(sum[t], v[k], act_quad(q[t] + i + 4 * k));
            }
            for (unsigned t = 0; t < n; t++) {
                __m256 s = _mm256_set1_ps(x->scale[at[t] * n_groups + g]);
                acc[t] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[t]), acc[t]);
            }
        }
        __m256 gains = _mm256_cvtph_ps(load16b(w->gains + (size_t)rt * SEG_GAIN_BYTES));
        for (unsigned t = 0; t < n; t++)
            _mm256_storeu_ps(y + at[t] * ldy + (size_t)rt * PLANE_ROWS,
                             _mm256_mul_ps(gains, acc[t]));
    }
}

/* A seg_step_fn for n <= 8 tokens. */
KERN_INLINE void seg_step(struct seg_isa isa, const struct seg_chunk *c, const struct kern_acts *x,
                          uint32_t t, float *y, size_t ldy, unsigned n) {
    uint32_t n_in = c->n_in, n_all = n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * n_in + (size_t)c->g0 * PLANE_GROUP;
    const float *scale = x->scale + (size_t)t * n_all + c->g0;
    const int32_t *qsum = x->qsum + (size_t)t * n_all + c->g0;
    __m256 acc[8];
    for (unsigned i = 0; i < n; i++)
        acc[i] = c->g0 ? _mm256_loadu_ps(y + i * ldy) : _mm256_setzero_ps();
    for (uint32_t g = 0; g < c->n_groups; g++) {
        __m256i sum[8];
        for (unsigned i = 0; i < n; i++) sum[i] = sum_begin(isa, qsum + (size_t)i * n_all + g);
        for (unsigned k = 0; k < 8; k++) {
            __m256i w = load32b(c->tiles + (size_t)g * SEG_TILE_BYTES + 32 * k);
            const int8_t *qk = q + (size_t)g * PLANE_GROUP + 4 * k;
            for (unsigned i = 0; i < n; i++)
                sum[i] = isa.add(sum[i], w, act_quad(qk + (size_t)i * n_in));
        }
        for (unsigned i = 0; i < n; i++) {
            __m256 s = _mm256_set1_ps(scale[(size_t)i * n_all + g]);
            acc[i] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[i]), acc[i]);
        }
    }
    if (c->gains) {
        __m256 gains = _mm256_cvtph_ps(load16b(c->gains));
        for (unsigned i = 0; i < n; i++) acc[i] = _mm256_mul_ps(gains, acc[i]);
    }
    for (unsigned i = 0; i < n; i++) _mm256_storeu_ps(y + i * ldy, acc[i]);
}

#endif
