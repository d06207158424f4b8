/* Rivals of segments: books from samples, rows fitted with error feedback, and a pair on what they
 * leave. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/codebook.h"
#include "core/make/feedback.h"
#include "core/make/rival_internal.h"
#include "core/make/segfit.h"
#include "core/make/segsample.h"
#include "core/make/tools.h"
#include "core/mem.h"

enum {
    BOOK_ROUNDS = 4,    /* 10 in a build: what more gain is little beside what tells rivals apart */
    FIT_ROUNDS = 1,     /* 2 in a build */
    PER_ENTRY = 12,     /* segments that a book is made from, for each entry */
    MIN_SAMPLE = 32768, /* and at least as many */
};

/* The i-th of n rows that a book is made from: for a kind's book none of those that are measured,
 * where there are others. */
static uint32_t sample_row(const struct rival_work *k, uint32_t i, uint32_t n) {
    uint32_t n_out = k->task->n_out, row = (uint32_t)((uint64_t)i * n_out / n);
    if (!k->form.is_shared || n_out == 1) return row;
    /* Measured rows are the even ones of those that matter: take the next odd one. */
    uint32_t odd = row | 1;
    return odd < n_out ? odd : odd - 2;
}

/* A book for matrices [first, first + n) of the task. */
static int make_book(const struct rival_work *k, uint32_t first, uint32_t n, struct codebook *ret,
                     struct err *e) {
    uint32_t len = k->form.len, n_in = k->task->n_in, n_groups = n * (n_in / len);
    uint32_t want = MAX((uint32_t)MIN_SAMPLE, k->form.k * PER_ENTRY);
    uint32_t n_rows = MIN(k->task->n_out, MAX(1u, want / n_groups));
    struct segsample s;
    int r = segsample_init(&s, k->t->mem, len, n, n_rows, n_in, e);
    if (r < 0) return r;
    for (uint32_t m = 0; m < n; m++) {
        const struct rival_mat *mat = &k->task->mats[first + m];
        for (uint32_t i = 0; i < n_rows; i++)
            segsample_row(&s, m, i, mat->w + (size_t)sample_row(k, i, n_rows) * n_in);
        segsample_energies(&s, m, mat->moments, (size_t)n_in + 1);
    }
    r = codebook_train(k->t->mem, k->t->pool, &k->t->ops, &s.s, k->form.k, BOOK_ROUNDS, ret, e);
    segsample_fini(&s);
    return r;
}

/* w[n_rows][n_in] as segments: q. */
static int fit(const struct rival_work *k, const struct segfit *f, const struct codebook *book,
               const float *w, uint32_t n_rows, float *q, struct err *e) {
    struct segfit_error unused;
    struct segfit_mat m;
    int r = segfit_mat_init(&m, book, n_rows, k->task->n_in, e);
    if (r == 0) r = segfit_run(f, k->t->pool, &k->t->ops, w, FIT_ROUNDS, &m, &unused, e);
    if (r == 0) segfit_read(&m, q);
    segfit_mat_fini(&m);
    return r;
}

static int one_matrix(struct rival_work *k, uint32_t mat, const struct codebook *book,
                      struct err *e) {
    const struct rival_mat *m = &k->task->mats[mat];
    struct segfit **kept = &k->task->kept->fits[mat][k->form.len / 8], *f = *kept;
    int r = 0;
    if (!f) r = segfit_create(k->t->mem, m->moments, k->task->n_in, k->form.len, &f, e);
    if (r == -EDOM) r = segfit_create(k->t->mem, NULL, k->task->n_in, k->form.len, &f, e);
    if (r < 0) return r;
    if (k->is_kept) *kept = f;
    if (k->form.rank > 0) {
        r = fit(k, f, book, m->w, k->task->n_out, k->q, e);
        if (r == 0) r = rival_add_pair(k, mat, e);
    } else {
        rival_take(k, mat);
        r = fit(k, f, book, k->some, k->n_some, k->some_q, e);
        if (r == 0) r = rival_measure(k, mat, NULL, e);
    }
    if (!k->is_kept) segfit_destroy(f);
    return r;
}

void rival_kept_fini(struct rival_kept *k) {
    for (unsigned i = 0; i < RIVAL_BOOKS; i++) codebook_fini(&k->books[i]);
    for (unsigned m = 0; m < RIVAL_MATS; m++) {
        segfit_destroy(k->fits[m][0]);
        segfit_destroy(k->fits[m][1]);
        feedback_destroy(k->feedbacks[m]);
    }
}

static int run_shared(struct rival_work *k, struct err *e) {
    struct codebook *book = &k->task->kept->books[k->form.len / 8 * 3 + (k->form.bits - 8u) / 2];
    int r = book->entries ? 0 : make_book(k, 0, k->task->n_mats, book, e);
    for (uint32_t i = 0; r == 0 && i < k->task->n_mats; i++) r = one_matrix(k, i, book, e);
    return r;
}

int rival_segments(struct rival_work *k, struct err *e) {
    int r = 0;
    if (k->form.is_shared) return run_shared(k, e);
    for (uint32_t i = 0; r == 0 && i < k->task->n_mats; i++) {
        struct codebook book = {0};
        r = make_book(k, i, 1, &book, e);
        if (r == 0) r = one_matrix(k, i, &book, e);
        codebook_fini(&book);
    }
    return r;
}
