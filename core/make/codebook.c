#include "core/make/codebook.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/slots.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    LANES = 8,      /* entries of one step of the loops below, for the compiler's vectors */
    SEED_PARTS = 4, /* the start looks at this many segments for each entry */
    SEED_MIN = 4096,
    SEED_DRAWS = 8, /* entries that are drawn by the same costs */
};

/* ---- the book in other coordinates -------------------------------------------------------------
 */

void codebook_turn_segment(const float *x, uint32_t len, const float *metric, float *ret) {
    for (uint32_t j = 0; j < len; j++) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < len; i++) sum += x[i] * metric[i * len + j];
        ret[j] = sum;
    }
}

static void turn(const float *columns, uint32_t len, uint32_t k, const float *metric, float *ret) {
    float *half = ret + (size_t)len * k;
    for (uint32_t e = 0; e < k; e += LANES) {
        float h[LANES] = {0};
        for (uint32_t j = 0; j < len; j++) {
            float sum[LANES] = {0};
            for (uint32_t i = 0; i < len; i++) {
                const float *c = columns + (size_t)i * k + e;
                float r = metric[i * len + j];
                for (uint32_t l = 0; l < LANES; l++) sum[l] += c[l] * r;
            }
            for (uint32_t l = 0; l < LANES; l++) h[l] += sum[l] * sum[l] * 0.5f;
            memcpy(ret + (size_t)j * k + e, sum, sizeof(sum));
        }
        memcpy(half + e, h, sizeof(h));
    }
}

void codebook_turn(const struct codebook *b, const float *metric, float *ret) {
    turn(b->columns, b->len, b->k, metric, ret);
}

/* ---- training ---------------------------------------------------------------------------------
 */

struct training {
    struct mem *mem;
    const struct kern_ops *ops;
    const struct codebook_sample *s;
    uint32_t k;
    float *columns;   /* [len][k], the entries */
    uint16_t *labels; /* [n_groups * n_rows] */
    struct slots *slots;
    uint64_t rng;
};

static uint64_t next_random(uint64_t *s) { /* splitmix64 */
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double next_unit(uint64_t *s) {
    return (double)(next_random(s) >> 11) * 0x1p-53;
}

static size_t n_segments(const struct codebook_sample *s) {
    return (size_t)s->n_groups * s->n_rows;
}

static const float *segment(const struct codebook_sample *s, size_t i) {
    return s->x + i * s->len;
}

static const float *metric_of(const struct codebook_sample *s, size_t i) {
    return s->metric + i / s->n_rows * s->len * s->len;
}

static void set_entry(struct training *t, uint32_t e, const float *x) {
    for (uint32_t j = 0; j < t->s->len; j++) t->columns[(size_t)j * t->k + e] = x[j];
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* For each u, rising, the first i with sum(w[0..i]) > u * sum(w); the last one that weighs anything
 * if rounding runs out. */
static void draw(const float *w, size_t n, const double *u, uint32_t n_draws, size_t *ret) {
    double total = 0.0, sum = 0.0;
    size_t last = 0;
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++) total += (double)w[i];
    for (size_t i = 0; i < n && k < n_draws; i++) {
        if (!(w[i] > 0.0f)) continue;
        last = i;
        sum += (double)w[i];
        while (k < n_draws && sum > u[k] * total) ret[k++] = i;
    }
    while (k < n_draws) ret[k++] = last;
}

/* What the start looks at: n segments, evenly from the sample, in their own coordinates. */
struct start {
    size_t n;
    size_t *at;  /* [n] rising */
    float *cost; /* [n] by the entries so far */
    float *z;    /* [len][n] */
};

static bool start_init(struct start *p, struct training *t) {
    const struct codebook_sample *s = t->s;
    size_t n = n_segments(s);
    p->n = MIN(n, MAX((size_t)SEED_MIN, (size_t)SEED_PARTS * t->k));
    p->at = malloc(p->n * sizeof(*p->at));
    p->cost = malloc(p->n * sizeof(*p->cost));
    p->z = malloc(s->len * p->n * sizeof(*p->z));
    if (!p->at || !p->cost || !p->z) return false;
    for (size_t i = 0; i < p->n; i++) {
        size_t from = n * i / p->n, to = n * (i + 1) / p->n;
        float z[CODEBOOK_MAX_LEN];
        p->at[i] = from + (size_t)(next_unit(&t->rng) * (double)(to - from));
        codebook_turn_segment(segment(s, p->at[i]), s->len, metric_of(s, p->at[i]), z);
        p->cost[i] = 0.0f;
        for (uint32_t j = 0; j < s->len; j++) {
            p->z[j * p->n + i] = z[j];
            p->cost[i] += z[j] * z[j];
        }
    }
    return true;
}

static void start_fini(struct start *p) {
    free(p->at);
    free(p->cost);
    free(p->z);
}

/* Costs of segments [i, end), all of one group, fall to those of an entry at c in its coordinates.
 */
static void lower_costs(const struct start *p, uint32_t len, const float *c, size_t i, size_t end) {
    for (; i + LANES <= end; i += LANES) {
        float sum[LANES] = {0};
        for (uint32_t j = 0; j < len; j++)
            for (size_t l = 0; l < LANES; l++) {
                float d = p->z[j * p->n + i + l] - c[j];
                sum[l] += d * d;
            }
        for (size_t l = 0; l < LANES; l++) p->cost[i + l] = MIN(p->cost[i + l], sum[l]);
    }
    for (; i < end; i++) {
        float sum = 0.0f;
        for (uint32_t j = 0; j < len; j++) {
            float d = p->z[j * p->n + i] - c[j];
            sum += d * d;
        }
        p->cost[i] = MIN(p->cost[i], sum);
    }
}

/* Costs of all fall to those of a new entry. */
static void serve(const struct start *p, const struct codebook_sample *s, const float *entry) {
    for (size_t i = 0, end; i < p->n; i = end) {
        size_t group = p->at[i] / s->n_rows;
        float c[CODEBOOK_MAX_LEN];
        for (end = i + 1; end < p->n && p->at[end] / s->n_rows == group;) end++;
        codebook_turn_segment(entry, s->len, metric_of(s, p->at[i]), c);
        lower_costs(p, s->len, c, i, end);
    }
}

/* k-means++: entries are segments drawn by their costs so far, a few at a time, which saves most of
 * the time and changes nothing that can be measured. To look at some segments for each entry is
 * enough. */
static bool seed(struct training *t) {
    const struct codebook_sample *s = t->s;
    struct start p = {0};
    bool ok = start_init(&p, t);
    /* The first by their own lengths, and no cost is known to begin with: those of the zero
     * segment. */
    for (uint32_t e = 0, n; ok && e < t->k; e += n) {
        double u[SEED_DRAWS];
        size_t at[SEED_DRAWS];
        n = MIN(t->k - e, (uint32_t)SEED_DRAWS);
        for (uint32_t i = 0; i < n; i++) u[i] = next_unit(&t->rng);
        qsort(u, n, sizeof(u[0]), by_value);
        draw(p.cost, p.n, u, n, at);
        for (uint32_t i = 0; i < n; i++) {
            const float *x = segment(s, p.at[at[i]]);
            set_entry(t, e + i, x);
            serve(&p, s, x);
        }
    }
    start_fini(&p);
    return ok;
}

static void label_group(void *ud, uint32_t g) {
    const struct training *t = ud;
    const struct codebook_sample *s = t->s;
    uint32_t len = s->len;
    float *book = slots_claim(t->slots), *x = book + (size_t)(len + 1) * t->k;
    const float *metric = s->metric + (size_t)g * len * len;
    size_t first = (size_t)g * s->n_rows;
    turn(t->columns, len, t->k, metric, book);
    for (uint32_t i = 0; i < s->n_rows; i++)
        codebook_turn_segment(segment(s, first + i), len, metric, x + (size_t)i * len);
    t->ops->nearest(x, s->n_rows, book, t->k, len, t->labels + first);
    slots_release(t->slots, book);
}

/* Solves a x = b in place for symmetric a that may be singular: pivots that vanish leave x as it
 * was. a[n][n], destroyed. */
static void solve(double *a, const double *b, uint32_t n, double *x) {
    double y[CODEBOOK_MAX_LEN];
    double top = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        top = MAX(top, a[i * n + i]);
        y[i] = b[i];
    }
    /* A little pull to where the entry is. */
    for (uint32_t i = 0; i < n; i++) {
        a[i * n + i] += 1e-6 * top;
        y[i] += 1e-6 * top * x[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        double pivot = a[i * n + i];
        if (!(pivot > 0.0)) return;
        for (uint32_t r = i + 1; r < n; r++) {
            double f = a[r * n + i] / pivot;
            for (uint32_t c = i; c < n; c++) a[r * n + c] -= f * a[i * n + c];
            y[r] -= f * y[i];
        }
    }
    for (uint32_t i = n; i-- > 0;) {
        for (uint32_t c = i + 1; c < n; c++) y[i] -= a[i * n + c] * y[c];
        y[i] /= a[i * n + i];
    }
    memcpy(x, y, n * sizeof(*x));
}

/* What the segments of an entry add up to: sum of M and of M x, M = R R^T. */
struct share {
    double m[CODEBOOK_MAX_LEN * CODEBOOK_MAX_LEN], mx[CODEBOOK_MAX_LEN];
    uint32_t n;
};

static void add_group(const struct training *t, uint32_t g, struct share *shares) {
    const struct codebook_sample *s = t->s;
    uint32_t len = s->len;
    const float *r = s->metric + (size_t)g * len * len;
    double m[CODEBOOK_MAX_LEN * CODEBOOK_MAX_LEN];
    for (uint32_t a = 0; a < len; a++)
        for (uint32_t b = 0; b < len; b++) {
            m[a * len + b] = 0.0;
            for (uint32_t c = 0; c < len; c++)
                m[a * len + b] += (double)r[a * len + c] * (double)r[b * len + c];
        }
    for (size_t i = (size_t)g * s->n_rows; i < (size_t)(g + 1) * s->n_rows; i++) {
        struct share *h = &shares[t->labels[i]];
        const float *x = segment(s, i);
        for (uint32_t a = 0; a < len; a++)
            for (uint32_t b = 0; b < len; b++) {
                h->m[a * len + b] += m[a * len + b];
                h->mx[a] += m[a * len + b] * (double)x[b];
            }
        h->n++;
    }
}

/* An entry that nobody took begins anew at some segment that another one serves. */
static void move_entries(struct training *t, struct share *shares) {
    const struct codebook_sample *s = t->s;
    for (uint32_t e = 0; e < t->k; e++) {
        double c[CODEBOOK_MAX_LEN];
        if (shares[e].n == 0) {
            set_entry(t, e, segment(s, next_random(&t->rng) % n_segments(s)));
            continue;
        }
        for (uint32_t j = 0; j < s->len; j++) c[j] = (double)t->columns[(size_t)j * t->k + e];
        solve(shares[e].m, shares[e].mx, s->len, c);
        for (uint32_t j = 0; j < s->len; j++) t->columns[(size_t)j * t->k + e] = (float)c[j];
    }
}

static int train(struct training *t, struct pool *pool, unsigned rounds, struct err *e) {
    struct share *shares = malloc(t->k * sizeof(*shares));
    if (!shares || !seed(t)) {
        free(shares);
        return err_set(e, -ENOMEM, "no memory to start a code book");
    }
    for (unsigned i = 0; i < rounds; i++) {
        pool_run(pool, label_group, t, t->s->n_groups);
        memset(shares, 0, t->k * sizeof(*shares));
        for (uint32_t g = 0; g < t->s->n_groups; g++) add_group(t, g, shares);
        move_entries(t, shares);
    }
    free(shares);
    return 0;
}

/* Columns to int8; they become the values as stored. */
static void store(struct codebook *b) {
    float top = 0.0f;
    size_t n = (size_t)b->len * b->k;
    for (size_t i = 0; i < n; i++) top = fmaxf(top, fabsf(b->columns[i]));
    b->scale = top > 0.0f && isfinite(top) ? top / INT8_MAX : 1.0f;
    for (uint32_t j = 0; j < b->len; j++)
        for (uint32_t e = 0; e < b->k; e++) {
            float *c = &b->columns[(size_t)j * b->k + e];
            float v = rintf(*c / b->scale);
            v = v > -(float)INT8_MAX ? v : -(float)INT8_MAX;
            *c = v < (float)INT8_MAX ? v : (float)INT8_MAX;
            b->entries[(size_t)e * b->len + j] = (int8_t)*c;
        }
}

int codebook_train(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                   const struct codebook_sample *s, uint32_t k, unsigned rounds,
                   struct codebook *ret, struct err *e) {
    ASSERT((s->len == 4 || s->len == 8) && k % LANES == 0 && k <= CODEBOOK_MAX_ENTRIES);
    ASSERT(s->n_groups > 0 && s->n_rows > 0);
    struct codebook b = {.len = s->len, .k = k};
    b.entries = malloc((size_t)k * s->len);
    b.columns = malloc((size_t)k * s->len * sizeof(*b.columns));
    struct training t = {.mem = m, .ops = ops, .s = s, .k = k, .columns = b.columns, .rng = k};
    size_t label_bytes = n_segments(s) * sizeof(*t.labels);
    t.labels = mem_alloc(m, MEM_PACKER, label_bytes);
    size_t slot = ((size_t)(s->len + 1) * k + (size_t)s->n_rows * s->len) * sizeof(float);
    int r = slots_create(m, pool_threads(pool), slot, &t.slots);
    if (r < 0 || !b.entries || !b.columns || !t.labels)
        r = err_set(e, -ENOMEM, "no memory for a code book of %u entries", k);
    if (r == 0) r = train(&t, pool, rounds, e);
    slots_destroy(t.slots);
    mem_free(m, MEM_PACKER, t.labels, label_bytes);
    if (r < 0) {
        codebook_fini(&b);
        return r;
    }
    store(&b);
    *ret = b;
    return 0;
}

void codebook_fini(struct codebook *b) {
    free(b->entries);
    free(b->columns);
    *b = (struct codebook){0};
}
