/* A block is one mapping: for each layer, keys then values: the elements of each head, then the
 * scales of each head. Its pages are there from the start, as no step may fault. */
#include "core/kv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "core/mem.h"
#include "kernels/kernels.h"

_Static_assert((int)KV_BLOCK == (int)KERN_ATTN_BLOCK, "attention goes block by block");

struct block {
    uint8_t *data; /* owned */
    /* Written by the loop; the guard looks whether there is one (kv_discard()). Relaxed: what makes
     * it more than one does so while the guard may not look (prefix.h). */
    _Atomic uint32_t n_users;
};

struct shape {
    enum kv_type type;
    uint32_t n_layers, n_heads;
    size_t row_bytes;     /* of one head at one position */
    size_t side_bytes;    /* of one layer's keys, or of its values */
    uint64_t block_bytes; /* whole pages */
};

struct kv {
    struct mem *mem; /* borrowed for the cache's life */
    struct shape shape;
    uint32_t n_blocks;
    struct block *blocks[]; /* [n_blocks], each one user's share owned */
};

static struct shape shape_of(const struct model_hparams *h, enum kv_type type) {
    bool is_half = type == KV_F16;
    struct shape s = {.type = type, .n_layers = h->n_layers, .n_heads = h->n_kv_heads};
    s.row_bytes = h->head_dim * (is_half ? sizeof(uint16_t) : sizeof(int8_t));
    /* Cannot overflow: at most 2^18 values of 64 positions, and 2^9 layers. */
    s.side_bytes = (size_t)KV_BLOCK * s.n_heads * (s.row_bytes + (is_half ? 0 : sizeof(float)));
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    s.block_bytes = (2 * (uint64_t)s.n_layers * s.side_bytes + page - 1) / page * page;
    return s;
}

static uint32_t blocks_for(uint32_t n_pos) {
    return n_pos / KV_BLOCK + (n_pos % KV_BLOCK != 0);
}

uint64_t kv_bytes_for(const struct model_hparams *h, enum kv_type type, uint32_t n_pos) {
    return kv_fork_bytes(h, type, n_pos, 0);
}

uint64_t kv_fork_bytes(const struct model_hparams *h, enum kv_type type, uint32_t n_pos,
                       uint32_t n_kept) {
    uint64_t n = blocks_for(n_pos) - MIN(n_kept, n_pos) / KV_BLOCK;
    return n * shape_of(h, type).block_bytes;
}

static struct block *block_create(struct mem *m, uint64_t bytes) {
    struct block *b = malloc(sizeof(*b));
    if (!b) return NULL;
    b->data = mem_alloc(m, MEM_KV, bytes);
    atomic_init(&b->n_users, 1);
    if (b->data) return b;
    free(b);
    return NULL;
}

static bool is_shared(const struct block *b) {
    return atomic_load_explicit(&b->n_users, memory_order_relaxed) > 1;
}

static void block_leave(const struct kv *kv, struct block *b) {
    if (atomic_fetch_sub_explicit(&b->n_users, 1, memory_order_relaxed) > 1) return;
    mem_free(kv->mem, MEM_KV, b->data, kv->shape.block_bytes);
    free(b);
}

/* The first n positions of a block; the scales of the others are copied too. */
static void copy_positions(const struct shape *s, const uint8_t *from, uint8_t *to, uint32_t n) {
    size_t head = (size_t)KV_BLOCK * s->row_bytes, scales = s->n_heads * head;
    for (uint32_t side = 0; side < 2 * s->n_layers; side++) {
        const uint8_t *a = from + side * s->side_bytes;
        uint8_t *b = to + side * s->side_bytes;
        for (uint32_t i = 0; i < s->n_heads; i++)
            memcpy(b + i * head, a + i * head, (size_t)n * s->row_bytes);
        memcpy(b + scales, a + scales, s->side_bytes - scales);
    }
}

/* from: NULL, or what the first n_kept positions are taken from. */
static int create(struct mem *m, const struct model_hparams *h, enum kv_type type, uint32_t n_pos,
                  const struct kv *from, uint32_t n_kept, struct kv **ret, struct err *e) {
    if (n_pos == 0 || n_pos > MODEL_MAX_CTX)
        return err_set(e, -EINVAL, "KV cache of %u positions: must be 1 to %d", n_pos,
                       MODEL_MAX_CTX);
    ASSERT(n_kept <= n_pos && n_kept <= (from ? kv_capacity(from) : 0));
    uint32_t n = blocks_for(n_pos), n_shared = n_kept / KV_BLOCK, n_rest = n_kept % KV_BLOCK;
    struct kv *kv = calloc(1, sizeof(*kv) + n * sizeof(kv->blocks[0]));
    if (!kv) return err_set(e, -ENOMEM, "no memory for a KV cache");
    kv->mem = m;
    kv->shape = shape_of(h, type);
    for (; kv->n_blocks < n; kv->n_blocks++) {
        uint32_t i = kv->n_blocks;
        if (i < n_shared) {
            kv->blocks[i] = from->blocks[i];
            atomic_fetch_add_explicit(&kv->blocks[i]->n_users, 1, memory_order_relaxed);
            continue;
        }
        kv->blocks[i] = block_create(m, kv->shape.block_bytes);
        if (!kv->blocks[i]) {
            err_set(e, -ENOMEM, "no memory for a KV cache of %u positions (%llu bytes)", n_pos,
                    (unsigned long long)kv_fork_bytes(h, type, n_pos, n_kept));
            kv_destroy(kv);
            return -ENOMEM;
        }
    }
    if (n_rest > 0)
        copy_positions(&kv->shape, from->blocks[n_shared]->data, kv->blocks[n_shared]->data,
                       n_rest);
    *ret = kv;
    return 0;
}

int kv_create(struct mem *m, const struct model_hparams *h, enum kv_type type, uint32_t n_pos,
              struct kv **ret, struct err *e) {
    return create(m, h, type, n_pos, NULL, 0, ret, e);
}

int kv_fork(struct mem *m, const struct model_hparams *h, uint32_t n_pos, const struct kv *from,
            uint32_t n_kept, struct kv **ret, struct err *e) {
    return create(m, h, from->shape.type, n_pos, from, n_kept, ret, e);
}

void kv_trim(struct kv *kv, uint32_t n_pos) {
    while (kv->n_blocks > blocks_for(n_pos)) block_leave(kv, kv->blocks[--kv->n_blocks]);
}

void kv_destroy(struct kv *kv) {
    if (!kv) return;
    kv_trim(kv, 0);
    free(kv);
}

enum kv_type kv_type(const struct kv *kv) {
    return kv->shape.type;
}

uint32_t kv_capacity(const struct kv *kv) {
    return kv->n_blocks * KV_BLOCK;
}

uint64_t kv_bytes(const struct kv *kv) {
    return kv->n_blocks * kv->shape.block_bytes;
}

uint64_t kv_own_bytes(const struct kv *kv) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < kv->n_blocks; i++) n += !is_shared(kv->blocks[i]);
    return n * kv->shape.block_bytes;
}

uint64_t kv_discard(struct kv *kv) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < kv->n_blocks; i++) {
        if (is_shared(kv->blocks[i])) continue;
        mem_discard(kv->mem, MEM_KV, kv->blocks[i]->data, kv->shape.block_bytes);
        n++;
    }
    return n * kv->shape.block_bytes;
}

static struct kv_side side_at(const struct kv *kv, uint32_t side, uint32_t head, uint32_t block) {
    const struct shape *s = &kv->shape;
    ASSERT(block < kv->n_blocks && head < s->n_heads && side < 2 * s->n_layers);
    uint8_t *base = kv->blocks[block]->data + side * s->side_bytes;
    size_t head_bytes = (size_t)KV_BLOCK * s->row_bytes;
    float *scales = (float *)(void *)(base + s->n_heads * head_bytes);
    return (struct kv_side){.x = base + head * head_bytes,
                            .scale = s->type == KV_F16 ? NULL : scales + (size_t)head * KV_BLOCK};
}

struct kv_side kv_keys(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t block) {
    return side_at(kv, 2 * layer, head, block);
}

struct kv_side kv_values(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t block) {
    return side_at(kv, 2 * layer + 1, head, block);
}
