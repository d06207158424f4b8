/* What this CPU can run, asked from the CPU itself (x86) or from the system (arm).
 *
 * On x86 a CPU bit is not enough: the system must also save the wide registers over a context
 * switch, which XCR0 tells. On arm HWCAP already is what both can do. Keeps no state: callers
 * ask once at start. Thread: any. */
#include "kernels/kernels.h"

#include <stddef.h>

#if defined(__x86_64__)

#include <cpuid.h>

enum {
    CPUID1_ECX_FMA = 1 << 12,
    CPUID1_ECX_OSXSAVE = 1 << 27,
    CPUID1_ECX_AVX = 1 << 28,
    CPUID1_ECX_F16C = 1 << 29,
    CPUID7_EBX_AVX2 = 1 << 5,
    CPUID7_EBX_AVX512F = 1 << 16,
    CPUID7_EBX_AVX512BW = 1 << 30,
    CPUID7_ECX_AVX512VNNI = 1 << 11,
    CPUID71_EAX_AVXVNNI = 1 << 4, /* leaf 7, subleaf 1 */
    XCR0_YMM = 0x06,              /* XMM and YMM state */
    XCR0_ZMM = 0xe6,              /* the same, opmasks and both parts of ZMM state */
};
/* Bit 31 does not fit an int enumerator. */
#define CPUID7_EBX_AVX512VL (1u << 31)

/* Not the intrinsic: that one needs -mxsave, and this file is compiled for the baseline. */
static unsigned read_xcr0(void) {
    unsigned eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static int has_all(unsigned reg, unsigned bits) {
    return (reg & bits) == bits;
}

unsigned kern_cpu_flags(void) {
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!has_all(c, CPUID1_ECX_OSXSAVE | CPUID1_ECX_AVX | CPUID1_ECX_FMA | CPUID1_ECX_F16C))
        return 0;
    unsigned xcr0 = read_xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;

    if (!has_all(b, CPUID7_EBX_AVX2) || !has_all(xcr0, XCR0_YMM)) return 0;
    flags |= KERN_AVX2;
    if (has_all(b, CPUID7_EBX_AVX512F | CPUID7_EBX_AVX512BW | CPUID7_EBX_AVX512VL) &&
        has_all(c, CPUID7_ECX_AVX512VNNI) && has_all(xcr0, XCR0_ZMM))
        flags |= KERN_AVX512VNNI;

    /* Leaf 7 tells in EAX how many subleaves it has; a CPU gives zeros for one that it lacks. */
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has_all(a, CPUID71_EAX_AVXVNNI))
        flags |= KERN_AVXVNNI;
    return flags;
}

#elif defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned kern_cpu_flags(void) {
    unsigned long hw = getauxval(AT_HWCAP);
    unsigned flags = 0;
    if (!(hw & HWCAP_ASIMD)) return 0;
    flags |= KERN_NEON;
    if (hw & HWCAP_ASIMDDP) flags |= KERN_DOTPROD;
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM) flags |= KERN_I8MM;
    return flags;
}

#else

unsigned kern_cpu_flags(void) {
    return 0;
}

#endif

const char *kern_cpu_flag_name(unsigned flag) {
    switch (flag) {
    case KERN_AVX2: return "avx2";
    case KERN_AVXVNNI: return "avxvnni";
    case KERN_AVX512VNNI: return "avx512vnni";
    case KERN_NEON: return "neon";
    case KERN_DOTPROD: return "dotprod";
    case KERN_I8MM: return "i8mm";
    default: return NULL;
    }
}
