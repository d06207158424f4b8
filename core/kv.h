/* The KV cache of one session: keys and values of every layer in blocks of 64 positions, as int8 or
 * as fp16.
 *
 * A block holds its positions for all layers. Blocks may be shared: a cache that begins with the
 * same tokens as another one takes over its whole blocks without a copy, and a copy of the
 * positions of the last, broken one. Shared blocks are full and only read. What is written for a
 * position depends on the tokens up to it and on the precision of the weights at that time, not on
 * the cache it lies in.
 *
 * In int8 each key or value of a head has one scale (kernels.h, quant_kv). That halves the bytes
 * and costs little: on the 135M model the KL of all units at full goes from 0.00334 to 0.00371, at
 * high from 0.03759 to 0.03804 (12 windows). fp16 is for who has the memory, and for measuring
 * weights: the packer's scores are of that size.
 *
 * Thread: blocks are created, shared and freed by one thread (loop); their contents are written and
 * read by whoever runs the session. */
#ifndef EBB_CORE_KV_H
#define EBB_CORE_KV_H

#include "core/defs.h"
#include "core/model.h"

struct err;
struct mem;
struct kv;

enum { KV_BLOCK = 64 }; /* positions; the kernels' block */

enum kv_type { KV_Q8, KV_F16 };

/* Bytes kv_create() will account for `n_pos` positions, rounded up to whole blocks; and kv_fork().
 */
uint64_t kv_bytes_for(const struct model_hparams *h, enum kv_type type, uint32_t n_pos);
uint64_t kv_fork_bytes(const struct model_hparams *h, enum kv_type type, uint32_t n_pos,
                       uint32_t n_kept);
/* 0, -EINVAL or -ENOMEM. Owned by the caller. `h` is borrowed for the call. */
int kv_create(struct mem *m, const struct model_hparams *h, enum kv_type type, uint32_t n_pos,
              struct kv **ret, struct err *e) MUST_CHECK;
/* Likewise, of the type of `from`, a cache of the same model, whose first n_kept positions it
 * begins with: n_kept <= n_pos and <= its capacity. It is not needed after the call. */
int kv_fork(struct mem *m, const struct model_hparams *h, uint32_t n_pos, const struct kv *from,
            uint32_t n_kept, struct kv **ret, struct err *e) MUST_CHECK;
void kv_destroy(struct kv *kv); /* accepts NULL */

enum kv_type kv_type(const struct kv *kv);
uint32_t kv_capacity(const struct kv *kv);
uint64_t kv_bytes(const struct kv *kv);     /* of its blocks, shared ones included */
uint64_t kv_own_bytes(const struct kv *kv); /* of those that nobody else uses */
/* Returns the bytes of the blocks that nobody else uses to the system; what they held is lost, and
 * the cache can only be destroyed. Returns how many. Neither charges nor allocates. */
uint64_t kv_discard(struct kv *kv);
/* Frees the blocks beyond n_pos positions: they are the capacity then, rounded up. */
void kv_trim(struct kv *kv, uint32_t n_pos);

/* One layer's side of one head, in one block: x[KV_BLOCK][head_dim] of the type, and
 * scale[KV_BLOCK] (KV_F16: NULL). */
struct kv_side {
    void *x;
    float *scale;
};
/* block: position / KV_BLOCK. A shared block must not be written. */
struct kv_side kv_keys(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t block);
struct kv_side kv_values(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t block);

#endif
