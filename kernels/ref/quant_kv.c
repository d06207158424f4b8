/* A key or value to int8, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

/* Nearest-even integer within int8's symmetric range; NaN lands inside too, see quant_acts.c. */
static int8_t round_kv(float v) {
    if (!(v > -INT8_MAX)) v = -INT8_MAX;
    if (v > INT8_MAX) v = INT8_MAX;
    return (int8_t)rintf(v);
}

float kern_quant_kv_ref(const float *x, uint32_t n, int8_t *ret) {
    float amax = 0;
    for (uint32_t i = 0; i < n; i++)
        if (fabsf(x[i]) > amax) amax = fabsf(x[i]);
    float inv = INT8_MAX / amax, scale = amax / INT8_MAX;
    if (inv == INFINITY) { /* amax is 0, or too small to divide by */
        inv = 0;
        scale = 0;
    }
    for (uint32_t i = 0; i < n; i++) ret[i] = round_kv(x[i] * inv);
    return scale;
}
