/* Ladder of the x86 variants: each step needs the one before it. */
#include "kernels/kernels.h"
#include "kernels/variants.h"

void kern_init_x86(struct kern_ops *ops, unsigned flags) {
    if (!(flags & KERN_AVX2)) return;
    (void)ops;
}
