/* session and batch: each stream as if it were alone, ends, pauses, removal at any time, errors. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/pages.h"
#include "core/pool.h"
#include "core/session.h"
#include "kernels/kernels.h"
#include "tests/t.h"
#include "tests/unit/toy.h"

enum { MAX_CTX = 128, MAX_OUT = 64, SLOTS = 3, CHUNK = 8 };

static struct kern_ops ops;

struct rig {
    struct toy toy;
    struct pool *pool;
    struct engine *en;
    struct batch *batch;
};

static void rig_init(struct rig *r, enum toy_shape shape, uint32_t slots, uint32_t chunk) {
    struct err e = {0};
    toy_init(&r->toy, shape, 5);
    REQUIRE_OK(pool_create(2, &r->pool, &e), &e);
    struct engine_opts opts = {.max_rows = 16, .max_ctx = MAX_CTX};
    REQUIRE_OK(
        engine_create(r->toy.mem, r->pool, &ops, &r->toy.pack, r->toy.core, &opts, &r->en, &e), &e);
    REQUIRE_OK(batch_create(r->en, toy_tok(), slots, chunk, &r->batch, &e), &e);
}

static void rig_fini(struct rig *r) {
    batch_destroy(r->batch);
    engine_destroy(r->en);
    pool_destroy(r->pool);
    toy_fini(&r->toy);
}

/* What one request got. */
struct heard {
    struct rig *rig;
    struct session *s;
    uint32_t ids[MAX_OUT];
    uint64_t epochs[MAX_OUT];
    uint32_t n;
    char text[1024];
    enum session_end end;
    int code;
    bool destroys;         /* at the end, inside the callback */
    struct heard *removes; /* takes this one out when the second token comes */
};

static void hear(void *ud, struct session *s, const struct session_token *t) {
    struct heard *h = ud;
    CHECK(h->s == s);
    CHECK(h->end == SESSION_RUNNING);
    if (t->end != SESSION_ERROR) {
        REQUIRE(h->n < MAX_OUT);
        h->epochs[h->n] = t->epoch;
        h->ids[h->n++] = t->id;
        size_t at = strlen(h->text);
        REQUIRE(at + t->n < sizeof(h->text));
        memcpy(h->text + at, t->text, t->n);
        h->text[at + t->n] = '\0';
    }
    h->end = t->end;
    h->code = t->code;
    if (h->removes && h->n == 2 && h->removes->s) {
        batch_remove(h->rig->batch, h->removes->s);
        session_destroy(h->removes->s);
        h->removes->s = NULL;
    }
    if (t->end != SESSION_RUNNING && h->destroys) {
        session_destroy(s);
        h->s = NULL;
    }
}

static uint64_t tick(void) {
    static uint64_t now;
    return now += 10;
}

struct request {
    uint32_t n_prompt, max_tokens, seed;
    float temperature;
    const char *stop;
    bool ignore_end;
};

static void start(struct rig *r, const struct request *q, struct heard *h) {
    struct err e = {0};
    struct kv *kv;
    uint32_t prompt[MAX_CTX];
    uint64_t rng = q->seed;
    for (uint32_t i = 0; i < q->n_prompt; i++)
        prompt[i] = (uint32_t)(t_rand(&rng) % r->toy.pack.hp.n_vocab);
    struct stream stops = {0};
    if (q->stop) REQUIRE(stream_add_stop(&stops, q->stop, strlen(q->stop)) == 0);
    struct session_params p = {
        .prompt = prompt,
        .n_prompt = q->n_prompt,
        .max_tokens = q->max_tokens,
        .sample = {.temperature = q->temperature, .top_p = 1, .seed = q->seed},
        .stops = q->stop ? &stops : NULL,
        .ignore_end = q->ignore_end,
    };
    h->rig = r;
    REQUIRE_OK(kv_create(r->toy.mem, &r->toy.pack.hp, KV_Q8, q->n_prompt + q->max_tokens, &kv, &e),
               &e);
    REQUIRE_OK(session_create(&p, kv, hear, h, &h->s, &e), &e);
    batch_add(r->batch, h->s);
}

static void run_until_idle(struct rig *r) {
    for (int i = 0; batch_has_work(r->batch); i++) {
        REQUIRE(i < 1000);
        CHECK(batch_step(r->batch, r->toy.full, tick) > 0);
    }
}

static void run_alone(enum toy_shape shape, uint32_t chunk, const struct request *q,
                      struct heard *h) {
    struct rig r;
    rig_init(&r, shape, 1, chunk);
    *h = (struct heard){.destroys = true};
    start(&r, q, h);
    run_until_idle(&r);
    rig_fini(&r);
}

static void check_same(const struct heard *a, const struct heard *b) {
    CHECK_EQU(a->n, b->n);
    CHECK_MEM(a->ids, b->ids, sizeof(a->ids));
    CHECK_STR(a->text, b->text);
    CHECK_EQ(a->end, b->end);
}

static const struct request requests[] = {
    {.n_prompt = 1, .max_tokens = 20, .seed = 1, .temperature = 1.5f, .ignore_end = true},
    {.n_prompt = 30, .max_tokens = 15, .seed = 2, .ignore_end = true},
    {.n_prompt = 9, .max_tokens = 40, .seed = 3, .temperature = 2, .ignore_end = true},
    {.n_prompt = 8, .max_tokens = 1, .seed = 4, .temperature = 1, .ignore_end = true},
    {.n_prompt = 17, .max_tokens = 33, .seed = 5, .temperature = 1, .ignore_end = true},
    {.n_prompt = 64, .max_tokens = 10, .seed = 6, .temperature = 2, .ignore_end = true},
};
enum { N_REQUESTS = sizeof(requests) / sizeof(requests[0]) };

static void streams_do_not_touch_each_other(void) {
    for (int shape = 0; shape < TOY_SHAPE_COUNT; shape++) {
        static struct heard alone[N_REQUESTS], both[N_REQUESTS];
        for (int i = 0; i < N_REQUESTS; i++)
            run_alone((enum toy_shape)shape, 1 + (uint32_t)i * 3, &requests[i], &alone[i]);
        struct rig r;
        rig_init(&r, (enum toy_shape)shape, SLOTS, CHUNK);
        memset(both, 0, sizeof(both));
        int started = 0;
        for (int step = 0; started < N_REQUESTS || batch_has_work(r.batch); step++) {
            REQUIRE(step < 1000);
            if (started < N_REQUESTS && batch_has_room(r.batch) && step % 3 == 0) {
                both[started].destroys = true;
                start(&r, &requests[started], &both[started]);
                started++;
            }
            /* Pauses of one stream must not show in any. */
            struct heard *p = &both[step % N_REQUESTS];
            if (p->s) batch_pause(r.batch, p->s, step % 5 == 0 && step < 60);
            batch_step(r.batch, r.toy.full, tick);
            if (p->s) batch_pause(r.batch, p->s, false);
        }
        for (int i = 0; i < N_REQUESTS; i++) {
            check_same(&both[i], &alone[i]);
            CHECK_EQ(both[i].end, SESSION_LENGTH);
            CHECK_EQU(both[i].n, requests[i].max_tokens);
        }
        CHECK_EQU(batch_n(r.batch), 0);
        CHECK_EQU(mem_bytes(r.toy.mem, MEM_KV), 0);
        rig_fini(&r);
    }
}

/* A running stream waits at most one chunk, however many prompts wait. */
static void prompts_and_decode_alternate(void) {
    struct rig r;
    struct heard h[3] = {{.destroys = true}, {.destroys = true}, {.destroys = true}};
    rig_init(&r, TOY_PLAIN, SLOTS, CHUNK);
    struct request q = {.n_prompt = 4, .max_tokens = 40, .seed = 9, .ignore_end = true};
    start(&r, &q, &h[0]);
    CHECK_EQU(batch_step(r.batch, r.toy.full, tick), 4);
    q = (struct request){.n_prompt = 20, .max_tokens = 4, .seed = 10, .ignore_end = true};
    start(&r, &q, &h[1]);
    start(&r, &q, &h[2]);
    static const uint32_t rows[] = {1, 8, 1, 8, 1, 4, 2, 8, 2, 8, 2, 4};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_EQU(batch_step(r.batch, r.toy.full, tick), rows[i]);
    CHECK_EQU(h[0].n, 7);
    CHECK_EQU(h[1].n, 4);
    CHECK_EQ(h[1].end, SESSION_LENGTH);
    CHECK_EQU(h[2].n, 1);
    run_until_idle(&r);
    rig_fini(&r);
}

/* However fast plans come: a prompt's step that was broken off is taken in smaller parts, until one
 * is spared; of decode every second step is. No token changes. */
static void steps_broken_off_get_on(void) {
    static struct heard alone, h;
    struct request q = {.n_prompt = 30, .max_tokens = 5, .seed = 12, .ignore_end = true};
    run_alone(TOY_PLAIN, 16, &q, &alone);
    struct rig r;
    _Atomic uint64_t urgent;
    rig_init(&r, TOY_PLAIN, 1, 16);
    h = (struct heard){.destroys = true};
    start(&r, &q, &h);
    r.toy.full->urgent = &urgent;
    atomic_init(&urgent, r.toy.full->epoch + 1);
    static const uint32_t rows[] = {0, 0, 1, 0, 1, 0, 1};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_EQU(batch_step(r.batch, r.toy.full, tick), rows[i]);
    atomic_store(&urgent, r.toy.full->epoch);
    static const uint32_t later[] = {2, 4, 8, 13}; /* 3 + 27 are the prompt */
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
        CHECK_EQU(batch_step(r.batch, r.toy.full, tick), later[i]);
    CHECK_EQU(h.n, 1);
    atomic_store(&urgent, r.toy.full->epoch + 1);
    for (uint32_t i = 0; batch_has_work(r.batch); i++)
        CHECK_EQU(batch_step(r.batch, r.toy.full, tick), i % 2);
    check_same(&h, &alone);
    rig_fini(&r);
}

static void end_token_and_stop_string_end_it(void) {
    /* A sampled run that meets the end token in the small vocabulary. */
    struct request q = {.n_prompt = 3, .max_tokens = 60, .seed = 1, .temperature = 2};
    static struct heard free_run, h;
    q.ignore_end = true;
    for (;; q.seed++) {
        run_alone(TOY_SINGLE, 8, &q, &free_run);
        uint32_t at = 0;
        while (at < free_run.n && free_run.ids[at] != TOY_END) at++;
        if (at >= 4 && at < free_run.n) break;
        REQUIRE(q.seed < 100);
    }
    q.ignore_end = false;
    run_alone(TOY_SINGLE, 8, &q, &h);
    CHECK_EQ(h.end, SESSION_STOP);
    CHECK(h.n >= 5 && h.n < free_run.n);
    CHECK_MEM(h.ids, free_run.ids, h.n * sizeof(h.ids[0]));
    CHECK_EQU(h.ids[h.n - 1], TOY_END);
    CHECK(strncmp(free_run.text, h.text, strlen(h.text)) == 0);

    /* A stop that spans the second and third token; the second is held back, then dropped. */
    char stop[64], first[32];
    snprintf(stop, sizeof(stop), "%u><%u", h.ids[1], h.ids[2]);
    snprintf(first, sizeof(first), "<%u><", h.ids[0]);
    static struct heard stopped;
    q.stop = stop;
    run_alone(TOY_SINGLE, 8, &q, &stopped);
    CHECK_EQ(stopped.end, SESSION_STOP);
    CHECK(strstr(h.text, stop));
    CHECK(!strstr(stopped.text, stop));
    CHECK(strncmp(h.text, stopped.text, strlen(stopped.text)) == 0);

    /* What is held back for a stop that never comes is sent with the end token. */
    static struct heard held;
    snprintf(stop, sizeof(stop), "<%u>x", h.ids[h.n - 2]);
    run_alone(TOY_SINGLE, 8, &q, &held);
    check_same(&held, &h);
}

static void length_sends_what_was_held(void) {
    struct request q = {.n_prompt = 3, .max_tokens = 6, .seed = 4, .ignore_end = true};
    static struct heard plain, held;
    run_alone(TOY_PLAIN, 8, &q, &plain);
    char stop[32];
    snprintf(stop, sizeof(stop), "<%u>!", plain.ids[5]);
    q.stop = stop;
    run_alone(TOY_PLAIN, 8, &q, &held);
    check_same(&plain, &held);
}

static void removal_at_any_time(void) {
    static struct heard want;
    run_alone(TOY_PLAIN, CHUNK, &requests[4], &want);
    for (uint32_t when = 0; when < 24; when++) {
        struct rig r;
        struct heard keep = {0}, drop = {0};
        rig_init(&r, TOY_PLAIN, SLOTS, CHUNK);
        if (when % 2) start(&r, &requests[2], &drop);
        start(&r, &requests[4], &keep);
        if (when % 2 == 0) start(&r, &requests[2], &drop);
        for (uint32_t i = 0; i < when; i++) batch_step(r.batch, r.toy.full, tick);
        batch_remove(r.batch, drop.s);
        batch_remove(r.batch, drop.s); /* not in it any more: nothing happens */
        uint32_t n = drop.n;
        run_until_idle(&r);
        CHECK_EQU(drop.n, n);
        check_same(&keep, &want);
        session_destroy(keep.s);
        session_destroy(drop.s);
        rig_fini(&r);
    }
}

static void callbacks_may_remove_others(void) {
    for (int order = 0; order < 2; order++) {
        struct rig r;
        struct heard a = {.destroys = true}, b = {.destroys = true};
        rig_init(&r, TOY_PLAIN, SLOTS, CHUNK);
        struct request q = {.n_prompt = 4, .max_tokens = 10, .seed = 9, .ignore_end = true};
        start(&r, &q, order ? &b : &a);
        start(&r, &q, order ? &a : &b);
        a.removes = &b;
        run_until_idle(&r);
        CHECK_EQU(a.n, 10);
        CHECK(b.n <= 3); /* b may be a step ahead of a */
        CHECK_EQ(b.end, SESSION_RUNNING);
        CHECK_EQU(mem_bytes(r.toy.mem, MEM_KV), 0);
        rig_fini(&r);
    }
}

static void paused_sessions_do_nothing(void) {
    struct rig r;
    struct heard h = {.destroys = true};
    rig_init(&r, TOY_PLAIN, 1, CHUNK);
    start(&r, &requests[1], &h);
    batch_pause(r.batch, h.s, true);
    CHECK(!batch_has_work(r.batch));
    CHECK_EQU(batch_step(r.batch, r.toy.full, tick), 0);
    CHECK(!batch_has_room(r.batch));
    batch_pause(r.batch, h.s, false);
    CHECK(batch_has_work(r.batch));
    run_until_idle(&r);
    CHECK_EQU(h.n, 15);
    CHECK(batch_has_room(r.batch));
    rig_fini(&r);
}

static void an_engine_error_ends_its_step_only(void) {
    struct rig r;
    struct heard h[2] = {{.destroys = true}, {.destroys = true}};
    rig_init(&r, TOY_ODD, SLOTS, CHUNK);
    struct request q = {.n_prompt = 2, .max_tokens = 5, .seed = 3, .ignore_end = true};
    start(&r, &q, &h[0]);
    batch_step(r.batch, r.toy.full, tick);
    q.seed = 4;
    uint64_t rng = 4;
    r.toy.pack.fail_token = (uint32_t)(t_rand(&rng) % 128);
    start(&r, &q, &h[1]);
    for (int i = 0; i < 30 && batch_has_work(r.batch); i++) batch_step(r.batch, r.toy.full, tick);
    CHECK_EQ(h[1].end, SESSION_ERROR);
    CHECK_EQ(h[1].code, -EBADMSG);
    CHECK_EQU(h[1].n, 0);
    CHECK_EQ(h[0].end, SESSION_LENGTH);
    CHECK_EQU(batch_n(r.batch), 0);
    rig_fini(&r);
}

/* Every read tells of a newer plan. */
struct impatient {
    struct rig *r;
    struct pages *pages;
};

static int load_unit(void *ud, uint32_t unit, void *slab, struct reader_watch *w, struct page *ret,
                     struct err *e) {
    struct impatient *x = ud;
    (void)slab;
    (void)w;
    (void)e;
    ret->unit = x->r->toy.full->units[unit];
    pages_interrupt(x->pages, UINT64_MAX);
    return 0;
}

static void *serve(void *ud) {
    pages_serve(ud);
    return NULL;
}

/* A step that is to be taken again is as if it had not been begun, and every other one may. */
static void interrupted_steps_change_nothing(void) {
    static struct heard want[ARRAY_LEN(requests)];
    struct rig r;
    struct err e = {0};
    struct impatient x = {.r = &r};
    pthread_t worker;
    for (size_t i = 0; i < SLOTS; i++) run_alone(TOY_PLAIN, CHUNK, &requests[i], &want[i]);
    rig_init(&r, TOY_PLAIN, SLOTS, CHUNK);
    size_t bytes = sizeof(*r.toy.full) + r.toy.full->n_units * sizeof(r.toy.full->units[0]);
    struct plan *plan = malloc(bytes);
    REQUIRE(plan);
    memcpy(plan, r.toy.full, bytes);
    for (uint32_t u = 0; u < plan->n_units; u++) plan->units[u].rung = RUNG_PAGED;
    struct pages_opts po = {.n_units = plan->n_units,
                            .is_tied = true,
                            .slab_bytes = 64,
                            .timeout_us = 60000000,
                            .load = load_unit,
                            .ud = &x};
    REQUIRE_OK(pages_create(r.toy.mem, &po, &x.pages, &e), &e);
    batch_destroy(r.batch);
    engine_destroy(r.en);
    struct engine_opts eo = {.max_rows = 16, .max_ctx = MAX_CTX, .pages = x.pages};
    REQUIRE_OK(engine_create(r.toy.mem, r.pool, &ops, &r.toy.pack, r.toy.core, &eo, &r.en, &e), &e);
    REQUIRE_OK(batch_create(r.en, toy_tok(), SLOTS, CHUNK, &r.batch, &e), &e);
    REQUIRE(pthread_create(&worker, NULL, serve, x.pages) == 0);

    struct heard h[SLOTS] = {{.destroys = true}, {.destroys = true}, {.destroys = true}};
    for (size_t i = 0; i < SLOTS; i++) start(&r, &requests[i], &h[i]);
    unsigned n_void = 0, n_taken = 0;
    bool was_void = false;
    while (batch_has_work(r.batch)) {
        bool is_void = batch_step(r.batch, plan, tick) == 0;
        CHECK(!is_void || !was_void);
        was_void = is_void;
        n_void += is_void;
        n_taken += !is_void;
        REQUIRE(n_taken < 1000);
    }
    CHECK(n_void >= n_taken - 1);
    for (size_t i = 0; i < SLOTS; i++) check_same(&h[i], &want[i]);
    pages_stop(x.pages);
    pthread_join(worker, NULL);
    CHECK_EQU(mem_bytes(r.toy.mem, MEM_KV), 0);
    batch_destroy(r.batch);
    engine_destroy(r.en);
    pages_destroy(x.pages);
    pool_destroy(r.pool);
    free(plan);
    toy_fini(&r.toy);
}

static void a_swap_shows_in_epochs(void) {
    static struct heard full;
    struct request q = {.n_prompt = 10, .max_tokens = 30, .seed = 8, .ignore_end = true};
    run_alone(TOY_PLAIN, CHUNK, &q, &full);
    struct rig r;
    struct heard h = {.destroys = true};
    rig_init(&r, TOY_PLAIN, 1, CHUNK);
    start(&r, &q, &h);
    for (int i = 0; i < 10; i++) batch_step(r.batch, r.toy.full, tick);
    for (int i = 0; i < 10; i++) batch_step(r.batch, r.toy.high, tick);
    run_until_idle(&r);
    CHECK_EQU(h.n, 30);
    CHECK_MEM(h.ids, full.ids, 9 * sizeof(h.ids[0])); /* two chunks of prompt: 9 tokens in 10 */
    for (uint32_t i = 0; i < 30; i++)
        CHECK_EQU(h.epochs[i], i >= 9 && i < 19 ? r.toy.high->epoch : r.toy.full->epoch);
    rig_fini(&r);
}

static void usage_counts(void) {
    struct rig r;
    struct heard h = {0};
    rig_init(&r, TOY_PLAIN, 1, CHUNK);
    struct request q = {.n_prompt = 20, .max_tokens = 5, .seed = 3, .ignore_end = true};
    start(&r, &q, &h);
    struct session_usage u;
    batch_step(r.batch, r.toy.full, tick);
    session_usage(h.s, &u);
    CHECK_EQU(u.n_prompt, 20);
    CHECK_EQU(u.n_prompt_done, 8);
    CHECK_EQU(u.n_generated, 0);
    run_until_idle(&r);
    session_usage(h.s, &u);
    CHECK_EQU(u.n_prompt_done, 20);
    CHECK_EQU(u.n_generated, 5);
    CHECK_EQU(u.prompt_us, 30);
    CHECK_EQU(u.decode_us, 40);
    session_destroy(h.s);
    rig_fini(&r);
}

/* A request that goes on from what another one has left gives what it would give from the start,
 * wherever the two part, and computes only the rest. */
static void a_kept_prefix_is_as_computed(void) {
    static const uint32_t kept[] = {1, 8, 19, 24};
    enum { PROMPT = 25, TOKENS = 20 };
    struct heard want;
    struct request q = {.n_prompt = PROMPT, .max_tokens = TOKENS, .seed = 3, .ignore_end = true};
    run_alone(TOY_PLAIN, CHUNK, &q, &want);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        struct rig r;
        struct heard first = {0}, second = {0};
        struct session_usage u;
        struct err e = {0};
        struct kv *left, *kv;
        const uint32_t *ids;
        uint32_t n;
        rig_init(&r, TOY_PLAIN, 1, CHUNK);
        start(&r, &q, &first);
        run_until_idle(&r);
        left = session_take_kv(first.s, &ids, &n);
        CHECK_EQU(n, PROMPT + TOKENS - 1);
        CHECK_MEM(ids + PROMPT, want.ids, (TOKENS - 1) * sizeof(ids[0]));
        REQUIRE_OK(kv_fork(r.toy.mem, &r.toy.pack.hp, PROMPT + TOKENS, left, kept[i], &kv, &e), &e);
        struct session_params p = {.prompt = ids,
                                   .n_prompt = PROMPT,
                                   .n_kept = kept[i],
                                   .max_tokens = TOKENS,
                                   .sample = {.top_p = 1, .seed = q.seed},
                                   .ignore_end = true};
        second.rig = &r;
        REQUIRE_OK(session_create(&p, kv, hear, &second, &second.s, &e), &e);
        kv_destroy(left);
        session_destroy(first.s);
        batch_add(r.batch, second.s);
        run_until_idle(&r);
        session_usage(second.s, &u);
        CHECK_EQU(u.n_kept, kept[i]);
        CHECK_EQU(u.n_prompt_done, PROMPT - kept[i]);
        CHECK_EQU(second.n, TOKENS);
        CHECK_MEM(second.ids, want.ids, TOKENS * sizeof(want.ids[0]));
        session_destroy(second.s);
        rig_fini(&r);
    }
}

static void bad_parameters_are_refused(void) {
    struct rig r;
    struct err e = {0};
    struct kv *kv;
    struct session *s = NULL;
    struct batch *b = NULL;
    uint32_t prompt[4] = {1, 2, 3, 4};
    rig_init(&r, TOY_PLAIN, 1, CHUNK);
    REQUIRE_OK(kv_create(r.toy.mem, &r.toy.pack.hp, KV_Q8, 64, &kv, &e), &e);
    struct session_params p = {.prompt = prompt, .n_prompt = 0, .max_tokens = 1};
    CHECK_EQ(session_create(&p, kv, hear, NULL, &s, &e), -EINVAL);
    p.n_prompt = 4;
    p.max_tokens = 0;
    CHECK_EQ(session_create(&p, kv, hear, NULL, &s, &e), -EINVAL);
    p.max_tokens = 61;
    CHECK_EQ(session_create(&p, kv, hear, NULL, &s, &e), -EINVAL);
    CHECK(strstr(e.msg, "64 positions"));
    p.max_tokens = 1;
    p.n_kept = 4;
    CHECK_EQ(session_create(&p, kv, hear, NULL, &s, &e), -EINVAL);
    CHECK(strstr(e.msg, "last one"));
    p.n_kept = 0;
    p.max_tokens = UINT32_MAX;
    CHECK_EQ(session_create(&p, kv, hear, NULL, &s, &e), -EINVAL);
    CHECK(s == NULL);
    kv_destroy(kv);
    CHECK_EQ(batch_create(r.en, toy_tok(), 0, 1, &b, &e), -EINVAL);
    CHECK_EQ(batch_create(r.en, toy_tok(), 17, 1, &b, &e), -EINVAL);
    CHECK_EQ(batch_create(r.en, toy_tok(), 1, 0, &b, &e), -EINVAL);
    CHECK_EQ(batch_create(r.en, toy_tok(), 1, 17, &b, &e), -EINVAL);
    mem_fail_at(r.toy.mem, 1, false);
    CHECK_EQ(batch_create(r.en, toy_tok(), 1, 1, &b, &e), -ENOMEM);
    CHECK(b == NULL);
    session_destroy(NULL);
    batch_destroy(NULL);
    rig_fini(&r);
}

static const struct t_case cases[] = {
    {"streams_do_not_touch_each_other", streams_do_not_touch_each_other},
    {"steps_broken_off_get_on", steps_broken_off_get_on},
    {"prompts_and_decode_alternate", prompts_and_decode_alternate},
    {"end_token_and_stop_string_end_it", end_token_and_stop_string_end_it},
    {"length_sends_what_was_held", length_sends_what_was_held},
    {"removal_at_any_time", removal_at_any_time},
    {"callbacks_may_remove_others", callbacks_may_remove_others},
    {"paused_sessions_do_nothing", paused_sessions_do_nothing},
    {"an_engine_error_ends_its_step_only", an_engine_error_ends_its_step_only},
    {"interrupted_steps_change_nothing", interrupted_steps_change_nothing},
    {"a_swap_shows_in_epochs", a_swap_shows_in_epochs},
    {"usage_counts", usage_counts},
    {"a_kept_prefix_is_as_computed", a_kept_prefix_is_as_computed},
    {"bad_parameters_are_refused", bad_parameters_are_refused},
};

int main(int argc, char **argv) {
    kern_init(&ops, kern_cpu_flags());
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
