/* Sums of looked-up segments without dot instructions. Two products of bytes fit int16,
 * 2 * 127 * 121 < 2^15, so pairs of quads are widened. */
#ifndef EBB_KERNELS_ARM_SEG_MUL_NEON_H
#define EBB_KERNELS_ARM_SEG_MUL_NEON_H

#include "kernels/arm/mul_neon.h"
#include "kernels/arm/seg_neon.h"

/* Adds 8 rows' products with a pair of quads to s: rows 0-1, 2-3, 4-5, 6-7. */
KERN_INLINE void add_pair(int32x4_t *s, const struct quad *v, const int8_t *q) {
    int16x8_t p[4];
    for (unsigned k = 0; k < 4; k++) p[k] = vdupq_n_s16(0);
    add_products(p, v[0].rows0, v[0].rows4, act_quad(q));
    add_products(p, v[1].rows0, v[1].rows4, act_quad(q + 4));
    for (unsigned k = 0; k < 4; k++) s[k] = vpadalq_s16(s[k], p[k]);
}

#endif
