/* Root mean square norm, reference. The sum is in double: the variants' float sums are measured
 * against it. */
#include "kernels/ref/ref.h"

#include <math.h>

void kern_rmsnorm_ref(const float *x, const float *gain, uint32_t n, float eps, float *ret) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    float inv = (float)(1 / sqrt(sum / n + (double)eps));
    for (uint32_t i = 0; i < n; i++) ret[i] = x[i] * inv * gain[i];
}
