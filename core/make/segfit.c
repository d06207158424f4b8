#include "core/make/segfit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/linalg.h"
#include "core/make/codebook.h"
#include "core/make/slots.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    ROWS = 96,  /* of one piece of work; a book is turned once for all of them */
    BLOCK = 64, /* inputs whose errors are passed on at once */
    MAX_LEN = CODEBOOK_MAX_LEN,
};
#define MAX_GAIN 65504.0f /* largest finite fp16 */

/* Everything is in the order of the segments: input s * len + j of the fit is input
 * order[s] * len + j of the matrix. */
struct segfit {
    struct mem *mem;
    uint32_t n, len, n_segs;
    uint32_t *order;   /* [n_segs] */
    double mean;       /* energy of an input, before it was scaled to 1 */
    float *moments;    /* [n][n], damped, mean energy 1 */
    float *factor;     /* [n][n], upper, inv(A) = u^T u */
    float *open_turn;  /* [n_segs][len][len] inv(u_s) */
    float *close_turn; /* [n_segs][len][len] lower l, A_s = l l^T */
    float *close_inv;  /* [n_segs][len][len] inv(A_s) */
    size_t square_bytes, turn_bytes;
};

/* ---- what follows from the moments -------------------------------------------------------------
 */

struct key {
    double energy;
    uint32_t i;
};

static int by_energy(const void *a, const void *b) {
    const struct key *x = a, *y = b;
    if (x->energy != y->energy) return x->energy > y->energy ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* A, or the identity, with a mean energy of 1 and the segments in order, damped. */
static int take_moments(struct segfit *f, const float *a, struct err *e) {
    size_t n = f->n, len = f->len;
    double mean = 0.0;
    for (size_t i = 0; a && i < n; i++) mean += (double)a[i * n + i] / (double)n;
    if (a && !(mean > 0.0 && isfinite(mean))) return err_set(e, -EDOM, "the inputs have no energy");
    f->mean = a ? mean : 1.0;
    struct key *keys = calloc(f->n_segs, sizeof(*keys));
    if (!keys) return err_set(e, -ENOMEM, "no memory to sort %zu inputs", n);
    for (uint32_t s = 0; s < f->n_segs; s++) {
        keys[s].i = s;
        for (size_t i = s * len; a && i < (s + 1) * len; i++)
            keys[s].energy += (double)a[i * n + i];
    }
    /* What is no number would leave the order to chance; it is refused when factorised. */
    for (uint32_t s = 0; s < f->n_segs; s++)
        if (!isfinite(keys[s].energy)) keys[s].energy = 0.0;
    qsort(keys, f->n_segs, sizeof(*keys), by_energy);
    for (uint32_t s = 0; s < f->n_segs; s++) f->order[s] = keys[s].i;
    free(keys);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            size_t y = f->order[i / len] * len + i % len, x = f->order[j / len] * len + j % len;
            f->moments[i * n + j] = a ? (float)((double)a[y * n + x] / mean) : (float)(i == j);
        }
    for (size_t i = 0; i < n; i++) f->moments[i * n + i] += SEGFIT_DAMPING;
    return 0;
}

/* ret = inv(u), upper triangular, [len][len]. */
static void invert_upper(const double *u, uint32_t len, double *ret) {
    memset(ret, 0, (size_t)len * len * sizeof(*ret));
    for (uint32_t c = 0; c < len; c++)
        for (uint32_t r = c + 1; r-- > 0;) {
            double sum = r == c ? 1.0 : 0.0;
            for (uint32_t k = r + 1; k <= c; k++) sum -= u[r * len + k] * ret[k * len + c];
            ret[r * len + c] = sum / u[r * len + r];
        }
}

/* The block at segment s of the moments: its factor and its inverse. */
static int close_block(struct segfit *f, uint32_t s, struct err *e) {
    uint32_t len = f->len, n = f->n;
    double a[MAX_LEN * MAX_LEN], u[MAX_LEN * MAX_LEN], l[MAX_LEN * MAX_LEN];
    for (uint32_t i = 0; i < len; i++)
        for (uint32_t j = 0; j < len; j++)
            a[i * len + j] = (double)f->moments[(size_t)(s * len + i) * n + s * len + j];
    /* inv(a) = u^T u, so a = inv(u) inv(u)^T: any root will do as a metric. */
    int r = linalg_inverse_factor(len, a, u, e);
    if (r < 0) return r;
    invert_upper(u, len, l);
    for (uint32_t i = 0; i < len; i++)
        for (uint32_t j = 0; j < len; j++) {
            size_t at = (size_t)s * len * len + i * len + j;
            double sum = 0.0;
            for (uint32_t k = 0; k < len; k++) sum += u[k * len + i] * u[k * len + j];
            f->close_turn[at] = (float)l[i * len + j];
            f->close_inv[at] = (float)sum;
        }
    return 0;
}

static int factorise(struct segfit *f, struct err *e) {
    size_t n = f->n, len = f->len, bytes = n * n * sizeof(double);
    double *a = mem_alloc(f->mem, MEM_PACKER, bytes);
    if (!a) return err_set(e, -ENOMEM, "no memory to factorise %zu inputs", n);
    for (size_t i = 0; i < n * n; i++) a[i] = (double)f->moments[i];
    int r = linalg_inverse_factor(f->n, a, a, e);
    for (size_t i = 0; r == 0 && i < n * n; i++) f->factor[i] = (float)a[i];
    for (uint32_t s = 0; r == 0 && s < f->n_segs; s++) {
        double u[MAX_LEN * MAX_LEN], t[MAX_LEN * MAX_LEN];
        for (size_t i = 0; i < len; i++)
            memcpy(u + i * len, a + (s * len + i) * n + s * len, len * sizeof(*u));
        invert_upper(u, f->len, t);
        for (size_t i = 0; i < len * len; i++) f->open_turn[s * len * len + i] = (float)t[i];
        r = close_block(f, s, e);
    }
    mem_free(f->mem, MEM_PACKER, a, bytes);
    return r;
}

int segfit_create(struct mem *m, const float *moments, uint32_t n, uint32_t len,
                  struct segfit **ret, struct err *e) {
    ASSERT((len == 4 || len == 8) && n >= 32 && n % 32 == 0);
    struct segfit *f = calloc(1, sizeof(*f));
    if (!f) return err_set(e, -ENOMEM, "no memory to fit segments");
    f->mem = m;
    f->n = n;
    f->len = len;
    f->n_segs = n / len;
    f->square_bytes = (size_t)n * n * sizeof(float);
    f->turn_bytes = (size_t)n * len * sizeof(float);
    f->order = calloc(f->n_segs, sizeof(*f->order));
    f->moments = mem_alloc(m, MEM_PACKER, f->square_bytes);
    f->factor = mem_alloc(m, MEM_PACKER, f->square_bytes);
    f->open_turn = mem_alloc(m, MEM_PACKER, f->turn_bytes);
    f->close_turn = mem_alloc(m, MEM_PACKER, f->turn_bytes);
    f->close_inv = mem_alloc(m, MEM_PACKER, f->turn_bytes);
    int r = 0;
    if (!f->order || !f->moments || !f->factor || !f->open_turn || !f->close_turn || !f->close_inv)
        r = err_set(e, -ENOMEM, "no memory for the moments of %u inputs", n);
    if (r == 0) r = take_moments(f, moments, e);
    if (r == 0) r = factorise(f, e);
    if (r < 0) {
        segfit_destroy(f);
        return r;
    }
    *ret = f;
    return 0;
}

void segfit_destroy(struct segfit *f) {
    if (!f) return;
    free(f->order);
    mem_free(f->mem, MEM_PACKER, f->moments, f->square_bytes);
    mem_free(f->mem, MEM_PACKER, f->factor, f->square_bytes);
    mem_free(f->mem, MEM_PACKER, f->open_turn, f->turn_bytes);
    mem_free(f->mem, MEM_PACKER, f->close_turn, f->turn_bytes);
    mem_free(f->mem, MEM_PACKER, f->close_inv, f->turn_bytes);
    free(f);
}

/* ---- one piece: up to ROWS rows ----------------------------------------------------------------
 */

struct job {
    const struct segfit *f;
    const struct kern_ops *ops;
    const struct segfit_mat *mat;
    const float *w;
    unsigned rounds;
    struct slots *slots;
    struct segfit_error *errors; /* [pieces] */
};

struct work {
    const struct job *j;
    const struct segfit *f;
    const struct codebook *book;
    uint32_t n, len, row0, n_rows;
    float *w;        /* [rows][n], the weights */
    float *open;     /* [rows][n], with the errors passed on so far; later the pull, left * A */
    float *q;        /* [rows][n], what is stored reads as */
    float *left;     /* [rows][n], w - q */
    float *book_now; /* [len + 1][k], the book in a segment's coordinates */
    float *passed;   /* [rows][BLOCK], errors or changes of a block */
    float *x;        /* [rows][len], segments in a segment's coordinates */
    float *gain;     /* [rows] */
    uint16_t *found; /* [rows] */
};

static void *carve(uint8_t **at, size_t bytes) {
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

/* Lays a piece's memory out from `base` on; returns its size. */
static size_t work_bind(const struct job *j, uint8_t *base, struct work *ret) {
    const struct segfit *f = j->f;
    const struct codebook *b = j->mat->book;
    size_t wide = (size_t)ROWS * f->n * sizeof(float);
    uint8_t *at = base;
    *ret = (struct work){.j = j, .f = f, .book = b, .n = f->n, .len = f->len};
    ret->w = carve(&at, wide);
    ret->open = carve(&at, wide);
    ret->q = carve(&at, wide);
    ret->left = carve(&at, wide);
    ret->book_now = carve(&at, (size_t)(f->len + 1) * b->k * sizeof(float));
    ret->passed = carve(&at, (size_t)ROWS * BLOCK * sizeof(float));
    ret->x = carve(&at, (size_t)ROWS * f->len * sizeof(float));
    ret->gain = carve(&at, ROWS * sizeof(float));
    ret->found = carve(&at, ROWS * sizeof(uint16_t));
    return (size_t)(at - base);
}

static void load_rows(struct work *k) {
    for (size_t row = 0; row < k->n_rows; row++) {
        const float *from = k->j->w + (k->row0 + row) * k->n;
        float *to = k->w + row * k->n;
        double sum = 0.0;
        for (size_t s = 0; s < k->f->n_segs; s++)
            memcpy(to + s * k->len, from + (size_t)k->f->order[s] * k->len, k->len * sizeof(float));
        for (size_t i = 0; i < k->n; i++) sum += (double)to[i] * (double)to[i];
        k->gain[row] = (float)sqrt(sum / k->n) * k->book->scale;
    }
}

/* Gains become what fp16 holds of them. */
static void store_gains(struct work *k) {
    uint16_t *half = k->j->mat->gain + k->row0;
    for (uint32_t row = 0; row < k->n_rows; row++) k->gain[row] = fminf(k->gain[row], MAX_GAIN);
    k->j->ops->to_f16(k->gain, k->n_rows, half);
    for (uint32_t row = 0; row < k->n_rows; row++) k->gain[row] = kern_from_f16(half[row]);
}

static uint16_t *index_at(const struct work *k, uint32_t row, uint32_t s) {
    return &k->j->mat->index[(size_t)(k->row0 + row) * k->f->n_segs + k->f->order[s]];
}

/* The entries nearest to the segments s of `from`, in the coordinates of a metric. */
static void find(const struct work *k, uint32_t s, const float *from, const float *metric) {
    uint32_t len = k->len;
    for (uint32_t row = 0; row < k->n_rows; row++) {
        const float *v = from + (size_t)row * k->n + (size_t)s * len;
        float inv = k->gain[row] > 0.0f ? 1.0f / k->gain[row] : 0.0f, x[MAX_LEN];
        for (uint32_t i = 0; i < len; i++) x[i] = v[i] * inv;
        codebook_turn_segment(x, len, metric, k->x + (size_t)row * len);
    }
    codebook_turn(k->book, metric, k->book_now);
    k->j->ops->nearest(k->x, k->n_rows, k->book_now, k->book->k, len, k->found);
}

/* Takes the entry found for segment s of a row; its error goes to the rest of the block and into
 * passed[]. Inputs [i0, i1) are the block. */
static void take_open(const struct work *k, uint32_t row, uint32_t s, uint32_t i0, uint32_t i1) {
    size_t n = k->n, len = k->len, at = s * len;
    float *open = k->open + row * n, *q = k->q + row * n, e[MAX_LEN];
    float *z = k->passed + (size_t)row * BLOCK + (at - i0);
    for (size_t i = 0; i < len; i++) {
        q[at + i] = k->gain[row] * k->book->columns[i * k->book->k + k->found[row]];
        e[i] = open[at + i] - q[at + i];
    }
    *index_at(k, row, s) = k->found[row];
    codebook_turn_segment(e, k->len, k->f->open_turn + s * len * len, z);
    for (size_t i = 0; i < len; i++) {
        const float *u = k->f->factor + (at + i) * n;
        for (size_t c = at + len; c < i1; c++) open[c] -= z[i] * u[c];
    }
}

static void feedback(struct work *k) {
    size_t n = k->n;
    memcpy(k->open, k->w, k->n_rows * n * sizeof(float));
    for (uint32_t i0 = 0; i0 < n; i0 += BLOCK) {
        uint32_t i1 = MIN(i0 + BLOCK, k->n);
        for (uint32_t s = i0 / k->len; s < i1 / k->len; s++) {
            find(k, s, k->open, k->f->open_turn + (size_t)s * k->len * k->len);
            for (uint32_t row = 0; row < k->n_rows; row++) take_open(k, row, s, i0, i1);
        }
        gemm_nn_sub(k->n_rows, n - i1, i1 - i0, k->passed, BLOCK, k->f->factor + i0 * n + i1, n,
                    k->open + i1, n);
    }
}

/* ret = left * A */
static void multiply(const struct work *k, const float *left, float *ret) {
    gemm_nn(k->n_rows, k->n, k->n, left, k->n, k->f->moments, k->n, ret, k->n);
}

static void set_left(const struct work *k) {
    for (size_t i = 0; i < (size_t)k->n_rows * k->n; i++) k->left[i] = k->w[i] - k->q[i];
}

/* The best gain of each row: with left = w - q, d of q (1 + d) is (left A q) / (q A q). The new q
 * is laid out; the gain stays as it is where there is nothing to gain. */
static void refit(struct work *k) {
    size_t n = k->n;
    multiply(k, k->q, k->open);
    for (size_t row = 0; row < k->n_rows; row++) {
        double above = 0.0, below = 0.0;
        for (size_t i = row * n; i < (row + 1) * n; i++) {
            above += (double)k->open[i] * (double)k->left[i];
            below += (double)k->open[i] * (double)k->q[i];
        }
        double by = 1.0 + above / below;
        k->passed[row * BLOCK] = k->gain[row];
        if (below > 0.0 && by > 0.0 && isfinite(by)) k->gain[row] *= (float)by;
    }
    store_gains(k);
    for (size_t row = 0; row < k->n_rows; row++) {
        float old = k->passed[row * BLOCK], by = old > 0.0f ? k->gain[row] / old : 1.0f;
        for (size_t i = row * n; i < (row + 1) * n; i++) k->q[i] *= by;
    }
    set_left(k);
}

/* Takes the entry found for segment s of a row; what changes goes to the pull of the block and into
 * passed[]. */
static void take_close(const struct work *k, uint32_t row, uint32_t s, uint32_t i0, uint32_t i1) {
    size_t n = k->n, len = k->len, at = s * len;
    float *pull = k->open + row * n, *q = k->q + row * n;
    float *change = k->passed + (size_t)row * BLOCK + (at - i0);
    *index_at(k, row, s) = k->found[row];
    for (size_t i = 0; i < len; i++) {
        float v = k->gain[row] * k->book->columns[i * k->book->k + k->found[row]];
        change[i] = v - q[at + i];
        q[at + i] = v;
        if (change[i] == 0.0f) continue;
        const float *a = k->f->moments + (at + i) * n;
        for (size_t c = i0; c < i1; c++) pull[c] -= change[i] * a[c];
    }
}

/* Where the others pull segment s of each row: q + pull inv(A_s), into `left`. */
static void set_target(const struct work *k, uint32_t s) {
    size_t n = k->n, len = k->len, at = s * len;
    for (size_t row = 0; row < k->n_rows; row++) {
        float *to = k->left + row * n + at;
        codebook_turn_segment(k->open + row * n + at, k->len, k->f->close_inv + s * len * len, to);
        for (size_t i = 0; i < len; i++) to[i] += k->q[row * n + at + i];
    }
}

/* `left` is w - q when it begins and when it ends. */
static void descend(struct work *k) {
    size_t n = k->n;
    multiply(k, k->left, k->open);
    for (uint32_t i0 = 0; i0 < n; i0 += BLOCK) {
        uint32_t i1 = MIN(i0 + BLOCK, k->n);
        for (uint32_t s = i0 / k->len; s < i1 / k->len; s++) {
            set_target(k, s);
            find(k, s, k->left, k->f->close_turn + (size_t)s * k->len * k->len);
            for (uint32_t row = 0; row < k->n_rows; row++) take_close(k, row, s, i0, i1);
        }
        /* The block's own pull has followed already. */
        gemm_nn_sub(k->n_rows, i0, i1 - i0, k->passed, BLOCK, k->f->moments + i0 * n, n, k->open,
                    n);
        gemm_nn_sub(k->n_rows, n - i1, i1 - i0, k->passed, BLOCK, k->f->moments + i0 * n + i1, n,
                    k->open + i1, n);
    }
    set_left(k);
}

static double form(const struct work *k, const float *left) {
    double sum = 0.0;
    multiply(k, left, k->open);
    for (size_t i = 0; i < (size_t)k->n_rows * k->n; i++)
        sum += (double)left[i] * (double)k->open[i];
    return sum;
}

static void fit_piece(void *ud, uint32_t piece) {
    struct job *j = ud;
    void *slot = slots_claim(j->slots);
    struct work k;
    work_bind(j, slot, &k);
    k.row0 = piece * ROWS;
    k.n_rows = MIN(j->mat->n_out - k.row0, (uint32_t)ROWS);
    load_rows(&k);
    store_gains(&k);
    feedback(&k);
    set_left(&k);
    for (unsigned i = 0; i < j->rounds; i++) {
        refit(&k);
        descend(&k);
    }
    refit(&k);
    j->errors[piece] = (struct segfit_error){form(&k, k.left), form(&k, k.w)};
    slots_release(j->slots, slot);
}

int segfit_run(const struct segfit *f, struct pool *pool, const struct kern_ops *ops,
               const float *w, unsigned rounds, const struct segfit_mat *mat,
               struct segfit_error *ret, struct err *e) {
    ASSERT(mat->n_in == f->n && mat->book->len == f->len);
    uint32_t n_pieces = (mat->n_out + ROWS - 1) / ROWS;
    struct job j = {.f = f,
                    .ops = ops,
                    .mat = mat,
                    .w = w,
                    .rounds = rounds,
                    .errors = calloc(n_pieces, sizeof(*j.errors))};
    struct work unused;
    int r = slots_create(f->mem, pool_threads(pool), work_bind(&j, NULL, &unused), &j.slots);
    if (r < 0 || !j.errors) {
        r = err_set(e, -ENOMEM, "no memory to fit the rows of a matrix");
        goto out;
    }
    pool_run(pool, fit_piece, &j, n_pieces);
    *ret = (struct segfit_error){0};
    for (uint32_t i = 0; i < n_pieces; i++) {
        ret->error += j.errors[i].error;
        ret->output += j.errors[i].output;
    }
out:
    slots_destroy(j.slots);
    free(j.errors);
    return r;
}

void segfit_read(const struct segfit_mat *mat, float *ret) {
    const struct codebook *b = mat->book;
    size_t n_segs = mat->n_in / b->len;
    for (size_t row = 0; row < mat->n_out; row++) {
        float gain = kern_from_f16(mat->gain[row]);
        for (size_t s = 0; s < n_segs; s++) {
            const int8_t *c = b->entries + (size_t)mat->index[row * n_segs + s] * b->len;
            for (size_t i = 0; i < b->len; i++)
                ret[row * mat->n_in + s * b->len + i] = gain * (float)c[i];
        }
    }
}

/* ---- what to aim at ----------------------------------------------------------------------------
 */

struct aim {
    const struct segfit *f;
    const float *w, *d;
    float share;
    uint32_t n_out;
    float *ret;
    struct slots *slots; /* [2][ROWS][n] */
};

/* d inv(A) = (d u^T) u, in the order of the fit. */
static void aim_piece(void *ud, uint32_t piece) {
    const struct aim *a = ud;
    size_t n = a->f->n, len = a->f->len, row0 = (size_t)piece * ROWS;
    size_t n_rows = MIN(a->n_out - row0, (size_t)ROWS);
    float *in = slots_claim(a->slots), *half = in + ROWS * n;
    float scale = (float)((double)a->share / a->f->mean);
    for (size_t row = 0; row < n_rows; row++)
        for (size_t s = 0; s < a->f->n_segs; s++)
            memcpy(in + row * n + s * len, a->d + (row0 + row) * n + a->f->order[s] * len,
                   len * sizeof(float));
    gemm_nt(n_rows, n, n, in, n, a->f->factor, n, half, n);
    gemm_nn(n_rows, n, n, half, n, a->f->factor, n, in, n);
    for (size_t row = 0; row < n_rows; row++)
        for (size_t s = 0; s < a->f->n_segs; s++)
            for (size_t i = 0; i < len; i++) {
                size_t at = (row0 + row) * n + a->f->order[s] * len + i;
                a->ret[at] = a->w[at] + scale * in[row * n + s * len + i];
            }
    slots_release(a->slots, in);
}

int segfit_aim(const struct segfit *f, struct pool *pool, const float *w, const float *d,
               float share, uint32_t n_out, float *ret, struct err *e) {
    struct aim a = {.f = f, .w = w, .d = d, .share = share, .n_out = n_out, .ret = ret};
    int r = slots_create(f->mem, pool_threads(pool), 2 * (size_t)ROWS * f->n * sizeof(float),
                         &a.slots);
    if (r < 0) return err_set(e, r, "no memory to aim at other weights");
    pool_run(pool, aim_piece, &a, (n_out + ROWS - 1) / ROWS);
    slots_destroy(a.slots);
    return 0;
}

int segfit_mat_init(struct segfit_mat *m, const struct codebook *book, uint32_t n_out,
                    uint32_t n_in, struct err *e) {
    *m = (struct segfit_mat){.book = book, .n_out = n_out, .n_in = n_in};
    m->gain = calloc(n_out, sizeof(*m->gain));
    m->index = calloc((size_t)n_out * (n_in / book->len), sizeof(*m->index));
    return m->gain && m->index ? 0 : err_set(e, -ENOMEM, "no memory for a matrix of segments");
}

void segfit_mat_fini(struct segfit_mat *m) {
    free(m->gain);
    free(m->index);
    *m = (struct segfit_mat){0};
}
