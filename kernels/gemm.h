/* The order in which a batched product walks rows and tokens; what is done with one row tile and
 * a few tokens is the variant's own.
 *
 * A block of row tiles small enough for the second-level cache meets all tokens before the next
 * block comes, and a few tokens, which stay in the first level, meet all row tiles of the block. */
#ifndef EBB_KERNELS_GEMM_H
#define EBB_KERNELS_GEMM_H

#include "kernels/inline.h"
#include "kernels/kernels.h"

/* Row tile rt times the tokens t, t + 1, ... as many as the function is made for. */
typedef void gemm_step_fn(const struct kern_planes *w, const struct kern_acts *x, uint32_t t,
                          float *y, size_t ldy, uint32_t rt);

struct gemm_step {
    uint32_t n_tok; /* tokens it takes at once */
    gemm_step_fn *fn;
    gemm_step_fn *pair; /* row tiles rt and rt + 1; NULL: there is none */
};

/* Half of the second-level cache of a Cortex-A76 (512 KiB on the boards of interest), less room
 * for the activations. */
enum { GEMM_BLOCK_BYTES = 192 * 1024 };

/* steps: by descending n_tok; the last one takes one token. */
KERN_INLINE void gemm_walk(const struct gemm_step *steps, const struct kern_planes *w,
                           const struct kern_acts *x, uint32_t n_tok, float *y, size_t ldy,
                           uint32_t rt0, uint32_t rt1, uint32_t tile_bytes) {
    uint32_t n_block = GEMM_BLOCK_BYTES / tile_bytes / (w->n_in / PLANE_GROUP);
    if (n_block == 0) n_block = 1;
    while (rt0 < rt1) {
        uint32_t end = rt1 - rt0 > n_block ? rt0 + n_block : rt1;
        const struct gemm_step *s = steps;
        for (uint32_t t = 0; t < n_tok; t += s->n_tok) {
            while (s->n_tok > n_tok - t) s++;
            uint32_t rt = rt0;
            for (; s->pair && end - rt >= 2; rt += 2) s->pair(w, x, t, y, ldy, rt);
            for (; rt < end; rt++) s->fn(w, x, t, y, ldy, rt);
        }
        rt0 = end;
    }
}

#endif
