#include "core/make/groups.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/make/factor.h"
#include "core/make/feedback.h"
#include "core/make/slots.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/planes.h"

enum {
    CLIP_STEPS = 9, /* 0 .. 8 notches off either end: 0 to 40 %; few codes are clipped harder */
    SCALE_MAX = 255,
    ROUNDS = 2,
};
#define CLIP_NOTCH 0.05f
#define FLOOR      1e-3f /* of the mean energy */

struct job {
    const float *w;
    float *ret;
    uint32_t n_out, n_in;
    uint8_t top;
    const float *weights; /* [n_in] */
    const struct feedback *feedback;
    struct slots *slots;
};

struct block {
    float *s, *o; /* [G] of one row */
    float *d, *m; /* [FEEDBACK_ROWS] */
    uint8_t *sc, *mn, *high;
    void *scratch;
};

double groups_bits(uint32_t n_in, unsigned bits) {
    return bits + 16.0 / PLANE_GROUP + 32.0 / n_in;
}

static void *carve(uint8_t **at, size_t bytes) {
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

static size_t block_bind(const struct job *j, uint8_t *base, struct block *ret) {
    size_t n = FEEDBACK_ROWS, groups = j->n_in / PLANE_GROUP;
    uint8_t *at = base;
    ret->s = carve(&at, groups * sizeof(float));
    ret->o = carve(&at, groups * sizeof(float));
    ret->d = carve(&at, n * sizeof(float));
    ret->m = carve(&at, n * sizeof(float));
    ret->sc = carve(&at, n * groups);
    ret->mn = carve(&at, n * groups);
    ret->high = carve(&at, n * j->n_in);
    ret->scratch = carve(&at, feedback_scratch_bytes(j->feedback));
    return (size_t)(at - base);
}

static float cost_of(const float *w, const float *weights, float s, float o, float top) {
    float sum = 0.0f, inv = s > 0.0f ? 1.0f / s : 0.0f;
    for (unsigned i = 0; i < PLANE_GROUP; i++) {
        float t = rintf(fminf(fmaxf((w[i] - o) * inv, 0.0f), top)), left = w[i] - (o + s * t);
        sum += weights[i] * left * left;
    }
    return sum;
}

static void clip_search(const float *w, const float *weights, float top, float *ret_s,
                        float *ret_o) {
    float lo = 0.0f, hi = 0.0f, best = INFINITY;
    for (unsigned i = 0; i < PLANE_GROUP; i++) {
        lo = fminf(lo, w[i]);
        hi = fmaxf(hi, w[i]);
    }
    float range = hi - lo;
    *ret_s = *ret_o = 0.0f;
    for (unsigned a = 0; a < CLIP_STEPS && range > 0.0f; a++)
        for (unsigned b = 0; b < CLIP_STEPS; b++) {
            float o = fminf(lo + CLIP_NOTCH * (float)a * range, 0.0f);
            float s = (hi - CLIP_NOTCH * (float)b * range - o) / top;
            float cost = s > 0.0f ? cost_of(w, weights, s, o, top) : INFINITY;
            if (!(cost < best)) continue;
            best = cost;
            *ret_s = s;
            *ret_o = o;
        }
}

static uint8_t to_code(float x, float unit) {
    return unit > 0.0f ? (uint8_t)(fminf(x / unit, SCALE_MAX) + 0.5f) : 0;
}

static void fit_row(const struct job *j, const struct block *k, const float *w, uint32_t i) {
    uint32_t groups = j->n_in / PLANE_GROUP;
    float top_s = 0.0f, top_m = 0.0f;
    for (uint32_t g = 0; g < groups; g++) {
        clip_search(w + g * PLANE_GROUP, j->weights + g * PLANE_GROUP, j->top, &k->s[g], &k->o[g]);
        top_s = fmaxf(top_s, k->s[g]);
        top_m = fmaxf(top_m, -k->o[g]);
    }
    k->d[i] = top_s / SCALE_MAX;
    k->m[i] = top_m / SCALE_MAX;
    for (uint32_t g = 0; g < groups; g++) {
        k->sc[i * groups + g] = to_code(k->s[g], k->d[i]);
        k->mn[i * groups + g] = to_code(-k->o[g], k->m[i]);
    }
}

static void run_block(void *ud, uint32_t piece) {
    struct job *j = ud;
    uint32_t row0 = piece * FEEDBACK_ROWS, groups = j->n_in / PLANE_GROUP;
    uint32_t n = MIN(j->n_out - row0, (uint32_t)FEEDBACK_ROWS);
    const float *w = j->w + (size_t)row0 * j->n_in;
    void *slot = slots_claim(j->slots);
    struct block k;
    block_bind(j, slot, &k);
    for (uint32_t i = 0; i < n; i++) fit_row(j, &k, w + (size_t)i * j->n_in, i);
    struct feedback_rows rows = {.n_rows = n,
                                 .top = j->top,
                                 .w = w,
                                 .d = k.d,
                                 .m = k.m,
                                 .sc = k.sc,
                                 .mn = k.mn,
                                 .high = k.high};
    feedback_run(j->feedback, &rows, ROUNDS, k.scratch);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < j->n_in; c++) {
            size_t g = i * groups + c / PLANE_GROUP;
            j->ret[(row0 + i) * j->n_in + c] = k.d[i] * (float)k.sc[g] *
                                                   (float)k.high[i * j->n_in + c] -
                                               k.m[i] * (float)k.mn[g];
        }
    slots_release(j->slots, slot);
}

/* Error feedback, for inputs all alike where the moments allow none. */
static int create_feedback(struct tools *t, const float *moments, uint32_t n, struct feedback **ret,
                           struct err *e) {
    int r = moments ? feedback_create(t->mem, moments, n, ret, e) : -EDOM;
    if (r != -EDOM) return r;
    size_t bytes = (size_t)n * n * sizeof(float);
    float *one = mem_alloc(t->mem, MEM_PACKER, bytes);
    if (!one) return err_set(e, -ENOMEM, "no memory for the moments of %u inputs", n);
    for (size_t i = 0; i < n; i++) one[i * n + i] = 1.0f;
    r = feedback_create(t->mem, one, n, ret, e);
    mem_free(t->mem, MEM_PACKER, one, bytes);
    return r;
}

int groups_read(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in,
                const struct factor_inputs *in, unsigned bits, float *ret, struct err *e) {
    ASSERT(bits >= 2 && bits <= 4 && n_in % PLANE_GROUP == 0);
    struct job j = {.w = w, .ret = ret, .n_out = n_out, .n_in = n_in};
    const float *moments = in->moments;
    struct feedback *f = NULL;
    float *weights = malloc(n_in * sizeof(*weights));
    double mean = 0.0;
    int r = weights ? 0 : err_set(e, -ENOMEM, "no memory for %u inputs", n_in);
    if (r == 0 && !in->feedback) r = create_feedback(t, moments, n_in, &f, e);
    if (r < 0) goto out;
    j.top = (uint8_t)((1u << bits) - 1);
    j.feedback = in->feedback ? in->feedback : f;
    j.weights = weights;
    for (size_t i = 0; moments && i < n_in; i++) mean += (double)moments[i * n_in + i] / n_in;
    for (size_t i = 0; i < n_in; i++)
        weights[i] = mean > 0.0 && isfinite(mean)
                         ? fmaxf((float)((double)moments[i * n_in + i] / mean), FLOOR)
                         : 1.0f;
    struct block unused;
    r = slots_create(t->mem, pool_threads(t->pool), block_bind(&j, NULL, &unused), &j.slots);
    if (r < 0)
        err_set(e, r, "no memory for a block of rows");
    else
        pool_run(t->pool, run_block, &j, (n_out + FEEDBACK_ROWS - 1) / FEEDBACK_ROWS);
out:
    slots_destroy(j.slots);
    feedback_destroy(f);
    free(weights);
    return r;
}
