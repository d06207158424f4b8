/* A batch of tokens times shared segments, VNNI on 256-bit registers; w + 128 is what was looked
 * up, as in gemv_seg_avx512vnni.c. */
#include "kernels/x86/variants.h"

#include "kernels/x86/seg_avx2.h"

KERN_INLINE void step(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                      uint32_t g0, uint32_t n_groups, float *y, size_t ldy, unsigned n) {
    uint32_t n_all = n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * n_in + (size_t)g0 * PLANE_GROUP;
    const float *scale = x->scale + (size_t)t * n_all + g0;
    const int32_t *qsum = x->qsum + (size_t)t * n_all + g0;
    __m256 acc[8];
    for (unsigned i = 0; i < n; i++) acc[i] = _mm256_loadu_ps(y + i * ldy);
    for (uint32_t g = 0; g < n_groups; g++) {
        __m256i sum[8];
        for (unsigned i = 0; i < n; i++)
            sum[i] = _mm256_set1_epi32(-128 * qsum[(size_t)i * n_all + g]);
        for (unsigned k = 0; k < 8; k++) {
            __m256i w = load32b(tiles + (size_t)g * SEG_TILE_BYTES + 32 * k);
            for (unsigned i = 0; i < n; i++)
                sum[i] = _mm256_dpbusd_epi32(
                    sum[i], w, act_quad(q + (size_t)i * n_in + (size_t)g * PLANE_GROUP + 4 * k));
        }
        for (unsigned i = 0; i < n; i++) {
            __m256 s = _mm256_set1_ps(scale[(size_t)i * n_all + g]);
            acc[i] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[i]), acc[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) _mm256_storeu_ps(y + i * ldy, acc[i]);
}

static void step8(const int8_t *tiles, const struct kern_acts *x, uint32_t n_in, uint32_t t,
                  uint32_t g0, uint32_t n_groups, float *y, size_t ldy) {
    step(tiles, x, n_in, t, g0, n_groups, y, ldy, 8);
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
    tile_quads(column, book, len, bits, _mm256_set1_epi8(-128), ret);
}

KERN_INLINE void gemm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    static const struct seg_step steps[] = {{8, step8}, {4, step4}, {2, step2}, {1, step1}};
    seg_walk(look_up, steps, times_gains, w, x, n_tok, y, ldy, rt0, rt1, len, bits);
}

void kern_gemm_seg_avx512vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                              float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemm, w, x, n_tok, y, ldy, rt0, rt1);
}
