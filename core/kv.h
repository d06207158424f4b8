/* The KV cache of one session: keys and values of every layer as fp16, positions in order. */
#ifndef EBB_CORE_KV_H
#define EBB_CORE_KV_H

#include "core/defs.h"
#include "core/model.h"

struct err;
struct mem;
struct kv;

/* Bytes kv_create() will account for `n_pos` positions (rounded up to 64). */
uint64_t kv_bytes_for(const struct model_hparams *h, uint32_t n_pos);
/* 0, -EINVAL or -ENOMEM. Owned by the caller. `h` is borrowed. */
int kv_create(struct mem *m, const struct model_hparams *h, uint32_t n_pos, struct kv **ret,
              struct err *e) MUST_CHECK;
void kv_destroy(struct kv *kv); /* accepts NULL */

uint32_t kv_capacity(const struct kv *kv);
uint64_t kv_bytes(const struct kv *kv);
/* [position][n_kv_heads * head_dim] fp16 of one layer. */
uint16_t *kv_keys(struct kv *kv, uint32_t layer);
uint16_t *kv_values(struct kv *kv, uint32_t layer);

#endif
