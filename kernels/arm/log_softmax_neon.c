/* Logits to log-probabilities, NEON. A vocabulary is 10^5 long, where one float sum would lose
 * digits: the sum of each block is kept in double. */
#include "kernels/arm/variants.h"

#include <math.h>

#include "kernels/arm/neon.h"

enum { BLOCK = 2048 };

static float max_of(const float *x, uint32_t n) {
    uint32_t n4 = n & ~3u;
    float32x4_t m = load_last(x + n4, n - n4, -INFINITY);
    for (uint32_t i = 0; i < n4; i += 4) m = vmaxq_f32(m, vld1q_f32(x + i));
    return vmaxvq_f32(m);
}

/* Sum of exp(x - max) over a block. */
static float sum_exp(const float *x, uint32_t n, float max) {
    const float32x4_t m = vdupq_n_f32(max);
    uint32_t n4 = n & ~3u;
    float32x4_t sum = exp4(vsubq_f32(load_last(x + n4, n - n4, -INFINITY), m));
    for (uint32_t i = 0; i < n4; i += 4) sum = vaddq_f32(sum, exp4(vsubq_f32(vld1q_f32(x + i), m)));
    return vaddvq_f32(sum);
}

float kern_log_softmax_neon(float *x, uint32_t n) {
    float max = max_of(x, n);
    double sum = 0;
    for (uint32_t i = 0; i < n; i += BLOCK)
        sum += (double)sum_exp(x + i, n - i < BLOCK ? n - i : BLOCK, max);
    float lse = (float)((double)max + log(sum));

    const float32x4_t l = vdupq_n_f32(lse);
    uint32_t n4 = n & ~3u;
    for (uint32_t i = 0; i < n4; i += 4) vst1q_f32(x + i, vsubq_f32(vld1q_f32(x + i), l));
    for (uint32_t i = n4; i < n; i++) x[i] -= lse;
    return lse;
}
