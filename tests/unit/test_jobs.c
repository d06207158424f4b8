/* The crossing between the threads, with the real inference thread on a model in memory: every job
 * ends once, in order and whole, whatever is cancelled, read slowly or stopped under way. */
#include "daemon/jobs.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/pool.h"
#include "core/slab.h"
#include "daemon/infer.h"
#include "kernels/kernels.h"
#include "tests/t.h"
#include "tests/unit/toy.h"

enum { MAX_CTX = 4096, SLOTS = 3, CHUNK = 8, MAX_JOBS = 40 };

static struct kern_ops ops;

/* Stands in for the store: the inference thread adopts whatever plan is offered here. */
static _Atomic(const struct plan *) offered;

const struct plan *store_adopt(struct store *s, bool *ret_changed) {
    static const struct plan *last; /* inference thread alone; reset by an offer of NULL */
    (void)s;
    const struct plan *p = atomic_load_explicit(&offered, memory_order_acquire);
    *ret_changed = p != last;
    last = p;
    return p;
}

void store_enter(struct store *s) {
    (void)s;
}

void store_leave(struct store *s) {
    (void)s;
}

struct rig {
    struct toy toy;
    struct pool *pool;
    struct engine *en;
    struct batch *batch;
    struct jobs *js;
    struct infer *in;
    int wake[2]; /* a pipe stands in for the loop's async handle */
};

static void wake(void *ud) {
    struct rig *r = ud;
    char c = 0;
    ssize_t n = write(r->wake[1], &c, 1);
    (void)n;
}

static void rig_init(struct rig *r) {
    struct err e = {0};
    toy_init(&r->toy, TOY_SINGLE, 5);
    REQUIRE(pipe(r->wake) == 0);
    REQUIRE_OK(pool_create(2, &r->pool, &e), &e);
    struct engine_opts opts = {.max_rows = 16, .max_ctx = MAX_CTX};
    REQUIRE_OK(
        engine_create(r->toy.mem, r->pool, &ops, &r->toy.pack, r->toy.core, &opts, &r->en, &e), &e);
    REQUIRE_OK(batch_create(r->en, toy_tok(), SLOTS, CHUNK, &r->batch, &e), &e);
    REQUIRE(jobs_create(wake, r, &r->js) == 0);
    atomic_store(&offered, r->toy.full);
    REQUIRE_OK(infer_start(r->js, r->batch, NULL, r->pool, SLOTS, &r->in, &e), &e);
}

static void rig_fini(struct rig *r) {
    jobs_stop(r->js);
    infer_join(r->in);
    jobs_destroy(r->js);
    batch_destroy(r->batch);
    engine_destroy(r->en);
    pool_destroy(r->pool);
    close(r->wake[0]);
    close(r->wake[1]);
    toy_fini(&r->toy);
}

static bool wait_wake(struct rig *r, int ms) {
    struct pollfd p = {.fd = r->wake[0], .events = POLLIN};
    char drop[256];
    if (poll(&p, 1, ms) != 1) return false;
    return read(r->wake[0], drop, sizeof(drop)) > 0;
}

struct heard {
    struct job *job;
    uint32_t n;
    uint64_t sum; /* over all text, order included */
    unsigned n_ends;
    struct job_event end;
    uint32_t last_position;
};

static void start(struct rig *r, struct heard *h, uint32_t seed, uint32_t max_tokens) {
    struct err e = {0};
    struct kv *kv;
    uint32_t prompt[20];
    uint64_t rng = seed;
    *h = (struct heard){0};
    for (size_t i = 0; i < ARRAY_LEN(prompt); i++)
        prompt[i] = (uint32_t)(t_rand(&rng) % r->toy.pack.hp.n_vocab);
    struct session_params p = {
        .prompt = prompt,
        .n_prompt = ARRAY_LEN(prompt),
        .max_tokens = max_tokens,
        .sample = {.temperature = 1, .top_p = 1, .seed = seed},
        .ignore_end = true,
    };
    REQUIRE_OK(kv_create(r->toy.mem, &r->toy.pack.hp, KV_Q8, p.n_prompt + max_tokens, &kv, &e), &e);
    REQUIRE_OK(jobs_make(r->js, &p, kv, h, &h->job, &e), &e);
    CHECK(jobs_ud(h->job) == h);
}

/* Reads at most `max` events. True once the end has come. */
static bool hear(struct rig *r, struct heard *h, unsigned max) {
    struct job_event ev;
    char text[JOB_MAX_TEXT];
    for (unsigned i = 0; i < max && h->n_ends == 0; i++) {
        if (!jobs_next(r->js, h->job, &ev, text)) return false;
        if (ev.kind == JOB_END) {
            h->n_ends++;
            h->end = ev;
            return true;
        }
        h->n++;
        h->last_position = ev.position;
        for (uint32_t k = 0; k < ev.n_text; k++) h->sum = h->sum * 31 + (unsigned char)text[k];
    }
    return h->n_ends > 0;
}

static void run(struct rig *r, struct heard *h) {
    while (!hear(r, h, 1000)) REQUIRE(wait_wake(r, 10000));
}

static void one_job(void) {
    struct rig r;
    struct heard h;
    rig_init(&r);
    start(&r, &h, 1, 30);
    jobs_submit(r.js, h.job);
    run(&r, &h);
    CHECK_EQ(h.end.end, JOB_LENGTH);
    CHECK_EQ(h.n, 30);
    CHECK_EQ(h.end.usage.n_generated, 30);
    CHECK_EQ(h.end.usage.n_prompt_done, 20);
    jobs_free(h.job);
    rig_fini(&r);
}

/* Many jobs, never more than the slots at once; each hears what it hears alone. */
static void many_jobs(void) {
    static struct heard alone[MAX_JOBS], h[MAX_JOBS];
    struct rig r;
    rig_init(&r);
    for (uint32_t i = 0; i < MAX_JOBS; i++) {
        start(&r, &alone[i], i, 5 + i);
        jobs_submit(r.js, alone[i].job);
        run(&r, &alone[i]);
        jobs_free(alone[i].job);
    }
    uint32_t next = 0, n_running = 0, n_done = 0;
    bool is_running[MAX_JOBS] = {false};
    while (n_done < MAX_JOBS) {
        while (n_running < SLOTS && next < MAX_JOBS) {
            start(&r, &h[next], next, 5 + next);
            jobs_submit(r.js, h[next].job);
            is_running[next++] = true;
            n_running++;
        }
        for (uint32_t i = 0; i < next; i++) {
            if (!is_running[i] || !hear(&r, &h[i], 100)) continue;
            jobs_free(h[i].job);
            is_running[i] = false;
            n_running--;
            n_done++;
        }
        if (n_running == SLOTS) REQUIRE(wait_wake(&r, 10000) || n_done == MAX_JOBS);
    }
    for (uint32_t i = 0; i < MAX_JOBS; i++) {
        CHECK_EQ(h[i].n, alone[i].n);
        CHECK_EQU(h[i].sum, alone[i].sum);
        CHECK_EQ(h[i].end.end, JOB_LENGTH);
    }
    rig_fini(&r);
}

/* Who is not read is paused with its ring full, and the others go on; read again, it is whole. */
static void slow_reader(void) {
    struct rig r;
    struct heard slow, alone, quick;
    rig_init(&r);
    start(&r, &alone, 3, 3000);
    jobs_submit(r.js, alone.job);
    run(&r, &alone);
    jobs_free(alone.job);

    start(&r, &slow, 3, 3000);
    jobs_submit(r.js, slow.job);
    for (uint32_t i = 0; i < 20; i++) {
        start(&r, &quick, i, 50);
        jobs_submit(r.js, quick.job);
        run(&r, &quick);
        CHECK_EQ(quick.n, 50);
        jobs_free(quick.job);
    }
    while (!hear(&r, &slow, 7))
        if (!hear(&r, &slow, 1)) wait_wake(&r, 100);
    CHECK_EQ(slow.n, alone.n);
    CHECK_EQU(slow.sum, alone.sum);
    jobs_free(slow.job);
    rig_fini(&r);
}

static void cancels(void) {
    struct rig r;
    struct heard h[SLOTS];
    rig_init(&r);
    uint64_t rng = t_seed();
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            start(&r, &h[i], i, 3000);
            jobs_submit(r.js, h[i].job);
        }
        if (t_rand(&rng) % 2) wait_wake(&r, 5);
        for (uint32_t i = 0; i < SLOTS; i++) jobs_cancel(r.js, h[i].job);
        for (uint32_t i = 0; i < SLOTS; i++) {
            run(&r, &h[i]);
            CHECK_EQ(h[i].end.end, JOB_CANCELLED);
            CHECK(h[i].n < 3000);
            jobs_free(h[i].job);
        }
    }
    rig_fini(&r);
}

/* Paused for ever, and cancelled: the end still fits. */
static void cancel_while_paused(void) {
    struct rig r;
    struct heard h;
    rig_init(&r);
    start(&r, &h, 3, 4000);
    jobs_submit(r.js, h.job);
    while (wait_wake(&r, 200)) continue; /* until nothing moves any more */
    CHECK(!jobs_is_busy(r.js));          /* paused is not stuck */
    uint64_t beats = jobs_beats(r.js);
    CHECK(beats > 100);
    jobs_cancel(r.js, h.job);
    REQUIRE(wait_wake(&r, 10000));
    run(&r, &h);
    CHECK_EQ(h.end.end, JOB_CANCELLED);
    CHECK(jobs_beats(r.js) > beats);
    CHECK(h.n > 100);
    jobs_free(h.job);
    rig_fini(&r);
}

static void stop_ends_all(void) {
    struct rig r;
    struct heard h[SLOTS];
    rig_init(&r);
    for (uint32_t i = 0; i < SLOTS; i++) {
        start(&r, &h[i], i, 3000);
        jobs_submit(r.js, h[i].job);
    }
    jobs_stop(r.js);
    for (uint32_t i = 0; i < SLOTS; i++) {
        run(&r, &h[i]);
        CHECK_EQ(h[i].n_ends, 1);
        jobs_free(h[i].job);
    }
    while (!infer_has_ended(r.in)) wait_wake(&r, 100);
    rig_fini(&r);
}

/* An idle thread adopts a new plan when it is told to, and says so. */
static void kick_adopts(void) {
    struct rig r;
    struct heard h;
    rig_init(&r);
    start(&r, &h, 1, 3);
    jobs_submit(r.js, h.job);
    run(&r, &h);
    CHECK_EQ(h.last_position, r.toy.full->position);
    jobs_free(h.job);
    while (wait_wake(&r, 50)) continue;
    atomic_store_explicit(&offered, r.toy.high, memory_order_release);
    jobs_kick(r.js);
    CHECK(wait_wake(&r, 10000));
    start(&r, &h, 1, 3);
    jobs_submit(r.js, h.job);
    run(&r, &h);
    CHECK_EQ(h.last_position, r.toy.high->position);
    jobs_free(h.job);
    rig_fini(&r);
}

static void an_engine_error_is_told(void) {
    struct rig r;
    struct heard h;
    struct err e = {0};
    struct kv *kv;
    uint32_t prompt[] = {1, 2};
    rig_init(&r);
    prompt[1] = r.toy.pack.hp.n_vocab; /* out of range */
    struct session_params p = {.prompt = prompt, .n_prompt = 2, .max_tokens = 3};
    h = (struct heard){0};
    REQUIRE_OK(kv_create(r.toy.mem, &r.toy.pack.hp, KV_Q8, 5, &kv, &e), &e);
    REQUIRE_OK(jobs_make(r.js, &p, kv, &h, &h.job, &e), &e);
    jobs_submit(r.js, h.job);
    run(&r, &h);
    CHECK_EQ(h.end.end, JOB_FAILED);
    CHECK_EQ(h.end.code, -EINVAL);
    CHECK_EQ(h.n, 0);
    jobs_free(h.job);
    rig_fini(&r);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"one_job", one_job},
        {"many_jobs", many_jobs},
        {"slow_reader", slow_reader},
        {"cancels", cancels},
        {"cancel_while_paused", cancel_while_paused},
        {"stop_ends_all", stop_ends_all},
        {"kick_adopts", kick_adopts},
        {"an_engine_error_is_told", an_engine_error_is_told},
    };
    kern_init(&ops, kern_cpu_flags());
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
