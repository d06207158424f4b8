#include "core/make/output.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/slots.h"
#include "core/make/tools.h"
#include "core/pool.h"

enum { ROWS = 64 }; /* of one piece of work */

struct job {
    const float *r, *q, *moments;
    uint32_t n_rows, n;
    struct slots *slots; /* [2][ROWS][n] floats */
    double *sums;        /* [pieces] */
};

static void add_piece(void *ud, uint32_t piece) {
    struct job *j = ud;
    size_t n = j->n, row0 = (size_t)piece * ROWS, n_rows = MIN(j->n_rows - row0, (size_t)ROWS);
    float *left = slots_claim(j->slots), *pull = left + ROWS * n;
    const float *r = j->r + row0 * n, *q = j->q ? j->q + row0 * n : NULL;
    double sum = 0.0;
    for (size_t i = 0; i < n_rows * n; i++) left[i] = q ? r[i] - q[i] : r[i];
    if (j->moments) gemm_nn(n_rows, n, n, left, n, j->moments, n, pull, n);
    const float *by = j->moments ? pull : left;
    for (size_t i = 0; i < n_rows * n; i++) sum += (double)left[i] * (double)by[i];
    j->sums[piece] = sum;
    slots_release(j->slots, left);
}

int output_energy(struct tools *t, const float *r, const float *q, uint32_t n_rows, uint32_t n,
                  const float *moments, double *ret, struct err *e) {
    uint32_t n_pieces = (n_rows + ROWS - 1) / ROWS;
    struct job j = {.r = r, .q = q, .moments = moments, .n_rows = n_rows, .n = n};
    j.sums = calloc(n_pieces, sizeof(*j.sums));
    int err = slots_create(t->mem, pool_threads(t->pool), 2 * ROWS * (size_t)n * sizeof(float),
                           &j.slots);
    if (err < 0 || !j.sums) {
        err = err_set(e, -ENOMEM, "no memory to weigh the output of %u rows", n_rows);
        goto out;
    }
    pool_run(t->pool, add_piece, &j, n_pieces);
    *ret = 0.0;
    for (uint32_t i = 0; i < n_pieces; i++) *ret += j.sums[i];
    /* Rounding may leave what is nothing a little below it. */
    if (*ret < 0.0) *ret = 0.0;
out:
    slots_destroy(j.slots);
    free(j.sums);
    return err;
}
