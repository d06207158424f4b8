/* Matrix products, reference: y = W x in the order of operations that kernels.h promises. The
 * high reading is the full one with its low plane taken away. */
#include "kernels/ref/ref.h"

#include <math.h>

/* One output: row r of row tile rt times token t. */
static float row_dot(const struct kern_planes *w, const struct kern_acts *x, uint32_t t,
                     uint32_t rt, uint32_t r) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * w->n_in;         /* [n_in] */
    const float *scale = x->scale + (size_t)t * n_groups; /* [G] */
    const float *psum = x->psum + (size_t)t * n_groups;   /* [G] */
    float d = row_scale(w, rt, r);
    if (w->low) d /= 8; /* exact: a power of two */

    float acc = 0, off = 0;
    for (uint32_t g = 0; g < n_groups; g++) {
        struct tile tile = tile_at(w, rt, g);
        int32_t isum = 0;
        for (uint32_t i = 0; i < PLANE_GROUP; i++)
            isum += tile_code(&tile, r, i) * q[g * PLANE_GROUP + i];
        acc = fmaf(scale[g], (float)(tile.sc[r] * isum), acc);
        off = fmaf(psum[g], (float)tile.mn[r], off);
    }
    return fmaf(-row_min(w, rt, r), off, d * acc);
}

void kern_gemm_full_ref(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    for (uint32_t rt = rt0; rt < rt1; rt++)
        for (uint32_t t = 0; t < n_tok; t++)
            for (uint32_t r = 0; r < PLANE_ROWS; r++)
                y[t * ldy + (size_t)rt * PLANE_ROWS + r] = row_dot(w, x, t, rt, r);
}

void kern_gemm_high_ref(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    struct kern_planes high = *w;
    high.low = NULL;
    kern_gemm_full_ref(&high, x, n_tok, y, ldy, rt0, rt1);
}

/* One token is a batch of one: the products do not depend on the batch. */
void kern_gemv_high_ref(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    kern_gemm_high_ref(w, x, n_tok, y, ldy, rt0, rt1);
}

void kern_gemv_full_ref(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    kern_gemm_full_ref(w, x, n_tok, y, ldy, rt0, rt1);
}
