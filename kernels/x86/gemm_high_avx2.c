/* A batch of tokens times the high plane, AVX2. A pair of quads is unpacked once and meets all
 * tokens of the step, whose int16 sums (see gemv_high_avx2.c) and float sums stay in registers. */
#include "kernels/x86/variants.h"

#include "kernels/gemm.h"
#include "kernels/x86/avx2.h"

KERN_INLINE void step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, uint32_t rt, unsigned n) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt * n_groups * PLANE_SCALE_BYTES;
    const uint8_t *rows = w->rows + (size_t)rt * PLANE_ROW_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    __m256 acc[4], off[4];
    for (unsigned i = 0; i < n; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < n_groups; g++) {
        const int8_t *qg = q + (size_t)g * PLANE_GROUP;
        if (n <= FEW_TOKENS) {
            ask_codes(high + (size_t)g * PLANE_TILE_BYTES, AHEAD_FEW);
            ask_scales(group + (size_t)g * PLANE_SCALE_BYTES, AHEAD_FEW);
        }
        __m256i sum[4];
        for (unsigned i = 0; i < n; i++) sum[i] = _mm256_setzero_si256();
        for (unsigned v = 0; v < 4; v++) {
            __m256i codes = load32b(high + (size_t)g * PLANE_TILE_BYTES + 32 * v);
            __m256i lo = low_nibbles(codes), hi = high_nibbles(codes);
            for (unsigned i = 0; i < n; i++) {
                const int8_t *qv = qg + (size_t)i * w->n_in + 4 * v;
                sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(lo, act_quad(qv)));
                sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(hi, act_quad(qv + 16)));
            }
        }
        __m256i sc = scale_pairs(group + (size_t)g * PLANE_SCALE_BYTES);
        for (unsigned i = 0; i < n; i++) {
            __m256 scaled = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[i], sc));
            __m256 s = _mm256_set1_ps(scale[(size_t)i * n_groups + g]);
            acc[i] = _mm256_fmadd_ps(s, scaled, acc[i]);
        }
    }
    min_sums(group, x->psum + (size_t)t * n_groups, n_groups, n, off);
    for (unsigned i = 0; i < n; i++)
        _mm256_storeu_ps(y + (t + i) * ldy + (size_t)rt * PLANE_ROWS,
                         row_tile_end(rows_scale(rows), rows_min(rows), acc[i], off[i]));
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

void kern_gemm_high_avx2(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{4, step4, NULL}, {2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
