/* fp16 <-> float by their bits: 1 sign, 5 exponent (bias 15), 10 mantissa. Compiled for every
 * machine, as Debian's baseline x86 has no instruction for it. */
#include "kernels/ref/ref.h"

#include <string.h>

static float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t bits_of_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

float kern_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) /* infinity, or NaN made quiet as the CPUs do */
        return float_of_bits(sign | 0x7f800000 | man << 13 | (man ? 1u << 22 : 0));
    if (exp == 0) { /* zero and subnormals: man * 2^-24, exact */
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    return float_of_bits(sign | (exp + 127 - 15) << 23 | man << 13);
}

/* v / 2^shift as an integer, to nearest, ties to even. 0 < shift < 32. */
static uint32_t shift_round(uint32_t v, uint32_t shift) {
    uint32_t half = 1u << (shift - 1);
    uint32_t rest = v & (2 * half - 1);
    uint32_t q = v >> shift;
    return q + (rest > half || (rest == half && (q & 1)));
}

static uint16_t to_f16(float f) {
    uint32_t bits = bits_of_float(f);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t exp = bits >> 23 & 255, man = bits & 0x7fffff;
    if (exp == 255) return (uint16_t)(sign | 0x7c00 | (man ? 0x200 | man >> 13 : 0));
    if (exp > 127 + 15) return (uint16_t)(sign | 0x7c00);
    if (exp >= 127 - 14) /* normal; the rounding may carry into the exponent, up to infinity */
        return (uint16_t)(sign | shift_round((exp - (127 - 15)) << 23 | man, 13));
    if (exp < 127 - 25) return (uint16_t)sign; /* below half of the least subnormal */
    return (uint16_t)(sign | shift_round(man | 1u << 23, 126 - exp));
}

void kern_to_f16_ref(const float *x, uint32_t n, uint16_t *ret) {
    for (uint32_t i = 0; i < n; i++) ret[i] = to_f16(x[i]);
}
