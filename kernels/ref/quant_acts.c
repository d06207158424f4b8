/* Activations to int8, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

/* Nearest-even integer within the activation range. The comparisons are written so that NaN lands
 * inside too: converting it to an integer would be undefined. */
static int8_t round_act(float v) {
    if (!(v > -PLANE_ACT_MAX)) v = -PLANE_ACT_MAX;
    if (v > PLANE_ACT_MAX) v = PLANE_ACT_MAX;
    return (int8_t)rintf(v);
}

void kern_quant_acts_ref(const float *x, size_t ldx, uint32_t n_in, uint32_t n_tok,
                         const struct kern_acts *ret) {
    uint32_t n_groups = n_in / PLANE_GROUP;
    for (uint32_t t = 0; t < n_tok; t++) {
        for (uint32_t g = 0; g < n_groups; g++) {
            const float *xg = x + t * ldx + (size_t)g * PLANE_GROUP; /* [32] */
            size_t ig = (size_t)t * n_groups + g;
            int8_t *q = ret->q + ig * PLANE_GROUP; /* [32] */

            float amax = 0;
            for (uint32_t i = 0; i < PLANE_GROUP; i++)
                if (fabsf(xg[i]) > amax) amax = fabsf(xg[i]);
            float inv = PLANE_ACT_MAX / amax;
            float scale = amax / PLANE_ACT_MAX;
            if (inv == INFINITY) { /* amax is 0, or too small to divide by */
                inv = 0;
                scale = 0;
            }
            int32_t sum = 0;
            for (uint32_t i = 0; i < PLANE_GROUP; i++) {
                q[i] = round_act(xg[i] * inv);
                sum += q[i];
            }
            ret->scale[ig] = scale;
            ret->qsum[ig] = sum;
            ret->psum[ig] = scale * (float)sum;
        }
    }
}
