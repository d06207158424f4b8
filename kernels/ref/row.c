/* One row of a matrix as floats, reference: the embedding of a token. */
#include "kernels/ref/ref.h"

#include <math.h>

void kern_row_ref(const struct kern_planes *w, uint32_t row, float *ret) {
    uint32_t rt = row / PLANE_ROWS, r = row % PLANE_ROWS;
    float d = row_scale(w, rt, r), m = row_min(w, rt, r);
    if (w->low) d /= 8;
    for (uint32_t g = 0; g < w->n_in / PLANE_GROUP; g++) {
        struct tile tile = tile_at(w, rt, g);
        float s = d * tile.sc[r];    /* exact: 11 by 8 bits */
        float off = -m * tile.mn[r]; /* exact as well */
        for (uint32_t i = 0; i < PLANE_GROUP; i++)
            ret[(size_t)g * PLANE_GROUP + i] = fmaf(s, (float)tile_code(&tile, r, i), off);
    }
}
