#include "core/make/feedback.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/linalg.h"
#include "core/mem.h"
#include "kernels/planes.h"

enum { BLOCK = 64, CODE_MAX = 15, SCALE_MAX = 255 };

struct feedback {
    struct mem *mem;
    uint32_t n;
    uint32_t *order; /* [n]: inputs by falling energy */
    float *moments;  /* [n][n], damped, natural order */
    float *factor;   /* [n][n], upper, inv(A) = u^T u, in `order` */
    size_t square_bytes;
};

static float round_to(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    x = x < hi ? x : hi;
    return rintf(x);
}

static bool sort_by_energy(const float *a, uint32_t n, uint32_t *order) {
    struct key {
        float energy;
        uint32_t i;
    } *keys = malloc(n * sizeof(*keys));
    if (!keys) return false;
    for (uint32_t i = 0; i < n; i++) keys[i] = (struct key){a[(size_t)i * n + i], i};
    /* Shell's sort: stable enough, as ties are broken by the index. */
    for (uint32_t gap = n / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < n; i++) {
            struct key k = keys[i];
            uint32_t j = i;
            for (; j >= gap; j -= gap) {
                struct key *p = &keys[j - gap];
                if (p->energy > k.energy || (p->energy == k.energy && p->i < k.i)) break;
                keys[j] = *p;
            }
            keys[j] = k;
        }
    for (uint32_t i = 0; i < n; i++) order[i] = keys[i].i;
    free(keys);
    return true;
}

static int factorise(struct feedback *f, struct err *e) {
    size_t n = f->n, bytes = n * n * sizeof(double);
    double *a = mem_alloc(f->mem, MEM_PACKER, bytes);
    if (!a) return err_set(e, -ENOMEM, "no memory to factorise %zu inputs", n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            a[i * n + j] = (double)f->moments[f->order[i] * n + f->order[j]];
    int r = linalg_inverse_factor(f->n, a, a, e);
    if (r == 0)
        for (size_t i = 0; i < n * n; i++) f->factor[i] = (float)a[i];
    mem_free(f->mem, MEM_PACKER, a, bytes);
    return r;
}

int feedback_create(struct mem *m, const float *moments, uint32_t n, struct feedback **ret,
                    struct err *e) {
    ASSERT(n >= PLANE_GROUP && n % PLANE_GROUP == 0);
    struct feedback *f = calloc(1, sizeof(*f));
    if (!f) return err_set(e, -ENOMEM, "no memory for error feedback");
    f->mem = m;
    f->n = n;
    f->square_bytes = (size_t)n * n * sizeof(float);
    f->order = malloc(n * sizeof(*f->order));
    f->moments = mem_alloc(m, MEM_PACKER, f->square_bytes);
    f->factor = mem_alloc(m, MEM_PACKER, f->square_bytes);
    int r = 0;
    if (!f->order || !f->moments || !f->factor)
        r = err_set(e, -ENOMEM, "no memory for the moments of %u inputs", n);
    double mean = 0.0;
    for (size_t i = 0; i < n; i++) mean += (double)moments[i * n + i] / n;
    if (r == 0 && !(mean > 0.0 && isfinite(mean)))
        r = err_set(e, -EDOM, "the inputs have no energy");
    if (r == 0) {
        /* Only ratios matter: scaled to a mean energy of 1, so that nothing under- or overflows. */
        for (size_t i = 0; i < (size_t)n * n; i++)
            f->moments[i] = (float)((double)moments[i] / mean);
        for (size_t i = 0; i < n; i++) f->moments[i * n + i] += FEEDBACK_DAMPING;
        if (!sort_by_energy(f->moments, n, f->order))
            r = err_set(e, -ENOMEM, "no memory to sort %u inputs", n);
    }
    if (r == 0) r = factorise(f, e);
    if (r < 0) {
        feedback_destroy(f);
        return r;
    }
    *ret = f;
    return 0;
}

void feedback_destroy(struct feedback *f) {
    if (!f) return;
    free(f->order);
    mem_free(f->mem, MEM_PACKER, f->moments, f->square_bytes);
    mem_free(f->mem, MEM_PACKER, f->factor, f->square_bytes);
    free(f);
}

/* ---- scratch: what one call works on -----------------------------------------------------------
 */

struct work {
    const struct feedback *f;
    const struct feedback_rows *r;
    uint32_t n, n_groups;
    float *open; /* [rows][n] in `order`: the weights, with the errors passed on so far */
    float *base; /* [rows][n] in `order`: what code 0 reads as */
    float *step; /* [rows][n] in `order`: what one code more adds */
    float *pull; /* [rows][n] natural: (w - q) A */
    float *left; /* [rows][n] natural: w - q */
    float *err;  /* [rows][BLOCK] */
};

size_t feedback_scratch_bytes(const struct feedback *f) {
    return FEEDBACK_ROWS * (5 * (size_t)f->n + BLOCK) * sizeof(float);
}

static struct work work_on(const struct feedback *f, const struct feedback_rows *r, void *scratch) {
    ASSERT(r->n_rows <= FEEDBACK_ROWS && r->top >= 1 && r->top <= CODE_MAX);
    size_t part = FEEDBACK_ROWS * (size_t)f->n;
    float *p = scratch;
    return (struct work){.f = f,
                         .r = r,
                         .n = f->n,
                         .n_groups = f->n / PLANE_GROUP,
                         .open = p,
                         .base = p + part,
                         .step = p + 2 * part,
                         .pull = p + 3 * part,
                         .left = p + 4 * part,
                         .err = p + 5 * part};
}

static float scale_of(const struct work *k, uint32_t row, uint32_t g) {
    return k->r->d[row] * (float)k->r->sc[row * k->n_groups + g];
}

static float offset_of(const struct work *k, uint32_t row, uint32_t g) {
    return -k->r->m[row] * (float)k->r->mn[row * k->n_groups + g];
}

/* ---- GPTQ ------------------------------------------------------------------------------------ */

/* One row through the inputs [i0, i1) of the order: picks codes, passes errors on inside the block
 * and leaves them in err[] for the inputs after it. */
static void row_block(const struct work *k, uint32_t row, uint32_t i0, uint32_t i1, uint8_t *codes,
                      float code_max) {
    size_t n = k->n;
    float *open = k->open + row * n;
    const float *base = k->base + row * n, *step = k->step + row * n;
    for (uint32_t i = i0; i < i1; i++) {
        const float *u = k->f->factor + i * n;
        float t = step[i] > 0.0f ? round_to((open[i] - base[i]) / step[i], 0.0f, code_max) : 0.0f;
        float e = (open[i] - (base[i] + t * step[i])) / u[i];
        codes[row * n + k->f->order[i]] = (uint8_t)t;
        for (uint32_t j = i + 1; j < i1; j++) open[j] -= e * u[j];
        k->err[row * BLOCK + (i - i0)] = e;
    }
}

static void gptq(const struct work *k, uint8_t *codes, float top) {
    size_t n = k->n;
    for (size_t row = 0; row < k->r->n_rows; row++)
        for (size_t i = 0; i < n; i++) k->open[row * n + i] = k->r->w[row * n + k->f->order[i]];
    for (uint32_t i0 = 0; i0 < n; i0 += BLOCK) {
        uint32_t i1 = MIN(i0 + BLOCK, k->n);
        for (uint32_t row = 0; row < k->r->n_rows; row++) row_block(k, row, i0, i1, codes, top);
        gemm_nn_sub(k->r->n_rows, n - i1, i1 - i0, k->err, BLOCK, k->f->factor + i0 * n + i1, n,
                    k->open + i1, n);
    }
}

static void gptq_high(const struct work *k) {
    size_t n = k->n;
    for (uint32_t row = 0; row < k->r->n_rows; row++)
        for (uint32_t i = 0; i < n; i++) {
            uint32_t g = k->f->order[i] / PLANE_GROUP;
            k->base[row * n + i] = offset_of(k, row, g);
            k->step[row * n + i] = scale_of(k, row, g);
        }
    gptq(k, k->r->high, k->r->top);
}

static void gptq_low(const struct work *k) {
    size_t n = k->n;
    for (uint32_t row = 0; row < k->r->n_rows; row++)
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = k->f->order[i], g = at / PLANE_GROUP;
            float s = scale_of(k, row, g);
            float t = (float)k->r->high[row * n + at];
            k->base[row * n + i] = offset_of(k, row, g) + s * (t - 1.0f);
            k->step[row * n + i] = s / 8.0f;
        }
    gptq(k, k->r->low, CODE_MAX);
}

/* ---- refit and descent ------------------------------------------------------------------------
 */

static void set_left(const struct work *k, bool is_full) {
    size_t n = k->n;
    for (uint32_t row = 0; row < k->r->n_rows; row++)
        for (uint32_t g = 0; g < k->n_groups; g++) {
            float s = scale_of(k, row, g), o = offset_of(k, row, g);
            for (size_t i = row * n + g * PLANE_GROUP; i < row * n + (g + 1) * PLANE_GROUP; i++) {
                float t = (float)k->r->high[i];
                if (is_full) t += ((float)k->r->low[i] - 8.0f) / 8.0f;
                k->left[i] = k->r->w[i] - (s * t + o);
            }
        }
}

static void set_pull(const struct work *k) {
    gemm_nn(k->r->n_rows, k->n, k->n, k->left, k->n, k->f->moments, k->n, k->pull, k->n);
}

/* Inputs [i0, i1) read delta[row][i - i0] more than before: the pull of all inputs follows. */
static void follow(const struct work *k, uint32_t i0, uint32_t i1) {
    gemm_nn_sub(k->r->n_rows, k->n, i1 - i0, k->err, BLOCK, k->f->moments + (size_t)i0 * k->n, k->n,
                k->pull, k->n);
}

/* Best scale and min of a group of one row: minimises the quadratic form over (ds, do), then rounds
 * to codes; the min is solved again for the scale as rounded. */
static void refit_group(const struct work *k, uint32_t row, uint32_t g, double ones_a_ones) {
    size_t n = k->n, at = row * n + g * PLANE_GROUP;
    const float *a = k->f->moments + g * PLANE_GROUP * n + g * PLANE_GROUP;
    const uint8_t *t = k->r->high + at;
    uint8_t *sc = &k->r->sc[row * k->n_groups + g], *mn = &k->r->mn[row * k->n_groups + g];
    float d = k->r->d[row], m = k->r->m[row], *delta = k->err + row * BLOCK;
    double tat = 0.0, ta1 = 0.0, pt = 0.0, p1 = 0.0;
    for (size_t i = 0; i < PLANE_GROUP; i++) {
        float sum_t = 0.0f, sum_1 = 0.0f;
        for (size_t j = 0; j < PLANE_GROUP; j++) {
            sum_t += a[i * n + j] * (float)t[j];
            sum_1 += a[i * n + j];
        }
        tat += (double)(sum_t * (float)t[i]);
        ta1 += (double)(sum_1 * (float)t[i]);
        pt += (double)(k->pull[at + i] * (float)t[i]);
        p1 += (double)k->pull[at + i];
    }
    double det = tat * ones_a_ones - ta1 * ta1;
    int sc_new = *sc, mn_new = *mn;
    if (d > 0.0f && det > 1e-9 * tat * ones_a_ones)
        sc_new = (int)round_to((float)*sc + (float)((pt * ones_a_ones - p1 * ta1) / det) / d, 1.0f,
                               SCALE_MAX);
    double ds = (double)d * (sc_new - *sc);
    if (m > 0.0f && ones_a_ones > 0.0)
        mn_new = (int)round_to((float)*mn - (float)((p1 - ta1 * ds) / ones_a_ones) / m, 0.0f,
                               SCALE_MAX);
    double offset = -(double)m * (mn_new - *mn);
    double gain = 2.0 * (ds * pt + offset * p1) -
                  (ds * ds * tat + 2.0 * ds * offset * ta1 + offset * offset * ones_a_ones);
    if (!(gain > 0.0)) {
        memset(delta, 0, PLANE_GROUP * sizeof(*delta));
        return;
    }
    *sc = (uint8_t)sc_new;
    *mn = (uint8_t)mn_new;
    for (size_t i = 0; i < PLANE_GROUP; i++) delta[i] = (float)(ds * t[i] + offset);
}

static void refit(const struct work *k) {
    size_t n = k->n;
    for (uint32_t g = 0; g < k->n_groups; g++) {
        const float *a = k->f->moments + g * PLANE_GROUP * n + g * PLANE_GROUP;
        double ones_a_ones = 0.0;
        for (size_t i = 0; i < PLANE_GROUP; i++)
            for (size_t j = 0; j < PLANE_GROUP; j++) ones_a_ones += (double)a[i * n + j];
        for (uint32_t row = 0; row < k->r->n_rows; row++) refit_group(k, row, g, ones_a_ones);
        follow(k, g * PLANE_GROUP, (g + 1) * PLANE_GROUP);
    }
}

static void descend_row(const struct work *k, uint32_t row, uint32_t i0, uint32_t i1) {
    size_t n = k->n;
    float pull[BLOCK], *delta = k->err + row * BLOCK;
    memcpy(pull, k->pull + row * n + i0, (i1 - i0) * sizeof(float));
    for (uint32_t i = i0; i < i1; i++) {
        const float *a = k->f->moments + i * n + i0;
        uint8_t *t = &k->r->high[row * n + i];
        float s = scale_of(k, row, i / PLANE_GROUP), change = 0.0f;
        if (s > 0.0f) {
            float best = round_to((float)*t + pull[i - i0] / (a[i - i0] * s), 0.0f, k->r->top);
            change = (best - (float)*t) * s;
            *t = (uint8_t)best;
        }
        delta[i - i0] = change;
        if (change != 0.0f)
            for (uint32_t j = 0; j < i1 - i0; j++) pull[j] -= change * a[j];
    }
}

static void descend(const struct work *k) {
    for (uint32_t i0 = 0; i0 < k->n; i0 += BLOCK) {
        uint32_t i1 = MIN(i0 + BLOCK, k->n);
        for (uint32_t row = 0; row < k->r->n_rows; row++) descend_row(k, row, i0, i1);
        follow(k, i0, i1);
    }
}

void feedback_run(const struct feedback *f, const struct feedback_rows *r, unsigned rounds,
                  void *scratch) {
    struct work k = work_on(f, r, scratch);
    gptq_high(&k);
    for (unsigned i = 0; i < rounds; i++) {
        set_left(&k, false);
        set_pull(&k);
        refit(&k);
        descend(&k);
    }
    if (r->low) gptq_low(&k);
}

static double form(const struct work *k) {
    double sum = 0.0;
    set_pull(k);
    for (size_t i = 0; i < (size_t)k->r->n_rows * k->n; i++)
        sum += (double)k->left[i] * (double)k->pull[i];
    return sum;
}

void feedback_error(const struct feedback *f, const struct feedback_rows *r, void *scratch,
                    struct feedback_error *ret) {
    struct work k = work_on(f, r, scratch);
    set_left(&k, false);
    ret->high = form(&k);
    if (r->low) {
        set_left(&k, true);
        ret->full = form(&k);
    } else {
        ret->full = 0.0;
    }
    memcpy(k.left, r->w, (size_t)r->n_rows * f->n * sizeof(float));
    ret->norm = form(&k);
}
