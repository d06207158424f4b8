/* What the files of rival.h share. */
#ifndef EBB_CORE_MAKE_RIVAL_INTERNAL_H
#define EBB_CORE_MAKE_RIVAL_INTERNAL_H

#include "core/make/factor.h"
#include "core/make/rival.h"

/* One way under measurement. The rows measured are evenly spread: row rival_row(i). */
struct rival_work {
    struct tools *t;
    const struct rival_task *task;
    struct swsc_form form;
    uint32_t n_some;      /* rows measured */
    float *some, *some_q; /* owned: [n_some][n_in], rows of the matrix, and as they read */
    float *q;             /* owned: [n_out][n_in], all of it as it reads; only where needed */
    size_t some_bytes, all_bytes;
    bool is_kept; /* what follows from moments is small enough to be kept */
    double error; /* sum of the matrices' */
};

uint32_t rival_row(const struct rival_work *k, uint32_t i);
/* Rows of matrix `mat` into k->some. */
void rival_take(struct rival_work *k, uint32_t mat);
/* Adds the error of matrix `mat`: k->some against k->some_q, or against rows of q[n_out][n_in]. */
int rival_measure(struct rival_work *k, uint32_t mat, const float *q, struct err *e) MUST_CHECK;
/* The pair of k->form on what k->q leaves of a matrix, and both measured. */
int rival_add_pair(struct rival_work *k, uint32_t mat, struct err *e) MUST_CHECK;

/* What is known of the inputs of matrix `mat`. */
struct factor_inputs rival_inputs(struct rival_work *k, uint32_t mat);

/* All matrices as segments of k->form. */
int rival_segments(struct rival_work *k, struct err *e) MUST_CHECK;

#endif
