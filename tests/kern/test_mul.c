/* Matrix products and rows: every variant gives the reference's bits, for any batch and any range
 * of row tiles, writes nothing else, and a kernel with a fault does not pass. */
#include "tests/kern/kern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One matrix and one batch, each array in memory of its own. */
struct problem {
    struct guarded rows, groups, high, low;
    struct guarded_batch acts;
    struct output out;
    struct kern_planes w;
};

static void problem_free(struct problem *p) {
    guarded_free(&p->rows);
    guarded_free(&p->groups);
    guarded_free(&p->high);
    guarded_free(&p->low);
    batch_free(&p->acts);
    output_free(&p->out);
}

static void make_matrix(struct problem *p, uint32_t n_out, uint32_t n_in, enum fill f,
                        enum edge edge, uint64_t *rng) {
    size_t n_rt = planes_row_tiles(n_out), n_tiles = n_rt * (n_in / PLANE_GROUP);
    uint8_t *rows = guarded_get(&p->rows, n_rt * PLANE_ROW_BYTES, 64, edge);
    uint8_t *groups = guarded_get(&p->groups, n_tiles * PLANE_SCALE_BYTES, 64, edge);
    uint8_t *high = guarded_get(&p->high, n_tiles * PLANE_TILE_BYTES, 64, edge);
    uint8_t *low = guarded_get(&p->low, n_tiles * PLANE_TILE_BYTES, 64, edge);
    /* The planes' extremes meet in all combinations: low codes run against the high ones. */
    enum fill against = f == FILL_LOW ? FILL_HIGH : f == FILL_HIGH ? FILL_LOW : f;
    fill_f16((uint16_t *)(void *)rows, n_rt * 16, f == FILL_ZERO ? FILL_RANDOM : f, 300, rng);
    fill_bytes(groups, n_tiles * PLANE_SCALE_BYTES, f, 0, 255, rng);
    fill_bytes(high, n_tiles * PLANE_TILE_BYTES, f, 0, 255, rng);
    fill_bytes(low, n_tiles * PLANE_TILE_BYTES, t_rand(rng) & 1 ? against : f, 0, 255, rng);
    p->w = (struct kern_planes){
        .rows = rows, .groups = groups, .high = high, .low = low, .n_out = n_out, .n_in = n_in};
}

/* A kernel and its problem, as the comparison takes them. */
struct call {
    kern_mul_fn *fn;
    const struct problem *p;
};

static void call_mul(const void *ud, uint32_t n_tok, float *y, size_t ldy, uint32_t rt0,
                     uint32_t rt1) {
    const struct call *c = ud;
    c->fn(&c->p->w, &c->p->acts.x, n_tok, y, ldy, rt0, rt1);
}

static bool run_ranges(struct problem *p, kern_mul_fn *fn, struct shape s, const float *want,
                       const char *what, uint64_t *rng) {
    struct call c = {fn, p};
    return product_check(&p->out, call_mul, &c, s, want, what, rng);
}

static float *reference(const struct problem *p, kern_mul_fn *fn, uint32_t n_tok) {
    struct call c = {fn, p};
    return product_all(call_mul, &c, p->w.n_out, n_tok);
}

enum { MAX_TOK = 19 };

static void check_problem(struct problem *p, struct shape s, uint64_t *rng) {
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    float *high = reference(p, ref.gemm_high, s.n_tok),
          *full = reference(p, ref.gemm_full, s.n_tok);
    uint32_t n_tok = s.n_tok;
    char what[64];
    for (unsigned i = 0; variant_next(&i, &ops);) {
        s.n_tok = 1;
        snprintf(what, sizeof(what), "gemv_high/%s", ops.name);
        run_ranges(p, ops.gemv_high, s, high, what, rng);
        snprintf(what, sizeof(what), "gemv_full/%s", ops.name);
        run_ranges(p, ops.gemv_full, s, full, what, rng);
        for (s.n_tok = 1; s.n_tok <= n_tok; s.n_tok++) {
            snprintf(what, sizeof(what), "gemm_high/%s", ops.name);
            run_ranges(p, ops.gemm_high, s, high, what, rng);
            snprintf(what, sizeof(what), "gemm_full/%s", ops.name);
            run_ranges(p, ops.gemm_full, s, full, what, rng);
        }
    }
    free(high);
    free(full);
}

static void check_shape(struct problem *p, uint32_t n_out, uint32_t n_in, uint32_t n_tok,
                        enum fill codes, enum fill acts, uint64_t *rng) {
    struct shape s = {.n_out = n_out, .n_in = n_in, .n_tok = n_tok, .codes = codes, .acts = acts};
    s.edge = t_rand(rng) & 1 ? EDGE_BEGIN : EDGE_END;
    make_matrix(p, n_out, n_in, codes, s.edge, rng);
    batch_make(&p->acts, n_in, n_tok, acts, s.edge, rng);
    check_problem(p, s, rng);
}

void test_mul_variants(void) {
    static const uint32_t n_ins[] = {32, 64, 96, 160, 576}, n_outs[] = {1, 8, 9, 23, 40};
    uint64_t rng = t_seed();
    struct problem p = {0};
    for (int c = 0; c < FILL_COUNT; c++)
        for (int a = 0; a < FILL_COUNT; a++) check_shape(&p, 17, 64, 9, c, a, &rng);
    for (size_t i = 0; i < 5; i++)
        for (size_t o = 0; o < 5; o++)
            check_shape(&p, n_outs[o], n_ins[i], 9, FILL_RANDOM, FILL_RANDOM, &rng);
    check_shape(&p, 24, 1536, MAX_TOK, FILL_RANDOM, FILL_RANDOM, &rng);
    check_shape(&p, 16, 1536, 5, FILL_HIGH, FILL_HIGH, &rng);
    check_shape(&p, 1537, 96, 3, FILL_RANDOM, FILL_RANDOM, &rng);
    /* More row tiles than a block of the batched walk holds. */
    check_shape(&p, 640, 1536, 1, FILL_RANDOM, FILL_RANDOM, &rng);
    problem_free(&p);
}

/* The reference itself, against products of its rows in double. */
void test_mul_reference(void) {
    enum { N_OUT = 19, N_IN = 96, N_TOK = 2, N_GROUPS = N_IN / PLANE_GROUP };
    uint64_t rng = t_seed();
    struct problem p = {0};
    struct kern_ops ref;
    kern_init(&ref, 0);
    make_matrix(&p, N_OUT, N_IN, FILL_RANDOM, EDGE_END, &rng);
    batch_make(&p.acts, N_IN, N_TOK, FILL_RANDOM, EDGE_END, &rng);
    for (int is_full = 0; is_full < 2; is_full++) {
        struct kern_planes w = p.w;
        if (!is_full) w.low = NULL;
        float *y = reference(&p, is_full ? ref.gemm_full : ref.gemm_high, N_TOK);
        for (uint32_t t = 0; t < N_TOK; t++) {
            for (uint32_t r = 0; r < N_OUT; r++) {
                float row[N_IN];
                double sum = 0, size = 0;
                ref.row(&w, r, row);
                for (uint32_t i = 0; i < N_IN; i++) {
                    double x = (double)p.acts.x.scale[t * N_GROUPS + i / PLANE_GROUP] *
                               p.acts.x.q[t * N_IN + i];
                    sum += x * (double)row[i];
                    size += fabs(x * (double)row[i]);
                }
                CHECK_NEAR((double)y[t * 24 + r], sum, 1e-6 * size);
            }
        }
        free(y);
    }

    /* One weight by hand: row 5, input 18 of group 1 is byte (18 / 4 % 4) * 32 + 5 * 4 + 18 % 4 =
     * 22 of its tile, in the high nibble, as 18 >= 16. */
    memset(p.high.data, 0, p.high.n);
    memset(p.low.data, 0, p.low.n);
    p.high.data[PLANE_TILE_BYTES + 22] = 11 << 4;
    p.low.data[PLANE_TILE_BYTES + 22] = 3 << 4;
    p.groups.data[PLANE_SCALE_BYTES + 5] = 40;
    p.groups.data[PLANE_SCALE_BYTES + 13] = 7;
    uint16_t one = 0x3c00, two = 0x4000;
    memcpy(p.rows.data + 2 * 5, &two, 2);
    memcpy(p.rows.data + 16 + 2 * 5, &one, 2);
    float row[N_IN];
    struct kern_planes w = p.w;
    ref.row(&w, 5, row);
    CHECK_NEAR(row[32 + 18], 2.0 * 40 / 8 * (8 * 11 + 3 - 8) - 1.0 * 7, 0);
    CHECK_NEAR(row[32 + 17], 2.0 * 40 / 8 * -8 - 1.0 * 7, 0);
    w.low = NULL;
    ref.row(&w, 5, row);
    CHECK_NEAR(row[32 + 18], 2.0 * 40 * 11 - 1.0 * 7, 0);
    problem_free(&p);
}

void test_row(void) {
    uint64_t rng = t_seed();
    struct problem p = {0};
    struct guarded out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (int f = 0; f < FILL_COUNT; f++) {
        for (uint32_t n_in = 64; n_in <= 576; n_in += 256) {
            float want[576];
            enum edge edge = f % 2 ? EDGE_BEGIN : EDGE_END;
            make_matrix(&p, 13, n_in, f, edge, &rng);
            for (uint32_t r = 0; r < 13 * 2; r++) {
                struct kern_planes w = p.w;
                if (r & 1) w.low = NULL;
                ref.row(&w, r / 2, want);
                for (unsigned i = 0; variant_next(&i, &ops);) {
                    float *ret = guarded_get(&out, n_in * sizeof(float), sizeof(float), edge);
                    ops.row(&w, r / 2, ret);
                    CHECK_MEM(ret, want, n_in * sizeof(float));
                    CHECK(guarded_intact(&out));
                }
            }
        }
    }
    guarded_free(&out);
    problem_free(&p);
}

/* Faulty kernels, each with a fault that a careless test would pass. */
static void mul_good(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                     float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    struct kern_ops ref;
    kern_init(&ref, 0);
    ref.gemm_high(w, x, n_tok, y, ldy, rt0, rt1);
}

static void mul_one_ulp(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    mul_good(w, x, n_tok, y, ldy, rt0, rt1);
    if (rt0 < rt1) y[rt0 * 8 + 3] = nextafterf(y[rt0 * 8 + 3], INFINITY);
}

static void mul_last_token(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                           float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    mul_good(w, x, n_tok - (n_tok > 1), y, ldy, rt0, rt1);
}

static void mul_whole_matrix(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                             float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    (void)rt0; /* writes the rows below its range too */
    mul_good(w, x, n_tok, y, ldy, 0, rt1);
}

static void mul_writes_gap(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                           float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    mul_good(w, x, n_tok, y, ldy, rt0, rt1);
    if (n_tok > 1) y[rt1 * 8] = 0;
}

static void mul_reads_beyond(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                             float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    mul_good(w, x, n_tok, y, ldy, rt0, rt1);
    volatile int8_t next = x->q[(size_t)n_tok * w->n_in];
    (void)next;
}

/* Whether the machinery above passes fn, over a few shapes. */
static bool passes(kern_mul_fn *fn) {
    uint64_t rng = t_seed();
    struct problem p = {0};
    bool ok = true;
    for (int round = 0; round < 8 && ok; round++) {
        struct shape s = {.n_out = 30, .n_in = 64, .edge = round & 1 ? EDGE_BEGIN : EDGE_END};
        make_matrix(&p, s.n_out, s.n_in, FILL_RANDOM, s.edge, &rng);
        for (s.n_tok = 1; s.n_tok <= 3; s.n_tok++) {
            batch_make(&p.acts, s.n_in, s.n_tok, FILL_RANDOM, s.edge, &rng);
            float *want = reference(&p, mul_good, s.n_tok);
            ok = ok && run_ranges(&p, fn, s, want, NULL, &rng);
            free(want);
        }
    }
    problem_free(&p);
    return ok;
}

static void read_beyond(void) {
    passes(mul_reads_beyond);
}

void test_mul_catches_bad(void) {
    CHECK(passes(mul_good));
    CHECK(!passes(mul_one_ulp));
    CHECK(!passes(mul_last_token));
    CHECK(!passes(mul_whole_matrix));
    CHECK(!passes(mul_writes_gap));

    CHECK(!child_survives(read_beyond)); /* one byte too much must end a program */
}
