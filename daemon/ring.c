#include "daemon/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ring_init(struct ring *r, size_t bytes) {
    if (bytes == 0 || (bytes & (bytes - 1)) != 0) return -EINVAL;
    r->p = malloc(bytes);
    if (!r->p) return -ENOMEM;
    memset(r->p, 0, bytes); /* the writer must not fault in it: it would be charged in a step */
    r->bytes = bytes;
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    return 0;
}

void ring_fini(struct ring *r) {
    free(r->p);
    r->p = NULL;
}

size_t ring_free(const struct ring *r) {
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed); /* our own */
    return r->bytes - (head - atomic_load_explicit(&r->tail, memory_order_acquire));
}

static void copy_in(struct ring *r, size_t at, const void *p, size_t n) {
    size_t i = at & (r->bytes - 1);
    size_t first = MIN(n, r->bytes - i);
    if (first) memcpy(r->p + i, p, first);
    if (n > first) memcpy(r->p, (const uint8_t *)p + first, n - first);
}

bool ring_write(struct ring *r, const void *a, size_t n_a, const void *b, size_t n_b) {
    size_t n;
    if (!size_add(n_a, n_b, &n) || n > ring_free(r)) return false;
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    copy_in(r, head, a, n_a);
    copy_in(r, head + n_a, b, n_b);
    atomic_store_explicit(&r->head, head + n, memory_order_release);
    return true;
}

size_t ring_used(const struct ring *r) {
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed); /* our own */
    return atomic_load_explicit(&r->head, memory_order_acquire) - tail;
}

bool ring_peek(const struct ring *r, void *dst, size_t n) {
    if (n > ring_used(r)) return false;
    size_t i = atomic_load_explicit(&r->tail, memory_order_relaxed) & (r->bytes - 1);
    size_t first = MIN(n, r->bytes - i);
    if (first) memcpy(dst, r->p + i, first);
    if (n > first) memcpy((uint8_t *)dst + first, r->p, n - first);
    return true;
}

bool ring_read(struct ring *r, void *dst, size_t n) {
    if (!ring_peek(r, dst, n)) return false;
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    atomic_store_explicit(&r->tail, tail + n, memory_order_release);
    return true;
}
