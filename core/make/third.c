#include "core/make/third.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/factor.h"
#include "core/make/inorder.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/third_internal.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"
#include "kernels/seg.h"

enum { PAYS = 64 }; /* segments of a kind for each entry of its book */

void third_forms(const struct model_hparams *h, struct swsc_form ret[MODEL_LAYER_MATS]) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in, bits = SEG_MAX_BITS;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        uint64_t n = (uint64_t)h->n_layers * n_out * (n_in / THIRD_LEN);
        while (bits > 8 && n >> bits < PAYS) bits -= 2;
        ret[m] = (struct swsc_form){.base = SWSC_SEGMENTS,
                                    .len = THIRD_LEN,
                                    .bits = (uint8_t)bits,
                                    .k = 1u << bits,
                                    .is_shared = true};
    }
}

int third_pick_windows(const struct text *t, uint32_t n, uint32_t **ret, uint32_t *ret_n,
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

int third_fit(void *ud, enum model_mat mat, const struct segfit *f, const float *moments,
              const float *aim, float *ret, struct err *e) {
    struct third *k = ud;
    const struct swsc_form *form = &k->forms[mat];
    const struct swsc_books_layout *shared = &k->shared[mat];
    struct third_mat m = {.t = k->t,
                          .form = form,
                          .at = &k->layout[mat],
                          .extent = k->extent,
                          .aim = aim,
                          .moments = moments,
                          .fit = f,
                          .book = form->is_shared ? &k->books[mat] : NULL};
    struct segfit_error x = {0};
    struct factor basis;
    if (form->is_basis_shared) {
        uint8_t *base = k->books_extent + shared->basis + k->layer / 2 * shared->basis_stride;
        basis = factor_bind(base, &shared->basis_at, form->rank, m.at->n_in, form->factor_bits);
        m.basis = &basis;
    }
    int r = third_fit_mat(&m, ret, &x, e);
    k->error += x.error;
    k->output += x.output;
    return r;
}

static int fit_layers(struct third *k, struct err *e) {
    struct inorder *o = NULL;
    uint32_t *ids = NULL, *n = &k->ret->n_windows;
    int r = third_pick_windows(k->text, THIRD_WINDOWS, &ids, n, e);
    if (r == 0) r = inorder_create(k->t->mem, k->s, ids, *n, k->text->window, THIRD_LEN, &o, e);
    for (k->layer = 0; r == 0 && k->layer < k->h->n_layers; k->layer++) {
        memset(k->extent, 0, k->extent_bytes);
        pack_swsc_dir(k->h, k->forms, k->extent);
        k->error = k->output = 0.0;
        r = inorder_next_layer(o, third_fit, k, e);
        if (r == 0)
            r = pack_writer_extent(k->w, PACK_SWSC, k->layer, k->extent, k->extent_bytes, e);
        k->ret->error[k->layer] = k->output > 0.0 ? (float)(k->error / k->output) : 0.0f;
        progress_tell(&k->t->progress, "fitting below four bits", k->layer + 1, k->h->n_layers,
                      "layers");
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
    if (r == 0) r = third_make_books(&k, e);
    if (r == 0) r = fit_layers(&k, e);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) codebook_fini(&k.books[m]);
    mem_free(t->mem, MEM_PACKER, k.books_extent, k.books_bytes);
    mem_free(t->mem, MEM_PACKER, k.extent, k.extent_bytes);
    return r;
}
