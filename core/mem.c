#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SMALL_PAGE_BYTES = 4096,
    HUGE_BYTES = 2 << 20,
    MAX_SLACK_BYTES = HUGE_BYTES / 16,
    STACK_BYTES = 96 << 10,
    MAX_KEPT = 1024, /* ranges; beyond them munmap() is the lesser evil */
};

/* Addresses whose bytes have gone back. */
struct range {
    void *p;
    size_t n;
};

struct mem {
    size_t page_bytes;
    bool has_huge;                          /* huge pages of HUGE_BYTES are there for who asks */
    _Atomic uint64_t bytes[MEM_KIND_COUNT]; /* statistics: relaxed */
    _Atomic unsigned fail_at;               /* tests only: relaxed */
    _Atomic bool fail_forever;
    _Atomic bool is_held; /* mem_hold(); relaxed: a range unmapped too early costs a charge */

    pthread_mutex_t lock; /* guards what follows; never held across a system call */
    uint32_t n_kept;
    struct range kept[MAX_KEPT];
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
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        free(m);
        return -ENOMEM;
    }
    memset(m->kept, 0xff, sizeof(m->kept)); /* its pages are there before they are needed */
    *ret = m;
    return 0;
}

void mem_destroy(struct mem *m) {
    if (!m) return;
    for (int k = 0; k < MEM_KIND_COUNT; k++) ASSERT(m->bytes[k] == 0);
    mem_hold(m, false);
    mem_settle(m);
    pthread_mutex_destroy(&m->lock);
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

static void unmap(void *p, size_t n) {
    int r = munmap(p, n);
    ASSERT(r == 0);
}

/* Pages for all of a new block; false if there is no memory for them. */
static bool mem_populate(const struct mem *m, uint8_t *p, size_t n) {
#ifdef MADV_POPULATE_WRITE
    if (madvise(p, n, MADV_POPULATE_WRITE) == 0) return true;
    if (errno != EINVAL) return false;
#endif
    /* Before Linux 5.14. */
    for (size_t i = 0; i < n; i += m->page_bytes) ((volatile uint8_t *)p)[i] = 0;
    return true;
}

/* The huge pages of a block are its own: it begins with one, and the advice does not reach the
 * small ones at its end, which might be beside another block. */
static void *map_huge(size_t n) {
    size_t all;
    if (!size_add(n, HUGE_BYTES, &all)) return NULL;
    uint8_t *p = map(all);
    if (!p) return NULL;
    size_t before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    if (before) unmap(p, before);
    unmap(p + before + n, HUGE_BYTES - before);
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
    if ((kind == MEM_KV || kind == MEM_SCRATCH) && !mem_populate(m, p, n)) {
        unmap(p, n);
        return NULL;
    }
    atomic_fetch_add_explicit(&m->bytes[kind], n, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->bytes[MEM_SLACK], slack, memory_order_relaxed);
    return p;
}

/* The whole pages of a block, and what was added to them. */
static size_t range_of(const struct mem *m, enum mem_kind kind, size_t bytes, size_t *ret_slack) {
    size_t n;
    bool ok = size_align(bytes, m->page_bytes, &n);
    ASSERT(ok);
    *ret_slack = kind == MEM_SLAB ? slack_of(m, n) : 0;
    return n;
}

void mem_discard(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    size_t slack, n = range_of(m, kind, bytes, &slack);
    int r = madvise(p, n + slack, MADV_DONTNEED);
    ASSERT(r == 0); /* it fails for addresses that are not ours, or locked ones */
}

void mem_give_back(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    size_t slack, n = range_of(m, kind, bytes, &slack);
    mem_discard(m, kind, p, bytes);
    atomic_fetch_sub_explicit(&m->bytes[kind], n, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->bytes[MEM_SLACK], slack, memory_order_relaxed);
}

static bool keep(struct mem *m, void *p, size_t n) {
    bool ok = false;
    pthread_mutex_lock(&m->lock);
    if (m->n_kept < MAX_KEPT) {
        m->kept[m->n_kept++] = (struct range){.p = p, .n = n};
        ok = true;
    }
    pthread_mutex_unlock(&m->lock);
    return ok;
}

void mem_release(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    size_t slack, n = range_of(m, kind, bytes, &slack);
    bool is_held = atomic_load_explicit(&m->is_held, memory_order_relaxed);
    if (!is_held || !keep(m, p, n + slack)) unmap(p, n + slack);
}

void mem_free(struct mem *m, enum mem_kind kind, void *p, size_t bytes) {
    if (!p) return;
    mem_give_back(m, kind, p, bytes);
    mem_release(m, kind, p, bytes);
}

void mem_hold(struct mem *m, bool on) {
    atomic_store_explicit(&m->is_held, on, memory_order_relaxed);
}

void mem_settle(struct mem *m) {
    while (!atomic_load_explicit(&m->is_held, memory_order_relaxed)) {
        struct range r = {0};
        pthread_mutex_lock(&m->lock);
        if (m->n_kept > 0) r = m->kept[--m->n_kept];
        pthread_mutex_unlock(&m->lock);
        if (!r.p) return;
        unmap(r.p, r.n);
    }
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

void mem_touch_stack(void) {
    volatile uint8_t depth[STACK_BYTES];
    for (size_t i = 0; i < STACK_BYTES; i += SMALL_PAGE_BYTES) depth[i] = 0;
    depth[STACK_BYTES - 1] = depth[0];
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
