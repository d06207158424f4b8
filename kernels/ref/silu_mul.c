/* Gate of the feed-forward layer, reference: silu(gate) * up. */
#include "kernels/ref/ref.h"

#include <math.h>

void kern_silu_mul_ref(const float *gate, const float *up, uint32_t n, float *ret) {
    for (uint32_t i = 0; i < n; i++) ret[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}
