#include "core/make/lowrank.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/linalg.h"
#include "core/make/random.h"
#include "core/make/tools.h"
#include "core/mem.h"

enum {
    OVERSAMPLE = 16, /* directions beyond the rank that the range finder follows */
    POWERS = 2,      /* its power iterations; the last product with E M E^T is half of a third */
    SEED = 1,
};

/* Of the largest: singular values below are nothing but rounding, and the ridge of the small
 * systems, which leaves unresolved unknowns where they were. */
#define NOTHING 1e-6
#define RIDGE   1e-7
/* A factor beyond these tells of an unresolved singular value, not of a better one. */
#define FACTOR_MIN 0.5
#define FACTOR_MAX 2.0

/* A block of floats or doubles from one mapping. */
struct block {
    void *p;
    size_t bytes;
};

static bool block_init(struct tools *t, struct block *b, size_t rows, size_t cols, size_t each) {
    b->bytes = rows * cols * each;
    b->p = mem_alloc(t->mem, MEM_PACKER, b->bytes);
    return b->p != NULL;
}

static void block_fini(struct tools *t, struct block *b) {
    mem_free(t->mem, MEM_PACKER, b->p, b->bytes);
}

/* Moments that say nothing count as none. */
static const float *known_moments(const float *moments, uint32_t n) {
    for (size_t i = 0; moments && i < n; i++)
        if (moments[i * n + i] != 0.0f) return moments;
    return NULL;
}

static int check_finite(const float *x, size_t rows, size_t cols, const char *what,
                        struct err *err) {
    for (size_t i = 0; x && i < rows * cols; i++)
        if (!isfinite(x[i]))
            return err_set(err, -EDOM, "%s: row %zu is not finite", what, i / cols);
    return 0;
}

/* ---- the range finder --------------------------------------------------------------------------
 */

struct range {
    struct tools *t;
    const float *e, *moments;
    uint32_t n_out, n_in, width; /* width: directions followed */
    struct block q, q64, wide, pulled, turned;
};

static int range_init(struct range *g, struct err *err) {
    size_t l = g->width;
    bool ok = block_init(g->t, &g->q, l, g->n_out, sizeof(float));
    ok = block_init(g->t, &g->q64, l, g->n_out, sizeof(double)) && ok;
    ok = block_init(g->t, &g->wide, l, g->n_in, sizeof(float)) && ok;
    ok = block_init(g->t, &g->pulled, l, g->n_in, sizeof(float)) && ok;
    ok = block_init(g->t, &g->turned, l, g->n_out, sizeof(float)) && ok;
    return ok ? 0 : err_set(err, -ENOMEM, "no memory to follow %zu directions", l);
}

static void range_fini(struct range *g) {
    block_fini(g->t, &g->q);
    block_fini(g->t, &g->q64);
    block_fini(g->t, &g->wide);
    block_fini(g->t, &g->pulled);
    block_fini(g->t, &g->turned);
}

/* turned = q (E M E^T) */
static void turn(struct range *g) {
    size_t l = g->width, o = g->n_out, i = g->n_in;
    struct pool *p = g->t->pool;
    const float *by = g->wide.p;
    gemm_nn_pool(p, l, i, o, g->q.p, o, g->e, i, g->wide.p, i);
    if (g->moments) {
        gemm_nt_pool(p, l, i, i, g->wide.p, i, g->moments, i, g->pulled.p, i);
        by = g->pulled.p;
    }
    gemm_nt_pool(p, l, o, i, by, i, g->e, i, g->turned.p, o);
}

static int orthonormal(struct range *g, const float *from, struct err *err) {
    size_t n = (size_t)g->width * g->n_out;
    double *q64 = g->q64.p;
    float *q = g->q.p;
    for (size_t i = 0; i < n; i++) q64[i] = (double)from[i];
    int r = linalg_orthonormal(g->width, g->n_out, q64, err);
    for (size_t i = 0; r == 0 && i < n; i++) q[i] = (float)q64[i];
    return r;
}

static int follow(struct range *g, struct err *err) {
    uint64_t rng = SEED;
    float *start = g->turned.p;
    for (size_t i = 0; i < (size_t)g->width * g->n_out; i++) {
        float sum = 0.0f; /* near enough to a Gaussian */
        for (int k = 0; k < 12; k++) sum += (float)random_unit(&rng);
        start[i] = sum - 6.0f;
    }
    int r = orthonormal(g, start, err);
    for (int i = 0; r == 0 && i < POWERS; i++) {
        turn(g);
        r = orthonormal(g, g->turned.p, err);
    }
    return r;
}

/* The best directions in the range followed: u[rank][n_out], and their squared singular values; the
 * rows beyond the range are zero. */
static int rotate(struct range *g, uint32_t rank, float *u, double *squares, struct err *err) {
    size_t l = g->width, o = g->n_out, n = MIN(rank, g->width);
    double *m = calloc(l * l, sizeof(*m)), *values = calloc(l, sizeof(*values));
    float *f = calloc(l * l, sizeof(*f));
    int r = m && values && f ? 0 : err_set(err, -ENOMEM, "no memory for %zu directions", l);
    if (r == 0) {
        turn(g);
        gemm_nt_pool(g->t->pool, l, l, o, g->turned.p, o, g->q.p, o, f, l);
        for (size_t i = 0; i < l; i++)
            for (size_t j = 0; j < l; j++)
                m[i * l + j] = 0.5 * ((double)f[i * l + j] + (double)f[j * l + i]);
        r = linalg_eigen(g->width, m, values, err);
    }
    if (r == 0) {
        for (size_t i = 0; i < l * l; i++) f[i] = (float)m[i];
        memset(u, 0, (size_t)rank * o * sizeof(*u));
        memset(squares, 0, rank * sizeof(*squares));
        gemm_nn_pool(g->t->pool, n, o, l, f, l, g->q.p, o, u, o);
        memcpy(squares, values, n * sizeof(*squares));
    }
    free(m);
    free(values);
    free(f);
    return r;
}

int lowrank_basis(struct tools *t, const float *e, uint32_t n_out, uint32_t n_in,
                  const float *moments, uint32_t rank, float *b, struct err *err) {
    ASSERT(n_in % PLANE_GROUP == 0 && rank > 0 && rank % PLANE_GROUP == 0);
    struct range g = {.t = t, .e = e, .n_out = n_out, .n_in = n_in};
    struct block u = {0};
    double *squares = calloc(rank, sizeof(*squares));
    g.moments = known_moments(moments, n_in);
    g.width = MIN(MIN(n_out, n_in), rank + OVERSAMPLE);
    int r = check_finite(e, n_out, n_in, "the matrix", err);
    if (r == 0) r = check_finite(g.moments, n_in, n_in, "the moments", err);
    if (r == 0) r = range_init(&g, err);
    if (r == 0 && (!squares || !block_init(t, &u, rank, n_out, sizeof(float))))
        r = err_set(err, -ENOMEM, "no memory for a basis of %u", rank);
    if (r == 0) r = follow(&g, err);
    if (r == 0) r = rotate(&g, rank, u.p, squares, err);
    if (r == 0) {
        gemm_nn_pool(t->pool, rank, n_in, n_out, u.p, n_out, e, n_in, b, n_in);
        for (size_t k = 0; k < rank; k++) {
            bool is_there = squares[k] > NOTHING * NOTHING * squares[0];
            float by = is_there ? (float)(1.0 / sqrt(sqrt(squares[k]))) : 0.0f;
            for (size_t i = 0; i < n_in; i++) b[k * n_in + i] = is_there ? b[k * n_in + i] * by : 0;
        }
        r = check_finite(b, rank, n_in, "the basis", err);
    }
    block_fini(t, &u);
    range_fini(&g);
    free(squares);
    return r;
}

/* ---- coefficients ------------------------------------------------------------------------------
 */

struct coefficients {
    struct tools *t;
    const float *e, *moments;
    uint32_t n_out, n_in, rank;
    struct block b, pulled; /* [rank][n_in]: B, and B M */
    struct block cross;     /* [rank][n_out]: B M E^T */
    struct block inner;     /* [rank][rank]: B M B^T */
    struct block a;         /* [n_out][rank] */
    struct block system;    /* [rank][rank] doubles */
    struct block sides;     /* [n_out][rank] doubles */
};

static int coefficients_init(struct coefficients *c, struct err *err) {
    size_t k = c->rank, o = c->n_out, i = c->n_in;
    bool ok = block_init(c->t, &c->b, k, i, sizeof(float));
    ok = block_init(c->t, &c->pulled, k, i, sizeof(float)) && ok;
    ok = block_init(c->t, &c->cross, k, o, sizeof(float)) && ok;
    ok = block_init(c->t, &c->inner, k, k, sizeof(float)) && ok;
    ok = block_init(c->t, &c->a, o, k, sizeof(float)) && ok;
    ok = block_init(c->t, &c->system, k, k, sizeof(double)) && ok;
    ok = block_init(c->t, &c->sides, o, k, sizeof(double)) && ok;
    return ok ? 0 : err_set(err, -ENOMEM, "no memory for coefficients of rank %zu", k);
}

static void coefficients_fini(struct coefficients *c) {
    block_fini(c->t, &c->b);
    block_fini(c->t, &c->pulled);
    block_fini(c->t, &c->cross);
    block_fini(c->t, &c->inner);
    block_fini(c->t, &c->a);
    block_fini(c->t, &c->system);
    block_fini(c->t, &c->sides);
}

static void set_products(struct coefficients *c, const struct factor *b) {
    size_t k = c->rank, o = c->n_out, i = c->n_in;
    struct pool *p = c->t->pool;
    factor_read(b, &c->t->ops, c->b.p);
    if (c->moments)
        gemm_nt_pool(p, k, i, i, c->b.p, i, c->moments, i, c->pulled.p, i);
    else
        memcpy(c->pulled.p, c->b.p, k * i * sizeof(float));
    gemm_nt_pool(p, k, o, i, c->pulled.p, i, c->e, i, c->cross.p, o);
    gemm_nt_pool(p, k, k, i, c->pulled.p, i, c->b.p, i, c->inner.p, k);
}

/* The square [rank][rank] `m` plus a ridge, a share of its largest energy; false if that is
 * nothing. */
static bool add_ridge(double *m, size_t k, double ridge) {
    double top = 0.0;
    for (size_t i = 0; i < k; i++) top = MAX(top, m[i * k + i]);
    for (size_t i = 0; i < k; i++) m[i * k + i] += ridge * top;
    return top > 0.0;
}

/* A = E M B^T (B M B^T)^-1. Where single precision has left the inner moments indefinite, a larger
 * ridge makes them definite; it takes from the smallest singular values only. */
static int solve_a(struct coefficients *c, struct err *err) {
    size_t k = c->rank, o = c->n_out;
    const float *inner = c->inner.p, *cross = c->cross.p;
    double *system = c->system.p, *sides = c->sides.p;
    float *a = c->a.p;
    int r = -EDOM;
    for (double ridge = RIDGE; r == -EDOM && ridge < 1.0; ridge *= 10.0) {
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < k; j++)
                system[i * k + j] = 0.5 * ((double)inner[i * k + j] + (double)inner[j * k + i]);
        for (size_t row = 0; row < o; row++)
            for (size_t i = 0; i < k; i++) sides[row * k + i] = (double)cross[i * o + row];
        if (!add_ridge(system, k, ridge)) return 0; /* and A stays zero */
        r = linalg_solve(c->rank, system, c->n_out, sides, err);
    }
    for (size_t i = 0; r == 0 && i < o * k; i++) a[i] = (float)sides[i];
    return r == 0 ? check_finite(a, o, k, "the coefficients", err) : r;
}

/* Factors of the singular values: (A^T A o B M B^T) d = diag(A^T E M B^T), solved for d - 1. */
static int scale_rows(struct coefficients *c, struct factor *b, const struct factor *a,
                      struct err *err) {
    size_t k = c->rank, o = c->n_out;
    const float *inner = c->inner.p, *cross = c->cross.p;
    double *system = c->system.p, *d = c->sides.p;
    float *read = c->a.p;
    factor_read(a, &c->t->ops, read);
    memset(system, 0, k * k * sizeof(*system));
    for (size_t row = 0; row < o; row++)
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j <= i; j++)
                system[i * k + j] += (double)read[row * k + i] * (double)read[row * k + j];
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++) {
            double v = 0.5 * ((double)inner[i * k + j] + (double)inner[j * k + i]);
            system[j * k + i] = system[i * k + j] *= v;
        }
    for (size_t i = 0; i < k; i++) {
        d[i] = 0.0;
        for (size_t row = 0; row < o; row++)
            d[i] += (double)read[row * k + i] * (double)cross[i * o + row];
        for (size_t j = 0; j < k; j++) d[i] -= system[i * k + j];
    }
    if (!add_ridge(system, k, RIDGE)) return 0;
    int r = linalg_solve(c->rank, system, 1, d, err);
    if (r == -EDOM) return 0; /* no better scales are to be had */
    for (uint32_t i = 0; r == 0 && i < k; i++) {
        double by = 1.0 + d[i];
        if (by >= FACTOR_MIN && by <= FACTOR_MAX)
            (void)factor_scale_row(b, &c->t->ops, i, (float)by);
    }
    return r;
}

int lowrank_coefficients(struct tools *t, const float *e, uint32_t n_out, const float *moments,
                         struct factor *b, bool scale_b, struct factor *ret, struct err *err) {
    struct coefficients c = {.t = t, .e = e, .n_out = n_out, .n_in = b->n_in, .rank = b->n_out};
    c.moments = known_moments(moments, b->n_in);
    int r = check_finite(e, n_out, b->n_in, "the matrix", err);
    if (r == 0) r = check_finite(c.moments, b->n_in, b->n_in, "the moments", err);
    if (r == 0) r = coefficients_init(&c, err);
    if (r == 0) {
        set_products(&c, b);
        r = check_finite(c.inner.p, c.rank, c.rank, "the basis' moments", err);
    }
    if (r == 0) r = solve_a(&c, err);
    if (r == 0)
        r = factor_quantise(t, c.a.p, n_out, c.rank, b->bits,
                            &(struct factor_inputs){.moments = c.inner.p}, ret, err);
    if (r == 0 && scale_b) {
        r = scale_rows(&c, b, ret, err);
        if (r < 0) factor_fini(ret);
    }
    coefficients_fini(&c);
    return r;
}

/* ---- the pair ----------------------------------------------------------------------------------
 */

int lowrank_fit(struct tools *t, const float *e, uint32_t n_out, uint32_t n_in,
                const struct factor_inputs *in, uint32_t rank, uint8_t bits, struct lowrank *ret,
                struct err *err) {
    struct lowrank l = {0};
    struct block b;
    int r = 0;
    if (!block_init(t, &b, rank, n_in, sizeof(float)))
        r = err_set(err, -ENOMEM, "no memory for a basis of %u", rank);
    struct factor_inputs known = *in;
    known.moments = known_moments(in->moments, n_in);
    if (r == 0) r = lowrank_basis(t, e, n_out, n_in, known.moments, rank, b.p, err);
    if (r == 0) r = factor_quantise(t, b.p, rank, n_in, bits, &known, &l.b, err);
    block_fini(t, &b);
    if (r == 0) r = lowrank_coefficients(t, e, n_out, known.moments, &l.b, true, &l.a, err);
    if (r < 0) {
        lowrank_fini(&l);
        return r;
    }
    *ret = l;
    return 0;
}

void lowrank_fini(struct lowrank *l) {
    factor_fini(&l->a);
    factor_fini(&l->b);
}

int lowrank_read(struct tools *t, const struct lowrank *l, float *ret, struct err *err) {
    uint32_t n_out = l->a.n_out, n_in = l->b.n_in, rank = l->b.n_out;
    struct block a, b;
    bool ok = block_init(t, &a, n_out, rank, sizeof(float));
    ok = block_init(t, &b, rank, n_in, sizeof(float)) && ok;
    if (ok) {
        factor_read(&l->a, &t->ops, a.p);
        factor_read(&l->b, &t->ops, b.p);
        gemm_nn_pool(t->pool, n_out, n_in, rank, a.p, rank, b.p, n_in, ret, n_in);
    }
    block_fini(t, &a);
    block_fini(t, &b);
    return ok ? 0 : err_set(err, -ENOMEM, "no memory to read a pair of rank %u", rank);
}

static int fit_rest(struct tools *t, const struct lowrank_rest *k, const float *left, float *pair,
                    struct lowrank *ret, struct err *err) {
    struct lowrank l = {0};
    int r;
    if (!k->basis) {
        r = lowrank_fit(t, left, k->n_out, k->n_in, &k->in, k->rank, k->bits, &l, err);
        if (r == 0) r = lowrank_read(t, &l, pair, err);
    } else {
        r = lowrank_coefficients(t, left, k->n_out, k->in.moments, k->basis, false, &l.a, err);
        struct lowrank both = {.a = l.a, .b = *k->basis};
        if (r == 0) r = lowrank_read(t, &both, pair, err);
    }
    if (r == 0)
        *ret = l;
    else
        lowrank_fini(&l);
    return r;
}

int lowrank_add(struct tools *t, const struct lowrank_rest *k, struct lowrank *ret,
                struct err *err) {
    size_t n = (size_t)k->n_out * k->n_in, bytes = n * sizeof(float);
    float *left = mem_alloc(t->mem, MEM_PACKER, bytes);
    float *pair = mem_alloc(t->mem, MEM_PACKER, bytes);
    int r = left && pair ? 0 : err_set(err, -ENOMEM, "no memory for what a pair takes up");
    for (size_t i = 0; r == 0 && i < n; i++) left[i] = k->w[i] - k->q[i];
    if (r == 0) r = fit_rest(t, k, left, pair, ret, err);
    for (size_t i = 0; r == 0 && i < n; i++) k->q[i] += pair[i];
    mem_free(t->mem, MEM_PACKER, left, bytes);
    mem_free(t->mem, MEM_PACKER, pair, bytes);
    return r;
}
