#include "core/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct mem {
    size_t page_bytes;
    _Atomic uint64_t bytes[MEM_KIND_COUNT]; /* statistics: relaxed */
    _Atomic unsigned fail_at;               /* tests only: relaxed */
    _Atomic bool fail_forever;
};

/* The one thread-local flag of core/: which step of this thread must not allocate. */
static _Thread_local const char *forbidden;

int mem_create(struct mem **ret) {
    struct mem *m = calloc(1, sizeof(*m));
    if (!m) return -ENOMEM;
    m->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    *ret = m;
    return 0;
}

void mem_destroy(struct mem *m) {
    if (!m) return;
    for (int k = 0; k < MEM_KIND_COUNT; k++) ASSERT(m->bytes[k] == 0);
    free(m);
}

static bool must_fail(struct mem *m) {
    unsigned n = atomic_load_explicit(&m->fail_at, memory_order_relaxed);
    if (n == 0) return false;
    if (n > 1) {
        atomic_store_explicit(&m->fail_at, n - 1, memory_order_relaxed);
        return false;
    }
    if (!atomic_load_explicit(&m->fail_forever, memory_order_relaxed))
        atomic_store_explicit(&m->fail_at, 0, memory_order_relaxed);
    return true;
}

void *mem_alloc(struct mem *m, enum mem_kind kind, size_t bytes) {
    ASSERT(!forbidden);
    size_t n;
    if (bytes == 0 || !size_align(bytes, m->page_bytes, &n)) return NULL;
    if (must_fail(m)) return NULL;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    atomic_fetch_add_explicit(&m->bytes[kind], n, memory_order_relaxed);
    return p;
}

void mem_free(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    if (!p) return;
    size_t n;
    bool ok = size_align(bytes, m->page_bytes, &n);
    ASSERT(ok);
    int r = munmap(p, n);
    ASSERT(r == 0);
    atomic_fetch_sub_explicit(&m->bytes[kind], n, memory_order_relaxed);
}

uint64_t mem_bytes(const struct mem *m, enum mem_kind kind) {
    return atomic_load_explicit(&m->bytes[kind], memory_order_relaxed);
}

const char *mem_kind_name(enum mem_kind kind) {
    switch (kind) {
    case MEM_SLAB: return "slab";
    case MEM_KV: return "kv";
    case MEM_SCRATCH: return "scratch";
    case MEM_PACKER: return "packer";
    }
    return "?";
}

void mem_fail_at(struct mem *m, unsigned n, bool forever) {
    atomic_store_explicit(&m->fail_forever, forever, memory_order_relaxed);
    atomic_store_explicit(&m->fail_at, n, memory_order_relaxed);
}

void mem_forbid(const char *what) {
    forbidden = what;
}

void mem_permit(void) {
    forbidden = NULL;
}
