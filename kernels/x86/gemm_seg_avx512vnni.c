/* A batch of tokens times shared segments, AVX512-VNNI. */
#include "kernels/x86/variants.h"

#include "kernels/x86/gemm_seg_vnni.h"

void kern_gemm_seg_avx512vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                              float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    gemm_seg_vnni(w, x, n_tok, y, ldy, rt0, rt1);
}
