/* A batch of tokens times both planes, NEON without dot instructions: a tile is unpacked once for
 * two tokens, whose sums fill the registers. */
#include "kernels/arm/variants.h"

#include "kernels/arm/mul_neon.h"
#include "kernels/gemm.h"

static void step1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 1, 1);
}

static void step2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 2, 1);
}

void kern_gemm_full_neon(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, 2 * PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
