#include "core/bench/plain.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/pool.h"

enum {
    PART_BYTES = 1 << 18, /* some tens of microseconds: little beside what handing it out costs */
    MIN_BYTES = 64 << 20,
    MAX_BYTES = 256 << 20,
    LANES = 16, /* independent sums, so that loads and not additions are waited for */
};
#define LEAST_S 0.1

struct plain {
    struct mem *mem;   /* borrowed */
    struct pool *pool; /* borrowed */
    uint64_t *data;    /* owned */
    size_t bytes;      /* multiple of PART_BYTES */
    /* What the parts came to: it makes the reading have a use. Relaxed. */
    _Atomic uint64_t sum;
};

int plain_create(struct mem *mem, struct pool *pool, uint64_t weight_bytes, struct plain **ret,
                 struct err *e) {
    struct plain *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory to measure reading");
    p->mem = mem;
    p->pool = pool;
    p->bytes = (size_t)MIN(MAX(weight_bytes, (uint64_t)MIN_BYTES), (uint64_t)MAX_BYTES);
    p->bytes -= p->bytes % PART_BYTES;
    p->data = mem_alloc(mem, MEM_SCRATCH, p->bytes);
    if (!p->data) {
        size_t mib = p->bytes >> 20;
        plain_destroy(p);
        return err_set(e, -ENOMEM, "no memory for the %zu MiB that plain reading reads", mib);
    }
    /* Pages that were never written are all the same one, which stays in the cache. */
    memset(p->data, 0x5a, p->bytes);
    *ret = p;
    return 0;
}

void plain_destroy(struct plain *p) {
    if (!p) return;
    mem_free(p->mem, MEM_SCRATCH, p->data, p->bytes);
    free(p);
}

uint64_t plain_bytes(const struct plain *p) {
    return p->bytes;
}

static void read_part(void *ud, uint32_t part) {
    struct plain *p = ud;
    const uint64_t *v = p->data + (size_t)part * (PART_BYTES / sizeof(*v));
    uint64_t sums[LANES] = {0}, sum = 0;
    for (size_t i = 0; i < PART_BYTES / sizeof(*v); i += LANES)
        for (size_t k = 0; k < LANES; k++) sums[k] += v[i + k];
    for (size_t k = 0; k < LANES; k++) sum += sums[k];
    atomic_fetch_add_explicit(&p->sum, sum, memory_order_relaxed);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double plain_run(struct plain *p) {
    double start = now_s(), end = start;
    unsigned n = 0;
    for (; end - start < LEAST_S; end = now_s(), n++)
        pool_run(p->pool, read_part, p, (uint32_t)(p->bytes / PART_BYTES));
    return n * (double)p->bytes * 1e-9 / (end - start);
}
