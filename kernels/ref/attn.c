/* Attention of one query head over its cache, reference. Sums in double; see rmsnorm.c. */
#include "kernels/ref/ref.h"

#include <math.h>

void kern_attn_ref(const float *q, const uint16_t *k, const uint16_t *v, size_t stride,
                   uint32_t n_pos, uint32_t head_dim, float scale, float *scratch, float *ret) {
    float max = -INFINITY;
    for (uint32_t p = 0; p < n_pos; p++) {
        double dot = 0;
        for (uint32_t i = 0; i < head_dim; i++)
            dot += (double)q[i] * (double)kern_from_f16(k[p * stride + i]);
        scratch[p] = scale * (float)dot;
        if (scratch[p] > max) max = scratch[p];
    }
    double sum = 0;
    for (uint32_t p = 0; p < n_pos; p++) {
        scratch[p] = expf(scratch[p] - max);
        sum += (double)scratch[p];
    }
    for (uint32_t i = 0; i < head_dim; i++) {
        double out = 0;
        for (uint32_t p = 0; p < n_pos; p++)
            out += (double)scratch[p] * (double)kern_from_f16(v[p * stride + i]);
        ret[i] = (float)(out / sum);
    }
}
