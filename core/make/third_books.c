/* What layers share at the rung swsc: books of kinds, and bases of two adjacent layers. Both are
 * made from the source's own weights, before any layer is changed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/basis.h"
#include "core/make/calib.h"
#include "core/make/segsample.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/third_internal.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"

enum {
    MAX_SEGMENTS = 400000, /* that a book is made from */
    BOOK_ROUNDS = 10,
};

/* The layer before, where it shares a basis with this one: its weights and moments. */
struct fellow {
    float *w, *moments; /* owned, or NULL */
    size_t w_bytes, moments_bytes;
};

struct making {
    struct third *k;
    struct segsample samples[MODEL_LAYER_MATS]; /* of kinds that share a book */
    struct fellow fellows[MODEL_LAYER_MATS];    /* of kinds that share bases */
    bool has_bases;
};

static bool has_book(const struct third *k, uint32_t mat) {
    return k->forms[mat].is_shared;
}

static void making_fini(struct making *g) {
    struct mem *mem = g->k->t->mem;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        segsample_fini(&g->samples[m]);
        mem_free(mem, MEM_PACKER, g->fellows[m].w, g->fellows[m].w_bytes);
        mem_free(mem, MEM_PACKER, g->fellows[m].moments, g->fellows[m].moments_bytes);
    }
}

static int making_init(struct making *g, struct err *e) {
    const struct third *k = g->k;
    int r = 0;
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in, len = k->forms[m].len;
        model_mat_shape(k->h, (enum model_mat)m, &n_out, &n_in);
        if (has_book(k, m)) {
            uint32_t n_groups = k->h->n_layers * (n_in / len);
            uint32_t n_rows = MIN(n_out, MAX(1u, MAX_SEGMENTS / n_groups));
            r = segsample_init(&g->samples[m], k->t->mem, len, k->h->n_layers, n_rows, n_in, e);
        }
        if (r < 0 || !k->forms[m].is_basis_shared) continue;
        struct fellow *f = &g->fellows[m];
        g->has_bases = true;
        f->w_bytes = (size_t)n_out * n_in * sizeof(float);
        f->moments_bytes = (size_t)n_in * n_in * sizeof(float);
        f->w = mem_alloc(k->t->mem, MEM_PACKER, f->w_bytes);
        f->moments = mem_alloc(k->t->mem, MEM_PACKER, f->moments_bytes);
        if (!f->w || !f->moments)
            r = err_set(e, -ENOMEM, "no memory for what a basis is made from");
    }
    return r;
}

/* ---- one layer ---------------------------------------------------------------------------------
 * Of each matrix some rows are taken, evenly spread, all their segments: those at the same inputs
 * of a layer are a group. */

static void take_segments(struct making *g, uint32_t mat, uint32_t layer, const float *w,
                          const float *energy) {
    struct segsample *s = &g->samples[mat];
    uint32_t n_out, n_in;
    model_mat_shape(g->k->h, (enum model_mat)mat, &n_out, &n_in);
    for (uint32_t i = 0; i < s->s.n_rows; i++)
        segsample_row(s, layer, i,
                      w + (((uint64_t)i * n_out / s->s.n_rows + layer) % n_out) * n_in);
    segsample_energies(s, layer, energy, 1);
}

/* The second layer of a pair, or a last one without its fellow, makes their basis. It is written
 * before any coefficients are known, so that a lone layer's takes none of their factors. */
static int make_basis(struct making *g, uint32_t mat, uint32_t layer, const float *w,
                      const float *moments, struct err *e) {
    struct third *k = g->k;
    struct fellow *f = &g->fellows[mat];
    const struct swsc_form *form = &k->forms[mat];
    uint32_t n_out, n_in, n = 0;
    bool is_second = layer % 2 == 1;
    model_mat_shape(k->h, (enum model_mat)mat, &n_out, &n_in);
    if (!is_second && layer + 1 < k->h->n_layers) {
        memcpy(f->w, w, f->w_bytes);
        memcpy(f->moments, moments, f->moments_bytes);
        return 0;
    }
    struct basis_layer layers[BASIS_LAYERS] = {{0}};
    if (is_second) layers[n++] = (struct basis_layer){f->w, f->moments};
    layers[n++] = (struct basis_layer){w, moments};
    struct factor b = {0};
    int r = basis_shared(k->t, layers, n, n_out, n_in, form->rank, form->factor_bits, &b, e);
    const struct swsc_books_layout *at = &k->shared[mat];
    if (r == 0)
        factor_put(&b, k->books_extent + at->basis + layer / 2 * at->basis_stride, &at->basis_at);
    factor_fini(&b);
    return r;
}

static int take_layer(struct making *g, const struct calib *c, const struct source_layer *w,
                      uint32_t layer, struct err *e) {
    int r = 0;
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        enum source_input in = source_input_of((enum model_mat)m);
        if (has_book(g->k, m)) take_segments(g, m, layer, w->mats[m], calib_energy(c, in));
        if (g->k->forms[m].is_basis_shared)
            r = make_basis(g, m, layer, w->mats[m], calib_moments(c, in), e);
        if (r < 0) err_prefix(e, "%s", model_mat_name((enum model_mat)m));
    }
    return r;
}

static int take_layers(struct making *g, struct err *e) {
    struct third *k = g->k;
    struct calib *c = NULL;
    uint32_t *ids = NULL, n = 0;
    int r = third_pick_windows(k->text, THIRD_BOOK_WINDOWS, &ids, &n, e);
    if (r == 0) r = calib_create(k->t->mem, k->s, ids, n, k->text->window, !g->has_bases, &c, e);
    for (uint32_t l = 0; r == 0 && l < k->h->n_layers; l++) {
        const struct source_layer *w;
        r = calib_next_layer(c, &w, e);
        if (r == 0) r = take_layer(g, c, w, l, e);
        if (g->has_bases)
            progress_tell(&k->t->progress, "making shared bases", l + 1, k->h->n_layers, "layers");
    }
    calib_destroy(c);
    free(ids);
    return r;
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static int train(struct making *g, struct err *e) {
    struct third *k = g->k;
    int r = 0;
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        if (has_book(k, m)) {
            r = codebook_train(k->t->mem, k->t->pool, &k->t->ops, &g->samples[m].s, k->forms[m].k,
                               BOOK_ROUNDS, &k->books[m], e);
            if (r == 0)
                memcpy(k->books_extent + k->shared[m].book, k->books[m].entries,
                       (size_t)k->books[m].k * k->books[m].len);
        }
        progress_tell(&k->t->progress, "making code books", m + 1, MODEL_LAYER_MATS, "books");
    }
    return r;
}

int third_make_books(struct third *k, struct err *e) {
    struct making g = {.k = k};
    if (!swsc_has_books(k->forms)) return 0;
    k->books_bytes = pack_books_bytes(k->h, k->forms);
    k->books_extent = mem_alloc(k->t->mem, MEM_PACKER, k->books_bytes);
    if (!k->books_extent) return err_set(e, -ENOMEM, "no memory for what layers share");
    swsc_books_layout(k->h, k->forms, k->shared);
    pack_books_dir(k->h, k->forms, k->books_extent);
    int r = making_init(&g, e);
    if (r == 0) r = take_layers(&g, e);
    if (r == 0) r = train(&g, e);
    making_fini(&g);
    return r == 0 ? pack_writer_extent(k->w, PACK_BOOKS, 0, k->books_extent, k->books_bytes, e) : r;
}
