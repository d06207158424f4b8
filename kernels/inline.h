/* For kernels that are written once and compiled for several constant sizes: the size is an
 * argument, and the code must be inlined for the compiler to keep arrays of it in registers. */
#ifndef EBB_KERNELS_INLINE_H
#define EBB_KERNELS_INLINE_H

#define KERN_INLINE static inline __attribute__((always_inline))

#endif
