/* Generation requests, from the body to the last byte of the answer.
 *
 *   PARSING --tokenised--> QUEUED --slot and room for its KV--> RUNNING --JOB_END--> (freed)
 *   PARSING, QUEUED --refused, client gone--> (freed)
 *
 * PARSING: a worker thread reads the body; the call waits for it whatever happens.
 * QUEUED: it holds its token ids and nothing of the model's memory.
 * RUNNING: it owns a job; when the client goes the job is cancelled, and JOB_END still awaited.
 * `conn` is NULL once the client is gone or has its whole answer. Every call counts once as
 * accepted and once as completed, refused, cancelled or failed. Thread: loop, but for parse_work().
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/kv.h"
#include "core/mem.h"
#include "core/prefix.h"
#include "daemon/api_body.h"
#include "daemon/call_answer.h"
#include "daemon/conn.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

enum {
    PING_US = 3000000,
    MAX_EVENTS_A_TURN = 4096,
    SPEED_US = 2000000, /* over which tokens a second are told */
};

enum call_state { CALL_PARSING, CALL_QUEUED, CALL_RUNNING };

static const uint32_t call_next[] = {
    [CALL_PARSING] = FSM_TO(CALL_QUEUED),
    [CALL_QUEUED] = FSM_TO(CALL_RUNNING),
    [CALL_RUNNING] = 0,
};
static const char *const call_names[] = {"parsing", "queued", "running"};
static const struct fsm_table call_table = {
    .name = "call", .next = call_next, .names = call_names, .n_states = ARRAY_LEN(call_names)};

struct call {
    struct server *s;
    struct call *prev, *next; /* in server.calls, in order of arrival */
    struct fsm fsm;
    struct conn *c; /* borrowed; NULL: nobody reads any more */
    char request_id[72];
    uint64_t arrived_us, first_token_us, heard_us; /* heard: the client last got something */

    uv_work_t work; /* PARSING: the worker's, with what follows */
    char *text;     /* owned */
    size_t n_text;
    struct api_body_opts opts;
    int parsed; /* 0 or a negative errno with `fault` */
    struct api_fault fault;
    struct api_body body; /* owned */
    bool is_chat;

    struct job *job; /* owned while RUNNING */
    bool is_aborted; /* by us, and the client is to be told */
    struct call_answer answer;
};

static unsigned *count_of(struct call *k) {
    switch ((enum call_state)k->fsm.state) {
    case CALL_PARSING: return &k->s->calls.n_parsing;
    case CALL_QUEUED: return &k->s->calls.n_queued;
    case CALL_RUNNING: return &k->s->calls.n_running;
    }
    return NULL;
}

static void move(struct call *k, enum call_state to) {
    --*count_of(k);
    fsm_move(&k->fsm, to);
    ++*count_of(k);
}

static void log_end(struct call *k, const char *how, uint32_t n_generated) {
    log_event(k->s->log, LOG_INFO, "%s: %s %s: %zu prompt tokens, %" PRIu32 " generated, %.3f s",
              k->request_id, k->is_chat ? "chat" : "completion", how, k->body.prompt.n, n_generated,
              (double)(server_now_us() - k->arrived_us) / 1e6);
}

/* What a job has computed stays for those that begin alike. */
static void keep_kv(struct call *k) {
    const uint32_t *ids;
    uint32_t n;
    struct kv *kv = jobs_take_kv(k->job, &ids, &n);
    swap_hold(k->s);
    prefix_put(k->s->model.prefix, ids, n, kv);
    swap_lend(k->s);
}

/* The end of a call; `counter` is the one of the four that it belongs to. */
static void end_call(struct call *k, uint64_t *counter) {
    struct server *s = k->s;
    ++*counter;
    --*count_of(k);
    metrics_observe(&s->metrics.request_seconds, (double)(server_now_us() - k->arrived_us) / 1e6);
    if (k->prev)
        k->prev->next = k->next;
    else
        s->calls.first = k->next;
    if (k->next)
        k->next->prev = k->prev;
    else
        s->calls.last = k->prev;
    if (k->job) keep_kv(k);
    jobs_free(k->job);
    swap_room_taken(s); /* if it was this call that waited for room; another one asks again */
    api_body_fini(&k->body);
    call_answer_fini(&k->answer);
    free(k->text);
    free(k);
    server_check_drained(s);
}

/* An error that the client has not been told yet. */
static void tell_fault(struct call *k, const struct api_fault *f, const char *headers) {
    struct conn *c = k->c;
    k->c = NULL;
    if (!c) return;
    conn_own(c, NULL, NULL); /* one that cannot even be told is cut off: on_gone() would end us */
    if (k->answer.has_begun)
        call_answer_fail(&k->answer, c, f);
    else
        api_error(c, f, headers);
}

static void refuse(struct call *k, const struct api_fault *f, const char *headers) {
    struct server *s = k->s;
    bool is_ours = k->c != NULL;
    tell_fault(k, f, headers);
    end_call(k, is_ours ? &s->metrics.refused : &s->metrics.cancelled);
}

/* ---- the client ---- */

static void on_gone(void *ud) {
    struct call *k = ud;
    struct server *s = k->s;
    k->c = NULL;
    switch ((enum call_state)k->fsm.state) {
    case CALL_PARSING: break; /* after_parse() ends it */
    case CALL_QUEUED:
        log_end(k, "cancelled in the queue", 0);
        end_call(k, &s->metrics.cancelled);
        break;
    case CALL_RUNNING: jobs_cancel(s->jobs, k->job); break;
    }
}

static void drain_call(struct call *k);

static void on_drained(void *ud) {
    struct call *k = ud;
    struct server *s = k->s;
    if (k->fsm.state == CALL_RUNNING) drain_call(k);
    call_dispatch(s);
}

static const struct conn_owner owner = {.gone = on_gone, .drained = on_drained};

/* ---- parsing ---- */

static void parse_work(uv_work_t *w) {
    struct call *k = w->data;
    k->parsed = api_body_parse(k->is_chat, k->text, k->n_text, &k->opts, &k->body, &k->fault);
}

/* While the model is loaded a request waits like one that finds no slot: with socket activation it
 * may be the one that has started us. Memory is asked about when it is its turn. */
static bool takes_calls(const struct server *s) {
    return server_state(s) == SERVER_READY || server_state(s) == SERVER_LOADING;
}

static void after_parse(uv_work_t *w, int status) {
    struct call *k = w->data;
    struct server *s = k->s;
    relief_pause(s);
    free(k->text);
    k->text = NULL;
    if (!k->c) {
        end_call(k, &s->metrics.cancelled);
        return;
    }
    if (status < 0) {
        api_fault_set(&k->fault, -EAGAIN, "The server is stopping.");
        k->parsed = -EAGAIN;
    }
    if (k->parsed < 0) {
        refuse(k, &k->fault, k->fault.status == 503 ? "Retry-After: 2\r\n" : "");
        return;
    }
    uint64_t kv = kv_bytes_for(s->model.h, s->model.kv_type,
                               (uint32_t)k->body.prompt.n + k->body.max_tokens);
    if (!takes_calls(s)) {
        api_fault_set(&k->fault, -EAGAIN, "The server is stopping.");
        refuse(k, &k->fault, "Retry-After: 5\r\n");
    } else if (s->swap.out.refuses) {
        api_fault_set(&k->fault, -EAGAIN, "The server takes no new requests now: %s.",
                      s->swap.out.stage + 1 == GOV_STAGES ? "the device is too hot"
                                                          : "the device's memory is all but gone");
        refuse(k, &k->fault, "Retry-After: 10\r\n");
    } else if (s->calls.n_queued >= s->config.serve_queue &&
               s->calls.n_running + s->calls.n_queued >=
                   s->config.serve_slots + s->config.serve_queue) {
        api_fault_set(&k->fault, -EBUSY, "Too many requests wait already (serve.queue).");
        refuse(k, &k->fault, "Retry-After: 2\r\n");
    } else if (server_state(s) == SERVER_READY && swap_room(s, kv, 0) == -ENOSPC) {
        api_fault_set(&k->fault, -ENOSPC,
                      "Memory is short: the request needs %" PRIu64
                      " MiB beside the smallest form of the model, and the budget is %" PRIu64
                      " MiB.",
                      kv >> 20, s->swap.out.budget_bytes >> 20);
        refuse(k, &k->fault, "Retry-After: 2\r\n");
    } else {
        move(k, CALL_QUEUED);
        call_dispatch(s);
    }
}

void call_start(struct server *s, struct conn *c, bool is_chat, char *body, size_t n) {
    struct api_fault f = {0};
    struct call *k = NULL;
    s->metrics.accepted++;
    if (!takes_calls(s)) {
        api_fault_set(&f, -EAGAIN, "The server is stopping.");
        goto refused;
    }
    k = calloc(1, sizeof(*k));
    if (!k) {
        api_fault_set(&f, -ENOMEM, "No memory for the request; try again later.");
        goto refused;
    }
    k->s = s;
    k->c = c;
    k->is_chat = is_chat;
    k->text = body;
    k->n_text = n;
    k->arrived_us = k->heard_us = server_now_us();
    memcpy(k->request_id, conn_request_id(c),
           MIN(strlen(conn_request_id(c)), sizeof(k->request_id) - 1));
    k->opts = (struct api_body_opts){
        .tok = s->model.tok,
        .chat = s->model.has_chat ? &s->model.chat : NULL,
        .chat_missing = s->model.chat_missing,
        .n_ctx = s->model.n_ctx,
        .max_tokens = s->config.serve_max_tokens,
        /* Odd multiplier: a bijection, so that no two requests sample alike by accident. */
        .seed = s->calls.next_seed++ * UINT64_C(0xd1342543de82ef95),
    };
    call_answer_init(&k->answer, s, is_chat, s->calls.next_id++);
    fsm_init(&k->fsm, &call_table, CALL_PARSING);
    k->work.data = k;
    if (uv_queue_work(&s->loop, &k->work, parse_work, after_parse) < 0) {
        free(k);
        api_fault_set(&f, -ENOMEM, "No memory for the request; try again later.");
        goto refused;
    }
    s->calls.n_parsing++;
    k->prev = s->calls.last;
    if (k->prev)
        k->prev->next = k;
    else
        s->calls.first = k;
    s->calls.last = k;
    conn_own(c, &owner, k);
    return;
refused:
    free(body);
    s->metrics.refused++;
    api_error(c, &f, "Retry-After: 2\r\n");
}

/* ---- running ---- */

/* With what is kept of a request that began alike. Its pages are made here, which takes and charges
 * memory, so the guard is not kept out meanwhile. */
static int make_kv(struct server *s, struct session_params *p, uint32_t n_pos, struct kv **ret,
                   struct err *e) {
    const struct server_model *m = &s->model;
    swap_hold(s);
    const struct kv *from = prefix_find(m->prefix, p->prompt, p->n_prompt - 1, &p->n_kept);
    prefix_pin(m->prefix, from != NULL);
    swap_lend(s);
    if (!from) return kv_create(m->mem, m->h, m->kv_type, n_pos, ret, e);
    int r = kv_fork(m->mem, m->h, n_pos, from, p->n_kept, ret, e);
    swap_hold(s);
    prefix_pin(m->prefix, false);
    swap_lend(s);
    return r;
}

/* 1: it runs; 0: not now; negative: refused and freed. */
static int start_job(struct call *k) {
    struct server *s = k->s;
    struct err e = {0};
    struct kv *kv = NULL;
    uint32_t n_pos = (uint32_t)k->body.prompt.n + k->body.max_tokens;
    const struct server_model *m = &s->model;
    /* At least one token is computed, for its logits. */
    uint32_t n_known = (uint32_t)k->body.prompt.n - 1, n_kept;
    swap_hold(s);
    prefix_find(m->prefix, k->body.prompt.v, n_known, &n_kept);
    swap_lend(s);
    int r = swap_room(s, kv_bytes_for(m->h, m->kv_type, n_pos),
                      kv_fork_bytes(m->h, m->kv_type, n_pos, n_kept));
    if (r == 0) return 0;
    swap_room_taken(s);
    if (r < 0) {
        /* It fitted when it came, and the budget has fallen since. */
        err_set(&e, -ENOSPC, "Memory is short: there is no room for the request any more.");
        goto out;
    }
    struct session_params p = {
        .prompt = k->body.prompt.v,
        .n_prompt = (uint32_t)k->body.prompt.n,
        .max_tokens = k->body.max_tokens,
        .sample = k->body.sample,
        .stops = &k->body.stops,
        .ignore_end = k->body.ignore_end,
    };
    relief_pause(s);
    r = make_kv(s, &p, n_pos, &kv, &e);
    if (r < 0) goto out;
    r = jobs_make(s->jobs, &p, kv, k, &k->job, &e);
    if (r < 0) goto out;
    kv = NULL; /* the job's */
    move(k, CALL_RUNNING);
    jobs_submit(s->jobs, k->job);
    r = 1;
out:
    kv_destroy(kv);
    if (r < 0) {
        api_fault_set(&k->fault, r, "%s", e.msg);
        refuse(k, &k->fault, "Retry-After: 2\r\n");
    }
    return r;
}

void call_dispatch(struct server *s) {
    struct call *next;
    if (server_state(s) != SERVER_READY && server_state(s) != SERVER_DRAINING) return;
    for (struct call *k = s->calls.first; k; k = next) {
        next = k->next;
        if (s->calls.n_running >= s->config.serve_slots) return;
        if (k->fsm.state != CALL_QUEUED) continue;
        if (start_job(k) == 0) return; /* in order: a small one does not overtake for ever */
    }
}

/* Errors of the engine that come from reading units or embeddings. */
static bool is_of_disk(int code) {
    return code == -EBADMSG || code == -EIO || code == -ETIMEDOUT;
}

static void finish_call(struct call *k, const struct job_event *ev) {
    struct server *s = k->s;
    struct metrics *m = &s->metrics;
    m->prompt_tokens += ev->usage.n_prompt_done;
    if (ev->usage.prompt_us > 0)
        s->calls.speed.prefill_tps = (double)ev->usage.n_prompt_done * 1e6 /
                                     (double)ev->usage.prompt_us;
    m->kept_tokens += ev->usage.n_kept;
    m->generated_tokens += ev->usage.n_generated;
    m->prompt_seconds += (double)ev->usage.prompt_us / 1e6;
    m->decode_seconds += (double)ev->usage.decode_us / 1e6;

    uint64_t *counter = &m->failed;
    const char *how = "failed";
    struct conn *c = k->c;
    switch (ev->end) {
    case JOB_STOPPED:
    case JOB_LENGTH:
        how = ev->end == JOB_STOPPED ? "stopped" : "at its length";
        counter = &m->completed;
        k->c = NULL;
        if (c) call_answer_end(&k->answer, c, &k->body, ev);
        break;
    case JOB_CANCELLED:
        how = "cancelled";
        counter = &m->cancelled;
        api_fault_set(&k->fault, -ECANCELED, "The server is stopping.");
        tell_fault(k, &k->fault, "Retry-After: 5\r\n");
        break;
    case JOB_FAILED:
        api_fault_set(&k->fault, ev->code, "%s: %s.",
                      is_of_disk(ev->code) ? "The model cannot be read from disk"
                                           : "The computation failed",
                      strerror(-ev->code));
        tell_fault(k, &k->fault, "");
        break;
    }
    log_end(k, how, ev->usage.n_generated);
    end_call(k, counter);
}

/* What has come for one call, as far as its client takes it. May free the call. */
static void drain_call(struct call *k) {
    struct server *s = k->s;
    struct job_event ev;
    char text[JOB_MAX_TEXT];
    /* Bounded, so that one fast call does not keep the loop to itself. */
    for (unsigned i = 0; i < MAX_EVENTS_A_TURN; i++) {
        if (k->c && conn_unsent(k->c) > s->config.serve_buffer_bytes) return; /* on_drained() */
        if (!jobs_next(s->jobs, k->job, &ev, text)) return;
        if (ev.kind == JOB_END) {
            finish_call(k, &ev);
            return;
        }
        relief_pause(s);
        k->heard_us = server_now_us();
        s->calls.speed.n_tokens++;
        if (!k->first_token_us) {
            k->first_token_us = k->heard_us;
            metrics_observe(&s->metrics.first_token_seconds,
                            (double)(k->first_token_us - k->arrived_us) / 1e6);
        }
        if (k->c) call_answer_token(&k->answer, k->c, &k->body, &ev, text);
    }
}

void call_drain_all(struct server *s) {
    struct call *next;
    for (struct call *k = s->calls.first; k; k = next) {
        next = k->next;
        if (k->fsm.state == CALL_RUNNING) drain_call(k);
    }
    call_dispatch(s); /* after the walk, as it may free calls that it refuses */
}

/* ---- time and the end ---- */

static void measure_speed(struct call_speed *sp, uint64_t now_us) {
    if (now_us - sp->since_us < SPEED_US) return;
    sp->decode_tps = (double)(sp->n_tokens - sp->n_before) * 1e6 / (double)(now_us - sp->since_us);
    sp->n_before = sp->n_tokens;
    sp->since_us = now_us;
}

void call_tick(struct server *s) {
    uint64_t now = server_now_us();
    measure_speed(&s->calls.speed, now);
    struct call *next;
    for (struct call *k = s->calls.first; k; k = next) {
        next = k->next;
        if (!k->c || k->fsm.state == CALL_PARSING || !k->body.is_stream) continue;
        if (now - k->heard_us < PING_US || conn_unsent(k->c) > 0) continue;
        k->heard_us = now;
        call_answer_ping(&k->answer, k->c);
    }
    call_dispatch(s); /* memory may have come free */
}

void call_abort_all(struct server *s) {
    struct call *next;
    for (struct call *k = s->calls.first; k; k = next) {
        next = k->next;
        switch ((enum call_state)k->fsm.state) {
        case CALL_PARSING: break;
        case CALL_QUEUED:
            api_fault_set(&k->fault, -ECANCELED, "The server is stopping.");
            tell_fault(k, &k->fault, "Retry-After: 5\r\n");
            end_call(k, &s->metrics.cancelled);
            break;
        case CALL_RUNNING:
            if (!k->is_aborted) jobs_cancel(s->jobs, k->job);
            k->is_aborted = true;
            break;
        }
    }
}

unsigned call_n(const struct server *s) {
    return s->calls.n_parsing + s->calls.n_queued + s->calls.n_running;
}
