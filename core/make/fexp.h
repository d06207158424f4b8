/* exp() for the packer's softmaxes, as an inline expression that compilers turn into vector code.
 *
 * Cephes' scheme: x = n ln2 + r with |r| <= ln2 / 2, a polynomial of degree 6 in r, and n put into
 * the exponent. Relative error below 2e-7. Arguments below -87 give about 1e-38, never a trap;
 * above 88 the result saturates near 1.6e38. NaN gives an unspecified finite value. */
#ifndef EBB_CORE_MAKE_FEXP_H
#define EBB_CORE_MAKE_FEXP_H

#include <stdint.h>

static inline float fexp(float x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    float n = x * 1.44269504f + shift;
    union {
        float f;
        uint32_t u;
    } bits = {.f = n};
    n -= shift;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* The low bits of the shifted number are n in two's complement. */
    bits.u = (bits.u << 23) + 0x3f800000u;
    return p * bits.f;
}

#endif
