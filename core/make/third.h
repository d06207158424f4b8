/* The rung swsc of a build: what layers share, then all layers in order, each kind of matrix in its
 * form. Any form of core/swsc.h can be made, so that the gate may choose among all that the runtime
 * multiplies.
 *
 * Books of kinds come first, from segments of all layers, weighted by the energies that a few
 * windows show, and shared bases, from those windows' moments (basis.h) and whole matrices, even
 * under a base, which no rival has; then the layers are fitted one after the other, each on what
 * the fitted ones before it make of the text (inorder.h), and written. In memory at a time: two
 * streams of hidden states and one layer. Needs nothing but source and text, so that an interrupted
 * build need not save any of it. The same input gives the same bytes, whatever the thread count. */
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

/* The default form of every kind: segments of 4, one book for all layers, the longest that the
 * kind's segments pay for. */
void third_forms(const struct model_hparams *h, struct swsc_form ret[MODEL_LAYER_MATS]);

struct third_result {
    /* Output errors of each layer, E|(w - q) x|^2 over E|w x|^2, tokens weighted as inorder.h
     * says: 0 where nothing is put out. */
    float error[MODEL_MAX_LAYERS];
    uint32_t n_windows;
};

/* Writes `books` and all extents swsc. The forms have passed swsc_check(), and the writer has been
 * told of them. 0 or the errors of calib_create(), codebook_train(), channels_fit(),
 * lowrank_fit(), inorder_next_layer() or pack_writer_extent(). */
int third_run(struct tools *t, struct source *s, const struct text *text,
              const struct swsc_form forms[MODEL_LAYER_MATS], struct pack_writer *w,
              struct third_result *ret, struct err *e) MUST_CHECK;

#endif
