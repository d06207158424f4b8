/* A batch of tokens times shared segments, AVX2. Sums as in gemv_seg_avx2.c, with the sign moved to
 * the activations, as |w| serves all tokens of a step. */
#include "kernels/x86/variants.h"

#include "kernels/x86/seg_avx2.h"

KERN_INLINE void step(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                      uint32_t g0, uint32_t n_groups, float *y, size_t ldy, unsigned n) {
    uint32_t n_all = n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * n_in + (size_t)g0 * PLANE_GROUP;
    const float *scale = x->scale + (size_t)t * n_all + g0;
    __m256 acc[4];
    for (unsigned i = 0; i < n; i++) acc[i] = _mm256_loadu_ps(y + i * ldy);
    for (uint32_t g = 0; g < n_groups; g++) {
        __m256i sum[4];
        for (unsigned i = 0; i < n; i++) sum[i] = _mm256_setzero_si256();
        for (unsigned k = 0; k < 8; k++) {
            __m256i w = load32b(tiles + (size_t)g * SEG_TILE_BYTES + 32 * k);
            __m256i size = _mm256_abs_epi8(w);
            for (unsigned i = 0; i < n; i++) {
                __m256i v = act_quad(q + (size_t)i * n_in + (size_t)g * PLANE_GROUP + 4 * k);
                __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(v, w));
                sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
        for (unsigned i = 0; i < n; i++) {
            __m256 s = _mm256_set1_ps(scale[(size_t)i * n_all + g]);
            acc[i] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[i]), acc[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) _mm256_storeu_ps(y + i * ldy, acc[i]);
}

static void step4(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                  uint32_t g0, uint32_t n_groups, float *y, size_t ldy) {
    step(tiles, x, n_in, t, g0, n_groups, y, ldy, 4);
}

static void step2(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                  uint32_t g0, uint32_t n_groups, float *y, size_t ldy) {
    step(tiles, x, n_in, t, g0, n_groups, y, ldy, 2);
}

static void step1(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                  uint32_t g0, uint32_t n_groups, float *y, size_t ldy) {
    step(tiles, x, n_in, t, g0, n_groups, y, ldy, 1);
}

KERN_INLINE void look_up(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                         int8_t *ret) {
    tile_quads(column, book, len, bits, _mm256_setzero_si256(), ret);
}

KERN_INLINE void gemm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    static const struct seg_step steps[] = {{4, step4}, {2, step2}, {1, step1}};
    seg_walk(look_up, steps, times_gains, w, x, n_tok, y, ldy, rt0, rt1, len, bits);
}

void kern_gemm_seg_avx2(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemm, w, x, n_tok, y, ldy, rt0, rt1);
}
