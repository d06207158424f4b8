/* Preloaded into ebbd by tests: makes its N-th allocation fail, and counts those that live.
 *
 * The file that EBB_FAIL_MALLOC names is mapped and shared with the test, which sets `at` while the
 * daemon runs and reads the counts. Allocations are malloc() and its kin, libc's own too, and the
 * anonymous mmap() calls of core/mem.c; not the stacks of threads, which libc maps by itself. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/defs.h"

/* Six words of the host's byte order; the test knows them by their place. */
struct control {
    _Atomic uint64_t at;      /* of n_calls: that one fails; 0 = none. Written by the test */
    _Atomic uint64_t forever; /* not 0: all later ones too. Written by the test */
    _Atomic uint64_t n_calls; /* set to 0 by the test */
    _Atomic uint64_t n_failed;
    _Atomic int64_t n_live;       /* blocks of malloc() and its kin */
    _Atomic uint64_t n_aborts_uv; /* libuv knows no other answer in a few places */
};

static struct control *control; /* NULL until libc is ready */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

#define SHOWN __attribute__((visibility("default")))

SHOWN void *malloc(size_t n);
SHOWN void *calloc(size_t n, size_t size);
SHOWN void *realloc(void *p, size_t n);
SHOWN void *aligned_alloc(size_t align, size_t n);
SHOWN int posix_memalign(void **ret, size_t align, size_t n);
SHOWN void free(void *p);
SHOWN NORETURN void abort(void);
SHOWN void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("EBB_FAIL_MALLOC");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *p = (void *)syscall(SYS_mmap, NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED,
                              fd, 0);
    close(fd);
    if (p != MAP_FAILED) control = p;
}

static bool must_fail(void) {
    if (!control) return false;
    uint64_t n = atomic_fetch_add(&control->n_calls, 1) + 1, at = atomic_load(&control->at);
    if (at == 0 || n < at || (n > at && !atomic_load(&control->forever))) return false;
    atomic_fetch_add(&control->n_failed, 1);
    errno = ENOMEM;
    return true;
}

static void *lives(void *p) {
    if (control && p) atomic_fetch_add(&control->n_live, 1);
    return p;
}

void *malloc(size_t n) {
    return must_fail() ? NULL : lives(__libc_malloc(n));
}

void *calloc(size_t n, size_t size) {
    return must_fail() ? NULL : lives(__libc_calloc(n, size));
}

void *aligned_alloc(size_t align, size_t n) {
    return must_fail() ? NULL : lives(__libc_memalign(align, n));
}

int posix_memalign(void **ret, size_t align, size_t n) {
    void *p = aligned_alloc(align, n);
    if (!p) return ENOMEM;
    *ret = p;
    return 0;
}

void *realloc(void *p, size_t n) {
    if (!p) return malloc(n);
    if (n == 0) {
        free(p);
        return NULL;
    }
    return must_fail() ? NULL : __libc_realloc(p, n);
}

void free(void *p) {
    if (control && p) atomic_fetch_sub(&control->n_live, 1);
    __libc_free(p);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    if ((flags & MAP_ANONYMOUS) && prot != PROT_NONE && must_fail()) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}

void abort(void) {
    Dl_info at;
    if (control && dladdr(__builtin_return_address(0), &at) != 0 && strstr(at.dli_fname, "libuv"))
        atomic_fetch_add(&control->n_aborts_uv, 1);
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    _exit(127);
}
