/* Products with a matrix of shared segments, reference: y = W x in the order of operations that
 * kernels.h promises. */
#include "kernels/ref/ref.h"

#include <math.h>

/* The book's entry for row r of row tile rt and a segment: [len]. */
static const int8_t *entry(const struct kern_seg *w, uint32_t rt, uint32_t r, uint32_t segment) {
    const uint8_t *column = w->index + seg_column(w->n_in, w->len, w->bits, rt, segment);
    return w->book + (size_t)seg_get(column, w->bits, r) * w->len;
}

static float gain(const struct kern_seg *w, uint32_t rt, uint32_t r) {
    const uint8_t *p = w->gains + (size_t)rt * SEG_GAIN_BYTES + 2 * r;
    return kern_from_f16((uint16_t)(p[0] | p[1] << 8));
}

/* One output: row r of row tile rt times token t. */
static float row_dot(const struct kern_seg *w, const struct kern_acts *x, uint32_t t, uint32_t rt,
                     uint32_t r) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    const int8_t *q = x->q + (size_t)t * w->n_in;         /* [n_in] */
    const float *scale = x->scale + (size_t)t * n_groups; /* [G] */
    float acc = 0;
    for (uint32_t g = 0; g < n_groups; g++) {
        int32_t isum = 0;
        for (uint32_t i = g * PLANE_GROUP; i < (g + 1) * PLANE_GROUP; i++)
            isum += entry(w, rt, r, i / w->len)[i % w->len] * q[i];
        acc = fmaf(scale[g], (float)isum, acc);
    }
    return gain(w, rt, r) * acc;
}

void kern_gemm_seg_ref(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                       float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    for (uint32_t rt = rt0; rt < rt1; rt++)
        for (uint32_t t = 0; t < n_tok; t++)
            for (uint32_t r = 0; r < PLANE_ROWS; r++)
                y[t * ldy + (size_t)rt * PLANE_ROWS + r] = row_dot(w, x, t, rt, r);
}

/* One token is a batch of one: the products do not depend on the batch. */
void kern_gemv_seg_ref(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                       float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    kern_gemm_seg_ref(w, x, n_tok, y, ldy, rt0, rt1);
}
