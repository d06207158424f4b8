/* A batch of tokens times both planes, smmla. To zip and join the planes of a tile is as much work
 * as to multiply it with 8 tokens, so they are not split though their sums are spilled. */
#include "kernels/arm/variants.h"

#include "kernels/arm/mul_i8mm.h"
#include "kernels/gemm.h"

static void step1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 1, 1);
}

static void step2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 2, 1);
}

static void step4(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 4, 1);
}

static void step8(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 8, 1);
}

void kern_gemm_full_i8mm(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {
        {8, step8, NULL}, {4, step4, NULL}, {2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, 2 * PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
