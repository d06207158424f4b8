/* Ladder of the 64-bit ARM variants: each step needs the one before it. */
#include "kernels/kernels.h"
#include "kernels/variants.h"

void kern_init_arm(struct kern_ops *ops, unsigned flags) {
    if (!(flags & KERN_NEON)) return;
    (void)ops;
}
