/* Temperature, top-k, top-p over the best candidates; xoshiro256** seeded by splitmix64 (both by
 * Blackman and Vigna) for the draw.
 *
 * The k best are kept in a heap while the logits are read. Over a vocabulary of 50,000 and k =
 * 1024 that alone would cost a tenth of a token's time, so a histogram first finds a floor that at
 * least k of them reach, and only those see the heap. Candidates are ordered by logit, then lower
 * id first: a total order, so the k best do not depend on how the heap moved. */
#include "core/sample.h"

#include <float.h>
#include <math.h>

/* From here on finding the floor costs less than it saves. */
enum { FLOOR_MIN_K = 200 };

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, unsigned n) {
    return x << n | x >> (64 - n);
}

static uint64_t xoshiro(uint64_t s[4]) {
    uint64_t r = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return r;
}

/* [0, 1), 53 bits. */
static double uniform(uint64_t s[4]) {
    return (double)(xoshiro(s) >> 11) * 0x1p-53;
}

void sample_init(struct sampler *s, const struct sample_params *p) {
    s->params = *p;
    uint64_t state = p->seed;
    for (int i = 0; i < 4; i++) s->rng[i] = splitmix64(&state);
}

/* The largest logit; -infinity if all are NaN. Lanes, so that the compiler can use vectors. */
static float max_of(const float *logits, uint32_t n_vocab) {
    enum { LANES = 16 };
    float lane[LANES];
    for (uint32_t j = 0; j < LANES; j++) lane[j] = -INFINITY;
    uint32_t i = 0;
    for (; n_vocab - i >= LANES; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    for (; i < n_vocab; i++) lane[0] = logits[i] > lane[0] ? logits[i] : lane[0];
    for (uint32_t j = 1; j < LANES; j++) lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    return lane[0];
}

static uint32_t pick_best(const float *logits, uint32_t n_vocab) {
    float best = max_of(logits, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] == best) return i;
    return 0;
}

/* True if a comes before b. */
static inline bool is_better(struct sample_cand a, struct sample_cand b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Lets the root of a heap of n sink to its place. The worst is on top, or the best. */
static inline void sift_down(struct sample_cand *heap, uint32_t n, uint32_t root,
                             bool is_best_on_top) {
    struct sample_cand c = heap[root];
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) break;
        if (child + 1 < n && is_better(heap[child + 1], heap[child]) == is_best_on_top) child++;
        if (is_better(heap[child], c) != is_best_on_top) break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = c;
}

static void make_heap(struct sample_cand *heap, uint32_t n, bool is_best_on_top) {
    for (uint32_t root = n / 2; root-- > 0;) sift_down(heap, n, root, is_best_on_top);
}

/* A value that at least k logits reach, and not many more; -infinity if it is too far below the
 * best to be looked for. */
static float find_floor(const float *logits, uint32_t n_vocab, uint32_t k) {
    enum { BINS = 2048, BINS_PER_UNIT = 64 };
    float best = max_of(logits, n_vocab);
    if (!(fabsf(best) <= FLT_MAX)) return -INFINITY;
    uint32_t count[BINS] = {0};
    for (uint32_t i = 0; i < n_vocab; i++) {
        float below = (best - logits[i]) * BINS_PER_UNIT;
        if (below < BINS) count[(uint32_t)below]++; /* false for NaN */
    }
    uint32_t sum = 0;
    for (uint32_t b = 0; b < BINS; b++) {
        sum += count[b];
        /* One bin further down than the arithmetic says, to be clear of its rounding. */
        if (sum >= k) return best - (float)(b + 2) / BINS_PER_UNIT;
    }
    return -INFINITY;
}

/* Fills cand[] with the k best, in no order; NaN is left out. Returns how many. */
static uint32_t collect(struct sample_cand *cand, uint32_t k, const float *logits,
                        uint32_t n_vocab) {
    float floor = k < FLOOR_MIN_K ? -INFINITY : find_floor(logits, n_vocab, k);
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!(logits[i] >= floor)) continue; /* NaN too */
        if (n == k && logits[i] <= cand[0].logit) continue;
        /* Infinities are brought in range so that their difference is a number. */
        struct sample_cand c = {fminf(fmaxf(logits[i], -FLT_MAX), FLT_MAX), i};
        if (n < k) {
            cand[n++] = c;
            if (n == k) make_heap(cand, k, false);
        } else if (is_better(c, cand[0])) {
            cand[0] = c;
            sift_down(cand, k, 0, false);
        }
    }
    return n;
}

/* The weight of a candidate; the best one's is 1. */
static double weight_of(const struct sampler *s, struct sample_cand c, float best) {
    return exp(((double)c.logit - (double)best) / (double)s->params.temperature);
}

/* Moves the smallest set of best candidates that holds top_p of the weight to the end of cand[n];
 * returns where it begins, and its weight. */
static uint32_t keep_top_p(struct sampler *s, uint32_t n, float best, double total,
                           double *ret_weight) {
    double target = (double)s->params.top_p * total, weight = 0;
    uint32_t from = n;
    make_heap(s->cand, n, true);
    do {
        struct sample_cand c = s->cand[0];
        s->cand[0] = s->cand[--from];
        s->cand[from] = c;
        sift_down(s->cand, from, 0, true);
        weight += weight_of(s, c, best);
    } while (from > 0 && weight < target);
    *ret_weight = weight;
    return from;
}

uint32_t sample_pick(struct sampler *s, const float *logits, uint32_t n_vocab) {
    const struct sample_params *p = &s->params;
    if (!(p->temperature > 0)) return pick_best(logits, n_vocab);

    uint32_t k = p->top_k ? MIN(p->top_k, (uint32_t)SAMPLE_MAX_TOP_K) : SAMPLE_MAX_TOP_K;
    uint32_t n = collect(s->cand, k, logits, n_vocab);
    double u = uniform(s->rng); /* drawn in any case: its stream depends on the picks' count only */
    if (n == 0) return 0;

    float best = s->cand[0].logit;
    for (uint32_t i = 1; i < n; i++) best = fmaxf(best, s->cand[i].logit);
    double total = 0;
    for (uint32_t i = 0; i < n; i++) total += weight_of(s, s->cand[i], best);
    uint32_t from = 0;
    if (p->top_p < 1) from = keep_top_p(s, n, best, total, &total);

    double target = u * total, sum = 0;
    for (uint32_t i = from; i < n; i++) {
        sum += weight_of(s, s->cand[i], best);
        if (target < sum) return s->cand[i].id;
    }
    return s->cand[n - 1].id;
}
