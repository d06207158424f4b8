/* A short array, oldest use first: there are as many caches as fit the limit and no more than
 * MAX_ENTRIES, so a search by comparing tokens takes microseconds. */
#include "core/prefix.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/kv.h"

enum { MAX_ENTRIES = 64 };

struct entry {
    uint32_t *ids; /* owned */
    uint32_t n;
    struct kv *kv; /* owned */
};

struct prefix {
    uint64_t limit;
    uint32_t n;
    /* Of the first entries. Relaxed: written by whoever may, and otherwise only counted with. */
    _Atomic uint32_t n_discarded;
    bool is_pinned; /* the last entry */
    struct entry entries[MAX_ENTRIES];
};

int prefix_create(struct prefix **ret) {
    struct prefix *p = calloc(1, sizeof(*p));
    if (!p) return -ENOMEM;
    *ret = p;
    return 0;
}

static void drop(struct prefix *p, uint32_t i) {
    free(p->entries[i].ids);
    kv_destroy(p->entries[i].kv);
    p->n--;
    uint32_t n_discarded = atomic_load_explicit(&p->n_discarded, memory_order_relaxed);
    if (i < n_discarded)
        atomic_store_explicit(&p->n_discarded, n_discarded - 1, memory_order_relaxed);
    memmove(p->entries + i, p->entries + i + 1, (p->n - i) * sizeof(p->entries[0]));
}

void prefix_destroy(struct prefix *p) {
    if (!p) return;
    while (p->n > 0) drop(p, 0);
    free(p);
}

static uint64_t held(const struct prefix *p) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n; i++) bytes += kv_bytes(p->entries[i].kv);
    return bytes;
}

void prefix_set_limit(struct prefix *p, uint64_t bytes) {
    p->limit = bytes;
    while (p->n > 0 && held(p) > bytes) drop(p, 0);
}

static uint32_t common(const struct entry *x, const uint32_t *ids, uint32_t n) {
    uint32_t k = 0;
    n = MIN(n, x->n);
    while (k < n && x->ids[k] == ids[k]) k++;
    return k;
}

void prefix_put(struct prefix *p, const uint32_t *ids, uint32_t n, struct kv *kv) {
    struct entry x = {.n = n, .kv = kv};
    kv_trim(kv, n);
    if (n >= PREFIX_MIN && kv_bytes(kv) <= p->limit) x.ids = malloc(n * sizeof(*x.ids));
    if (!x.ids) {
        kv_destroy(kv);
        return;
    }
    memcpy(x.ids, ids, n * sizeof(*x.ids));
    for (uint32_t i = p->n; i-- > 0;)
        if (p->entries[i].n <= n && common(&p->entries[i], ids, n) == p->entries[i].n) drop(p, i);
    if (p->n == MAX_ENTRIES) drop(p, 0);
    p->entries[p->n++] = x;
    prefix_set_limit(p, p->limit);
}

const struct kv *prefix_find(struct prefix *p, const uint32_t *ids, uint32_t n, uint32_t *ret_n) {
    uint32_t best = 0, most = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t k = common(&p->entries[i], ids, n);
        if (k < most) continue;
        best = i;
        most = k;
    }
    *ret_n = 0;
    if (most < PREFIX_MIN) return NULL;
    struct entry x = p->entries[best];
    memmove(p->entries + best, p->entries + best + 1, (p->n - best - 1) * sizeof(x));
    p->entries[p->n - 1] = x;
    *ret_n = most;
    return x.kv;
}

void prefix_shed(struct prefix *p, uint64_t bytes) {
    uint64_t freed = 0;
    while (p->n > 0 && freed < bytes) {
        freed += kv_own_bytes(p->entries[0].kv);
        drop(p, 0);
    }
}

void prefix_pin(struct prefix *p, bool on) {
    p->is_pinned = on;
}

uint64_t prefix_discard(struct prefix *p, uint64_t bytes) {
    uint32_t i = atomic_load_explicit(&p->n_discarded, memory_order_relaxed);
    uint32_t n = p->is_pinned ? p->n - 1 : p->n;
    uint64_t done = 0;
    while (i < n && done < bytes) done += kv_discard(p->entries[i++].kv);
    atomic_store_explicit(&p->n_discarded, i, memory_order_relaxed);
    return done;
}

void prefix_drop_discarded(struct prefix *p) {
    while (atomic_load_explicit(&p->n_discarded, memory_order_relaxed) > 0) drop(p, 0);
}

uint64_t prefix_bytes(const struct prefix *p) {
    uint64_t bytes = 0;
    uint32_t i = atomic_load_explicit(&p->n_discarded, memory_order_relaxed);
    for (; i < p->n; i++) bytes += kv_own_bytes(p->entries[i].kv);
    return bytes;
}

uint32_t prefix_n(const struct prefix *p) {
    return p->n;
}
