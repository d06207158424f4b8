/* One matrix of a layer in the form of its kind: base, then a pair on what the base leaves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/channels.h"
#include "core/make/lowrank.h"
#include "core/make/output.h"
#include "core/make/segsample.h"
#include "core/make/third_internal.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "kernels/seg.h"

enum {
    BOOK_ROUNDS = 10,
    FIT_ROUNDS = 2,       /* of refit and descent */
    LLOYD_ROUNDS = 25,    /* at most */
    OWN_SEGMENTS = 65536, /* that a matrix's own book is made from, */
    PER_ENTRY = 32,       /* and at least as many for each entry */
};

/* ---- segments ----------------------------------------------------------------------------------
 */

static void put_segments(const struct third_mat *m, const struct segfit_mat *from) {
    uint32_t len = m->form->len, n_segs = from->n_in / len, bits = m->form->bits;
    memcpy(m->extent + m->at->gains, from->gain, from->n_out * sizeof(*from->gain));
    if (!m->book) memcpy(m->extent + m->at->book, from->book->entries, (size_t)from->book->k * len);
    for (uint32_t row = 0; row < from->n_out; row++)
        for (uint32_t s = 0; s < n_segs; s++) {
            size_t column = seg_column(from->n_in, len, bits, row / PLANE_ROWS, s);
            seg_put(m->extent + m->at->index + column, bits, row % PLANE_ROWS,
                    from->index[(size_t)row * n_segs + s]);
        }
}

static int own_book(const struct third_mat *m, struct codebook *ret, struct err *e) {
    uint32_t n_out = m->at->n_out, n_in = m->at->n_in, n_groups = n_in / m->form->len;
    uint32_t want = MAX((uint32_t)OWN_SEGMENTS, PER_ENTRY * m->form->k);
    uint32_t n_rows = MIN(n_out, MAX(1u, want / n_groups));
    struct segsample s;
    int r = segsample_init(&s, m->t->mem, m->form->len, 1, n_rows, n_in, e);
    if (r < 0) return r;
    for (uint32_t i = 0; i < n_rows; i++)
        segsample_row(&s, 0, i, m->aim + (uint64_t)i * n_out / n_rows * n_in);
    segsample_energies(&s, 0, m->moments, (size_t)n_in + 1);
    r = codebook_train(m->t->mem, m->t->pool, &m->t->ops, &s.s, m->form->k, BOOK_ROUNDS, ret, e);
    segsample_fini(&s);
    return r;
}

static int fit_segments(const struct third_mat *m, float *ret, struct segfit_error *error,
                        struct err *e) {
    struct codebook own = {0};
    struct segfit_mat s = {0};
    struct segfit *fit = NULL;
    int r = m->book ? 0 : own_book(m, &own, e);
    if (r == 0) r = segfit_mat_init(&s, m->book ? m->book : &own, m->at->n_out, m->at->n_in, e);
    if (r == 0 && m->form->len != THIRD_LEN)
        r = segfit_create(m->t->mem, m->moments, m->at->n_in, m->form->len, &fit, e);
    if (r == 0)
        r = segfit_run(fit ? fit : m->fit, m->t->pool, &m->t->ops, m->aim, FIT_ROUNDS, &s, error,
                       e);
    if (r == 0) {
        segfit_read(&s, ret);
        put_segments(m, &s);
    }
    segfit_destroy(fit);
    segfit_mat_fini(&s);
    codebook_fini(&own);
    return r;
}

/* ---- whole channels ----------------------------------------------------------------------------
 */

static int fit_channels(const struct third_mat *m, float *ret, struct err *e) {
    struct factor_inputs in = {.moments = m->moments};
    struct channels_opts o = {
        .k = m->form->k, .bits = m->form->factor_bits, .rounds = LLOYD_ROUNDS};
    struct channels c = {0};
    int r = channels_fit(m->t, m->aim, m->at->n_out, m->at->n_in, &in, &o, &c, e);
    if (r == 0) r = channels_read(m->t, &c, ret, e);
    if (r == 0) {
        memcpy(m->extent + m->at->gains, c.gains, m->at->n_out * sizeof(*c.gains));
        memcpy(m->extent + m->at->labels, c.labels, m->at->n_out * sizeof(*c.labels));
        factor_put(&c.c, m->extent, &m->at->c);
    }
    channels_fini(&c);
    return r;
}

/* ---- the pair ----------------------------------------------------------------------------------
 */

/* To ret, the base as it reads, comes the pair on what it leaves. */
static int add_pair(const struct third_mat *m, float *ret, struct err *e) {
    struct lowrank_rest rest = {.w = m->aim,
                                .q = ret,
                                .n_out = m->at->n_out,
                                .n_in = m->at->n_in,
                                .in = {.moments = m->moments},
                                .rank = m->form->rank,
                                .bits = m->form->factor_bits,
                                .basis = m->basis};
    struct lowrank l = {0};
    int r = lowrank_add(m->t, &rest, &l, e);
    if (r == 0) {
        factor_put(&l.a, m->extent, &m->at->a);
        if (!m->basis) factor_put(&l.b, m->extent, &m->at->b);
    }
    lowrank_fini(&l);
    return r;
}

int third_fit_mat(const struct third_mat *m, float *ret, struct segfit_error *error,
                  struct err *e) {
    uint32_t n_out = m->at->n_out, n_in = m->at->n_in;
    struct segfit_error x = {0};
    int r = 0;
    switch (m->form->base) {
    case SWSC_SEGMENTS: r = fit_segments(m, ret, &x, e); break;
    case SWSC_CHANNELS: r = fit_channels(m, ret, e); break;
    case SWSC_NONE: memset(ret, 0, (size_t)n_out * n_in * sizeof(*ret)); break;
    }
    if (r == 0 && m->form->rank > 0) r = add_pair(m, ret, e);
    /* Segments alone are measured by their fit, damped as all that it does. */
    if (r == 0 && (m->form->base != SWSC_SEGMENTS || m->form->rank > 0)) {
        r = output_energy(m->t, m->aim, ret, n_out, n_in, m->moments, &x.error, e);
        if (r == 0) r = output_energy(m->t, m->aim, NULL, n_out, n_in, m->moments, &x.output, e);
    }
    error->error += x.error;
    error->output += x.output;
    return r;
}
