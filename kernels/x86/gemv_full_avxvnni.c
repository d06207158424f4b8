/* One token times both planes, AVX-VNNI. */
#include "kernels/x86/variants.h"

#include "kernels/x86/gemv_full_vnni.h"

void kern_gemv_full_avxvnni(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                            float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    gemv_full_vnni(w, x, n_tok, y, ldy, rt0, rt1);
}
