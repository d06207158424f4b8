/* The VNNI way to add a quad's products. The dot product wants one side unsigned: that is w + 128,
 * and 128 * (sum of q) is taken off. */
#ifndef EBB_KERNELS_X86_SEG_VNNI_H
#define EBB_KERNELS_X86_SEG_VNNI_H

#include "kernels/x86/seg_mul.h"
#include "kernels/x86/vnni.h"

KERN_INLINE __m256i add_quad_vnni(__m256i sum, __m256i w, __m256i q) {
    return dot_quad(sum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), q);
}

#endif
