/* Arithmetic on sizes and forms. Sizes are within MODEL_MAX_*, k and rank within those of their
 * matrix: every array is below 2^40 bytes, and there are at most some ten thousand of them. */
#include "core/swsc.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/err.h"

const char *swsc_base_name(enum swsc_base base) {
    static const char *const names[SWSC_BASE_COUNT] = {
        [SWSC_NONE] = "none", [SWSC_SEGMENTS] = "segments", [SWSC_CHANNELS] = "channels"};
    return names[base];
}

/* --- Checks ----------------------------------------------------------------------------------- */

static uint32_t round_up(uint32_t n, uint32_t step) {
    return (n + step - 1) / step * step;
}

/* What is wrong with the base; NULL if nothing is. */
static const char *bad_base(const struct swsc_form *f, uint32_t n_out) {
    switch (f->base) {
    case SWSC_NONE:
        if (f->len || f->bits || f->k || f->is_shared) return "no base, but sizes of one";
        return f->rank == 0 ? "neither a base nor a pair" : NULL;
    case SWSC_SEGMENTS:
        if (f->len != 4 && f->len != 8) return "segments that are not 4 or 8 long";
        if (f->bits != 8 && f->bits != 10 && f->bits != 12)
            return "indices that do not have 8, 10 or 12 bits";
        return f->k != UINT32_C(1) << f->bits ? "a book that is not as long as its indices" : NULL;
    case SWSC_CHANNELS:
        if (f->len || f->bits || f->is_shared) return "whole channels, but sizes of segments";
        if (f->k == 0 || f->k > MIN(n_out, (uint32_t)SWSC_MAX_CHANNELS))
            return "no channels, or more than it has rows or labels count";
        return NULL;
    }
    return "a base that is not known";
}

static const char *bad_pair(const struct swsc_form *f, uint32_t n_out, uint32_t n_in) {
    bool has_planes = f->rank > 0 || f->base == SWSC_CHANNELS;
    if (f->rank % SWSC_RANK_STEP || f->rank > round_up(MIN(n_out, n_in), SWSC_RANK_STEP))
        return "a rank that is not a multiple of 32, or beyond its smaller side";
    if (has_planes ? f->factor_bits != 4 && f->factor_bits != 8 : f->factor_bits != 0)
        return "factors that do not have 4 or 8 bits";
    return f->is_basis_shared && f->rank == 0 ? "a shared basis without a rank" : NULL;
}

int swsc_check(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
               struct err *e) {
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        const char *what = bad_base(&forms[m], n_out);
        if (!what) what = bad_pair(&forms[m], n_out, n_in);
        if (what)
            return err_set(e, -EBADMSG, "the swsc form of %s has %s",
                           model_mat_name((enum model_mat)m), what);
    }
    return 0;
}

/* --- Layout ----------------------------------------------------------------------------------- */

/* Takes `bytes` at the next place for an array. */
static uint64_t place(uint64_t *at, uint64_t bytes) {
    uint64_t r = *at;
    *at = (r + bytes + SWSC_ALIGN - 1) & ~(uint64_t)(SWSC_ALIGN - 1);
    return r;
}

static void place_planes(uint64_t *at, uint32_t n_out, uint32_t n_in, uint8_t bits,
                         struct swsc_planes_at *ret) {
    uint64_t row_tiles = planes_row_tiles(n_out), tiles = row_tiles * (n_in / PLANE_GROUP);
    ret->rows = place(at, row_tiles * PLANE_ROW_BYTES);
    ret->groups = place(at, tiles * PLANE_SCALE_BYTES);
    ret->high = place(at, tiles * PLANE_TILE_BYTES);
    ret->low = bits == 8 ? place(at, tiles * PLANE_TILE_BYTES) : 0;
}

/* What one layer has of its own. */
static void place_own(const struct swsc_form *f, uint64_t *at, struct swsc_layout *x) {
    uint64_t row_tiles = planes_row_tiles(x->n_out);
    if (f->base != SWSC_NONE) x->gains = place(at, row_tiles * SEG_GAIN_BYTES);
    if (f->base == SWSC_SEGMENTS) {
        if (!f->is_shared) x->book = place(at, (uint64_t)f->k * f->len);
        x->index = place(at, seg_index_bytes(x->n_out, x->n_in, f->len, f->bits) + SEG_INDEX_SLACK);
    } else if (f->base == SWSC_CHANNELS) {
        x->labels = place(at, row_tiles * PLANE_ROWS * sizeof(uint16_t));
        place_planes(at, f->k, x->n_in, f->factor_bits, &x->c);
    }
    if (f->rank == 0) return;
    place_planes(at, x->n_out, f->rank, f->factor_bits, &x->a);
    if (!f->is_basis_shared) place_planes(at, f->rank, x->n_in, f->factor_bits, &x->b);
}

static void place_shared(const struct swsc_form *f, uint32_t n_in, uint32_t n_layers, uint64_t *at,
                         struct swsc_books_layout *x) {
    if (f->is_shared) x->book = place(at, (uint64_t)f->k * f->len);
    if (!f->is_basis_shared) return;
    x->n_bases = (n_layers + 1) / 2;
    place_planes(&x->basis_stride, f->rank, n_in, f->factor_bits, &x->basis_at);
    x->basis = place(at, x->n_bases * x->basis_stride);
}

uint64_t swsc_unit_layout(const struct model_hparams *h,
                          const struct swsc_form forms[MODEL_LAYER_MATS],
                          struct swsc_layout ret[MODEL_LAYER_MATS]) {
    uint64_t at = 0;
    place(&at, SWSC_DIR_BYTES + MODEL_LAYER_MATS * SWSC_DIR_ENTRY_BYTES);
    memset(ret, 0, MODEL_LAYER_MATS * sizeof(*ret));
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        model_mat_shape(h, (enum model_mat)m, &ret[m].n_out, &ret[m].n_in);
        place_own(&forms[m], &at, &ret[m]);
    }
    return at;
}

uint64_t swsc_books_layout(const struct model_hparams *h,
                           const struct swsc_form forms[MODEL_LAYER_MATS],
                           struct swsc_books_layout ret[MODEL_LAYER_MATS]) {
    uint64_t at = 0;
    place(&at, SWSC_DIR_BYTES + MODEL_LAYER_MATS * SWSC_BOOKS_DIR_ENTRY_BYTES);
    memset(ret, 0, MODEL_LAYER_MATS * sizeof(*ret));
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        place_shared(&forms[m], n_in, h->n_layers, &at, &ret[m]);
    }
    return at;
}

bool swsc_has_books(const struct swsc_form forms[MODEL_LAYER_MATS]) {
    for (int m = 0; m < MODEL_LAYER_MATS; m++)
        if (forms[m].is_shared || forms[m].is_basis_shared) return true;
    return false;
}

double swsc_form_bits(const struct swsc_form *f, uint32_t n_out, uint32_t n_in, uint32_t n_layers) {
    struct swsc_layout own = {.n_out = n_out, .n_in = n_in};
    struct swsc_books_layout shared = {0};
    uint64_t own_bytes = 0, shared_bytes = 0;
    place_own(f, &own_bytes, &own);
    place_shared(f, n_in, n_layers, &shared_bytes, &shared);
    double bytes = (double)own_bytes + (double)shared_bytes / n_layers;
    return 8.0 * bytes / ((double)n_out * n_in);
}

struct kern_planes swsc_planes(const void *p, const struct swsc_planes_at *at, uint32_t n_out,
                               uint32_t n_in) {
    const uint8_t *b = p;
    return (struct kern_planes){.rows = b + at->rows,
                                .groups = b + at->groups,
                                .high = b + at->high,
                                .low = at->low ? b + at->low : NULL,
                                .n_out = n_out,
                                .n_in = n_in};
}
