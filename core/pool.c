/* How the work is handed out.
 *
 * `ticket` is how many chunks of the job are still to be taken. A thread takes one by lowering it
 * with compare-and-swap, and only then looks at what the job is: whatever it knew before, the
 * chunk it got belongs to the job in force, which cannot end before that chunk is done. So a
 * worker that slept through whole jobs needs no special care, nobody waits for workers that took
 * nothing, and a worker without a core delays a job only by the chunk it holds.
 *
 * Invariants:
 *  1 `fn`, `ud` and `n_chunks` change only in pool_run(), while no chunk is taken and not done
 *  2 a thread reads them only after it took a chunk, and before it counts that chunk as done
 *  3 `done` counts up to n_chunks once per job; its top bit says that the caller sleeps
 *  4 `bell` rises by 2 with every job; its lowest bit says that a worker sleeps or is about to
 *
 * Each of the two sleeps is guarded by read-modify-writes of one word (3 and 4), so no
 * store-then-load order across two words is needed.
 *
 * Threads keep to the big cores, but may move between all of them: pinned to one CPU each, a thread
 * cannot leave the one that a neighbour burns. Decode tokens/s at `high`, 2 threads on 2 CPUs
 * (EPYC, Zen 4, never quite idle), interleaved, median of five (least to greatest), free against
 * pinned:
 *  - no busy loop: 109 (98 to 121) against 89 (69 to 116)
 *  - a busy loop on any CPU: 72 (59 to 104) against 54 (36 to 57)
 *  - a busy loop kept on CPU 1: 109 (64 to 118) against 53 (34 to 112)
 *  - a busy loop kept on CPU 0: 85 (67 to 123) against 58 (52 to 77)
 * The longest gap between tokens was up to 4 times the median without and 9 times with a busy loop
 * when free, 5 and 7 when pinned: one held chunk waits until its thread has a core again, which can
 * be some slices of the scheduler. */
#include "core/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/topology.h"

enum {
    CACHE_LINE = 64,
    /* A step's serial parts and its last chunks take up to ten microseconds, so threads stay awake
     * through a step. Spinning longer only keeps a core from whoever has work: with other
     * processes on both of two cores, decode made 92 tokens/s at 5 us, 84 at 20, 85 at 50 and 71
     * at 200. Shorter was not tried on a quiet machine, where each wake-up costs. */
    SPIN_NS = 20000,
};

static const uint32_t DONE_SLEEPS = UINT32_C(1) << 31;
static const uint32_t BELL_SLEEPS = 1;
static const uint32_t BELL_STEP = 2;

struct pool {
    alignas(CACHE_LINE) _Atomic uint32_t ticket;
    alignas(CACHE_LINE) _Atomic uint32_t done;
    alignas(CACHE_LINE) _Atomic uint32_t bell;
    _Atomic bool is_stopping;
    /* Threads that work, the caller among them. Relaxed: a worker that learns of it late works a
     * little longer or less long. It is also the futex on which those beyond it sleep. */
    alignas(CACHE_LINE) _Atomic uint32_t n_active;
    _Atomic unsigned n_started;     /* gives each worker its number */
    alignas(CACHE_LINE) pool_fn fn; /* fn, ud, n_chunks: see invariants 1 and 2 */
    void *ud;
    uint32_t n_chunks;
    _Atomic uint64_t n_runs; /* written by the caller only; statistics: relaxed */
    unsigned n_threads;      /* constant, as is the rest */
    unsigned n_workers;
    bool is_bound; /* threads keep to where.cpus */
    struct topology where;
    pthread_t workers[POOL_MAX_THREADS];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    /* EAGAIN and EINTR are as good as a wake-up: every caller looks again. */
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Time is looked at only every few polls: on a kernel without a fast clock it is a system call. */
struct spin {
    uint64_t start_ns;
    unsigned n;
};

static bool spin_more(struct spin *s) {
    enum { POLLS_PER_LOOK = 64 };
    relax();
    if (++s->n % POLLS_PER_LOOK) return true;
    uint64_t now = now_ns();
    if (!s->start_ns) s->start_ns = now;
    return now - s->start_ns < SPIN_NS;
}

/* Takes chunks of whatever job is offered until none is left. */
static void take_chunks(struct pool *p) {
    /* Acquire: pairs with the release store in pool_run(), so that fn, ud, n_chunks and all the
     * caller wrote before are seen. A swap made by another worker in between continues that
     * store's release sequence. */
    uint32_t t = atomic_load_explicit(&p->ticket, memory_order_relaxed);
    while (t != 0) {
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t - 1, memory_order_acquire,
                                                   memory_order_relaxed))
            continue;
        uint32_t n_chunks = p->n_chunks;
        p->fn(p->ud, n_chunks - t);
        /* Release: pairs with the acquire loads of `done` in wait_done(), which publishes the
         * chunk's results; acquire is not needed. */
        uint32_t done = atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        /* From here on the job may be over and another one may be set up: p->fn and the like are
         * not ours any more. */
        if (done == (DONE_SLEEPS | (n_chunks - 1))) futex_wake(&p->done, 1);
        t = atomic_load_explicit(&p->ticket, memory_order_relaxed);
    }
}

static bool has_work(struct pool *p) {
    return atomic_load_explicit(&p->ticket, memory_order_relaxed) != 0;
}

/* Returns when there is work or the pool stops. */
static void wait_work(struct pool *p) {
    struct spin spin = {0};
    while (spin_more(&spin))
        if (has_work(p)) return;
    for (;;) {
        /* Acquire: pairs with the release fetch_add of `bell` in ring(). If that came first we
         * see its ticket below; if not, ring() sees our bit, and the wait finds a changed word. */
        uint32_t bell = atomic_fetch_or_explicit(&p->bell, BELL_SLEEPS, memory_order_acquire);
        if (has_work(p) || atomic_load_explicit(&p->is_stopping, memory_order_relaxed)) return;
        futex_wait(&p->bell, bell | BELL_SLEEPS);
        if (has_work(p)) return;
    }
}

static void ring(struct pool *p) {
    /* Release: pairs with the acquire fetch_or in wait_work(). */
    uint32_t bell = atomic_fetch_add_explicit(&p->bell, BELL_STEP, memory_order_release);
    if (!(bell & BELL_SLEEPS)) return;
    /* Cleared before waking, so that a worker that sleeps again sets it again. Relaxed: it only
     * says whether the system call is needed. */
    atomic_fetch_and_explicit(&p->bell, ~BELL_SLEEPS, memory_order_relaxed);
    futex_wake(&p->bell, INT_MAX);
}

static bool is_stopping(struct pool *p) {
    return atomic_load_explicit(&p->is_stopping, memory_order_relaxed);
}

/* Workers with a number beyond those that work sleep here, so that no bell wakes them. */
static void wait_turn(struct pool *p, unsigned number) {
    for (;;) {
        uint32_t n = atomic_load_explicit(&p->n_active, memory_order_relaxed);
        if (number < n || is_stopping(p)) return;
        futex_wait(&p->n_active, n);
    }
}

static void *worker_main(void *ud) {
    struct pool *p = ud;
    unsigned number = 1 + atomic_fetch_add_explicit(&p->n_started, 1, memory_order_relaxed);
    pool_enter(p);
    mem_touch_stack();
    while (!is_stopping(p)) {
        wait_turn(p, number);
        take_chunks(p);
        wait_work(p);
    }
    return NULL;
}

/* Returns when every chunk is done. Acquire: pairs with the release fetch_add of `done`. */
static void wait_done(struct pool *p, uint32_t n_chunks) {
    struct spin spin = {0};
    do {
        if (atomic_load_explicit(&p->done, memory_order_acquire) == n_chunks) return;
    } while (spin_more(&spin));
    for (;;) {
        uint32_t done = atomic_fetch_or_explicit(&p->done, DONE_SLEEPS, memory_order_acquire);
        if ((done & ~DONE_SLEEPS) == n_chunks) return;
        futex_wait(&p->done, done | DONE_SLEEPS);
    }
}

uint64_t pool_runs(const struct pool *p) {
    return atomic_load_explicit(&p->n_runs, memory_order_relaxed);
}

void pool_run(struct pool *p, pool_fn fn, void *ud, uint32_t n_chunks) {
    ASSERT(n_chunks < DONE_SLEEPS);
    atomic_store_explicit(&p->n_runs, pool_runs(p) + 1, memory_order_relaxed);
    if (pool_active(p) <= 1 || n_chunks <= 1) {
        for (uint32_t c = 0; c < n_chunks; c++) fn(ud, c);
        return;
    }
    p->fn = fn;
    p->ud = ud;
    p->n_chunks = n_chunks;
    /* Relaxed: the ticket's release store below makes it visible before any chunk is taken. */
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    /* Release: pairs with the acquire compare-and-swap in take_chunks(). */
    atomic_store_explicit(&p->ticket, n_chunks, memory_order_release);
    ring(p);
    take_chunks(p);
    wait_done(p, n_chunks);
}

void pool_enter(const struct pool *p) {
    /* What fails here (a filter of system calls, CPUs that just went) costs speed and no more. */
    if (p->is_bound) ignore_result(sched_setaffinity(0, sizeof(p->where.cpus), &p->where.cpus));
}

/* All CPUs alike, where more cannot be known. */
static struct topology unknown_cpus(void) {
    return (struct topology){.n_cores = POOL_MAX_THREADS, .cpus_text = "all"};
}

int pool_create(unsigned n_threads, struct pool **ret, struct err *e) {
    return pool_create_below("/", n_threads, ret, e);
}

int pool_create_below(const char *root, unsigned n_threads, struct pool **ret, struct err *e) {
    if (n_threads > POOL_MAX_THREADS)
        return err_set(e, -EINVAL, "%u compute threads asked for, at most %d are possible",
                       n_threads, POOL_MAX_THREADS);
    struct topology where;
    if (topology_read(root, &where) < 0) where = unknown_cpus();
    if (n_threads == 0) n_threads = MIN(where.n_cores, (unsigned)POOL_MAX_THREADS);
    struct pool *p = aligned_alloc(CACHE_LINE, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory for the compute pool");
    *p = (struct pool){.n_threads = n_threads, .n_active = n_threads, .where = where};
    /* More threads than big cores were asked for: then for all cores. */
    p->is_bound = where.leaves_some && n_threads <= where.n_cores;

    /* Signals belong to the thread that made the pool: a worker must never run a handler. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = 0;
    while (p->n_workers < n_threads - 1 && r == 0) {
        r = pthread_create(&p->workers[p->n_workers], NULL, worker_main, p);
        if (r == 0) pthread_setname_np(p->workers[p->n_workers++], "ebb-pool");
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r != 0) {
        err_sys(e, -r, "could not start compute thread %u", p->n_workers + 1);
        pool_destroy(p);
        return -r;
    }
    *ret = p;
    return 0;
}

void pool_destroy(struct pool *p) {
    if (!p) return;
    /* Relaxed: ring()'s release on `bell` orders it for a worker that is about to sleep; one that
     * spins sees it soon. */
    atomic_store_explicit(&p->is_stopping, true, memory_order_relaxed);
    pool_set_active(p, POOL_MAX_THREADS + 1); /* another value, so that nobody goes on sleeping */
    ring(p);
    for (unsigned i = 0; i < p->n_workers; i++) pthread_join(p->workers[i], NULL);
    free(p);
}

unsigned pool_threads(const struct pool *p) {
    return p->n_threads;
}

void pool_set_active(struct pool *p, unsigned n) {
    uint32_t old = atomic_exchange_explicit(&p->n_active, MAX(n, 1u), memory_order_relaxed);
    if (old < n) futex_wake(&p->n_active, INT_MAX);
}

unsigned pool_active(const struct pool *p) {
    return MIN(atomic_load_explicit(&p->n_active, memory_order_relaxed), p->n_threads);
}

const char *pool_cpus(const struct pool *p) {
    return p->where.leaves_some && !p->is_bound ? "all" : p->where.cpus_text;
}
