/* One mapping: for each layer all keys, then all values. Pages are committed as positions are
 * written, so a long context costs address space until it is used; the accounting counts it all,
 * because it may be used. */
#include "core/kv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/err.h"
#include "core/mem.h"

struct kv {
    struct mem *mem; /* borrowed for the cache's life */
    uint16_t *data;  /* owned: [n_layers][2][n_pos][width] fp16 */
    uint64_t bytes;
    size_t side; /* elements of one layer's keys, or of its values */
    uint32_t n_layers;
    uint32_t n_pos;
};

enum { KV_STEP = 64 };

static uint64_t round_pos(uint32_t n_pos) {
    return ((uint64_t)n_pos + KV_STEP - 1) / KV_STEP * KV_STEP;
}

uint64_t kv_bytes_for(const struct model_hparams *h, uint32_t n_pos) {
    /* Cannot overflow: at most 2^9 layers, 2^32 positions, 2^18 values, 2 * 2 bytes. */
    uint64_t bytes = round_pos(n_pos) * h->n_kv_heads * h->head_dim * h->n_layers * 2 *
                     sizeof(uint16_t);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

int kv_create(struct mem *m, const struct model_hparams *h, uint32_t n_pos, struct kv **ret,
              struct err *e) {
    if (n_pos == 0 || n_pos > MODEL_MAX_CTX)
        return err_set(e, -EINVAL, "KV cache of %u positions: must be 1 to %d", n_pos,
                       MODEL_MAX_CTX);
    struct kv *kv = malloc(sizeof(*kv));
    if (!kv) return err_set(e, -ENOMEM, "no memory for a KV cache");
    *kv = (struct kv){
        .mem = m,
        .bytes = kv_bytes_for(h, n_pos),
        .side = (size_t)round_pos(n_pos) * h->n_kv_heads * h->head_dim,
        .n_layers = h->n_layers,
        .n_pos = (uint32_t)round_pos(n_pos),
    };
    kv->data = mem_alloc(m, MEM_KV, kv->bytes);
    if (!kv->data) {
        err_set(e, -ENOMEM, "no memory for a KV cache of %u positions (%llu bytes)", kv->n_pos,
                (unsigned long long)kv->bytes);
        free(kv);
        return -ENOMEM;
    }
    *ret = kv;
    return 0;
}

void kv_destroy(struct kv *kv) {
    if (!kv) return;
    mem_free(kv->mem, MEM_KV, kv->data, kv->bytes);
    free(kv);
}

uint32_t kv_capacity(const struct kv *kv) {
    return kv->n_pos;
}

uint64_t kv_bytes(const struct kv *kv) {
    return kv->bytes;
}

uint16_t *kv_keys(struct kv *kv, uint32_t layer) {
    ASSERT(layer < kv->n_layers);
    return kv->data + 2 * layer * kv->side;
}

uint16_t *kv_values(struct kv *kv, uint32_t layer) {
    return kv_keys(kv, layer) + kv->side;
}
