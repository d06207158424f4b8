#include "core/make/slots.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/mem.h"
#include "core/pool.h"

struct slots {
    struct mem *mem; /* borrowed */
    uint8_t *data;   /* owned: n * stride bytes */
    size_t stride, total;
    unsigned n;
    atomic_flag taken[POOL_MAX_THREADS]; /* acquire in claim, release in release: same buffer */
};

int slots_create(struct mem *m, unsigned n, size_t bytes, struct slots **ret) {
    ASSERT(n >= 1 && n <= POOL_MAX_THREADS);
    struct slots *s = calloc(1, sizeof(*s));
    if (!s) return -ENOMEM;
    s->mem = m;
    s->n = n;
    for (unsigned i = 0; i < POOL_MAX_THREADS; i++) atomic_flag_clear(&s->taken[i]);
    bool ok = size_align(MAX(bytes, (size_t)1), 64, &s->stride) &&
              size_mul(s->stride, n, &s->total);
    if (ok) s->data = mem_alloc(m, MEM_PACKER, s->total);
    if (!s->data) {
        free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void slots_destroy(struct slots *s) {
    if (!s) return;
    mem_free(s->mem, MEM_PACKER, s->data, s->total);
    free(s);
}

void *slots_claim(struct slots *s) {
    for (unsigned i = 0; i < s->n; i++)
        if (!atomic_flag_test_and_set_explicit(&s->taken[i], memory_order_acquire))
            return s->data + i * s->stride;
    /* More threads than buffers is a programming error, not something to wait for. */
    ASSERT(false);
    return NULL;
}

void slots_release(struct slots *s, void *p) {
    size_t i = (size_t)((uint8_t *)p - s->data) / s->stride;
    atomic_flag_clear_explicit(&s->taken[i], memory_order_release);
}
