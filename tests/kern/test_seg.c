/* Shared segments and whole channels: every variant gives the reference's bits for every form, any
 * batch and any range of row tiles, reads and writes nothing else, and a kernel with a fault does
 * not pass. */
#include "tests/kern/kern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOK = 19 };

static const struct form {
    uint8_t len, bits;
} forms[] = {{4, 8}, {4, 10}, {4, 12}, {8, 8}, {8, 10}, {8, 12}};
enum { N_FORMS = sizeof(forms) / sizeof(*forms) };

/* One matrix and one batch, each array in memory of its own. */
struct problem {
    struct guarded gains, index, book;
    struct guarded_batch acts;
    struct output out;
    struct kern_seg w;
};

static void problem_free(struct problem *p) {
    guarded_free(&p->gains);
    guarded_free(&p->index);
    guarded_free(&p->book);
    batch_free(&p->acts);
    output_free(&p->out);
}

static void make_matrix(struct problem *p, struct form form, uint32_t n_out, uint32_t n_in,
                        enum fill f, enum edge edge, uint64_t *rng) {
    size_t n_rt = planes_row_tiles(n_out), n_book = ((size_t)1 << form.bits) * form.len;
    size_t n_index = seg_index_bytes(n_out, n_in, form.len, form.bits);
    uint16_t *gains = guarded_get(&p->gains, n_rt * SEG_GAIN_BYTES, 2, edge);
    /* Aligned less than promised: the last readable byte then is the page's. */
    uint8_t *index = guarded_get(&p->index, n_index + SEG_INDEX_SLACK, 2, edge);
    uint8_t *book = guarded_get(&p->book, n_book, 64, edge);
    fill_f16(gains, n_rt * PLANE_ROWS, f == FILL_ZERO ? FILL_RANDOM : f, 300, rng);
    fill_bytes(index, n_index, f == FILL_TINY ? FILL_RANDOM : f, 0, 255, rng);
    /* An alternating book beside alternating activations has all products of one sign. */
    fill_bytes(book, n_book, f, -127, 127, rng);
    if (f == FILL_ONE_HOT) fill_bytes(index, n_index, FILL_RANDOM, 0, 255, rng);
    p->w = (struct kern_seg){.gains = (const uint8_t *)gains,
                             .index = index,
                             .book = (const int8_t *)book,
                             .n_out = n_out,
                             .n_in = n_in,
                             .len = form.len,
                             .bits = form.bits};
}

/* A kernel and its problem, as the comparison takes them. */
struct call {
    kern_seg_mul_fn *fn;
    const struct problem *p;
};

static void call_seg(const void *ud, uint32_t n_tok, float *y, size_t ldy, uint32_t rt0,
                     uint32_t rt1) {
    const struct call *c = ud;
    c->fn(&c->p->w, &c->p->acts.x, n_tok, y, ldy, rt0, rt1);
}

static bool run(struct problem *p, kern_seg_mul_fn *fn, struct shape s, const float *want,
                const char *op, const char *variant, uint64_t *rng) {
    struct call c = {fn, p};
    char what[80];
    snprintf(what, sizeof(what), "%s/%s, len %d, bits %d", op, variant, p->w.len, p->w.bits);
    return product_check(&p->out, call_seg, &c, s, want, op[0] ? what : NULL, rng);
}

static float *reference(const struct problem *p, uint32_t n_tok) {
    struct kern_ops ref;
    kern_init(&ref, 0);
    struct call c = {ref.gemm_seg, p};
    return product_all(call_seg, &c, p->w.n_out, n_tok);
}

static void check_shape(struct problem *p, uint32_t n_out, uint32_t n_in, uint32_t n_tok,
                        enum fill codes, enum fill acts, uint64_t *rng) {
    for (int i_form = 0; i_form < N_FORMS; i_form++) {
        struct shape s = {.n_out = n_out, .n_in = n_in, .codes = codes, .acts = acts};
        s.edge = t_rand(rng) & 1 ? EDGE_BEGIN : EDGE_END;
        make_matrix(p, forms[i_form], n_out, n_in, codes, s.edge, rng);
        batch_make(&p->acts, n_in, n_tok, acts, s.edge, rng);
        float *want = reference(p, n_tok);
        struct kern_ops ops;
        for (unsigned i = 0; variant_next(&i, &ops);) {
            s.n_tok = 1;
            run(p, ops.gemv_seg, s, want, "gemv_seg", ops.name, rng);
            for (s.n_tok = 1; s.n_tok <= n_tok; s.n_tok++)
                run(p, ops.gemm_seg, s, want, "gemm_seg", ops.name, rng);
        }
        free(want);
    }
}

void test_seg_variants(void) {
    static const uint32_t n_ins[] = {32, 64, 96, 160, 576}, n_outs[] = {1, 8, 9, 23};
    uint64_t rng = t_seed();
    struct problem p = {0};
    for (int c = 0; c < FILL_COUNT; c++)
        for (int a = 0; a < FILL_COUNT; a++) check_shape(&p, 17, 64, 3, c, a, &rng);
    for (size_t i = 0; i < 5; i++)
        for (size_t o = 0; o < 4; o++)
            check_shape(&p, n_outs[o], n_ins[i], 9, FILL_RANDOM, FILL_RANDOM, &rng);
    check_shape(&p, 24, 1536, MAX_TOK, FILL_RANDOM, FILL_RANDOM, &rng);
    check_shape(&p, 16, 1536, 5, FILL_HIGH, FILL_LOW, &rng);
    check_shape(&p, 16, 1536, 5, FILL_ALTERNATING, FILL_ALTERNATING, &rng);
    check_shape(&p, 1537, 96, 2, FILL_RANDOM, FILL_RANDOM, &rng);
    problem_free(&p);
}

/* Where an index lies, by hand and there and back. */
void test_seg_layout(void) {
    uint64_t rng = t_seed();
    CHECK_EQU(seg_index_bytes(17, 64, 4, 12), 3 * 16 * 12);
    CHECK_EQU(seg_index_bytes(16, 64, 8, 10), 2 * 8 * 10);
    CHECK_EQU(seg_column(64, 8, 10, 2, 3), (2 * 8 + 3) * 10);

    uint8_t column[SEG_MAX_BITS] = {0};
    seg_put(column, 12, 3, 0xabc); /* bits 36..47: the upper half of byte 4, then byte 5 */
    CHECK_EQU(column[4], 0xc0);
    CHECK_EQU(column[5], 0xab);
    memset(column, 0, sizeof(column));
    seg_put(column, 10, 5, 0x2ff); /* bits 50..59 */
    CHECK_EQU(column[6], 0xfc);
    CHECK_EQU(column[7], 0x0b);

    for (int f = 0; f < N_FORMS; f++) {
        uint32_t bits = forms[f].bits, index[PLANE_ROWS];
        for (int round = 0; round < 50; round++) {
            memset(column, 0, sizeof(column));
            for (uint32_t r = 0; r < PLANE_ROWS; r++) {
                index[r] = rand_below(&rng, 1u << bits);
                seg_put(column, bits, r, index[r]);
            }
            for (uint32_t r = 0; r < PLANE_ROWS; r++) CHECK_EQU(seg_get(column, bits, r), index[r]);
        }
    }
}

/* The reference itself, against products in double of weights that were put in by index. */
void test_seg_reference(void) {
    enum { N_OUT = 19, N_IN = 96, N_TOK = 2, N_GROUPS = N_IN / PLANE_GROUP, LD = 24 };
    uint64_t rng = t_seed();
    struct problem p = {0};
    struct kern_ops ref;
    kern_init(&ref, 0);
    for (int f = 0; f < N_FORMS; f++) {
        static double weights[N_OUT][N_IN];
        uint32_t len = forms[f].len, bits = forms[f].bits;
        make_matrix(&p, forms[f], N_OUT, N_IN, FILL_RANDOM, EDGE_END, &rng);
        batch_make(&p.acts, N_IN, N_TOK, FILL_RANDOM, EDGE_END, &rng);
        memset(p.index.data, 0, p.index.n);
        for (uint32_t r = 0; r < N_OUT; r++) {
            uint16_t gain;
            memcpy(&gain, p.gains.data + 2 * r, 2);
            for (uint32_t s = 0; s < N_IN / len; s++) {
                uint32_t index = rand_below(&rng, 1u << bits);
                seg_put(p.index.data + seg_column(N_IN, len, bits, r / 8, s), bits, r % 8, index);
                for (uint32_t j = 0; j < len; j++)
                    weights[r][s * len + j] = (double)kern_from_f16(gain) *
                                              p.w.book[index * len + j];
            }
        }
        float *y = reference(&p, N_TOK);
        for (uint32_t t = 0; t < N_TOK; t++) {
            for (uint32_t r = 0; r < N_OUT; r++) {
                double sum = 0, size = 0;
                for (uint32_t i = 0; i < N_IN; i++) {
                    double x = (double)p.acts.x.scale[t * N_GROUPS + i / PLANE_GROUP] *
                               p.acts.x.q[t * N_IN + i] * weights[r][i];
                    sum += x;
                    size += fabs(x);
                }
                CHECK_NEAR((double)y[t * LD + r], sum, 1e-6 * size);
            }
        }
        free(y);
    }
    problem_free(&p);
}

/* Faulty kernels, each with a fault that a careless test would pass. */
static void seg_good(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                     size_t ldy, uint32_t rt0, uint32_t rt1) {
    struct kern_ops ref;
    kern_init(&ref, 0);
    ref.gemm_seg(w, x, n_tok, y, ldy, rt0, rt1);
}

static void seg_one_ulp(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_good(w, x, n_tok, y, ldy, rt0, rt1);
    if (rt0 < rt1) y[rt0 * 8 + 7] = nextafterf(y[rt0 * 8 + 7], INFINITY);
}

static void seg_last_token(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                           float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_good(w, x, n_tok - (n_tok > 1), y, ldy, rt0, rt1);
}

/* The last row tile stops at the rows that exist. */
static void seg_stops_early(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                            float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    float kept = y[(size_t)rt1 * 8 - 1];
    seg_good(w, x, n_tok, y, ldy, rt0, rt1);
    if (rt0 < rt1 && rt1 * 8 > w->n_out) y[(size_t)rt1 * 8 - 1] = kept;
}

static int clamp16(int v) {
    return v > INT16_MAX ? INT16_MAX : v < INT16_MIN ? INT16_MIN : v;
}

/* Adds two pair sums in int16: wrong at extremes only. */
static void seg_saturates(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                          float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    for (uint32_t t = 0; t < n_tok; t++) {
        for (uint32_t row = rt0 * 8; row < rt1 * 8; row++) {
            float acc = 0;
            for (uint32_t g = 0; g < n_groups; g++) {
                int32_t isum = 0;
                for (uint32_t i = g * 32; i < g * 32 + 32; i += 4) {
                    const uint8_t *column = w->index + seg_column(w->n_in, w->len, w->bits, row / 8,
                                                                  i / w->len);
                    const int8_t *b = w->book + seg_get(column, w->bits, row % 8) * w->len;
                    const int8_t *q = x->q + (size_t)t * w->n_in + i;
                    b += i % w->len;
                    isum += clamp16(b[0] * q[0] + b[1] * q[1] + b[2] * q[2] + b[3] * q[3]);
                }
                acc = fmaf(x->scale[t * n_groups + g], (float)isum, acc);
            }
            uint16_t gain;
            memcpy(&gain, w->gains + 2 * row, 2);
            y[t * ldy + row] = kern_from_f16(gain) * acc;
        }
    }
}

static void seg_reads_beyond(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                             float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_good(w, x, n_tok, y, ldy, rt0, rt1);
    size_t end = seg_index_bytes(w->n_out, w->n_in, w->len, w->bits) + SEG_INDEX_SLACK;
    volatile uint8_t next = w->index[end];
    (void)next;
}

/* Whether the machinery above passes fn, over a few shapes. */
static bool passes(kern_seg_mul_fn *fn) {
    uint64_t rng = t_seed();
    struct problem p = {0};
    bool ok = true;
    for (int round = 0; round < 4 * N_FORMS && ok; round++) {
        struct shape s = {.n_out = 30, .n_in = 64, .edge = round & 1 ? EDGE_BEGIN : EDGE_END};
        enum fill f = round & 2 ? FILL_ALTERNATING : FILL_RANDOM;
        make_matrix(&p, forms[round / 4], s.n_out, s.n_in, f, s.edge, &rng);
        for (s.n_tok = 1; s.n_tok <= 3; s.n_tok++) {
            batch_make(&p.acts, s.n_in, s.n_tok, f, s.edge, &rng);
            float *want = reference(&p, s.n_tok);
            ok = ok && run(&p, fn, s, want, "", "", &rng);
            free(want);
        }
    }
    problem_free(&p);
    return ok;
}

static void read_beyond(void) {
    passes(seg_reads_beyond);
}

void test_seg_catches_bad(void) {
    CHECK(passes(seg_good));
    CHECK(!passes(seg_one_ulp));
    CHECK(!passes(seg_last_token));
    CHECK(!passes(seg_stops_early));
    CHECK(!passes(seg_saturates));
    CHECK(!child_survives(read_beyond));
}

void test_gather(void) {
    enum { N_T = 70 };
    uint64_t rng = t_seed();
    struct guarded gains = {0}, labels = {0}, t = {0}, out = {0};
    struct kern_ops ref, ops;
    kern_init(&ref, 0);
    for (uint32_t n = 0; n <= 67; n++) {
        for (int f = 0; f < FILL_COUNT; f++) {
            enum edge edge = t_rand(&rng) & 1 ? EDGE_BEGIN : EDGE_END;
            uint16_t *g = guarded_get(&gains, n * sizeof(*g), sizeof(*g), edge);
            uint16_t *l = guarded_get(&labels, n * sizeof(*l), sizeof(*l), edge);
            float *v = guarded_get(&t, N_T * sizeof(*v), sizeof(*v), edge);
            float want[67];
            fill_f16(g, n, f, 60000, &rng);
            fill_floats(v, N_T, t_rand(&rng) & 1 ? f : FILL_RANDOM, 1e4f, &rng);
            for (uint32_t i = 0; i < n; i++)
                l[i] = (uint16_t)(f == FILL_LOW    ? 0
                                  : f == FILL_HIGH ? N_T - 1
                                                   : rand_below(&rng, N_T));
            for (uint32_t i = 0; i < n; i++) want[i] = kern_from_f16(g[i]) * v[l[i]];
            float *y = guarded_get(&out, n * sizeof(*y), sizeof(*y), edge);
            ref.gather(g, l, v, n, y);
            CHECK_MEM(y, want, n * sizeof(*y));
            for (unsigned i = 0; variant_next(&i, &ops);) {
                y = guarded_get(&out, n * sizeof(*y), sizeof(*y), edge);
                ops.gather(g, l, v, n, y);
                CHECK_MEM(y, want, n * sizeof(*y));
                CHECK(guarded_intact(&out));
            }
        }
    }
    guarded_free(&gains);
    guarded_free(&labels);
    guarded_free(&t);
    guarded_free(&out);
}
