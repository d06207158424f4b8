/* A batch of tokens times shared segments, VNNI on 256-bit registers: up to four tokens meet the
 * weights as they are looked up, more of them meet a chunk, 8 at a time. */
#ifndef EBB_KERNELS_X86_GEMM_SEG_VNNI_H
#define EBB_KERNELS_X86_GEMM_SEG_VNNI_H

#include "kernels/x86/seg_vnni.h"

static const struct seg_isa isa = {add_quad_vnni, -128};

static void step8(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    seg_step(isa, c, x, t, y, ldy, 8);
}

static void step4(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    seg_step(isa, c, x, t, y, ldy, 4);
}

static void step2(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    seg_step(isa, c, x, t, y, ldy, 2);
}

static void step1(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    seg_step(isa, c, x, t, y, ldy, 1);
}

KERN_INLINE void gemm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    static const struct seg_step steps[] = {{8, step8}, {4, step4}, {2, step2}, {1, step1}};
    if (n_tok > 4)
        seg_walk(tile_quads, steps, w, x, n_tok, y, ldy, rt0, rt1, len, bits);
    else if (n_tok > 2)
        seg_few(isa, w, x, n_tok, y, ldy, rt0, rt1, len, bits, 4);
    else if (n_tok > 0)
        seg_few(isa, w, x, n_tok, y, ldy, rt0, rt1, len, bits, 2);
}

KERN_INLINE void gemm_seg_vnni(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                               float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemm, w, x, n_tok, y, ldy, rt0, rt1);
}

#endif
