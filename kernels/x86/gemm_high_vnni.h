/* A batch of tokens times the high plane, VNNI on 256-bit registers. A pair of quads is unpacked
 * once and meets all tokens of the step. With the 16 registers of AVX-VNNI 8 tokens' sums are
 * spilled, and still are 12 % ahead of 4 at a time (Zen 4, both held to 16 registers: 132 against
 * 118 GMAC/s; gemm_full 102 against 92).
 *
 * Two row tiles at a time read the activations once: against one at a time 4 requests together
 * make 1.05 times the tokens/s, 8 of them 1.12 times, and prompts 1.04 times (Zen 4, 1 thread). */
#ifndef EBB_KERNELS_X86_GEMM_HIGH_VNNI_H
#define EBB_KERNELS_X86_GEMM_HIGH_VNNI_H

#include "kernels/gemm.h"
#include "kernels/x86/vnni.h"

/* r row tiles, 1 or 2, times n tokens. Two share what is read of the activations. */
KERN_INLINE void step(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, uint32_t rt, unsigned r, unsigned n) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const uint8_t *high = w->high + (size_t)rt * n_groups * PLANE_TILE_BYTES;
    const uint8_t *group = w->groups + (size_t)rt * n_groups * PLANE_SCALE_BYTES;
    const int8_t *q = x->q + (size_t)t * w->n_in;
    const float *scale = x->scale + (size_t)t * n_groups;
    __m256 acc[2][8], off[8];
    for (unsigned j = 0; j < r; j++)
        for (unsigned i = 0; i < n; i++) acc[j][i] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < n_groups; g++) {
        const int8_t *qg = q + (size_t)g * PLANE_GROUP;
        if (r == 2) {
            ask_pair_codes(high, n_groups, g);
            ask_pair_scales(group, n_groups, g);
        }
        __m256i sum[2][8], lo[2], hi[2];
        for (unsigned j = 0; j < r; j++)
            for (unsigned i = 0; i < n; i++) sum[j][i] = _mm256_setzero_si256();
        for (unsigned v = 0; v < 4; v++) {
            for (unsigned j = 0; j < r; j++) {
                size_t tile = (size_t)j * n_groups + g;
                __m256i codes = load32b(high + tile * PLANE_TILE_BYTES + 32 * v);
                lo[j] = low_nibbles(codes);
                hi[j] = high_nibbles(codes);
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
                __m256 scaled = _mm256_cvtepi32_ps(_mm256_mullo_epi32(sum[j][i], sc));
                __m256 s = _mm256_set1_ps(scale[(size_t)i * n_groups + g]);
                acc[j][i] = _mm256_fmadd_ps(s, scaled, acc[j][i]);
            }
        }
    }
    for (unsigned j = 0; j < r; j++) {
        const uint8_t *rows = w->rows + (size_t)(rt + j) * PLANE_ROW_BYTES;
        min_sums(group + (size_t)j * n_groups * PLANE_SCALE_BYTES, x->psum + (size_t)t * n_groups,
                 n_groups, n, off);
        for (unsigned i = 0; i < n; i++)
            _mm256_storeu_ps(y + (t + i) * ldy + (size_t)(rt + j) * PLANE_ROWS,
                             row_tile_end(rows_scale(rows), rows_min(rows), acc[j][i], off[i]));
    }
}

static void step1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 1, 1);
}

static void pair1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 2, 1);
}

static void step2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 1, 2);
}

static void pair2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 2, 2);
}

static void step4(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 1, 4);
}

static void pair4(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 2, 4);
}

static void step8(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 1, 8);
}

static void pair8(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    step(w, x, t, y, ldy, rt, 2, 8);
}

KERN_INLINE void gemm_high_vnni(const struct kern_planes *w, const struct kern_acts *x,
                                uint32_t n_tok, float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{8, step8, HAS_32_REGISTERS ? pair8 : NULL},
                                             {4, step4, pair4},
                                             {2, step2, pair2},
                                             {1, step1, pair1}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}

#endif
