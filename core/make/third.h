/* The rung swsc of a build: one book for each kind of matrix, then all layers in order.
 *
 * The books come first, from segments of all layers, weighted by the energies that a few windows
 * show; then the layers are fitted one after the other, each on what the fitted ones before it make
 * of the text (inorder.h), and written. In memory at a time: two streams of hidden states and one
 * layer. Needs nothing but source and text, so that an interrupted build need not save any of it.
 * The same input gives the same bytes, whatever the thread count. */
#ifndef EBB_CORE_MAKE_THIRD_H
#define EBB_CORE_MAKE_THIRD_H

#include "core/defs.h"
#include "core/model.h"
#include "core/swsc.h"

struct err;
struct pack_writer;
struct source;
struct text;
struct tools;

enum {
    /* Of the text, evenly spread, that layers are fitted on. 96 would gain a seventh of KL and
     * take as long as the planes. */
    THIRD_WINDOWS = 48,
    THIRD_BOOK_WINDOWS = 8, /* likewise, that books' energies are taken from */
};

/* The form of every kind: segments of 4, one book for all layers, the longest that the kind's
 * segments pay for. */
void third_forms(const struct model_hparams *h, struct swsc_form ret[MODEL_LAYER_MATS]);

/* Whether third_run() makes this form: segments of 4 with one book for the kind, and no pair. */
bool third_can_make(const struct swsc_form *f);

struct third_result {
    /* Output errors of each layer, E|(w - q) x|^2 over E|w x|^2, tokens weighted as inorder.h
     * says: 0 where nothing is put out. */
    float error[MODEL_MAX_LAYERS];
    uint32_t n_windows;
};

/* Writes `books` and all extents swsc; the writer has been told of the forms. 0 or the errors of
 * calib_create(), codebook_train(), inorder_next_layer() or pack_writer_extent(). */
int third_run(struct tools *t, struct source *s, const struct text *text,
              const struct swsc_form forms[MODEL_LAYER_MATS], struct pack_writer *w,
              struct third_result *ret, struct err *e) MUST_CHECK;

#endif
