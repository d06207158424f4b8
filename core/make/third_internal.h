/* What the files of third.h share. */
#ifndef EBB_CORE_MAKE_THIRD_INTERNAL_H
#define EBB_CORE_MAKE_THIRD_INTERNAL_H

#include "core/make/codebook.h"
#include "core/make/segfit.h"
#include "core/make/third.h"

struct factor;

struct third {
    struct tools *t; /* all borrowed */
    struct source *s;
    const struct text *text;
    const struct swsc_form *forms;
    struct pack_writer *w;
    const struct model_hparams *h;
    struct third_result *ret;
    /* What layers share: */
    struct codebook books[MODEL_LAYER_MATS]; /* owned; empty where a kind shares none */
    struct swsc_books_layout shared[MODEL_LAYER_MATS];
    uint8_t *books_extent; /* owned, or NULL */
    uint64_t books_bytes;
    /* The layer in work: */
    struct swsc_layout layout[MODEL_LAYER_MATS];
    uint8_t *extent; /* owned */
    uint64_t extent_bytes;
    uint32_t layer;
    double error, output;
};

/* At most n windows of the text, evenly spread: ids to be freed, *ret_n how many. 0 or -ENOMEM. */
int third_pick_windows(const struct text *t, uint32_t n, uint32_t **ret, uint32_t *ret_n,
                       struct err *e) MUST_CHECK;

/* Makes and writes what layers share, if anything: k->books and k->books_extent. */
int third_make_books(struct third *k, struct err *e) MUST_CHECK;

/* An inorder_fit_fn over a struct third: into k->extent goes a matrix of layer k->layer, to
 * k->error and k->output its errors. Errors of third_fit_mat(). */
int third_fit(void *third, enum model_mat mat, const struct segfit *f, const float *moments,
              const float *aim, float *ret, struct err *e) MUST_CHECK;

/* One matrix in its form. */
struct third_mat {
    struct tools *t;
    const struct swsc_form *form;
    const struct swsc_layout *at;
    uint8_t *extent;             /* of the unit, zero where the matrix goes */
    const float *aim;            /* [n_out][n_in] what it should best be */
    const float *moments;        /* of its inputs; NULL: all alike */
    const struct segfit *fit;    /* the same, for segments of THIRD_LEN */
    const struct codebook *book; /* of the kind; NULL: the matrix makes its own */
    struct factor *basis;        /* likewise, of the layer and its fellow */
};
enum { THIRD_LEN = 4 };

/* Fits and puts it; ret[n_out][n_in] is what it reads as. `error` is added to. 0, -EDOM, -ENOTSUP
 * or -ENOMEM. */
int third_fit_mat(const struct third_mat *m, float *ret, struct segfit_error *error,
                  struct err *e) MUST_CHECK;

#endif
