/* Streaming of paged units against a disk that is made up: order, reading ahead, failures, silence,
 * and two threads at full speed. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pages.h"
#include "core/reader.h"
#include "core/store.h"
#include "tests/t.h"

enum { UNITS = 9, SLAB_BYTES = 4096, LONG_US = 60000000 };

/* The disk. Each read fills the slab with a number of its own, which is also in what it binds. */
struct disk {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool is_stuck;        /* reads wait */
    uint32_t fail[UNITS]; /* reads of the unit that are still to fail */
    uint64_t n_reads[UNITS];
    uint64_t n_all;
    uint32_t last;      /* unit read last */
    unsigned n_waiting; /* reads that are stuck now */
    bool is_dripping;   /* stuck reads show progress */
};

static void disk_wait(struct disk *d, struct reader_watch *w) {
    d->n_waiting++;
    pthread_cond_broadcast(&d->changed);
    while (d->is_stuck && !atomic_load_explicit(&w->is_cancelled, memory_order_relaxed)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 2000000;
        if (t.tv_nsec >= 1000000000) {
            t.tv_sec++;
            t.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&d->changed, &d->lock, &t);
        if (d->is_dripping) atomic_fetch_add_explicit(&w->n_bytes, 1, memory_order_relaxed);
    }
    d->n_waiting--;
}

static int disk_load(void *ud, uint32_t unit, void *slab, struct reader_watch *w, struct page *ret,
                     struct err *e) {
    struct disk *d = ud;
    REQUIRE(unit < UNITS);
    pthread_mutex_lock(&d->lock);
    disk_wait(d, w);
    bool fails = d->fail[unit] > 0;
    if (fails) d->fail[unit]--;
    uint64_t mark = ++d->n_all * UNITS + unit;
    d->n_reads[unit]++;
    d->last = unit;
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < SLAB_BYTES / 8; i++) ((uint64_t *)slab)[i] = mark;
    atomic_fetch_add_explicit(&w->n_bytes, SLAB_BYTES, memory_order_relaxed);
    if (atomic_load_explicit(&w->is_cancelled, memory_order_relaxed))
        return err_set(e, -ECANCELED, "cancelled");
    if (fails) return err_set(e, -EIO, "unit %u: the disk is broken", unit);
    *ret = (struct page){.unit.rung = RUNG_HIGH};
    ret->unit.mats[0].rows = slab;
    return 0;
}

struct rig {
    bool is_tied;
    struct mem *mem;
    struct disk disk;
    struct pages *p;
    struct plan *plan;
    unsigned n_workers;
    pthread_t workers[2];
};

static void *serve(void *ud) {
    struct rig *r = ud;
    pages_serve(r->p);
    return NULL;
}

static void rig_make(struct rig *r, bool is_tied, unsigned n_workers, uint64_t timeout_us) {
    struct err e = {0};
    *r = (struct rig){.is_tied = is_tied, .n_workers = n_workers};
    REQUIRE(mem_create(&r->mem) == 0);
    REQUIRE(pthread_mutex_init(&r->disk.lock, NULL) == 0);
    REQUIRE(pthread_cond_init(&r->disk.changed, NULL) == 0);
    r->plan = calloc(1, sizeof(*r->plan) + UNITS * sizeof(r->plan->units[0]));
    REQUIRE(r->plan);
    r->plan->n_units = UNITS;
    const struct pages_opts o = {.n_units = UNITS,
                                 .is_tied = is_tied,
                                 .slab_bytes = SLAB_BYTES,
                                 .timeout_us = timeout_us,
                                 .load = disk_load,
                                 .ud = &r->disk};
    REQUIRE_OK(pages_create(r->mem, &o, &r->p, &e), &e);
    CHECK_EQU(mem_bytes(r->mem, MEM_SCRATCH), 2 * SLAB_BYTES);
    for (unsigned i = 0; i < n_workers; i++)
        REQUIRE(pthread_create(&r->workers[i], NULL, serve, r) == 0);
}

static void rig_init(struct rig *r, bool is_tied, uint64_t timeout_us) {
    rig_make(r, is_tied, 1, timeout_us);
}

static void rig_fini(struct rig *r) {
    pages_stop(r->p);
    for (unsigned i = 0; i < r->n_workers; i++) pthread_join(r->workers[i], NULL);
    pages_destroy(r->p);
    free(r->plan);
    pthread_cond_destroy(&r->disk.changed);
    pthread_mutex_destroy(&r->disk.lock);
    mem_destroy(r->mem);
}

/* The units of the mask are paged from now on. */
static void set_plan(struct rig *r, unsigned mask) {
    r->plan->epoch++;
    for (uint32_t u = 0; u < UNITS; u++)
        r->plan->units[u].rung = mask & 1u << u ? RUNG_PAGED : RUNG_HIGH;
}

static uint64_t count(struct rig *r, int unit) {
    pthread_mutex_lock(&r->disk.lock);
    uint64_t n = unit < 0 ? r->disk.n_all : r->disk.n_reads[unit];
    pthread_mutex_unlock(&r->disk.lock);
    return n;
}

static void set_stuck(struct rig *r, bool is_stuck, bool is_dripping) {
    pthread_mutex_lock(&r->disk.lock);
    r->disk.is_stuck = is_stuck;
    r->disk.is_dripping = is_dripping;
    pthread_cond_broadcast(&r->disk.changed);
    pthread_mutex_unlock(&r->disk.lock);
}

static void wait_waiting(struct rig *r) {
    pthread_mutex_lock(&r->disk.lock);
    while (r->disk.n_waiting == 0) pthread_cond_wait(&r->disk.changed, &r->disk.lock);
    pthread_mutex_unlock(&r->disk.lock);
}

/* What is bound is whole, and is that unit. */
static void check_unit(const struct plan_unit *b, uint32_t unit) {
    const uint64_t *v = (const void *)b->mats[0].rows;
    CHECK_EQU(v[0] % UNITS, unit);
    for (size_t i = 1; i < SLAB_BYTES / 8; i++)
        if (v[i] != v[0]) {
            CHECK_EQU(v[i], v[0]);
            break;
        }
}

/* One pass; the first error, after which it stops. */
static int pass_as(struct rig *r, bool is_spared, struct err *e) {
    const struct plan_unit *b;
    pages_begin(r->p, r->plan, is_spared);
    for (uint32_t i = 0; i <= UNITS; i++) {
        uint32_t u = i == 0 ? UNITS - 1 : i - 1; /* the head, then all */
        if (i == 0 && !r->is_tied) continue;
        if (r->plan->units[u].rung != RUNG_PAGED) continue;
        int err = pages_take(r->p, u, &b, e);
        if (err < 0) return err;
        check_unit(b, u);
        pages_give(r->p, u);
    }
    return 0;
}

static int pass(struct rig *r, struct err *e) {
    return pass_as(r, false, e);
}

static void units_come_in_order(void) {
    static const unsigned masks[] = {0x1ff, 0x007, 0x155, 0x0f0, 0x1c0};
    struct rig r;
    struct err e = {0};
    for (unsigned i = 0; i < 4; i++) {
        rig_make(&r, i % 2, 1 + i / 2, LONG_US);
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            set_plan(&r, masks[m]);
            uint64_t before = count(&r, -1), n = (uint64_t)__builtin_popcount(masks[m]);
            for (int k = 0; k < 20; k++) CHECK_EQ(pass(&r, &e), 0);
            /* Each once a pass, some of the first ahead of it, and two of the pass that has not
             * come. A tied model's head is read once for the end of a pass and the next start. Of
             * three some stay. */
            uint64_t reads = count(&r, -1) - before;
            CHECK((reads >= 20 * n - 2 || n == 3) && reads <= 20 * n + 3);
        }
        struct pages_stats st;
        pages_stats(r.p, &st);
        CHECK(!st.is_failing);
        CHECK_EQU(st.n_failed_reads, 0);
        rig_fini(&r);
    }
}

static void one_or_two_stay(void) {
    struct rig r;
    struct err e = {0};
    rig_init(&r, true, LONG_US);
    set_plan(&r, 0x010);
    for (int i = 0; i < 10; i++) CHECK_EQ(pass(&r, &e), 0);
    CHECK_EQU(count(&r, 4), 1);
    set_plan(&r, 0x110);
    for (int i = 0; i < 10; i++) CHECK_EQ(pass(&r, &e), 0);
    CHECK_EQU(count(&r, 4), 1);
    CHECK_EQU(count(&r, 8), 1);
    CHECK_EQU(count(&r, -1), 2);
    set_plan(&r, 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(pass(&r, &e), 0);
    CHECK_EQU(count(&r, -1), 2);
    rig_fini(&r);
}

static void reads_go_ahead(void) {
    struct rig r;
    struct err e = {0};
    const struct plan_unit *b;
    rig_init(&r, false, LONG_US);
    set_plan(&r, 0x0ff);
    pages_begin(r.p, r.plan, false);
    REQUIRE_OK(pages_take(r.p, 0, &b, &e), &e);
    /* While a unit is being used the next one is read, and no third. */
    while (count(&r, 1) == 0) sched_yield();
    CHECK_EQU(count(&r, -1), 2);
    CHECK_EQ(pages_take(r.p, 2, &b, &e), -EINVAL);
    CHECK_STR(e.msg, "unit 2 is not the next one to be streamed");
    check_unit(b, 0);
    pages_give(r.p, 0);
    while (count(&r, 2) == 0) sched_yield();
    CHECK_EQU(count(&r, -1), 3);
    /* A step that ends early, and the next begins at the beginning. */
    CHECK_EQ(pass(&r, &e), 0);
    while (count(&r, 0) < 3 || count(&r, 1) < 2) sched_yield(); /* ahead of the next pass */
    rig_fini(&r);
}

static void failures_end_the_step(void) {
    struct rig r;
    struct err e = {0};
    struct pages_stats st;
    rig_init(&r, false, LONG_US);
    set_plan(&r, 0x0ff);
    r.disk.fail[3] = 1; /* before the first read: nobody else looks yet */
    CHECK_EQ(pass(&r, &e), 0);
    CHECK_EQU(count(&r, 3), 2); /* once more */
    pages_stats(r.p, &st);
    CHECK_EQU(st.n_failed_reads, 1);
    CHECK_EQU(st.n_failed_takes, 0);

    pthread_mutex_lock(&r.disk.lock);
    r.disk.fail[5] = 1000;
    pthread_mutex_unlock(&r.disk.lock);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pass(&r, &e), -EIO);
        CHECK_STR(e.msg, "unit 5: the disk is broken");
        pages_stats(r.p, &st);
        CHECK(st.is_failing);
        CHECK_STR(st.last.msg, "unit 5: the disk is broken");
        CHECK_EQU(st.n_failed_takes, (uint64_t)i + 1);
    }
    CHECK(count(&r, 5) <= 1 + 3 * 3); /* and not all the time */
    /* What does not need it goes on; and so does what needs it, once it can be read. */
    set_plan(&r, 0x007);
    CHECK_EQ(pass(&r, &e), 0);
    pages_stats(r.p, &st);
    CHECK(!st.is_failing);
    pthread_mutex_lock(&r.disk.lock);
    r.disk.fail[5] = 0;
    pthread_mutex_unlock(&r.disk.lock);
    set_plan(&r, 0x0ff);
    CHECK_EQ(pass(&r, &e), 0);
    rig_fini(&r);
}

static void silence_is_bounded(void) {
    struct rig r;
    struct err e = {0};
    struct pages_stats st;
    rig_init(&r, false, 30000);
    set_plan(&r, 0x0ff);
    set_stuck(&r, true, false);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pass(&r, &e), -ETIMEDOUT);
        CHECK_STR(e.msg, "unit 0: no byte has come from the disk for 0.0 s");
    }
    pages_stats(r.p, &st);
    CHECK(st.is_failing);
    CHECK(st.wait_us >= 60000);
    CHECK_EQU(st.n_waits, 2);
    set_stuck(&r, false, false);
    pages_set_timeout(r.p, LONG_US);
    CHECK_EQ(pass(&r, &e), 0);
    pages_stats(r.p, &st);
    CHECK(!st.is_failing);
    rig_fini(&r);
}

static void *unstick_later(void *ud) {
    struct rig *r = ud;
    wait_waiting(r);
    struct timespec t = {.tv_nsec = 200000000};
    nanosleep(&t, NULL);
    set_stuck(r, false, false);
    return NULL;
}

static void a_slow_disk_is_waited_for(void) {
    struct rig r;
    struct err e = {0};
    pthread_t helper;
    rig_init(&r, false, 50000); /* a quarter of what the read takes, but it gets on */
    set_plan(&r, 0x0ff);
    set_stuck(&r, true, true);
    REQUIRE(pthread_create(&helper, NULL, unstick_later, &r) == 0);
    CHECK_EQ(pass(&r, &e), 0);
    pthread_join(helper, NULL);
    rig_fini(&r);
}

static void *stop_later(void *ud) {
    struct rig *r = ud;
    wait_waiting(r);
    pages_stop(r->p);
    return NULL;
}

static void stopping_ends_waits(void) {
    struct rig r;
    struct err e = {0};
    pthread_t helper;
    rig_init(&r, false, LONG_US);
    set_plan(&r, 0x0ff);
    set_stuck(&r, true, false);
    REQUIRE(pthread_create(&helper, NULL, stop_later, &r) == 0);
    CHECK_EQ(pass(&r, &e), -ECANCELED);
    pthread_join(helper, NULL);
    CHECK_EQ(pass(&r, &e), -ECANCELED);
    rig_fini(&r);
}

static void *interrupt_later(void *ud) {
    struct rig *r = ud;
    wait_waiting(r);
    pages_interrupt(r->p, r->plan->epoch + 1);
    return NULL;
}

static void newer_plans_end_steps(void) {
    struct rig r;
    struct err e = {0};
    struct pages_stats st;
    pthread_t helper;
    rig_init(&r, false, LONG_US);
    set_plan(&r, 0x0ff);
    pages_interrupt(r.p, r.plan->epoch); /* the one it has */
    set_stuck(&r, true, false);
    REQUIRE(pthread_create(&helper, NULL, interrupt_later, &r) == 0);
    CHECK_EQ(pass(&r, &e), -EAGAIN);
    CHECK_STR(e.msg, "a newer plan waits");
    pthread_join(helper, NULL);
    set_stuck(&r, false, false);
    CHECK_EQ(pass_as(&r, true, &e), 0);
    CHECK_EQ(pass(&r, &e), -EAGAIN);
    set_plan(&r, 0x0fe);
    for (int i = 0; i < 3; i++) CHECK_EQ(pass(&r, &e), 0);
    pages_stats(r.p, &st);
    CHECK(!st.is_failing);
    CHECK_EQU(st.n_failed_takes, 0);
    rig_fini(&r);
}

static void run_random_plans(unsigned n_workers) {
    uint64_t rng = t_seed();
    struct rig r;
    struct err e = {0};
    rig_make(&r, t_rand(&rng) % 2, n_workers, LONG_US);
    for (int i = 0; i < 3000; i++) {
        if (t_rand(&rng) % 4 == 0) set_plan(&r, (unsigned)(t_rand(&rng) % (1u << UNITS)));
        if (t_rand(&rng) % 50 == 0) {
            uint32_t bad = (uint32_t)(t_rand(&rng) % UNITS);
            pthread_mutex_lock(&r.disk.lock);
            r.disk.fail[bad] = (uint32_t)(t_rand(&rng) % 4);
            pthread_mutex_unlock(&r.disk.lock);
        }
        int err = pass(&r, &e);
        CHECK(err == 0 || err == -EIO);
    }
    rig_fini(&r);
}

static void random_plans_at_full_speed(void) {
    run_random_plans(1);
    run_random_plans(2);
}

static void bad_arguments_are_refused(void) {
    struct mem *m;
    struct pages *p = NULL;
    struct err e = {0};
    struct pages_opts o = {.n_units = 0, .slab_bytes = 1, .load = disk_load};
    REQUIRE(mem_create(&m) == 0);
    CHECK_EQ(pages_create(m, &o, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "there is nothing to stream");
    o.n_units = 3;
    for (unsigned n = 1; n <= 2; n++) {
        mem_fail_at(m, n, false);
        CHECK_EQ(pages_create(m, &o, &p, &e), -ENOMEM);
        mem_fail_at(m, 0, false);
    }
    CHECK(p == NULL);
    pages_destroy(NULL);
    mem_destroy(m);
}

static const struct t_case cases[] = {
    {"units_come_in_order", units_come_in_order},
    {"one_or_two_stay", one_or_two_stay},
    {"reads_go_ahead", reads_go_ahead},
    {"failures_end_the_step", failures_end_the_step},
    {"silence_is_bounded", silence_is_bounded},
    {"a_slow_disk_is_waited_for", a_slow_disk_is_waited_for},
    {"stopping_ends_waits", stopping_ends_waits},
    {"newer_plans_end_steps", newer_plans_end_steps},
    {"random_plans_at_full_speed", random_plans_at_full_speed},
    {"bad_arguments_are_refused", bad_arguments_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
