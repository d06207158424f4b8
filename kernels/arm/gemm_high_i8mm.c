/* A batch of tokens times the high plane, smmla. A tile is zipped and unpacked once for 4 tokens,
 * whose integer and float sums take 16 of the 32 registers; for 8 the spills cost what is saved. */
#include "kernels/arm/variants.h"

#include "kernels/arm/mul_i8mm.h"
#include "kernels/gemm.h"

static void step1(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 1, 0);
}

static void step2(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 2, 0);
}

static void step4(const struct kern_planes *w, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy, uint32_t rt) {
    mul_step(w, x, t, y, ldy, rt, 4, 0);
}

void kern_gemm_high_i8mm(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    static const struct gemm_step steps[] = {{4, step4, NULL}, {2, step2, NULL}, {1, step1, NULL}};
    gemm_walk(steps, w, x, n_tok, y, ldy, rt0, rt1, PLANE_TILE_BYTES + PLANE_SCALE_BYTES);
}
