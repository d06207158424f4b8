/* One token times the high plane, NEON without dot instructions. */
#include "kernels/arm/variants.h"

#include "kernels/arm/mul_neon.h"

void kern_gemv_high_neon(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)n_tok;
    for (uint32_t rt = rt0; rt < rt1; rt++) mul_step(w, x, 0, y, ldy, rt, 1, 0);
}
