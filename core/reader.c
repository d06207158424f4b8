#include "core/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/pack.h"

enum {
    PIECE_BYTES = 1 << 20,  /* a disk is at its full rate from a few hundred KiB on */
    FORGET_BYTES = 4 << 20, /* see forget() */
    PIECES_PER_SECOND = 20, /* at least, under a bound: so that pacing is even */
    SLICE_US = 20000,       /* of pacing, between two looks at is_cancelled */
};

struct reader {
    const struct pack *pack; /* borrowed */
    struct stat st;          /* when created; tells a bad disk from a file written over */
    int direct_fd;           /* owned; -1: there is none */
    atomic_bool is_direct; /* relaxed: it falls once, and a late look costs one more failed read */
    atomic_bool is_held;   /* relaxed: a piece more or less */
    _Atomic uint64_t rate; /* bytes a second; relaxed */
    pthread_mutex_t lock;  /* guards free_us */
    uint64_t free_us;      /* when the bytes asked for so far will have been due */
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int reader_create(const struct pack *p, struct reader **ret, struct err *e) {
    char path[32];
    struct reader *r = calloc(1, sizeof(*r));
    if (!r) return err_set(e, -ENOMEM, "no memory for a reader");
    r->pack = p;
    if (fstat(gguf_fd(pack_gguf(p)), &r->st) < 0) r->st = (struct stat){0};
    snprintf(path, sizeof(path), "/proc/self/fd/%d", gguf_fd(pack_gguf(p)));
    r->direct_fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    atomic_init(&r->is_direct, r->direct_fd >= 0);
    atomic_init(&r->is_held, false);
    atomic_init(&r->rate, 0);
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        if (r->direct_fd >= 0) close(r->direct_fd);
        free(r);
        return err_set(e, -ENOMEM, "no memory for a reader");
    }
    *ret = r;
    return 0;
}

void reader_destroy(struct reader *r) {
    if (!r) return;
    if (r->direct_fd >= 0) close(r->direct_fd);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void reader_hold(struct reader *r, bool on) {
    atomic_store_explicit(&r->is_held, on, memory_order_relaxed);
}

void reader_set_rate(struct reader *r, uint64_t bytes_per_s) {
    atomic_store_explicit(&r->rate, bytes_per_s, memory_order_relaxed);
}

bool reader_is_direct(const struct reader *r) {
    return atomic_load_explicit(&r->is_direct, memory_order_relaxed);
}

static bool is_cancelled(const struct reader_watch *w) {
    return atomic_load_explicit(&w->is_cancelled, memory_order_relaxed);
}

/* When the next n bytes are due, counted from the end of those before them, or from now. */
static uint64_t due_us(struct reader *r, uint64_t rate, size_t n) {
    uint64_t now = now_us();
    pthread_mutex_lock(&r->lock);
    uint64_t due = MAX(r->free_us, now) + (uint64_t)n * 1000000u / rate;
    r->free_us = due;
    pthread_mutex_unlock(&r->lock);
    return due;
}

static void wait_until(uint64_t due, const struct reader_watch *w) {
    for (uint64_t now = now_us(); now < due && !is_cancelled(w); now = now_us()) {
        struct timespec t = {.tv_nsec = (long)MIN(due - now, (uint64_t)SLICE_US) * 1000};
        nanosleep(&t, NULL);
    }
}

/* Pages for memory that was never written, all at once: a fault for each costs more than clearing
 * it. Where the kernel cannot do this they come one by one, as they would without. */
static void populate(void *p, size_t n) {
#ifdef MADV_POPULATE_WRITE
    ignore_result(madvise(p, n, MADV_POPULATE_WRITE));
#else
    (void)p, (void)n;
#endif
}

/* What was read up to `end` out of the page cache. The kernel drops only whole folios, which may be
 * larger than a piece: advice for each piece alone left 78 % of a file there, this leaves nothing.
 */
static void forget(int fd, off_t end) {
    off_t from = end > FORGET_BYTES ? end - FORGET_BYTES : 0;
    /* Advice only: without it the cache grows, and nothing else happens. */
    ignore_result(posix_fadvise(fd, from, end - from, POSIX_FADV_DONTNEED));
}

static ssize_t read_some(struct reader *r, bool is_cached, void *dst, size_t n, off_t at) {
    if (!is_cached && reader_is_direct(r)) {
        ssize_t got = pread(r->direct_fd, dst, n, at);
        if (got >= 0 || errno != EINVAL) return got;
        /* The file system, or the device's block size, takes no direct reads after all. */
        atomic_store_explicit(&r->is_direct, false, memory_order_relaxed);
    }
    int fd = gguf_fd(pack_gguf(r->pack));
    ssize_t got = pread(fd, dst, n, at);
    if (got > 0 && !is_cached) forget(fd, at + got);
    return got;
}

static int read_piece(struct reader *r, const struct pack_extent *x, bool is_cached, uint64_t from,
                      uint8_t *dst, size_t n, struct reader_watch *w, struct err *e) {
    size_t done = 0;
    while (done < n) {
        if (is_cancelled(w)) return err_set(e, -ECANCELED, "%s: cancelled", x->name);
        ssize_t got = read_some(r, is_cached, dst + done, n - done,
                                (off_t)(x->offset + from + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_sys(e, -errno, "%s: cannot read", x->name);
        if (got == 0)
            return err_set(e, -EBADMSG, "%s: the file ends at byte %" PRIu64, x->name,
                           x->offset + from + done);
        done += (size_t)got;
        atomic_fetch_add_explicit(&w->n_bytes, (uint64_t)got, memory_order_relaxed);
    }
    return 0;
}

static bool is_changed(const struct reader *r) {
    struct stat now;
    return fstat(gguf_fd(pack_gguf(r->pack)), &now) == 0 &&
           (now.st_size != r->st.st_size || now.st_mtim.tv_sec != r->st.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != r->st.st_mtim.tv_nsec);
}

static int read_all(struct reader *r, const struct pack_extent *x, bool is_cached, void *dst,
                    struct reader_watch *w, struct err *e) {
    for (uint64_t at = 0; at < x->bytes;) {
        uint64_t rate = atomic_load_explicit(&r->rate, memory_order_relaxed), due = 0;
        uint64_t n = PIECE_BYTES;
        if (rate > 0) {
            n = MIN(n, rate / PIECES_PER_SECOND / PACK_ALIGN * PACK_ALIGN);
            n = MAX(n, (uint64_t)PACK_ALIGN);
        }
        n = MIN(n, x->bytes - at);
        if (rate > 0) due = due_us(r, rate, (size_t)n);
        if (is_cached && at == 0 && rate == 0) pack_announce(r->pack, x);
        if (is_cached && atomic_load_explicit(&r->is_held, memory_order_relaxed))
            return err_set(e, -ECANCELED, "%s: cancelled, memory is above its limit", x->name);
        if (is_cached) populate((uint8_t *)dst + at, (size_t)n);
        int err = read_piece(r, x, is_cached, at, (uint8_t *)dst + at, (size_t)n, w, e);
        if (err < 0) return err;
        if (due > 0) wait_until(due, w);
        if (is_cancelled(w)) return err_set(e, -ECANCELED, "%s: cancelled", x->name);
        at += n;
    }
    return 0;
}

int reader_read(struct reader *r, const struct pack_extent *x, bool is_cached, void *dst,
                struct reader_watch *w, struct err *e) {
    int res = read_all(r, x, is_cached, dst, w, e);
    int fd = gguf_fd(pack_gguf(r->pack));
    /* Advice, as in forget(). */
    if (is_cached)
        ignore_result(posix_fadvise(fd, (off_t)x->offset, (off_t)x->bytes, POSIX_FADV_DONTNEED));
    if (res < 0) return res;
    if (XXH3_64bits(dst, (size_t)x->bytes) == x->xxh3) return 0;
    return err_set(e, -EBADMSG, "%s: checksum differs (at byte %" PRIu64 ")%s", x->name, x->offset,
                   is_changed(r) ? "; the file was changed after it was opened" : "");
}
