/* Picks the next token. Deterministic: the same logits, settings and state give the same token. */
#ifndef EBB_CORE_SAMPLE_H
#define EBB_CORE_SAMPLE_H

#include "core/defs.h"

enum { SAMPLE_MAX_TOP_K = 1024 };

struct sample_params {
    float temperature; /* 0 = greedy; <= 2 */
    float top_p;       /* (0, 1]; 1 = off */
    uint32_t top_k;    /* 0 = off (SAMPLE_MAX_TOP_K best are considered) */
    uint64_t seed;
};

struct sampler { /* caller's memory; opaque in use */
    struct sample_params params;
    uint64_t rng[4]; /* xoshiro256** */
    struct sample_cand {
        float logit;
        uint32_t id;
    } cand[SAMPLE_MAX_TOP_K];
};

void sample_init(struct sampler *s, const struct sample_params *p);
/* Ties go to the lower id. NaN logits never win; if all are NaN, token 0. */
uint32_t sample_pick(struct sampler *s, const float *logits, uint32_t n_vocab);

#endif
