#include "core/attend.h"

#include <math.h>
#include <string.h>

#include "core/kv.h"
#include "kernels/kernels.h"

static void keep_head(const struct kern_ops *ops, uint32_t dim, const float *x, struct kv_side to,
                      uint32_t at) {
    size_t i = (size_t)at * dim;
    if (to.scale)
        to.scale[at] = ops->quant_kv(x, dim, (int8_t *)to.x + i);
    else
        ops->to_f16(x, dim, (uint16_t *)to.x + i);
}

void attend_keep(const struct kern_ops *ops, const struct model_hparams *h, const struct kv *kv,
                 uint32_t layer, uint32_t pos, const float *k, const float *v) {
    uint32_t block = pos / KV_BLOCK, at = pos % KV_BLOCK, dim = h->head_dim;
    for (uint32_t head = 0; head < h->n_kv_heads; head++) {
        keep_head(ops, dim, k + (size_t)head * dim, kv_keys(kv, layer, head, block), at);
        keep_head(ops, dim, v + (size_t)head * dim, kv_values(kv, layer, head, block), at);
    }
}

static uint32_t in_block(uint32_t n_pos, uint32_t p) {
    return MIN(n_pos - p, (uint32_t)KV_BLOCK);
}

void attend_heads(const struct kern_ops *ops, const struct model_hparams *h, const struct kv *kv,
                  uint32_t layer, uint32_t head, uint32_t n_q, uint32_t n_pos, const float *q,
                  float *scores, size_t lds, float *ret) {
    uint32_t dim = h->head_dim, kv_head = head / (h->n_heads / h->n_kv_heads);
    float scale = 1.0f / sqrtf((float)dim);
    bool is_half = kv_type(kv) == KV_F16;
    kern_attn_scores_fn *score = is_half ? ops->attn_scores_f16 : ops->attn_scores;
    kern_attn_mix_fn *mix = is_half ? ops->attn_mix_f16 : ops->attn_mix;
    float share[KERN_ATTN_QUERIES];
    for (uint32_t p = 0; p < n_pos; p += KV_BLOCK) {
        struct kv_side k = kv_keys(kv, layer, kv_head, p / KV_BLOCK);
        score(q, n_q, k.x, k.scale, in_block(n_pos, p), dim, scale, scores + p, lds);
    }
    for (uint32_t i = 0; i < n_q; i++) share[i] = 1.0f / ops->attn_exp(scores + i * lds, n_pos);
    memset(ret, 0, (size_t)n_q * dim * sizeof(*ret));
    for (uint32_t p = 0; p < n_pos; p += KV_BLOCK) {
        struct kv_side v = kv_values(kv, layer, kv_head, p / KV_BLOCK);
        mix(scores + p, lds, n_q, v.x, v.scale, in_block(n_pos, p), dim, ret);
    }
    for (uint32_t i = 0; i < n_q; i++)
        for (uint32_t d = 0; d < dim; d++) ret[i * dim + d] *= share[i];
}

/* Of the heads that share a key-value head. */
static uint32_t parts_of_shared(uint32_t n_shared) {
    return (n_shared + KERN_ATTN_QUERIES - 1) / KERN_ATTN_QUERIES;
}

uint32_t attend_parts(const struct model_hparams *h) {
    return h->n_kv_heads * parts_of_shared(h->n_heads / h->n_kv_heads);
}

uint32_t attend_part(const struct model_hparams *h, uint32_t part, uint32_t *n_q) {
    uint32_t n_shared = h->n_heads / h->n_kv_heads, n = parts_of_shared(n_shared);
    uint32_t first = part % n * KERN_ATTN_QUERIES;
    *n_q = MIN(n_shared - first, (uint32_t)KERN_ATTN_QUERIES);
    return part / n * n_shared + first;
}
