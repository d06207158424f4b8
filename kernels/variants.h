/* The ladders of the CPU families: each replaces the entries of *ops for which `flags` allows
 * something better than what stands there. Called by kern_init() only. */
#ifndef EBB_KERNELS_VARIANTS_H
#define EBB_KERNELS_VARIANTS_H

struct kern_ops;

void kern_init_x86(struct kern_ops *ops, unsigned flags);
void kern_init_arm(struct kern_ops *ops, unsigned flags);

#endif
