/* Whole channels, reference. */
#include "kernels/ref/ref.h"

void kern_gather_ref(const uint16_t *gains, const uint16_t *labels, const float *t, uint32_t n,
                     float *ret) {
    for (uint32_t i = 0; i < n; i++) ret[i] = kern_from_f16(gains[i]) * t[labels[i]];
}
