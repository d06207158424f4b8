/* A batch of tokens times both planes, AVX2. A pair of quads is unpacked to u = 8t + l once and
 * meets all tokens of the step. u is at most 135, so a pair sum just fits int16 (2 * 135 * 121 =
 * 32670) and is multiplied by the scale code while it is widened. */
#include "kernels/x86/variants.h"

#include "kernels/gemm.h"
#include "kernels/x86/avx2.h"

KERN_INLINE void step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, uint32_t rt, unsigned n) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt * n_groups * PLANE_TILE_BYTES;
    const uint8_t *low = w->low + (size_t)rt * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt * n_groups * PLANE_SCALE_BYTES;
    const uint8_t *rows = w->rows + (size_t)rt * PLANE_ROW_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    const int32_t *qsum = x->qsum + (size_t)t * n_groups;
    __m256 acc[4], off[4];
    for (unsigned i = 0; i < n; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < n_groups; g++) {
        const int8_t *qg = q + (size_t)g * PLANE_GROUP;
        if (n <= FEW_TOKENS) {
            ask_codes(high + (size_t)g * PLANE_TILE_BYTES, AHEAD_FEW);
            ask_codes(low + (size_t)g * PLANE_TILE_BYTES, AHEAD_FEW);
            ask_scales(group + (size_t)g * PLANE_SCALE_BYTES, AHEAD_FEW);
        }
        __m256i sc = scale_pairs(group + (size_t)g * PLANE_SCALE_BYTES);
        __m256i sc_half8 = _mm256_slli_epi16(sc, 2); /* 8 sc, in two halves */
        __m256i sum[4];
        for (unsigned i = 0; i < n; i++) { /* -sc * 8 * qsum; |qsum| <= 32 * 121 fits */
            __m256i qs = _mm256_set1_epi16((int16_t)-qsum[(size_t)i * n_groups + g]);
            sum[i] = _mm256_madd_epi16(qs, sc_half8);
        }
        for (unsigned v = 0; v < 4; v++) {
            size_t at = (size_t)g * PLANE_TILE_BYTES + 32 * v;
            __m256i h = load32b(high + at), l = load32b(low + at);
            __m256i lo = full_low_nibbles(h, l), hi = full_high_nibbles(h, l);
            for (unsigned i = 0; i < n; i++) {
                const int8_t *qv = qg + (size_t)i * w->n_in + 4 * v;
                __m256i p0 = _mm256_maddubs_epi16(lo, act_quad(qv));
                __m256i p1 = _mm256_maddubs_epi16(hi, act_quad(qv + 16));
                sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(p0, sc));
                sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(p1, sc));
            }
        }
        for (unsigned i = 0; i < n; i++) {
            __m256 s = _mm256_set1_ps(scale[(size_t)i * n_groups + g]);
            acc[i] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[i]), acc[i]);
        }
    }
    min_sums(group, x->psum + (size_t)t * n_groups, n_groups, n, off);
    __m256 d = _mm256_mul_ps(rows_scale(rows), _mm256_set1_ps(0.125f));
    for (unsigned i = 0; i < n; i++)
        _mm256_storeu_ps(y + (t + i) * ldy + (size_t)rt * PLANE_ROWS,
                         row_tile_end(d, rows_min(rows), acc[i], off[i]));
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

void kern_gemm_full_avx2(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{4, step4, NULL}, {2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, 2 * PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
