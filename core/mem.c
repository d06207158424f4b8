#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SMALL_PAGE_BYTES = 4096,
    HUGE_BYTES = 2 << 20,
    MAX_SLACK_BYTES = HUGE_BYTES / 16,
};

struct mem {
    size_t page_bytes;
    bool has_huge;                          /* huge pages of HUGE_BYTES are there for who asks */
    _Atomic uint64_t bytes[MEM_KIND_COUNT]; /* statistics: relaxed */
    _Atomic unsigned fail_at;               /* tests only: relaxed */
    _Atomic bool fail_forever;
};

/* The one thread-local flag of core/: which step of this thread must not allocate. */
static _Thread_local const char *forbidden;

/* With larger pages than usual the huge ones are too large for a slab. */
static bool find_huge(size_t page_bytes) {
    char text[64];
    if (page_bytes != SMALL_PAGE_BYTES) return false;
    int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[MAX(n, 0)] = '\0';
    return n > 0 && !strstr(text, "[never]");
}

int mem_create(struct mem **ret) {
    struct mem *m = calloc(1, sizeof(*m));
    if (!m) return -ENOMEM;
    m->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    m->has_huge = find_huge(m->page_bytes);
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

/* n bytes of whole pages, and what is added to them. */
static size_t slack_of(const struct mem *m, size_t n) {
    size_t rest = n % HUGE_BYTES;
    if (!m->has_huge || rest == 0 || HUGE_BYTES - rest > MAX_SLACK_BYTES) return 0;
    return HUGE_BYTES - rest;
}

uint64_t mem_slack(const struct mem *m, uint64_t bytes) {
    size_t n;
    return bytes <= SIZE_MAX - HUGE_BYTES && size_align((size_t)bytes, m->page_bytes, &n)
               ? slack_of(m, n)
               : 0;
}

static void *map(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* The huge pages of a block are its own: it begins with one, and the advice does not reach the
 * small ones at its end, which might be beside another block. */
static void *map_huge(size_t n) {
    size_t all;
    if (!size_add(n, HUGE_BYTES, &all)) return NULL;
    uint8_t *p = map(all);
    if (!p) return NULL;
    size_t before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    int r = before ? munmap(p, before) : 0;
    ASSERT(r == 0);
    r = munmap(p + before + n, HUGE_BYTES - before);
    ASSERT(r == 0);
    /* Advice: what the system has no huge page for comes in small ones. */
    ignore_result(madvise(p + before, n - n % HUGE_BYTES, MADV_HUGEPAGE));
    return p + before;
}

void *mem_alloc(struct mem *m, enum mem_kind kind, size_t bytes) {
    ASSERT(!forbidden);
    ASSERT(kind != MEM_SLACK);
    size_t n, slack = 0;
    if (bytes == 0 || !size_align(bytes, m->page_bytes, &n)) return NULL;
    if (must_fail(m)) return NULL;
    if (kind == MEM_SLAB) slack = slack_of(m, n);
    bool is_huge = kind == MEM_SLAB && m->has_huge && n + slack >= HUGE_BYTES;
    void *p = is_huge ? map_huge(n + slack) : map(n);
    if (!p) return NULL;
    atomic_fetch_add_explicit(&m->bytes[kind], n, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->bytes[MEM_SLACK], slack, memory_order_relaxed);
    return p;
}

void mem_free(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    if (!p) return;
    size_t n, slack = 0;
    bool ok = size_align(bytes, m->page_bytes, &n);
    ASSERT(ok);
    if (kind == MEM_SLAB) slack = slack_of(m, n);
    int r = munmap(p, n + slack);
    ASSERT(r == 0);
    atomic_fetch_sub_explicit(&m->bytes[kind], n, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->bytes[MEM_SLACK], slack, memory_order_relaxed);
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
    case MEM_SLACK: return "slack";
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
