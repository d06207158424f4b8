/* Temperature, top-k, top-p over the best candidates; xoshiro256** seeded by splitmix64 (both by
 * Blackman and Vigna) for the draw.
 *
 * The candidates are kept in a min-heap of the k best while the logits are read once. Their order
 * is total (logit, then lower id first), so the choice never depends on how the heap moved. */
#include "core/sample.h"

#include <float.h>
#include <math.h>

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

static uint32_t pick_best(const float *logits, uint32_t n_vocab) {
    uint32_t i = 0;
    while (i < n_vocab && isnan(logits[i])) i++;
    if (i == n_vocab) return 0;
    uint32_t best = i;
    /* A comparison with NaN is false, so NaN never wins here either. */
    for (; i < n_vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* True if a is the worse candidate. */
static inline bool is_worse(struct sample_cand a, struct sample_cand b) {
    return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
}

/* Lets the candidate at the root of a heap of n sink to its place. */
static void sift_down(struct sample_cand *heap, uint32_t n, uint32_t root) {
    struct sample_cand c = heap[root];
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) break;
        if (child + 1 < n && is_worse(heap[child + 1], heap[child])) child++;
        if (!is_worse(heap[child], c)) break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = c;
}

/* Fills cand[] with the k best, best first; NaN is left out. Returns how many. */
static uint32_t collect(struct sample_cand *cand, uint32_t k, const float *logits,
                        uint32_t n_vocab) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        /* Infinities are brought in range so that their difference is a number. A NaN fails this
         * test while the heap is full; while it is not, it is left out below. */
        if (n == k && !(logits[i] > cand[0].logit)) continue;
        if (isnan(logits[i])) continue;
        struct sample_cand c = {fminf(fmaxf(logits[i], -FLT_MAX), FLT_MAX), i};
        if (n < k) {
            cand[n++] = c;
            if (n == k)
                for (uint32_t root = k / 2; root-- > 0;) sift_down(cand, k, root);
        } else if (is_worse(cand[0], c)) {
            cand[0] = c;
            sift_down(cand, k, 0);
        }
    }
    if (n < k)
        for (uint32_t root = n / 2; root-- > 0;) sift_down(cand, n, root);
    /* Takes the worst from the root to the end of the shrinking heap: best first remains. */
    for (uint32_t left = n; left > 1; left--) {
        struct sample_cand worst = cand[0];
        cand[0] = cand[left - 1];
        sift_down(cand, left - 1, 0);
        cand[left - 1] = worst;
    }
    return n;
}

uint32_t sample_pick(struct sampler *s, const float *logits, uint32_t n_vocab) {
    const struct sample_params *p = &s->params;
    if (!(p->temperature > 0)) return pick_best(logits, n_vocab);

    uint32_t k = p->top_k ? MIN(p->top_k, (uint32_t)SAMPLE_MAX_TOP_K) : SAMPLE_MAX_TOP_K;
    uint32_t n = collect(s->cand, k, logits, n_vocab);
    double u = uniform(
        s->rng); /* drawn in any case: the stream depends on the count of picks only */
    if (n == 0) return 0;

    double inv_t = 1.0 / (double)p->temperature;
    double best = (double)s->cand[0].logit;
    double total = 0;
    for (uint32_t i = 0; i < n; i++) total += exp(((double)s->cand[i].logit - best) * inv_t);
    double kept = total;
    uint32_t n_kept = n;
    if (p->top_p < 1) {
        kept = 0;
        n_kept = 0;
        do {
            kept += exp(((double)s->cand[n_kept++].logit - best) * inv_t);
        } while (n_kept < n && kept < (double)p->top_p * total);
    }
    double target = u * kept, sum = 0;
    for (uint32_t i = 0; i < n_kept; i++) {
        sum += exp(((double)s->cand[i].logit - best) * inv_t);
        if (target < sum) return s->cand[i].id;
    }
    return s->cand[n_kept - 1].id;
}
