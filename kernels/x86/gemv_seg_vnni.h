/* One token times shared segments, VNNI on 256-bit registers. */
#ifndef EBB_KERNELS_X86_GEMV_SEG_VNNI_H
#define EBB_KERNELS_X86_GEMV_SEG_VNNI_H

#include "kernels/x86/seg_vnni.h"

KERN_INLINE void gemv(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    const struct seg_isa isa = {add_quad_vnni, -128};
    seg_few(isa, w, x, n_tok, y, ldy, rt0, rt1, len, bits, 1);
}

KERN_INLINE void gemv_seg_vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                               float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemv, w, x, n_tok, y, ldy, rt0, rt1);
}

#endif
