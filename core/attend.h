/* Attention over a KV cache: what a row writes into it, and what its queries read out of it. */
#ifndef EBB_CORE_ATTEND_H
#define EBB_CORE_ATTEND_H

#include "core/defs.h"
#include "core/model.h"

struct kern_ops;
struct kv;

/* A row's rotated keys and its values, [n_kv_heads][head_dim] each, into position `pos` of a layer,
 * which must not lie in a shared block. */
void attend_keep(const struct kern_ops *ops, const struct model_hparams *h, const struct kv *kv,
                 uint32_t layer, uint32_t pos, const float *k, const float *v);

/* Query heads [head, head + n_q) of a row, n_q at most KERN_ATTN_QUERIES, that share a key-value
 * head, over the first n_pos positions: ret[n_q][head_dim] from q[n_q][head_dim]. Always computed
 * in the same order, block by block. scores: scratch, [n_q][lds] with lds >= n_pos. */
void attend_heads(const struct kern_ops *ops, const struct model_hparams *h, const struct kv *kv,
                  uint32_t layer, uint32_t head, uint32_t n_q, uint32_t n_pos, const float *q,
                  float *scores, size_t lds, float *ret);

/* The query heads of a row fall into `attend_parts()` runs like that. */
uint32_t attend_parts(const struct model_hparams *h);
/* The first head of run `part`; *n_q how many there are. */
uint32_t attend_part(const struct model_hparams *h, uint32_t part, uint32_t *n_q);

#endif
