/* The dot product instruction of the VNNI kernels, which on 256-bit registers comes in two
 * encodings for the same operation: AVX512-VNNI (EVEX, 32 registers) and AVX-VNNI (VEX, 16
 * registers, on CPUs without AVX-512). The kernels are written once, in <op>_vnni.h, and compiled
 * for each. */
#ifndef EBB_KERNELS_X86_VNNI_H
#define EBB_KERNELS_X86_VNNI_H

#include "kernels/x86/avx2.h"

/* Whether the sums of two row tiles and 8 tokens stay in registers. Held to 16 registers, prompts
 * are 16 % slower in pairs (Zen 4); four tokens' pairs are spilled too, and 4 % faster. */
#if defined(__AVX512VNNI__)
enum { HAS_32_REGISTERS = 1 };
#else
enum { HAS_32_REGISTERS = 0 };
#endif

/* sum + the products of 4 unsigned and 4 signed bytes, for each element. */
KERN_INLINE __m256i dot_quad(__m256i sum, __m256i u, __m256i s) {
#if defined(__AVX512VNNI__)
    return _mm256_dpbusd_epi32(sum, u, s);
#else
    return _mm256_dpbusd_avx_epi32(sum, u, s);
#endif
}

#endif
