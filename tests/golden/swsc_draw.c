#include "tests/golden/swsc_draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/pack.h"
#include "kernels/kernels.h"
#include "tests/golden/gguf_build.h"
#include "tests/t.h"

void swsc_draw_forms(const struct model_hparams *h, unsigned variant,
                     struct swsc_form ret[MODEL_LAYER_MATS]) {
    for (unsigned m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in, most = SWSC_MAX_CHANNELS;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        const struct swsc_form forms[SWSC_DRAW_VARIANTS] = {
            {.base = SWSC_SEGMENTS, .len = 4, .bits = 8, .k = 256},
            {.base = SWSC_SEGMENTS, .len = 8, .bits = 10, .k = 1024, .is_shared = true},
            {.base = SWSC_CHANNELS, .k = MIN(n_out / 2 + 1, most), .factor_bits = 4},
            {.base = SWSC_SEGMENTS,
             .len = 4,
             .bits = 12,
             .k = 4096,
             .is_shared = true,
             .rank = 32,
             .factor_bits = 8},
            {.base = SWSC_NONE, .rank = 32, .factor_bits = 4, .is_basis_shared = true},
            {.base = SWSC_CHANNELS,
             .k = MIN(n_out / 3 + 1, most),
             .rank = 32,
             .factor_bits = 8,
             .is_basis_shared = true},
            {.base = SWSC_SEGMENTS, .len = 8, .bits = 8, .k = 256, .rank = 32, .factor_bits = 4},
        };
        ret[m] = forms[(m + variant) % SWSC_DRAW_VARIANTS];
    }
}

static void draw_bytes(uint8_t *p, uint64_t n, uint64_t *seed) {
    for (uint64_t i = 0; i < n; i++) p[i] = (uint8_t)t_rand(seed);
}

/* With mn = sc and M = 7.5 D, w4 = D * sc * (t - 7.5); sc is 128 on average, t deviates by 4.6. */
static void draw_planes(uint8_t *p, const struct swsc_planes_at *at, uint32_t n_out, uint32_t n_in,
                        float deviation, uint64_t *seed) {
    float d = deviation / (128 * 4.6f);
    uint64_t tiles = (uint64_t)planes_row_tiles(n_out) * (n_in / PLANE_GROUP);
    for (uint32_t row = 0; row < n_out; row++) {
        uint8_t *q = p + at->rows + row / PLANE_ROWS * PLANE_ROW_BYTES + row % PLANE_ROWS * 2;
        bytes_put_u16(q, gb_half(d));
        bytes_put_u16(q + 2 * PLANE_ROWS, gb_half(7.5f * d));
    }
    for (uint64_t t = 0; t < tiles; t++)
        for (unsigned r = 0; r < PLANE_ROWS; r++) {
            uint8_t *q = p + at->groups + t * PLANE_SCALE_BYTES + r;
            q[0] = q[PLANE_ROWS] = (uint8_t)(64 + t_rand(seed) % 128);
        }
    draw_bytes(p + at->high, tiles * PLANE_TILE_BYTES, seed);
    if (at->low) draw_bytes(p + at->low, tiles * PLANE_TILE_BYTES, seed);
}

static void draw_book(uint8_t *p, const struct swsc_form *f, uint64_t *seed) {
    for (uint32_t i = 0; i < f->k * f->len; i++) p[i] = (uint8_t)(t_rand(seed) % 255 - 127);
}

static void draw_gains(uint8_t *p, uint32_t n_out, float mean, uint64_t *seed) {
    for (uint32_t row = 0; row < n_out; row++)
        bytes_put_u16(p + 2 * row, gb_half(mean * (0.75f + (float)(t_rand(seed) % 1000) / 2000)));
}

static void draw_index(uint8_t *p, const struct swsc_form *f, const struct swsc_layout *x,
                       uint64_t *seed) {
    for (uint32_t row = 0; row < x->n_out; row++)
        for (uint32_t s = 0; s < x->n_in / f->len; s++)
            seg_put(p + seg_column(x->n_in, f->len, f->bits, row / PLANE_ROWS, s), f->bits,
                    row % PLANE_ROWS, (uint32_t)(t_rand(seed) % f->k));
}

static void draw_mat(uint8_t *p, const struct swsc_form *f, const struct swsc_layout *x,
                     uint64_t *seed) {
    float deviation = 1 / sqrtf((float)x->n_in);
    if (f->base == SWSC_SEGMENTS) {
        draw_gains(p + x->gains, x->n_out, deviation / 73, seed);
        draw_index(p + x->index, f, x, seed);
        if (!f->is_shared) draw_book(p + x->book, f, seed);
    } else if (f->base == SWSC_CHANNELS) {
        draw_gains(p + x->gains, x->n_out, 1, seed);
        for (uint32_t row = 0; row < x->n_out; row++)
            bytes_put_u16(p + x->labels + 2 * row, (uint16_t)(t_rand(seed) % f->k));
        draw_planes(p, &x->c, f->k, x->n_in, deviation, seed);
    }
    if (f->rank == 0) return;
    float share = f->base == SWSC_NONE ? 1 : 0.5f;
    draw_planes(p, &x->a, x->n_out, f->rank, share / sqrtf((float)f->rank), seed);
    if (!f->is_basis_shared) draw_planes(p, &x->b, f->rank, x->n_in, deviation, seed);
}

static uint8_t *zeroed(uint64_t n) {
    uint8_t *p = aligned_alloc(SWSC_ALIGN, n);
    if (!p) abort();
    memset(p, 0, n);
    return p;
}

uint8_t *swsc_draw_unit(const struct model_hparams *h,
                        const struct swsc_form forms[MODEL_LAYER_MATS], uint32_t layer,
                        uint64_t seed, uint64_t *ret_n) {
    struct swsc_layout at[MODEL_LAYER_MATS];
    *ret_n = pack_swsc_bytes(h, forms);
    uint8_t *p = zeroed(*ret_n);
    seed = seed * 1000 + layer + 1;
    swsc_unit_layout(h, forms, at);
    pack_swsc_dir(h, forms, p);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) draw_mat(p, &forms[m], &at[m], &seed);
    return p;
}

uint8_t *swsc_draw_books(const struct model_hparams *h,
                         const struct swsc_form forms[MODEL_LAYER_MATS], uint64_t seed,
                         uint64_t *ret_n) {
    struct swsc_books_layout at[MODEL_LAYER_MATS];
    *ret_n = pack_books_bytes(h, forms);
    if (*ret_n == 0) return NULL;
    uint8_t *p = zeroed(*ret_n);
    seed = seed * 1000;
    swsc_books_layout(h, forms, at);
    pack_books_dir(h, forms, p);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        if (at[m].book) draw_book(p + at[m].book, &forms[m], &seed);
        for (uint32_t i = 0; i < at[m].n_bases; i++)
            draw_planes(p + at[m].basis + i * at[m].basis_stride, &at[m].basis_at, forms[m].rank,
                        n_in, 1 / sqrtf((float)n_in), &seed);
    }
    return p;
}

static float half_at(const uint8_t *p, uint32_t i) {
    return kern_from_f16((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
}

void swsc_draw_base_row(const struct kern_ops *ops, const struct swsc_mat *w, uint32_t row,
                        float *ret) {
    if (w->base == SWSC_SEGMENTS) {
        const struct kern_seg *s = &w->seg;
        float gain = half_at(s->gains, row);
        for (uint32_t i = 0; i < w->n_in; i++) {
            size_t at = seg_column(w->n_in, s->len, s->bits, row / PLANE_ROWS, i / s->len);
            uint32_t index = seg_get(s->index + at, s->bits, row % PLANE_ROWS);
            ret[i] = gain * (float)s->book[index * s->len + i % s->len];
        }
    } else if (w->base == SWSC_CHANNELS) {
        ops->row(&w->c, w->labels[row], ret);
        for (uint32_t i = 0; i < w->n_in; i++) ret[i] *= kern_from_f16(w->gains[row]);
    } else {
        memset(ret, 0, w->n_in * sizeof(*ret));
    }
}
