#include "core/make/channels.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/random.h"
#include "core/make/slots.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/swsc.h"

enum { ROWS = 64, SEED = 1 }; /* rows of a piece of work */
#define MAX_GAIN     65504.0f /* largest finite fp16 */
#define ENERGY_FLOOR 1e-3f    /* of the mean: an input that never moved may move elsewhere */

struct clustering {
    struct tools *t;
    uint32_t n_out, n_in, k;
    float *root;                    /* [n_in] square root of each input's energy */
    float *v, *c;                   /* [n_out][n_in] and [k][n_in], each input times its root */
    float *inv;                     /* [k] 1 / |c|, 0 for nothing */
    float *norm, *cost, *gain;      /* [n_out]: |v|^2; what is left of it; <v, c> / <c, c> */
    uint32_t *label, *was, *counts; /* [n_out], [n_out], [k] */
    double *weight;                 /* [k] sum of squared gains */
    uint32_t seed_at;               /* the centroid that is compared */
    struct slots *slots;            /* [ROWS][k] floats */
};

static size_t v_bytes(const struct clustering *x) {
    return (size_t)x->n_out * x->n_in * sizeof(float);
}

static size_t c_bytes(const struct clustering *x) {
    return (size_t)x->k * x->n_in * sizeof(float);
}

static int clustering_init(struct clustering *x, struct err *e) {
    x->root = calloc(x->n_in, sizeof(*x->root));
    x->v = mem_alloc(x->t->mem, MEM_PACKER, v_bytes(x));
    x->c = mem_alloc(x->t->mem, MEM_PACKER, c_bytes(x));
    x->inv = calloc(x->k, sizeof(*x->inv));
    x->norm = calloc(x->n_out, sizeof(*x->norm));
    x->cost = calloc(x->n_out, sizeof(*x->cost));
    x->gain = calloc(x->n_out, sizeof(*x->gain));
    x->label = calloc(x->n_out, sizeof(*x->label));
    x->was = calloc(x->n_out, sizeof(*x->was));
    x->counts = calloc(x->k, sizeof(*x->counts));
    x->weight = calloc(x->k, sizeof(*x->weight));
    int r = slots_create(x->t->mem, pool_threads(x->t->pool), ROWS * (size_t)x->k * sizeof(float),
                         &x->slots);
    if (r < 0 || !x->root || !x->v || !x->c || !x->inv || !x->norm || !x->cost || !x->gain ||
        !x->label || !x->was || !x->counts || !x->weight)
        return err_set(e, -ENOMEM, "no memory for %u clusters of %u rows", x->k, x->n_out);
    return 0;
}

static void clustering_fini(struct clustering *x) {
    free(x->root);
    mem_free(x->t->mem, MEM_PACKER, x->v, v_bytes(x));
    mem_free(x->t->mem, MEM_PACKER, x->c, c_bytes(x));
    free(x->inv);
    free(x->norm);
    free(x->cost);
    free(x->gain);
    free(x->label);
    free(x->was);
    free(x->counts);
    free(x->weight);
    slots_destroy(x->slots);
}

static uint32_t n_pieces(const struct clustering *x) {
    return (x->n_out + ROWS - 1) / ROWS;
}

static int take_rows(struct clustering *x, const float *w, const float *moments, struct err *e) {
    size_t n = x->n_in;
    double mean = 0.0;
    for (size_t i = 0; moments && i < n; i++) mean += (double)moments[i * n + i] / (double)n;
    if (!isfinite(mean)) return err_set(e, -EDOM, "the moments are not finite");
    for (size_t i = 0; i < n; i++) {
        float energy = mean > 0.0 ? (float)((double)moments[i * n + i] / mean) : 1.0f;
        x->root[i] = sqrtf(energy > ENERGY_FLOOR ? energy : ENERGY_FLOOR);
    }
    for (size_t row = 0; row < x->n_out; row++) {
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            float v = w[row * n + i] * x->root[i];
            x->v[row * n + i] = v;
            sum += (double)v * (double)v;
        }
        if (!(sum <= 1e30)) return err_set(e, -EDOM, "row %zu is not finite", row);
        x->norm[row] = (float)sum;
    }
    return 0;
}

/* ---- start -------------------------------------------------------------------------------------
 */

static float dot(const float *a, const float *b, size_t n) {
    float sum[8] = {0}; /* n is a multiple of 32 */
    for (size_t i = 0; i < n; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] += a[i + j] * b[i + j];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* The costs of a piece's rows fall to what the new centroid would leave. */
static void seed_piece(void *ud, uint32_t piece) {
    struct clustering *x = ud;
    const float *c = x->c + (size_t)x->seed_at * x->n_in;
    float inv = x->inv[x->seed_at];
    uint32_t end = MIN((piece + 1) * ROWS, x->n_out);
    for (uint32_t row = piece * ROWS; row < end; row++) {
        float along = dot(x->v + (size_t)row * x->n_in, c, x->n_in) * inv;
        float left = along > 0.0f ? x->norm[row] - along * along : x->norm[row];
        /* What rounding leaves of a row that is served exactly is not worth a centroid. */
        if (left < 1e-6f * x->norm[row]) left = 0.0f;
        x->cost[row] = MIN(x->cost[row], left);
    }
}

/* A row drawn by cost; x->n_out if nothing costs anything. */
static uint32_t draw_row(const struct clustering *x, double u) {
    double total = 0.0, sum = 0.0;
    uint32_t last = x->n_out;
    for (uint32_t i = 0; i < x->n_out; i++) total += (double)x->cost[i];
    for (uint32_t i = 0; i < x->n_out; i++) {
        if (!(x->cost[i] > 0.0f)) continue;
        last = i;
        sum += (double)x->cost[i];
        if (sum > u * total) break;
    }
    return last;
}

static void set_inverse(struct clustering *x, uint32_t c) {
    const float *p = x->c + (size_t)c * x->n_in;
    double sum = 0.0;
    for (size_t i = 0; i < x->n_in; i++) sum += (double)p[i] * (double)p[i];
    float inv = (float)(1.0 / sqrt(sum));
    x->inv[c] = sum > 0.0 && isfinite(inv) ? inv : 0.0f;
}

static void start_at(struct clustering *x, uint32_t c, uint32_t row) {
    memcpy(x->c + (size_t)c * x->n_in, x->v + (size_t)row * x->n_in, x->n_in * sizeof(float));
    set_inverse(x, c);
}

static void seed(struct clustering *x) {
    uint64_t rng = SEED;
    memcpy(x->cost, x->norm, x->n_out * sizeof(*x->cost));
    for (uint32_t c = 0; c < x->k; c++) {
        uint32_t row = draw_row(x, random_unit(&rng));
        if (row == x->n_out) return; /* fewer kinds of rows than clusters: the rest stay zero */
        start_at(x, c, row);
        x->cost[row] = 0.0f;
        x->seed_at = c;
        pool_run(x->t->pool, seed_piece, x, n_pieces(x));
    }
}

/* ---- rounds ------------------------------------------------------------------------------------
 */

static void label_piece(void *ud, uint32_t piece) {
    struct clustering *x = ud;
    size_t n = x->n_in, row0 = (size_t)piece * ROWS, n_rows = MIN(x->n_out - row0, (size_t)ROWS);
    float *along = slots_claim(x->slots);
    gemm_nt(n_rows, x->k, n, x->v + row0 * n, n, x->c, n, along, x->k);
    for (size_t r = 0; r < n_rows; r++) {
        float best = 0.0f, *a = along + r * x->k;
        uint32_t label = 0;
        for (uint32_t c = 0; c < x->k; c++) {
            float v = a[c] * x->inv[c];
            label = v > best ? c : label;
            best = v > best ? v : best;
        }
        float left = x->norm[row0 + r] - best * best;
        x->label[row0 + r] = label;
        x->gain[row0 + r] = best * x->inv[label];
        x->cost[row0 + r] = left > 0.0f ? left : 0.0f;
    }
    slots_release(x->slots, along);
}

/* Each centroid to the least cost of its rows at their gains: sum(g v) / sum(g^2). */
static void move_centroids(struct clustering *x) {
    size_t n = x->n_in;
    memset(x->c, 0, c_bytes(x));
    memset(x->weight, 0, x->k * sizeof(*x->weight));
    memset(x->counts, 0, x->k * sizeof(*x->counts));
    for (uint32_t row = 0; row < x->n_out; row++) {
        float g = x->gain[row], *c = x->c + x->label[row] * n;
        const float *v = x->v + row * n;
        if (!(g > 0.0f)) continue;
        x->counts[x->label[row]]++;
        x->weight[x->label[row]] += (double)g * (double)g;
        for (size_t i = 0; i < n; i++) c[i] += g * v[i];
    }
    for (uint32_t c = 0; c < x->k; c++) {
        float by = x->weight[c] > 0.0 ? (float)(1.0 / x->weight[c]) : 0.0f;
        if (!isfinite(by)) by = 0.0f;
        for (size_t i = 0; i < n; i++) x->c[c * n + i] *= by;
        set_inverse(x, c);
    }
}

/* Clusters without rows start anew at the rows that are served worst, which leave theirs. */
static void repair(struct clustering *x) {
    for (uint32_t c = 0; c < x->k; c++) {
        if (x->counts[c] > 0) continue;
        uint32_t worst = x->n_out;
        float cost = 0.0f;
        for (uint32_t row = 0; row < x->n_out; row++)
            if (x->cost[row] > cost && x->counts[x->label[row]] > 1) {
                cost = x->cost[row];
                worst = row;
            }
        if (worst == x->n_out || cost < 1e-6f * x->norm[worst]) return;
        x->counts[x->label[worst]]--;
        x->counts[c] = 1;
        x->label[worst] = c;
        x->cost[worst] = 0.0f;
        start_at(x, c, worst);
    }
}

static void run_rounds(struct clustering *x, unsigned rounds) {
    seed(x);
    pool_run(x->t->pool, label_piece, x, n_pieces(x));
    for (unsigned i = 0; i < rounds; i++) {
        memcpy(x->was, x->label, x->n_out * sizeof(*x->was));
        move_centroids(x);
        repair(x);
        pool_run(x->t->pool, label_piece, x, n_pieces(x));
        if (memcmp(x->was, x->label, x->n_out * sizeof(*x->was)) == 0) break;
    }
}

/* ---- what is stored ----------------------------------------------------------------------------
 */

/* Centroids as weights, to planes. */
static int quantise(struct clustering *x, const struct factor_inputs *in, uint8_t bits,
                    struct factor *ret, struct err *e) {
    for (size_t c = 0; c < x->k; c++)
        for (size_t i = 0; i < x->n_in; i++) x->c[c * x->n_in + i] /= x->root[i];
    return factor_quantise(x->t, x->c, x->k, x->n_in, bits, in, ret, e);
}

/* The gain of each row that makes the output's error least: with p = C M, <w, p> / <c, p>. */
static int fit_gains(struct clustering *x, const float *w, const float *moments,
                     struct channels *ret, struct err *e) {
    size_t n = x->n_in;
    float *read = x->c, *p = read;
    factor_read(&ret->c, &x->t->ops, read);
    if (moments) {
        p = mem_alloc(x->t->mem, MEM_PACKER, c_bytes(x));
        if (!p) return err_set(e, -ENOMEM, "no memory to fit gains");
        gemm_nn_pool(x->t->pool, x->k, n, n, read, n, moments, n, p, n);
    }
    for (uint32_t row = 0; row < x->n_out; row++) {
        size_t at = x->label[row] * n;
        float above = dot(w + row * n, p + at, n), below = dot(read + at, p + at, n);
        float g = above / below;
        x->gain[row] = below > 0.0f && g > 0.0f ? MIN(g, MAX_GAIN) : 0.0f;
        ret->labels[row] = (uint16_t)x->label[row];
    }
    if (moments) mem_free(x->t->mem, MEM_PACKER, p, c_bytes(x));
    x->t->ops.to_f16(x->gain, x->n_out, ret->gains);
    return 0;
}

int channels_fit(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in,
                 const struct factor_inputs *in, const struct channels_opts *o,
                 struct channels *ret, struct err *e) {
    ASSERT(o->k >= 1 && o->k <= MIN(n_out, (uint32_t)SWSC_MAX_CHANNELS) && n_in % PLANE_GROUP == 0);
    struct clustering x = {.t = t, .n_out = n_out, .n_in = n_in, .k = o->k};
    struct channels c = {.n_out = n_out, .n_in = n_in, .k = o->k};
    size_t padded = (size_t)planes_row_tiles(n_out) * PLANE_ROWS;
    c.gains = calloc(padded, sizeof(*c.gains));
    c.labels = calloc(padded, sizeof(*c.labels));
    int r = clustering_init(&x, e);
    if (r == 0 && (!c.gains || !c.labels))
        r = err_set(e, -ENOMEM, "no memory for the labels of %u rows", n_out);
    if (r == 0) r = take_rows(&x, w, in->moments, e);
    if (r == 0) {
        run_rounds(&x, o->rounds);
        r = quantise(&x, in, o->bits, &c.c, e);
    }
    if (r == 0) r = fit_gains(&x, w, in->moments, &c, e);
    clustering_fini(&x);
    if (r < 0) {
        channels_fini(&c);
        return r;
    }
    *ret = c;
    return 0;
}

void channels_fini(struct channels *c) {
    factor_fini(&c->c);
    free(c->gains);
    free(c->labels);
    *c = (struct channels){0};
}

int channels_read(struct tools *t, const struct channels *c, float *ret, struct err *e) {
    size_t n = c->n_in, bytes = (size_t)c->k * n * sizeof(float);
    float *read = mem_alloc(t->mem, MEM_PACKER, bytes);
    if (!read) return err_set(e, -ENOMEM, "no memory to read %u channels", c->k);
    factor_read(&c->c, &t->ops, read);
    for (size_t row = 0; row < c->n_out; row++) {
        const float *from = read + c->labels[row] * n;
        float gain = kern_from_f16(c->gains[row]);
        for (size_t i = 0; i < n; i++) ret[row * n + i] = gain * from[i];
    }
    mem_free(t->mem, MEM_PACKER, read, bytes);
    return 0;
}

double channels_average_bits(uint32_t n_out, uint32_t n_in, uint32_t k, double centroid_bits,
                             uint32_t rank, double factor_bits) {
    uint32_t label_bits = 0;
    while (UINT32_C(1) << label_bits < k) label_bits++;
    double o = n_out, i = n_in;
    return (centroid_bits * k * i + o * label_bits + factor_bits * rank * (o + i)) / (o * i);
}
