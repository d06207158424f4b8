#include "core/make/third.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/calib.h"
#include "core/make/codebook.h"
#include "core/make/inorder.h"
#include "core/make/segfit.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"
#include "kernels/seg.h"

enum {
    LEN = 4,
    MAX_SEGMENTS = 400000, /* that a book is made from */
    PAYS = 64,             /* segments of a kind for each entry of its book */
    BOOK_ROUNDS = 10,
    FIT_ROUNDS = 2, /* of refit and descent */
};

struct third {
    struct tools *t; /* all borrowed */
    struct source *s;
    const struct text *text;
    const struct swsc_form *forms;
    struct pack_writer *w;
    const struct model_hparams *h;
    struct codebook books[MODEL_LAYER_MATS]; /* owned */
    struct third_result *ret;
    /* The layer in work: */
    struct swsc_layout layout[MODEL_LAYER_MATS];
    uint8_t *extent; /* owned */
    uint64_t extent_bytes;
    double error, output;
};

void third_forms(const struct model_hparams *h, struct swsc_form ret[MODEL_LAYER_MATS]) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in, bits = SEG_MAX_BITS;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        uint64_t n = (uint64_t)h->n_layers * n_out * (n_in / LEN);
        while (bits > 8 && n >> bits < PAYS) bits -= 2;
        ret[m] = (struct swsc_form){.base = SWSC_SEGMENTS,
                                    .len = LEN,
                                    .bits = (uint8_t)bits,
                                    .k = 1u << bits,
                                    .is_shared = true};
    }
}

bool third_can_make(const struct swsc_form *f) {
    return f->base == SWSC_SEGMENTS && f->len == LEN && f->is_shared && f->rank == 0;
}

/* At most n windows of the text, evenly spread: ids to be freed, *ret_n how many. */
static int pick_windows(const struct text *t, uint32_t n, uint32_t **ret, uint32_t *ret_n,
                        struct err *e) {
    n = MIN(n, t->n_windows);
    uint32_t *ids = calloc((size_t)n * t->window, sizeof(*ids));
    if (!ids) return err_set(e, -ENOMEM, "no memory for %u windows of text", n);
    for (uint32_t i = 0; i < n; i++)
        memcpy(ids + (size_t)i * t->window, t->ids + (uint64_t)i * t->n_windows / n * t->window,
               t->window * sizeof(*ids));
    *ret = ids;
    *ret_n = n;
    return 0;
}

/* ---- books -------------------------------------------------------------------------------------
 * Of each matrix some rows are taken, evenly spread, all their segments: those at the same inputs
 * of a layer are a group. */

struct samples {
    struct mem *mem;
    struct codebook_sample s[MODEL_LAYER_MATS];
    float *x[MODEL_LAYER_MATS], *metric[MODEL_LAYER_MATS]; /* owned */
    size_t x_bytes[MODEL_LAYER_MATS], metric_bytes[MODEL_LAYER_MATS];
};

static void samples_fini(struct samples *k) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        mem_free(k->mem, MEM_PACKER, k->x[m], k->x_bytes[m]);
        mem_free(k->mem, MEM_PACKER, k->metric[m], k->metric_bytes[m]);
    }
}

static int samples_init(struct samples *k, struct mem *mem, const struct model_hparams *h,
                        struct err *e) {
    *k = (struct samples){.mem = mem};
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        uint32_t n_groups = h->n_layers * (n_in / LEN);
        uint32_t n_rows = MIN(n_out, MAX(1u, MAX_SEGMENTS / n_groups));
        k->x_bytes[m] = (size_t)n_groups * n_rows * LEN * sizeof(float);
        k->metric_bytes[m] = (size_t)n_groups * LEN * LEN * sizeof(float);
        k->x[m] = mem_alloc(mem, MEM_PACKER, k->x_bytes[m]);
        k->metric[m] = mem_alloc(mem, MEM_PACKER, k->metric_bytes[m]);
        if (!k->x[m] || !k->metric[m]) {
            samples_fini(k);
            return err_set(e, -ENOMEM, "no memory for what code books are made from");
        }
        k->s[m] = (struct codebook_sample){LEN, n_groups, n_rows, k->x[m], k->metric[m]};
    }
    return 0;
}

static void take_segments(struct samples *k, uint32_t mat, uint32_t layer, const float *w,
                          uint32_t n_out, uint32_t n_in) {
    uint32_t n_rows = k->s[mat].n_rows, n_segs = n_in / LEN;
    float *x = k->x[mat] + (size_t)layer * n_segs * n_rows * LEN;
    for (uint32_t i = 0; i < n_rows; i++) {
        const float *row = w + (((uint64_t)i * n_out / n_rows + layer) % n_out) * n_in;
        double sum = 0.0;
        for (uint32_t c = 0; c < n_in; c++) sum += (double)row[c] * (double)row[c];
        float inv = sum > 0.0 ? (float)(1.0 / sqrt(sum / n_in)) : 0.0f;
        for (uint32_t s = 0; s < n_segs; s++)
            for (uint32_t j = 0; j < LEN; j++)
                x[((size_t)s * n_rows + i) * LEN + j] = inv * row[s * LEN + j];
    }
}

/* The roots of the energies, a layer's mean being 1: what is never moved counts a little. */
static void take_energies(struct samples *k, uint32_t mat, uint32_t layer, const float *energy,
                          uint32_t n_in) {
    float *metric = k->metric[mat] + (size_t)layer * n_in * LEN;
    double mean = 0.0;
    for (uint32_t i = 0; i < n_in; i++) mean += (double)energy[i] / n_in;
    for (uint32_t i = 0; i < n_in; i++) {
        double share = mean > 0.0 && isfinite(mean) ? (double)energy[i] / mean : 1.0;
        metric[i / LEN * LEN * LEN + i % LEN * (LEN + 1)] = (float)sqrt(share +
                                                                        (double)SEGFIT_DAMPING);
    }
}

static int take_samples(const struct third *k, struct samples *ret, struct err *e) {
    struct calib *c = NULL;
    uint32_t *ids = NULL, n = 0;
    int r = pick_windows(k->text, THIRD_BOOK_WINDOWS, &ids, &n, e);
    if (r == 0) r = calib_create(k->t->mem, k->s, ids, n, k->text->window, true, &c, e);
    for (uint32_t l = 0; r == 0 && l < k->h->n_layers; l++) {
        const struct source_layer *w;
        r = calib_next_layer(c, &w, e);
        for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
            uint32_t n_out, n_in;
            model_mat_shape(k->h, (enum model_mat)m, &n_out, &n_in);
            take_segments(ret, m, l, w->mats[m], n_out, n_in);
            take_energies(ret, m, l, calib_energy(c, source_input_of((enum model_mat)m)), n_in);
        }
    }
    calib_destroy(c);
    free(ids);
    return r;
}

static int make_books(struct third *k, struct err *e) {
    struct samples s;
    int r = samples_init(&s, k->t->mem, k->h, e);
    if (r < 0) return r;
    r = take_samples(k, &s, e);
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        r = codebook_train(k->t->mem, k->t->pool, &k->t->ops, &s.s[m], k->forms[m].k, BOOK_ROUNDS,
                           &k->books[m], e);
        progress_tell(&k->t->progress, "making code books", m + 1, MODEL_LAYER_MATS, "books");
    }
    samples_fini(&s);
    return r;
}

static int write_books(const struct third *k, struct err *e) {
    struct swsc_books_layout layout[MODEL_LAYER_MATS];
    uint64_t bytes = pack_books_bytes(k->h, k->forms);
    uint8_t *data = mem_alloc(k->t->mem, MEM_PACKER, bytes);
    if (!data) return err_set(e, -ENOMEM, "no memory for the code books");
    swsc_books_layout(k->h, k->forms, layout);
    pack_books_dir(k->h, k->forms, data);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++)
        memcpy(data + layout[m].book, k->books[m].entries, (size_t)k->books[m].k * LEN);
    int r = pack_writer_extent(k->w, PACK_BOOKS, 0, data, bytes, e);
    mem_free(k->t->mem, MEM_PACKER, data, bytes);
    return r;
}

/* ---- layers ------------------------------------------------------------------------------------
 */

static void put_mat(const struct third *k, enum model_mat mat, const struct segfit_mat *from) {
    const struct swsc_layout *at = &k->layout[mat];
    uint32_t n_segs = from->n_in / LEN, bits = k->forms[mat].bits;
    memcpy(k->extent + at->gains, from->gain, from->n_out * sizeof(*from->gain));
    for (uint32_t row = 0; row < from->n_out; row++)
        for (uint32_t s = 0; s < n_segs; s++) {
            size_t column = seg_column(from->n_in, LEN, bits, row / PLANE_ROWS, s);
            seg_put(k->extent + at->index + column, bits, row % PLANE_ROWS,
                    from->index[(size_t)row * n_segs + s]);
        }
}

static int fit_mat(void *ud, enum model_mat mat, const struct segfit *f, const float *aim,
                   float *ret, struct err *e) {
    struct third *k = ud;
    uint32_t n_out, n_in;
    model_mat_shape(k->h, mat, &n_out, &n_in);
    struct segfit_error x;
    struct segfit_mat s = {.book = &k->books[mat],
                           .n_out = n_out,
                           .n_in = n_in,
                           .gain = calloc(n_out, sizeof(*s.gain)),
                           .index = calloc((size_t)n_out * (n_in / LEN), sizeof(*s.index))};
    int r = 0;
    if (!s.gain || !s.index) r = err_set(e, -ENOMEM, "no memory for a matrix of segments");
    if (r == 0) r = segfit_run(f, k->t->pool, &k->t->ops, aim, FIT_ROUNDS, &s, &x, e);
    if (r == 0) {
        segfit_read(&s, ret);
        put_mat(k, mat, &s);
        k->error += x.error;
        k->output += x.output;
    }
    free(s.gain);
    free(s.index);
    return r;
}

static int fit_layers(struct third *k, struct err *e) {
    struct inorder *o = NULL;
    uint32_t *ids = NULL;
    int r = pick_windows(k->text, THIRD_WINDOWS, &ids, &k->ret->n_windows, e);
    if (r == 0)
        r = inorder_create(k->t->mem, k->s, ids, k->ret->n_windows, k->text->window, LEN, &o, e);
    for (uint32_t l = 0; r == 0 && l < k->h->n_layers; l++) {
        memset(k->extent, 0, k->extent_bytes);
        pack_swsc_dir(k->h, k->forms, k->extent);
        k->error = k->output = 0.0;
        r = inorder_next_layer(o, fit_mat, k, e);
        if (r == 0) r = pack_writer_extent(k->w, PACK_SWSC, l, k->extent, k->extent_bytes, e);
        k->ret->error[l] = k->output > 0.0 ? (float)(k->error / k->output) : 0.0f;
        progress_tell(&k->t->progress, "fitting below four bits", l + 1, k->h->n_layers, "layers");
    }
    inorder_destroy(o);
    free(ids);
    return r;
}

int third_run(struct tools *t, struct source *s, const struct text *text,
              const struct swsc_form forms[MODEL_LAYER_MATS], struct pack_writer *w,
              struct third_result *ret, struct err *e) {
    struct third k = {.t = t, .s = s, .text = text, .forms = forms, .w = w, .ret = ret};
    k.h = source_hparams(s);
    *ret = (struct third_result){0};
    swsc_unit_layout(k.h, forms, k.layout);
    k.extent_bytes = pack_swsc_bytes(k.h, forms);
    k.extent = mem_alloc(t->mem, MEM_PACKER, k.extent_bytes);
    int r = k.extent ? 0 : err_set(e, -ENOMEM, "no memory for a layer of segments");
    if (r == 0) r = make_books(&k, e);
    if (r == 0) r = write_books(&k, e);
    if (r == 0) r = fit_layers(&k, e);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) codebook_fini(&k.books[m]);
    mem_free(t->mem, MEM_PACKER, k.extent, k.extent_bytes);
    return r;
}
