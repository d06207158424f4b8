#include "daemon/infer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/session.h"
#include "core/store.h"
#include "daemon/jobs.h"

struct slot {
    struct job *job;
    bool is_paused;
};

struct infer {
    struct jobs *js;
    struct batch *batch;
    struct store *store;
    struct pool *pool;
    _Atomic uint32_t duty_permille; /* relaxed: a step more or less at the old pace */
    pthread_t thread;
    _Atomic int tid;        /* written once by the thread; relaxed: for people */
    _Atomic bool has_ended; /* release after the last event, acquire in infer_has_ended() */
    uint32_t n;             /* jobs in the batch */
    uint32_t n_paused;
    struct slot slots[];
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void end_slot(struct infer *in, uint32_t i) {
    jobs_put_end(in->js, in->slots[i].job);
    in->slots[i] = in->slots[--in->n];
}

/* Between two steps: takes out who was cancelled, pauses who has no room, resumes who has again. */
static void settle(struct infer *in) {
    uint32_t n_paused = 0;
    for (uint32_t i = in->n; i-- > 0;) {
        struct slot *sl = &in->slots[i];
        struct session *s = jobs_session(sl->job);
        if (jobs_is_cancelled(sl->job)) {
            batch_remove(in->batch, s);
            end_slot(in, i);
            continue;
        }
        bool pause = sl->is_paused ? !jobs_may_resume(sl->job) : !jobs_has_room(sl->job);
        if (pause != sl->is_paused) {
            batch_pause(in->batch, s, pause);
            sl->is_paused = pause;
        }
        n_paused += pause;
    }
    if (n_paused == in->n_paused) return;
    in->n_paused = n_paused;
    jobs_set_paused(in->js, n_paused);
    /* The loop may have drained a ring before it could know that someone waits for that: look once
     * more instead of going to sleep. */
    if (n_paused > 0) jobs_kick(in->js);
}

static void add_new(struct infer *in, bool is_stopped) {
    for (struct job *j = jobs_pop(in->js); j; j = jobs_pop(in->js)) {
        if (is_stopped || jobs_is_cancelled(j)) {
            jobs_put_end(in->js, j);
            continue;
        }
        ASSERT(batch_has_room(in->batch));
        batch_add(in->batch, jobs_session(j));
        in->slots[in->n++] = (struct slot){.job = j};
    }
}

/* A step, and then rest in the proportion that is asked for: a board cools between two steps as it
 * does between two requests. Whoever waits for the thread (a cancelled job, a new plan, the end)
 * shortens the rest. */
static void step(struct infer *in, const struct plan *plan) {
    uint64_t duty = atomic_load_explicit(&in->duty_permille, memory_order_relaxed);
    uint64_t start_us = now_us();
    batch_step(in->batch, plan, now_us);
    if (duty >= 1000) return;
    uint64_t rest_us = (now_us() - start_us) * (1000 - duty) / duty;
    jobs_flush(in->js, /* force= */ false);
    /* While it rests the guard may adopt in its place, so the plan is not looked at after this. */
    store_leave(in->store);
    jobs_rest(in->js, MIN(rest_us, (uint64_t)INFER_MAX_PAUSE_US));
    store_enter(in->store);
}

static void *run(void *ud) {
    struct infer *in = ud;
    bool is_running = true;
    atomic_store_explicit(&in->tid, gettid(), memory_order_relaxed);
    pool_enter(in->pool);
    mem_touch_stack();
    while (is_running) {
        bool has_changed = false;
        is_running = jobs_take(in->js, /* may_wait= */ !batch_has_work(in->batch));
        store_enter(in->store);
        add_new(in, !is_running);
        settle(in);
        const struct plan *plan = store_adopt(in->store, &has_changed);
        /* The loop frees what the old plan held as soon as it hears of it. */
        if (has_changed) jobs_flush(in->js, /* force= */ true);
        if (is_running && plan && batch_has_work(in->batch)) step(in, plan);
        store_leave(in->store);
        for (uint32_t i = in->n; i-- > 0;)
            if (jobs_has_ended(in->slots[i].job)) end_slot(in, i);
        jobs_flush(in->js, /* force= */ false);
    }
    while (in->n > 0) {
        batch_remove(in->batch, jobs_session(in->slots[in->n - 1].job));
        end_slot(in, in->n - 1);
    }
    atomic_store_explicit(&in->has_ended, true, memory_order_release);
    jobs_flush(in->js, /* force= */ true);
    return NULL;
}

int infer_start(struct jobs *js, struct batch *b, struct store *st, struct pool *pool,
                uint32_t slots, struct infer **ret, struct err *e) {
    struct infer *in = calloc(1, sizeof(*in) + slots * sizeof(in->slots[0]));
    if (!in) return err_set(e, -ENOMEM, "no memory for the inference thread");
    in->js = js;
    in->batch = b;
    in->store = st;
    in->pool = pool;
    atomic_init(&in->duty_permille, 1000);
    atomic_init(&in->has_ended, false);

    /* Signals belong to the loop. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&in->thread, NULL, run, in);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r != 0) {
        free(in);
        return err_sys(e, -r, "cannot start the inference thread");
    }
    pthread_setname_np(in->thread, "ebb-infer"); /* for top and the like; no harm if it fails */
    *ret = in;
    return 0;
}

void infer_set_pace(struct infer *in, uint32_t duty_permille, uint32_t threads) {
    atomic_store_explicit(&in->duty_permille, duty_permille, memory_order_relaxed);
    pool_set_active(in->pool, threads);
}

int infer_tid(const struct infer *in) {
    return atomic_load_explicit(&in->tid, memory_order_relaxed);
}

bool infer_has_ended(const struct infer *in) {
    return atomic_load_explicit(&in->has_ended, memory_order_acquire);
}

void infer_join(struct infer *in) {
    if (!in) return;
    pthread_join(in->thread, NULL);
    free(in);
}
