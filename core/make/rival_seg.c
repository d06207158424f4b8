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
#include "core/make/tools.h"
#include "core/mem.h"

enum {
    BOOK_ROUNDS = 4,    /* 10 in a build: what more gain is little beside what tells rivals apart */
    FIT_ROUNDS = 1,     /* 2 in a build */
    PER_ENTRY = 12,     /* segments that a book is made from, for each entry */
    MIN_SAMPLE = 32768, /* and at least as many */
};

struct sample {
    struct mem *mem;
    struct codebook_sample s;
    float *x, *metric; /* owned */
    size_t x_bytes, metric_bytes;
};

static void sample_fini(struct sample *s) {
    mem_free(s->mem, MEM_PACKER, s->x, s->x_bytes);
    mem_free(s->mem, MEM_PACKER, s->metric, s->metric_bytes);
}

/* The i-th of n rows that a book is made from: for a kind's book none of those that are measured,
 * where there are others. */
static uint32_t sample_row(const struct rival_work *k, uint32_t i, uint32_t n) {
    uint32_t n_out = k->task->n_out, row = (uint32_t)((uint64_t)i * n_out / n);
    if (!k->form.is_shared || n_out == 1) return row;
    /* Measured rows are the even ones of those that matter: take the next odd one. */
    uint32_t odd = row | 1;
    return odd < n_out ? odd : odd - 2;
}

static void take_rows(const struct rival_work *k, struct sample *s, uint32_t at,
                      const struct rival_mat *mat) {
    uint32_t len = s->s.len, n_in = k->task->n_in, n_segs = n_in / len, n_rows = s->s.n_rows;
    float *x = s->x + (size_t)at * n_segs * n_rows * len;
    float *metric = s->metric + (size_t)at * n_in * len;
    double mean = 0.0;
    for (uint32_t i = 0; i < n_rows; i++) {
        const float *row = mat->w + (size_t)sample_row(k, i, n_rows) * n_in;
        double sum = 0.0;
        for (uint32_t c = 0; c < n_in; c++) sum += (double)row[c] * (double)row[c];
        float inv = sum > 0.0 ? (float)(1.0 / sqrt(sum / n_in)) : 0.0f;
        for (uint32_t g = 0; g < n_segs; g++)
            for (uint32_t j = 0; j < len; j++)
                x[((size_t)g * n_rows + i) * len + j] = inv * row[g * len + j];
    }
    for (size_t i = 0; mat->moments && i < n_in; i++)
        mean += (double)mat->moments[i * n_in + i] / n_in;
    for (size_t i = 0; i < n_in; i++) {
        double share = mean > 0.0 ? (double)mat->moments[i * n_in + i] / mean : 1.0;
        metric[i / len * len * len + i % len * (len + 1)] = (float)sqrt(fmax(share, 0.0) +
                                                                        (double)SEGFIT_DAMPING);
    }
}

/* A book for matrices [first, first + n) of the task. */
static int make_book(const struct rival_work *k, uint32_t first, uint32_t n, struct codebook *ret,
                     struct err *e) {
    struct sample s = {.mem = k->t->mem};
    uint32_t len = k->form.len, n_groups = n * (k->task->n_in / len);
    uint32_t want = MAX((uint32_t)MIN_SAMPLE, k->form.k * PER_ENTRY);
    uint32_t n_rows = MIN(k->task->n_out, MAX(1u, want / n_groups));
    s.x_bytes = (size_t)n_groups * n_rows * len * sizeof(float);
    s.metric_bytes = (size_t)n_groups * len * len * sizeof(float);
    s.x = mem_alloc(s.mem, MEM_PACKER, s.x_bytes);
    s.metric = mem_alloc(s.mem, MEM_PACKER, s.metric_bytes);
    s.s = (struct codebook_sample){len, n_groups, n_rows, s.x, s.metric};
    int r = s.x && s.metric ? 0 : err_set(e, -ENOMEM, "no memory for what a book is made from");
    for (uint32_t i = 0; r == 0 && i < n; i++) take_rows(k, &s, i, &k->task->mats[first + i]);
    if (r == 0)
        r = codebook_train(k->t->mem, k->t->pool, &k->t->ops, &s.s, k->form.k, BOOK_ROUNDS, ret, e);
    sample_fini(&s);
    return r;
}

/* w[n_rows][n_in] as segments: q. */
static int fit(const struct rival_work *k, const struct segfit *f, const struct codebook *book,
               const float *w, uint32_t n_rows, float *q, struct err *e) {
    struct segfit_error unused;
    uint32_t n_in = k->task->n_in;
    struct segfit_mat m = {.book = book, .n_out = n_rows, .n_in = n_in};
    m.gain = calloc(n_rows, sizeof(*m.gain));
    m.index = calloc((size_t)n_rows * (n_in / book->len), sizeof(*m.index));
    int r = 0;
    if (!m.gain || !m.index) r = err_set(e, -ENOMEM, "no memory for a matrix of segments");
    if (r == 0) r = segfit_run(f, k->t->pool, &k->t->ops, w, FIT_ROUNDS, &m, &unused, e);
    if (r == 0) segfit_read(&m, q);
    free(m.gain);
    free(m.index);
    return r;
}

/* Segments, and a pair on what they leave. */
static int with_pair(struct rival_work *k, uint32_t mat, const struct segfit *f,
                     const struct codebook *book, struct err *e) {
    int r = fit(k, f, book, k->task->mats[mat].w, k->task->n_out, k->q, e);
    if (r == 0) r = rival_pair(k, mat, k->q, e);
    for (size_t i = 0; r == 0 && i < (size_t)k->task->n_out * k->task->n_in; i++)
        k->q[i] += k->pair[i];
    return r == 0 ? rival_measure(k, mat, k->q, e) : r;
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
        r = with_pair(k, mat, f, book, e);
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
