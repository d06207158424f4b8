#include "core/make/factor.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/feedback.h"
#include "core/make/tools.h"
#include "core/mem.h"

#define MAX_HALF 65504.0f /* largest finite fp16 */

static uint8_t *carve(uint8_t **at, size_t bytes) {
    uint8_t *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

/* Lays the arrays out from `base` on; returns their size. */
static size_t bind(struct factor *f, uint8_t *base) {
    size_t row_tiles = planes_row_tiles(f->n_out), tiles = row_tiles * (f->n_in / PLANE_GROUP);
    uint8_t *at = base;
    f->dst.rows = carve(&at, row_tiles * PLANE_ROW_BYTES);
    f->dst.groups = carve(&at, tiles * PLANE_SCALE_BYTES);
    f->dst.high = carve(&at, tiles * PLANE_TILE_BYTES);
    f->dst.low = f->bits == 8 ? carve(&at, tiles * PLANE_TILE_BYTES) : NULL;
    return (size_t)(at - base);
}

int factor_quantise(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in, uint8_t bits,
                    const struct factor_inputs *in, struct factor *ret, struct err *e) {
    ASSERT(bits == 4 || bits == 8);
    struct factor f = {.mem = t->mem, .n_out = n_out, .n_in = n_in, .bits = bits};
    const float *moments = in->moments;
    struct feedback *feedback = NULL;
    float *energy = malloc(n_in * sizeof(*energy));
    f.bytes = bind(&f, NULL);
    f.data = mem_alloc(t->mem, MEM_PACKER, f.bytes);
    int r = 0;
    if (!energy || !f.data)
        r = err_set(e, -ENOMEM, "no memory for the planes of %u x %u", n_out, n_in);
    for (size_t i = 0; r == 0 && i < n_in; i++) {
        float x = moments ? moments[i * n_in + i] : 1.0f;
        energy[i] = x > 0.0f && isfinite(x) ? x : 0.0f;
    }
    if (r == 0 && moments && !in->feedback) {
        r = feedback_create(t->mem, moments, n_in, &feedback, e);
        if (r == -EDOM) r = 0;
    }
    if (r == 0) {
        bind(&f, f.data);
        struct planes_inputs known = {.energy = energy,
                                      .feedback = in->feedback ? in->feedback : feedback};
        r = planes_quantise(t->mem, t->pool, &t->ops, w, n_out, n_in, &known, &f.dst, NULL, e);
    }
    feedback_destroy(feedback);
    free(energy);
    if (r < 0) factor_fini(&f);
    *ret = f;
    return r;
}

void factor_fini(struct factor *f) {
    if (f->mem) mem_free(f->mem, MEM_PACKER, f->data, f->bytes);
    *f = (struct factor){0};
}

struct kern_planes factor_planes(const struct factor *f) {
    return (struct kern_planes){.rows = f->dst.rows,
                                .groups = f->dst.groups,
                                .high = f->dst.high,
                                .low = f->dst.low,
                                .n_out = f->n_out,
                                .n_in = f->n_in};
}

void factor_read(const struct factor *f, const struct kern_ops *ops, float *ret) {
    struct kern_planes p = factor_planes(f);
    for (uint32_t row = 0; row < f->n_out; row++) ops->row(&p, row, ret + (size_t)row * f->n_in);
}

bool factor_scale_row(struct factor *f, const struct kern_ops *ops, uint32_t row, float by) {
    uint8_t *rows = f->dst.rows + (size_t)(row / PLANE_ROWS) * PLANE_ROW_BYTES;
    uint8_t *d = rows + 2 * (row % PLANE_ROWS), *m = d + 2 * PLANE_ROWS;
    uint16_t half[2];
    float v[2];
    memcpy(&half[0], d, 2);
    memcpy(&half[1], m, 2);
    for (int i = 0; i < 2; i++) {
        v[i] = kern_from_f16(half[i]) * by;
        if (!(v[i] >= 0.0f && v[i] <= MAX_HALF)) return false;
    }
    ops->to_f16(v, 2, half);
    memcpy(d, &half[0], 2);
    memcpy(m, &half[1], 2);
    return true;
}

void factor_put(const struct factor *f, uint8_t *extent, const struct swsc_planes_at *at) {
    size_t row_tiles = planes_row_tiles(f->n_out), tiles = row_tiles * (f->n_in / PLANE_GROUP);
    memcpy(extent + at->rows, f->dst.rows, row_tiles * PLANE_ROW_BYTES);
    memcpy(extent + at->groups, f->dst.groups, tiles * PLANE_SCALE_BYTES);
    memcpy(extent + at->high, f->dst.high, tiles * PLANE_TILE_BYTES);
    if (f->bits == 8) memcpy(extent + at->low, f->dst.low, tiles * PLANE_TILE_BYTES);
}

struct factor factor_bind(uint8_t *extent, const struct swsc_planes_at *at, uint32_t n_out,
                          uint32_t n_in, uint8_t bits) {
    return (struct factor){.n_out = n_out,
                           .n_in = n_in,
                           .bits = bits,
                           .dst = {.rows = extent + at->rows,
                                   .groups = extent + at->groups,
                                   .high = extent + at->high,
                                   .low = bits == 8 ? extent + at->low : NULL}};
}
