#include "core/make/segsample.h"

#include <errno.h>
#include <math.h>

#include "core/err.h"
#include "core/make/segfit.h"
#include "core/mem.h"

int segsample_init(struct segsample *s, struct mem *m, uint32_t len, uint32_t n_mats,
                   uint32_t n_rows, uint32_t n_in, struct err *e) {
    uint32_t n_groups = n_mats * (n_in / len);
    *s = (struct segsample){.mem = m, .n_in = n_in};
    s->x_bytes = (size_t)n_groups * n_rows * len * sizeof(float);
    s->metric_bytes = (size_t)n_groups * len * len * sizeof(float);
    s->x = mem_alloc(m, MEM_PACKER, s->x_bytes);
    s->metric = mem_alloc(m, MEM_PACKER, s->metric_bytes);
    if (!s->x || !s->metric) {
        segsample_fini(s);
        return err_set(e, -ENOMEM, "no memory for what code books are made from");
    }
    s->s = (struct codebook_sample){len, n_groups, n_rows, s->x, s->metric};
    return 0;
}

void segsample_fini(struct segsample *s) {
    if (!s->mem) return;
    mem_free(s->mem, MEM_PACKER, s->x, s->x_bytes);
    mem_free(s->mem, MEM_PACKER, s->metric, s->metric_bytes);
    *s = (struct segsample){0};
}

void segsample_row(struct segsample *s, uint32_t mat, uint32_t i, const float *row) {
    uint32_t len = s->s.len, n_rows = s->s.n_rows, n_segs = s->n_in / len;
    float *x = s->x + (size_t)mat * n_segs * n_rows * len;
    double sum = 0.0;
    for (uint32_t c = 0; c < s->n_in; c++) sum += (double)row[c] * (double)row[c];
    float inv = sum > 0.0 ? (float)(1.0 / sqrt(sum / s->n_in)) : 0.0f;
    for (uint32_t g = 0; g < n_segs; g++)
        for (uint32_t j = 0; j < len; j++)
            x[((size_t)g * n_rows + i) * len + j] = inv * row[g * len + j];
}

void segsample_energies(struct segsample *s, uint32_t mat, const float *energy, size_t stride) {
    uint32_t len = s->s.len;
    float *metric = s->metric + (size_t)mat * s->n_in * len;
    double mean = 0.0;
    for (size_t i = 0; energy && i < s->n_in; i++) mean += (double)energy[i * stride] / s->n_in;
    for (size_t i = 0; i < s->n_in; i++) {
        double share = 1.0;
        if (mean > 0.0 && isfinite(mean)) share = fmax((double)energy[i * stride] / mean, 0.0);
        metric[i / len * len * len + i % len * (len + 1)] = (float)sqrt(share +
                                                                        (double)SEGFIT_DAMPING);
    }
}
