/* Dot products of a vector of codes with four tokens' worth of activations. A code register holds
 * 4 rows of one quad and meets one lane of 16 activations, so nothing is broadcast or zipped. */
#ifndef EBB_KERNELS_ARM_DOTPROD_H
#define EBB_KERNELS_ARM_DOTPROD_H

#include "kernels/arm/neon.h"

/* s += the 4-byte dot products of each 32-bit element of c with lane v of q. The lane is part of
 * the instruction; v is constant wherever this is inlined into an unrolled loop, and the switch
 * then disappears. */
KERN_INLINE int32x4_t dot_lane(int32x4_t s, int8x16_t c, int8x16_t q, unsigned v) {
    switch (v) {
    case 0: return vdotq_laneq_s32(s, c, q, 0);
    case 1: return vdotq_laneq_s32(s, c, q, 1);
    case 2: return vdotq_laneq_s32(s, c, q, 2);
    default: return vdotq_laneq_s32(s, c, q, 3);
    }
}

#endif
