/* One token times shared segments, VNNI on 256-bit registers. */
#include "kernels/x86/variants.h"

#include "kernels/x86/seg_vnni.h"

KERN_INLINE void gemv(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    const struct seg_isa isa = {add_quad_vnni, -128};
    seg_few(isa, w, x, n_tok, y, ldy, rt0, rt1, len, bits, 1);
}

void kern_gemv_seg_avx512vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                              float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}
