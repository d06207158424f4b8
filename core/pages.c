/* The two slabs and who may touch them.
 *
 *   EMPTY --worker--> READING --ok--> READY <--pages_take(), pages_give()--> READY and taken
 *     ^                   |             |
 *     |                   +-- failed --> FAILED
 *     +-- not in the window: another unit's turn (worker) --+
 *     +-- FAILED: pages_take() wants one more try, or has told the error
 *
 * The round is `order`; `cursor` is the place of the next take, and the window the two units from
 * there on. A worker looks for a unit of the window that no slab holds, and for a slab that holds
 * none of them. */
#include "core/pages.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/ladder.h"
#include "core/mem.h"
#include "core/reader.h"

enum { TRIES = 2 }; /* of a read that a pass waits for */

enum slab_state { SLAB_EMPTY, SLAB_READING, SLAB_READY, SLAB_FAILED };

struct page_slab {
    enum slab_state state;
    bool is_taken;
    uint32_t unit; /* but for EMPTY */
    void *data;    /* owned */
    struct page bound;
    struct err e; /* of FAILED */
};

struct pages {
    struct mem *mem; /* borrowed */
    struct pages_opts opts;
    struct reader_watch watch; /* of the workers' reads */

    pthread_mutex_t lock;     /* guards all below */
    pthread_cond_t for_take;  /* a slab is READY or FAILED, or it is the end */
    pthread_cond_t for_serve; /* the window has moved, a slab is free, or it is the end */
    bool is_stopped;
    uint64_t timeout_us;
    struct page_slab slabs[PAGES_SLABS];
    uint64_t epoch;  /* of the plan that `order` is for; 0 = none */
    uint32_t *order; /* owned, [n_units + 1] */
    uint32_t n_order;
    uint32_t cursor;       /* < n_order, or 0 */
    uint64_t newest_epoch; /* of pages_interrupt() */
    bool is_spared;        /* the step of the last pages_begin() may not be interrupted */
    struct pages_stats stats;
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int init_sync(struct pages *p) {
    pthread_condattr_t a;
    if (pthread_condattr_init(&a) != 0) return -ENOMEM;
    int r = pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    if (r == 0) r = pthread_cond_init(&p->for_take, &a);
    pthread_condattr_destroy(&a);
    if (r != 0) return -ENOMEM;
    if (pthread_cond_init(&p->for_serve, NULL) != 0) {
        pthread_cond_destroy(&p->for_take);
        return -ENOMEM;
    }
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        pthread_cond_destroy(&p->for_serve);
        pthread_cond_destroy(&p->for_take);
        return -ENOMEM;
    }
    return 0;
}

int pages_create(struct mem *m, const struct pages_opts *o, struct pages **ret, struct err *e) {
    if (o->n_units == 0 || o->slab_bytes == 0)
        return err_set(e, -EINVAL, "there is nothing to stream");
    struct pages *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory for streaming");
    p->mem = m;
    p->opts = *o;
    p->timeout_us = o->timeout_us;
    atomic_init(&p->watch.is_cancelled, false);
    atomic_init(&p->watch.n_bytes, 0);
    if (init_sync(p) < 0) {
        free(p);
        return err_set(e, -ENOMEM, "no memory for streaming");
    }
    p->order = calloc((size_t)o->n_units + 1, sizeof(*p->order));
    for (size_t i = 0; i < PAGES_SLABS; i++)
        p->slabs[i].data = mem_alloc(m, MEM_SCRATCH, o->slab_bytes);
    if (!p->order || !p->slabs[0].data || !p->slabs[1].data) {
        pages_destroy(p);
        return err_set(e, -ENOMEM, "no memory for two slabs of %llu bytes to stream into",
                       (unsigned long long)o->slab_bytes);
    }
    *ret = p;
    return 0;
}

void pages_destroy(struct pages *p) {
    if (!p) return;
    for (size_t i = 0; i < PAGES_SLABS; i++)
        mem_free(p->mem, MEM_SCRATCH, p->slabs[i].data, p->opts.slab_bytes);
    free(p->order);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->for_serve);
    pthread_cond_destroy(&p->for_take);
    free(p);
}

/* ---- under the lock ---- */

static struct page_slab *find(struct pages *p, uint32_t unit) {
    for (size_t i = 0; i < PAGES_SLABS; i++)
        if (p->slabs[i].state != SLAB_EMPTY && p->slabs[i].unit == unit) return &p->slabs[i];
    return NULL;
}

static uint32_t window(const struct pages *p, uint32_t i) {
    return p->order[(p->cursor + i) % p->n_order];
}

static bool in_window(const struct pages *p, uint32_t unit) {
    for (uint32_t i = 0; i < MIN(p->n_order, (uint32_t)PAGES_SLABS); i++)
        if (window(p, i) == unit) return true;
    return false;
}

static struct page_slab *free_slab(struct pages *p) {
    for (size_t i = 0; i < PAGES_SLABS; i++) {
        struct page_slab *s = &p->slabs[i];
        if (s->is_taken || s->state == SLAB_READING) continue;
        if (s->state == SLAB_EMPTY || !in_window(p, s->unit)) return s;
    }
    return NULL;
}

/* The slab to read into now, its unit set; NULL if there is nothing to read. */
static struct page_slab *choose(struct pages *p) {
    for (uint32_t i = 0; i < MIN(p->n_order, (uint32_t)PAGES_SLABS); i++) {
        if (find(p, window(p, i))) continue;
        struct page_slab *s = free_slab(p);
        if (s) s->unit = window(p, i);
        return s;
    }
    return NULL;
}

/* ---- worker ---- */

void pages_serve(struct pages *p) {
    pthread_mutex_lock(&p->lock);
    while (!p->is_stopped) {
        struct page_slab *s = choose(p);
        if (!s) {
            pthread_cond_wait(&p->for_serve, &p->lock);
            continue;
        }
        s->state = SLAB_READING;
        pthread_mutex_unlock(&p->lock);
        s->e = (struct err){0};
        int r = p->opts.load(p->opts.ud, s->unit, s->data, &p->watch, &s->bound, &s->e);
        pthread_mutex_lock(&p->lock);
        if (r < 0) {
            s->e.code = r == -EAGAIN ? -EIO : r; /* that one means something else to a step */
            s->state = SLAB_FAILED;
            p->stats.n_failed_reads++;
        } else {
            s->state = SLAB_READY;
            p->stats.n_reads++;
        }
        pthread_cond_signal(&p->for_take);
    }
    pthread_mutex_unlock(&p->lock);
}

void pages_stop(struct pages *p) {
    atomic_store_explicit(&p->watch.is_cancelled, true, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    p->is_stopped = true;
    pthread_cond_broadcast(&p->for_serve);
    pthread_cond_signal(&p->for_take);
    pthread_mutex_unlock(&p->lock);
}

/* ---- any thread ---- */

void pages_interrupt(struct pages *p, uint64_t epoch) {
    pthread_mutex_lock(&p->lock);
    p->newest_epoch = epoch;
    pthread_cond_signal(&p->for_take);
    pthread_mutex_unlock(&p->lock);
}

void pages_set_timeout(struct pages *p, uint64_t timeout_us) {
    pthread_mutex_lock(&p->lock);
    p->timeout_us = timeout_us;
    pthread_mutex_unlock(&p->lock);
}

void pages_stats(struct pages *p, struct pages_stats *ret) {
    pthread_mutex_lock(&p->lock);
    *ret = p->stats;
    pthread_mutex_unlock(&p->lock);
    ret->n_bytes = atomic_load_explicit(&p->watch.n_bytes, memory_order_relaxed);
}

/* ---- inference ---- */

static bool is_paged(const struct plan *plan, uint32_t unit) {
    return plan->units[unit].rung == RUNG_PAGED;
}

void pages_begin(struct pages *p, const struct plan *plan, bool is_spared) {
    ASSERT(plan->n_units == p->opts.n_units);
    pthread_mutex_lock(&p->lock);
    if (plan->epoch != p->epoch) {
        uint32_t head = plan->n_units - 1;
        p->n_order = 0;
        if (p->opts.is_tied && is_paged(plan, head)) p->order[p->n_order++] = head;
        for (uint32_t u = 0; u < plan->n_units; u++)
            if (is_paged(plan, u)) p->order[p->n_order++] = u;
        p->epoch = plan->epoch;
    }
    p->cursor = 0;
    p->is_spared = is_spared;
    pthread_cond_broadcast(&p->for_serve);
    pthread_mutex_unlock(&p->lock);
}

/* Waits for a signal; false when no byte has come for the timeout. *since_us, *n_bytes: when the
 * workers were last seen to get on, and how far they were. */
static bool wait_ready(struct pages *p, uint64_t *since_us, uint64_t *n_bytes) {
    uint64_t seen = atomic_load_explicit(&p->watch.n_bytes, memory_order_relaxed), now = now_us();
    if (seen != *n_bytes) {
        *n_bytes = seen;
        *since_us = now;
    }
    if (now - *since_us >= p->timeout_us) return false;
    uint64_t until = *since_us + p->timeout_us;
    struct timespec t = {.tv_sec = (time_t)(until / 1000000u),
                         .tv_nsec = (long)(until % 1000000u) * 1000};
    /* Woken, timed out or for nothing: the caller looks again in any case. */
    ignore_result(pthread_cond_timedwait(&p->for_take, &p->lock, &t));
    return true;
}

static int fail(struct pages *p, const struct err *why, struct err *e) {
    p->stats.n_failed_takes++;
    p->stats.is_failing = true;
    p->stats.last = *why;
    if (e) *e = *why;
    return why->code;
}

static bool must_end(const struct pages *p) {
    return p->epoch < p->newest_epoch && !p->is_spared;
}

/* Until the unit is in a READY slab. */
static int await(struct pages *p, uint32_t unit, struct page_slab **ret, struct err *e) {
    uint64_t started_us = now_us(), since_us = started_us;
    uint64_t n_bytes = atomic_load_explicit(&p->watch.n_bytes, memory_order_relaxed);
    struct err why = {0};
    unsigned n_tries = 0;
    int r = 1;
    while (r > 0) {
        struct page_slab *s = find(p, unit);
        if (must_end(p)) {
            r = -EAGAIN;
        } else if (p->is_stopped) {
            r = err_set(&why, -ECANCELED, "streaming has been stopped");
        } else if (s && s->state == SLAB_READY) {
            *ret = s;
            r = 0;
        } else if (s && s->state == SLAB_FAILED) {
            /* The error may be old: of a read ahead after the last request. */
            why = s->e;
            s->state = SLAB_EMPTY;
            if (++n_tries == TRIES) r = why.code;
            pthread_cond_broadcast(&p->for_serve);
        } else if (!wait_ready(p, &since_us, &n_bytes)) {
            r = err_set(&why, -ETIMEDOUT, "unit %u: no byte has come from the disk for %.1f s",
                        unit, (double)p->timeout_us / 1e6);
        }
    }
    p->stats.n_waits++;
    p->stats.wait_us += now_us() - started_us;
    return r < 0 && r != -EAGAIN ? fail(p, &why, e) : r;
}

int pages_take(struct pages *p, uint32_t unit, const struct plan_unit **ret, struct err *e) {
    pthread_mutex_lock(&p->lock);
    int r = 0;
    struct page_slab *s = NULL;
    if (must_end(p)) {
        r = -EAGAIN;
    } else if (p->n_order == 0 || window(p, 0) != unit) {
        r = err_set(e, -EINVAL, "unit %u is not the next one to be streamed", unit);
    } else {
        s = find(p, unit);
        if (!s || s->state != SLAB_READY || p->is_stopped) r = await(p, unit, &s, e);
    }
    if (r == -EAGAIN) err_set(e, -EAGAIN, "a newer plan waits");
    if (r == 0) {
        s->is_taken = true;
        p->cursor = (p->cursor + 1) % p->n_order;
        if (p->cursor == 0) p->stats.is_failing = false;
        *ret = &s->bound.unit;
        pthread_cond_broadcast(&p->for_serve);
    }
    pthread_mutex_unlock(&p->lock);
    return r;
}

void pages_give(struct pages *p, uint32_t unit) {
    pthread_mutex_lock(&p->lock);
    struct page_slab *s = find(p, unit);
    ASSERT(s && s->is_taken);
    s->is_taken = false;
    pthread_cond_broadcast(&p->for_serve);
    pthread_mutex_unlock(&p->lock);
}
