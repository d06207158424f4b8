/* The k best of many scored ids: the words that a hidden state or a prediction points at. */
#ifndef EBB_CORE_MAKE_TOPK_H
#define EBB_CORE_MAKE_TOPK_H

#include <stdint.h>

enum { TOPK_MAX = 30 };

/* Best first; equal scores in order of the id. Zeroed: empty. */
struct topk {
    uint32_t n;
    float score[TOPK_MAX];
    uint32_t id[TOPK_MAX];
};

/* Offers an id; ids must come in rising order, so that an equal score never displaces an earlier
 * one. k <= TOPK_MAX. */
static inline void topk_add(struct topk *t, uint32_t k, float score, uint32_t id) {
    if (t->n == k && !(score > t->score[k - 1])) return;
    uint32_t i = t->n < k ? t->n++ : k - 1;
    for (; i > 0 && score > t->score[i - 1]; i--) {
        t->score[i] = t->score[i - 1];
        t->id[i] = t->id[i - 1];
    }
    t->score[i] = score;
    t->id[i] = id;
}

/* The k best of scores[n], offered as ids 0 .. n - 1. */
static inline void topk_of(struct topk *t, uint32_t k, const float *scores, uint32_t n) {
    t->n = 0;
    for (uint32_t i = 0; i < n; i++) topk_add(t, k, scores[i], i);
}

#endif
