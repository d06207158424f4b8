#include "core/make/planes.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/feedback.h"
#include "core/make/slots.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    CLIP_STEPS = 7, /* 0 .. 6 notches of CLIP_NOTCH off either end: 0 to 24 % */
    CODE_MAX = 15,
    SCALE_MAX = 255,
    DESCENT_ROUNDS = 8, /* it settles after 2 or 3; a bound against ties that wander */
};
#define CLIP_NOTCH 0.04f

/* An input that calibration never saw moving still gets this share of the mean moment: another
 * text may move it. */
#define MOMENT_FLOOR 1e-3f

/* x + ROUND - ROUND is x rounded to the nearest integer, ties to even, for |x| < 2^22; unlike
 * rintf() compilers turn it into vector code. */
#define ROUND 12582912.0f

static inline float clamp(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

/* The high code and the rest it leaves, in steps; and the low code (0..15) of a rest. A quotient
 * far outside is clamped first, where ROUND still works. */
static inline float high_code(float q) {
    return clamp(q, 0.0f, (float)CODE_MAX) + ROUND - ROUND;
}

static inline float low_code(float rest) {
    return clamp(rest * 8.0f, -8.0f, 7.0f) + ROUND - ROUND + 8.0f;
}

/* How the search measures. */
struct measure {
    const struct kern_ops *ops;
    float full_counts; /* PLANES_FULL_COUNTS, or 0: nothing reads the low plane */
};

static float group_cost(const struct measure *m, const float *w, const float *weights, float s,
                        float o) {
    if (s > 0.0f) return m->ops->group_cost(w, weights, s, o, m->full_counts);
    /* Without a scale every code reads as the offset: the whole distance is the error, twice. */
    float sum = 0.0f;
    for (unsigned i = 0; i < PLANE_GROUP; i++)
        sum += weights[i] * (1.0f + m->full_counts) * (w[i] - o) * (w[i] - o);
    return sum;
}

float planes_group_cost(const struct kern_ops *ops, const float *w, const float *weights, float s,
                        float o) {
    return group_cost(&(struct measure){ops, PLANES_FULL_COUNTS}, w, weights, s, o);
}

/* ---- scales of a row ---------------------------------------------------------------------------
 */

/* What the search knows of one group. */
struct fit {
    float s, m;   /* continuous scale and min (offset = -m), best of the clip search */
    float s0, m0; /* the same without clipping */
    uint8_t sc, mn;
    float cost;
};

static void clip_search(const struct measure *by, const float *w, const float *weights,
                        struct fit *f) {
    float lo = 0.0f, hi = 0.0f; /* zero is always inside: mins are stored as -M * mn <= 0 */
    for (unsigned i = 0; i < PLANE_GROUP; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    float range = hi - lo;
    f->s0 = range / CODE_MAX;
    f->m0 = -lo;
    f->s = f->s0;
    f->m = f->m0;
    if (!(range > 0.0f)) return;
    float best = INFINITY;
    for (unsigned a = 0; a < CLIP_STEPS; a++)
        for (unsigned b = 0; b < CLIP_STEPS; b++) {
            float o = lo + CLIP_NOTCH * (float)a * range;
            o = o < 0.0f ? o : 0.0f;
            float s = (hi - CLIP_NOTCH * (float)b * range - o) / CODE_MAX;
            float c = group_cost(by, w, weights, s, o);
            if (c < best) {
                best = c;
                f->s = s;
                f->m = -o;
            }
        }
}

/* The fp16 whose 255-fold reaches `top`: rounded up, so that the largest group loses nothing. */
static uint16_t row_scale(const struct kern_ops *ops, float top) {
    if (!(top > 0.0f)) return 0;
    float want = top / SCALE_MAX;
    uint16_t h;
    ops->to_f16(&want, 1, &h);
    if (kern_from_f16(h) < want) h++; /* the next one; finite, as weights are bounded */
    return h;
}

static uint8_t to_code(float x, float unit) {
    if (!(unit > 0.0f)) return 0;
    return (uint8_t)(clamp(x / unit, 0.0f, (float)SCALE_MAX) + 0.5f);
}

static void try_codes(const struct measure *by, const float *w, const float *weights, float D,
                      float M, int sc, int mn, struct fit *f) {
    if (sc < 0 || sc > SCALE_MAX || mn < 0 || mn > SCALE_MAX) return;
    float c = group_cost(by, w, weights, D * (float)sc, -M * (float)mn);
    if (c < f->cost) {
        f->cost = c;
        f->sc = (uint8_t)sc;
        f->mn = (uint8_t)mn;
    }
}

/* Downhill over the codes as stored, with strides of 4, 2 and 1: the clip search's grid is coarser
 * than the codes'. */
static void descend(const struct measure *by, const float *w, const float *weights, float D,
                    float M, struct fit *f) {
    for (int stride = 4; stride >= 1; stride /= 2)
        for (unsigned round = 0; round < DESCENT_ROUNDS; round++) {
            int sc = f->sc, mn = f->mn;
            for (int a = -stride; a <= stride; a += stride)
                for (int b = -stride; b <= stride; b += stride)
                    if (a != 0 || b != 0) try_codes(by, w, weights, D, M, sc + a, mn + b, f);
            if (sc == f->sc && mn == f->mn) break;
        }
}

/* A row's D and M, and what its groups cost with the codes nearest to their scales. */
struct row_fit {
    uint16_t d, m;
    float D, M, cost;
};

static void start_row(const struct measure *by, const float *w, const float *weights,
                      uint32_t n_groups, bool is_clipped, struct fit *fits, struct row_fit *ret) {
    float top_s = 0.0f, top_m = 0.0f;
    for (uint32_t g = 0; g < n_groups; g++) {
        top_s = fmaxf(top_s, is_clipped ? fits[g].s : fits[g].s0);
        top_m = fmaxf(top_m, is_clipped ? fits[g].m : fits[g].m0);
    }
    ret->d = row_scale(by->ops, top_s);
    ret->m = row_scale(by->ops, top_m);
    ret->D = kern_from_f16(ret->d);
    ret->M = kern_from_f16(ret->m);
    ret->cost = 0.0f;
    for (uint32_t g = 0; g < n_groups; g++) {
        struct fit *f = &fits[g];
        const float *x = w + g * PLANE_GROUP, *wt = weights + g * PLANE_GROUP;
        f->cost = INFINITY;
        try_codes(by, x, wt, ret->D, ret->M, to_code(f->s, ret->D), to_code(f->m, ret->M), f);
        try_codes(by, x, wt, ret->D, ret->M, to_code(f->s0, ret->D), to_code(f->m0, ret->M), f);
        ret->cost += f->cost;
    }
}

/* Scales of one row: D and M reach the largest scale and min that the clip search chose or, where
 * a group is best left whole, the largest without clipping. Then the codes. */
static void fit_row(const struct measure *by, const float *w, const float *weights,
                    uint32_t n_groups, struct fit *fits, struct row_fit *ret) {
    struct row_fit whole;
    for (uint32_t g = 0; g < n_groups; g++)
        clip_search(by, w + g * PLANE_GROUP, weights + g * PLANE_GROUP, &fits[g]);
    start_row(by, w, weights, n_groups, false, fits, &whole);
    start_row(by, w, weights, n_groups, true, fits, ret);
    if (whole.cost < ret->cost) start_row(by, w, weights, n_groups, false, fits, ret);
    for (uint32_t g = 0; g < n_groups; g++)
        descend(by, w + g * PLANE_GROUP, weights + g * PLANE_GROUP, ret->D, ret->M, &fits[g]);
}

/* ---- codes --------------------------------------------------------------------------------------
 */

/* Nearest high codes of a group. */
static void high_codes(const float *w, float s, float o, uint8_t *t) {
    float inv = s > 0.0f ? 1.0f / s : 0.0f;
    for (unsigned i = 0; i < PLANE_GROUP; i++)
        t[i] = s > 0.0f ? (uint8_t)high_code((w[i] - o) * inv) : 0;
}

/* Nearest low codes of a group: the rest of the original weights. */
static void low_codes(const float *w, float s, float o, const uint8_t *t, uint8_t *l) {
    float inv = s > 0.0f ? 1.0f / s : 0.0f;
    for (unsigned i = 0; i < PLANE_GROUP; i++)
        l[i] = (uint8_t)low_code(s > 0.0f ? (w[i] - o) * inv - (float)t[i] : 0.0f);
}

/* Rests beyond the low plane's reach by more than the half of a code that rounding takes. */
static unsigned n_out_of_reach(const float *w, float s, float o, const uint8_t *t) {
    float inv = s > 0.0f ? 1.0f / s : 0.0f;
    unsigned n = 0;
    for (unsigned i = 0; i < PLANE_GROUP; i++) {
        float rest = s > 0.0f ? (w[i] - o) * inv - (float)t[i] : 0.0f;
        if (rest < -17.0f / 16 || rest > 15.0f / 16) n++;
    }
    return n;
}

static void put_codes(uint8_t *tile, uint32_t r, const uint8_t *codes) {
    for (uint32_t i = 0; i < PLANE_GROUP; i++) {
        uint8_t *b = &tile[planes_code_byte(r, i)];
        uint32_t shift = planes_code_shift(i);
        *b = (uint8_t)((*b & ~(15u << shift)) | (unsigned)codes[i] << shift);
    }
}

/* ---- work ------------------------------------------------------------------------------------ */

/* Rounds of refit and descent. A second one gains 3 % of KL, a third nothing that shows. */
enum { ROUNDS = 2, BLOCK_ROWS = FEEDBACK_ROWS };

/* What one thread works on: the rows of a block, before they are put into tiles. */
struct block {
    struct fit *fits;    /* [groups], of one row at a time */
    float *d, *m;        /* [BLOCK_ROWS] */
    uint16_t *d16, *m16; /* [BLOCK_ROWS], the same as stored */
    uint8_t *sc, *mn;    /* [BLOCK_ROWS][groups] */
    uint8_t *high, *low; /* [BLOCK_ROWS][n_in] */
    void *scratch;       /* of feedback_run() */
};

struct job {
    struct measure by;
    const float *w;
    uint32_t n_out, n_in;
    const float *weights; /* [n_in], none zero */
    const struct feedback *feedback;
    const struct planes_dst *dst;
    struct slots *slots;           /* a block's memory */
    struct feedback_error *errors; /* [blocks]; summed in order afterwards; or NULL */
    _Atomic uint64_t n_clipped;    /* statistics: relaxed */
    _Atomic uint32_t too_big_row;  /* row + 1 of a weight beyond the format; relaxed */
};

static void *carve(uint8_t *base, size_t *used, size_t bytes) {
    void *p = base ? base + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return p;
}

/* Lays the block out from `base` on, or nowhere with NULL; returns its size. */
static size_t block_bind(const struct job *j, uint8_t *base, struct block *ret) {
    size_t groups = j->n_in / PLANE_GROUP, n = BLOCK_ROWS;
    size_t used = 0;
    ret->fits = carve(base, &used, groups * sizeof(*ret->fits));
    ret->d = carve(base, &used, n * sizeof(*ret->d));
    ret->m = carve(base, &used, n * sizeof(*ret->m));
    ret->d16 = carve(base, &used, n * sizeof(*ret->d16));
    ret->m16 = carve(base, &used, n * sizeof(*ret->m16));
    ret->sc = carve(base, &used, n * groups);
    ret->mn = carve(base, &used, n * groups);
    ret->high = carve(base, &used, n * j->n_in);
    ret->low = carve(base, &used, n * j->n_in);
    ret->scratch = carve(base, &used, j->feedback ? feedback_scratch_bytes(j->feedback) : 0);
    return used;
}

/* D, M and the group scales of row i of the block; false if a weight is beyond the format. */
static bool fit_block_row(struct job *j, struct block *k, uint32_t row, uint32_t i) {
    uint32_t n_groups = j->n_in / PLANE_GROUP;
    const float *w = j->w + (size_t)row * j->n_in;
    for (uint32_t c = 0; c < j->n_in; c++)
        if (!(fabsf(w[c]) <= PLANES_MAX_WEIGHT)) return false;
    struct row_fit fit;
    fit_row(&j->by, w, j->weights, n_groups, k->fits, &fit);
    k->d16[i] = fit.d;
    k->m16[i] = fit.m;
    k->d[i] = fit.D;
    k->m[i] = fit.M;
    for (uint32_t g = 0; g < n_groups; g++) {
        k->sc[i * n_groups + g] = k->fits[g].sc;
        k->mn[i * n_groups + g] = k->fits[g].mn;
    }
    return true;
}

static void nearest_codes(const struct job *j, const struct block *k, const float *w,
                          uint32_t n_rows) {
    uint32_t n_groups = j->n_in / PLANE_GROUP;
    for (uint32_t i = 0; i < n_rows; i++)
        for (uint32_t g = 0; g < n_groups; g++) {
            size_t at = (size_t)i * j->n_in + g * PLANE_GROUP;
            float s = k->d[i] * (float)k->sc[i * n_groups + g];
            float o = -k->m[i] * (float)k->mn[i * n_groups + g];
            high_codes(w + at, s, o, k->high + at);
            low_codes(w + at, s, o, k->high + at, k->low + at);
        }
}

static uint64_t count_clipped(const struct job *j, const struct block *k, const float *w,
                              uint32_t n_rows) {
    uint32_t n_groups = j->n_in / PLANE_GROUP;
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_rows; i++)
        for (uint32_t g = 0; g < n_groups; g++) {
            size_t at = (size_t)i * j->n_in + g * PLANE_GROUP;
            n += n_out_of_reach(w + at, k->d[i] * (float)k->sc[i * n_groups + g],
                                -k->m[i] * (float)k->mn[i * n_groups + g], k->high + at);
        }
    return n;
}

/* Row i of the block to its place in the tiles. */
static void put_row(const struct job *j, const struct block *k, uint32_t row, uint32_t i) {
    uint32_t n_groups = j->n_in / PLANE_GROUP, tile = row / PLANE_ROWS, r = row % PLANE_ROWS;
    uint8_t *rows = j->dst->rows + (size_t)tile * PLANE_ROW_BYTES;
    memcpy(rows + 2 * r, &k->d16[i], 2);
    memcpy(rows + 2 * (PLANE_ROWS + r), &k->m16[i], 2);
    for (uint32_t g = 0; g < n_groups; g++) {
        size_t at = (size_t)tile * n_groups + g, from = (size_t)i * j->n_in + g * PLANE_GROUP;
        j->dst->groups[at * PLANE_SCALE_BYTES + r] = k->sc[i * n_groups + g];
        j->dst->groups[at * PLANE_SCALE_BYTES + PLANE_ROWS + r] = k->mn[i * n_groups + g];
        put_codes(j->dst->high + at * PLANE_TILE_BYTES, r, k->high + from);
        if (j->dst->low) put_codes(j->dst->low + at * PLANE_TILE_BYTES, r, k->low + from);
    }
}

static void quantise_block(void *ud, uint32_t piece) {
    struct job *j = ud;
    uint32_t row0 = piece * BLOCK_ROWS, n_rows = MIN(j->n_out - row0, (uint32_t)BLOCK_ROWS);
    const float *w = j->w + (size_t)row0 * j->n_in;
    void *slot = slots_claim(j->slots);
    struct block k;
    block_bind(j, slot, &k);
    for (uint32_t i = 0; i < n_rows; i++)
        if (!fit_block_row(j, &k, row0 + i, i)) {
            atomic_store_explicit(&j->too_big_row, row0 + i + 1, memory_order_relaxed);
            goto out;
        }
    if (j->feedback) {
        struct feedback_rows rows = {.n_rows = n_rows,
                                     .top = CODE_MAX,
                                     .w = w,
                                     .d = k.d,
                                     .m = k.m,
                                     .sc = k.sc,
                                     .mn = k.mn,
                                     .high = k.high,
                                     .low = j->dst->low ? k.low : NULL};
        feedback_run(j->feedback, &rows, ROUNDS, k.scratch);
        if (j->errors) feedback_error(j->feedback, &rows, k.scratch, &j->errors[piece]);
    } else {
        nearest_codes(j, &k, w, n_rows);
    }
    atomic_fetch_add_explicit(&j->n_clipped, count_clipped(j, &k, w, n_rows), memory_order_relaxed);
    for (uint32_t i = 0; i < n_rows; i++) put_row(j, &k, row0 + i, i);
out:
    slots_release(j->slots, slot);
}

static void fill_weights(const float *energy, uint32_t n, float *ret) {
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++) sum += (double)energy[i];
    float mean = (float)(sum / n);
    /* Only ratios matter: scaled to a mean of 1, so that no cost overflows or vanishes. */
    for (uint32_t i = 0; i < n; i++)
        ret[i] = mean > 0.0f && isfinite(mean) ? fmaxf(energy[i] / mean, MOMENT_FLOOR) : 1.0f;
}

static void add_stats(const struct job *j, uint32_t n_blocks, struct planes_stats *stats) {
    stats->n_weights += (uint64_t)j->n_out * j->n_in;
    stats->n_clipped += j->n_clipped;
    for (uint32_t i = 0; j->feedback && i < n_blocks; i++) {
        stats->high_error += j->errors[i].high;
        stats->full_error += j->errors[i].full;
        stats->output += j->errors[i].norm;
    }
}

int planes_quantise(struct mem *m, struct pool *pool, const struct kern_ops *ops, const float *w,
                    uint32_t n_out, uint32_t n_in, const struct planes_inputs *in,
                    const struct planes_dst *dst, struct planes_stats *stats, struct err *e) {
    ASSERT(n_in % PLANE_GROUP == 0);
    uint32_t n_tiles = planes_row_tiles(n_out), n_blocks = (n_out + BLOCK_ROWS - 1) / BLOCK_ROWS;
    float *weights = malloc(n_in * sizeof(*weights));
    struct job j = {.by = {ops, dst->low ? PLANES_FULL_COUNTS : 0.0f},
                    .w = w,
                    .n_out = n_out,
                    .n_in = n_in,
                    .weights = weights,
                    .feedback = in->feedback,
                    .dst = dst,
                    .errors = stats ? calloc(n_blocks, sizeof(*j.errors)) : NULL};
    struct block unused;
    int r = slots_create(m, pool_threads(pool), block_bind(&j, NULL, &unused), &j.slots);
    if (r < 0 || !weights || (stats && !j.errors)) {
        r = err_set(e, -ENOMEM, "no memory for a block of rows");
        goto out;
    }
    fill_weights(in->energy, n_in, weights);
    memset(dst->rows, 0, (size_t)n_tiles * PLANE_ROW_BYTES);
    memset(dst->groups, 0, (size_t)n_tiles * (n_in / PLANE_GROUP) * PLANE_SCALE_BYTES);
    pool_run(pool, quantise_block, &j, n_blocks);
    if (j.too_big_row) {
        r = err_set(e, -ENOTSUP, "row %u holds a weight beyond +-%g, which planes cannot store",
                    j.too_big_row - 1, (double)PLANES_MAX_WEIGHT);
        goto out;
    }
    if (stats) add_stats(&j, n_blocks, stats);
out:
    slots_destroy(j.slots);
    free(j.errors);
    free(weights);
    return r;
}
