/* Cost of a group read with a scale and an offset, reference. Eight running sums, so that a
 * variant may keep them in a vector and still add in the same order. */
#include "kernels/ref/ref.h"

/* x + ROUND - ROUND is x rounded to the nearest integer, ties to even, for |x| < 2^22; unlike
 * rintf() compilers turn it into vector code. */
#define ROUND 12582912.0f

static inline float clamp(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

float kern_group_cost_ref(const float *w, const float *weights, float s, float o,
                          float full_counts) {
    float inv = 1.0f / s, sum[8] = {0};
    for (uint32_t i = 0; i < PLANE_GROUP; i += 8)
        for (uint32_t j = 0; j < 8; j++) {
            float q = (w[i + j] - o) * inv;
            float rest = q - (clamp(q, 0.0f, 15.0f) + ROUND - ROUND);
            float left = rest - (clamp(rest * 8.0f, -8.0f, 7.0f) + ROUND - ROUND) * 0.125f;
            sum[j] += weights[i + j] * (rest * rest + full_counts * left * left);
        }
    float all = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    return all * s * s;
}
