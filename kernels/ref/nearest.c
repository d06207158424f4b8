/* Nearest entry of a code book, reference. Eight running minima, entry e in lane e % 8, so that a
 * variant may keep them in a vector; among equals the lowest entry wins, whatever the lanes. */
#include "kernels/ref/ref.h"

#include <math.h>

void kern_nearest_ref(const float *x, uint32_t n, const float *book, uint32_t k, uint32_t len,
                      uint16_t *ret) {
    for (uint32_t i = 0; i < n; i++, x += len) {
        float best[8];
        uint32_t at[8];
        for (uint32_t l = 0; l < 8; l++) {
            best[l] = INFINITY;
            at[l] = l;
        }
        for (uint32_t e = 0; e < k; e += 8)
            for (uint32_t l = 0; l < 8; l++) {
                float d = book[len * k + e + l];
                for (uint32_t j = 0; j < len; j++) d = fmaf(-x[j], book[j * k + e + l], d);
                at[l] = d < best[l] ? e + l : at[l];
                best[l] = d < best[l] ? d : best[l];
            }
        uint32_t w = 0;
        for (uint32_t l = 1; l < 8; l++)
            if (best[l] < best[w] || (best[l] == best[w] && at[l] < at[w])) w = l;
        ret[i] = (uint16_t)at[w];
    }
}
