/* Logits to log-probabilities, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

float kern_log_softmax_ref(float *x, uint32_t n) {
    float max = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        if (x[i] > max) max = x[i];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)max);
    float lse = (float)((double)max + log(sum));
    for (uint32_t i = 0; i < n; i++) x[i] -= lse;
    return lse;
}
