#include "daemon/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/err.h"
#include "core/stream.h"
#include "core/tok.h"
#include "daemon/ring.h"

enum {
    RING_BYTES = 32 << 10,
    /* What one step can write for a job: a token with all its text, then the end. */
    STEP_BYTES = 2 * sizeof(struct job_event) + STREAM_HOLD_BYTES + TOK_MAX_TOKEN_BYTES,
    RESUME_BYTES = RING_BYTES / 2,
};
_Static_assert(STREAM_HOLD_BYTES + TOK_MAX_TOKEN_BYTES <= JOB_MAX_TEXT, "a token's text fits");
_Static_assert(2 * STEP_BYTES < RING_BYTES, "a paused job can still be ended");

struct job {
    struct session *session; /* owned */
    struct jobs *jobs;       /* borrowed */
    void *ud;
    enum session_end end; /* inference */
    int code;             /* inference */
    struct ring ring;
    _Atomic bool is_cancelled; /* set by the loop; relaxed: the kick under the mutex orders it */
    struct job *next;          /* in the inbox, or taken by the inference thread */
};

struct jobs {
    void (*wake)(void *ud);
    void *ud;

    pthread_mutex_t lock; /* guards what follows, up to the blank line */
    pthread_cond_t cond;  /* the inference thread waits for kick, inbox or stop */
    struct job *inbox, **inbox_end;
    bool is_kicked;
    bool is_stopped;
    unsigned n_paused;

    struct job *taken; /* inference */
    bool has_news;     /* inference: events written since the last wake */

    _Atomic uint64_t beats; /* statistics: relaxed */
    _Atomic bool is_busy;   /* the same */
};

int jobs_create(void (*wake)(void *ud), void *ud, struct jobs **ret) {
    struct jobs *js = calloc(1, sizeof(*js));
    if (!js) return -ENOMEM;
    js->wake = wake;
    js->ud = ud;
    js->inbox_end = &js->inbox;
    if (pthread_mutex_init(&js->lock, NULL) != 0) {
        free(js);
        return -ENOMEM;
    }
    pthread_condattr_t attr; /* jobs_rest() must not follow a clock that is set */
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int r = pthread_cond_init(&js->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (r != 0) {
        pthread_mutex_destroy(&js->lock);
        free(js);
        return -ENOMEM;
    }
    *ret = js;
    return 0;
}

void jobs_destroy(struct jobs *js) {
    if (!js) return;
    pthread_cond_destroy(&js->cond);
    pthread_mutex_destroy(&js->lock);
    free(js);
}

/* ---- loop ---- */

/* Thread: inference, inside a step. */
static void on_token(void *ud, struct session *s, const struct session_token *t) {
    struct job *j = ud;
    (void)s;
    struct job_event ev = {
        .kind = JOB_TOKEN,
        .n_text = (uint32_t)t->n,
        .position = t->position,
        .epoch = t->epoch,
    };
    ASSERT(t->n <= JOB_MAX_TEXT);
    if (t->end != SESSION_ERROR) {
        /* There is room: a job without it is paused before the step. */
        bool ok = ring_write(&j->ring, &ev, sizeof(ev), t->text, t->n);
        ASSERT(ok);
    }
    j->end = t->end;
    j->code = t->code;
    j->jobs->has_news = true;
}

int jobs_make(struct jobs *js, const struct session_params *p, struct kv *kv, void *ud,
              struct job **ret, struct err *e) {
    struct job *j = calloc(1, sizeof(*j));
    if (!j) return err_set(e, -ENOMEM, "no memory for a job");
    int r = ring_init(&j->ring, RING_BYTES);
    if (r < 0) {
        r = err_set(e, r, "no memory for a job's buffer");
        goto out;
    }
    r = session_create(p, kv, on_token, j, &j->session, e);
    if (r < 0) goto out;
    j->jobs = js;
    j->ud = ud;
    j->end = SESSION_RUNNING;
    atomic_init(&j->is_cancelled, false);
    *ret = j;
    j = NULL; /* passed to the caller */
out:
    if (j) ring_fini(&j->ring);
    free(j);
    return r;
}

void jobs_free(struct job *j) {
    if (!j) return;
    session_destroy(j->session);
    ring_fini(&j->ring);
    free(j);
}

void *jobs_ud(const struct job *j) {
    return j->ud;
}

struct kv *jobs_take_kv(struct job *j, const uint32_t **ret_ids, uint32_t *ret_n) {
    return session_take_kv(j->session, ret_ids, ret_n);
}

static void kick_locked(struct jobs *js) {
    js->is_kicked = true;
    pthread_cond_signal(&js->cond);
}

void jobs_submit(struct jobs *js, struct job *j) {
    j->next = NULL;
    pthread_mutex_lock(&js->lock);
    *js->inbox_end = j;
    js->inbox_end = &j->next;
    kick_locked(js);
    pthread_mutex_unlock(&js->lock);
}

void jobs_cancel(struct jobs *js, struct job *j) {
    atomic_store_explicit(&j->is_cancelled, true, memory_order_relaxed);
    jobs_kick(js);
}

bool jobs_next(struct jobs *js, struct job *j, struct job_event *ret, char *text) {
    if (!ring_read(&j->ring, ret, sizeof(*ret))) {
        /* All is read: whoever waits for room has it now. */
        pthread_mutex_lock(&js->lock);
        if (js->n_paused > 0) kick_locked(js);
        pthread_mutex_unlock(&js->lock);
        return false;
    }
    bool ok = ring_read(&j->ring, text, ret->n_text); /* written with its head, as one piece */
    ASSERT(ok);
    return true;
}

void jobs_kick(struct jobs *js) {
    pthread_mutex_lock(&js->lock);
    kick_locked(js);
    pthread_mutex_unlock(&js->lock);
}

void jobs_stop(struct jobs *js) {
    pthread_mutex_lock(&js->lock);
    js->is_stopped = true;
    kick_locked(js);
    pthread_mutex_unlock(&js->lock);
}

bool jobs_is_busy(const struct jobs *js) {
    return atomic_load_explicit(&js->is_busy, memory_order_relaxed);
}

uint64_t jobs_beats(const struct jobs *js) {
    return atomic_load_explicit(&js->beats, memory_order_relaxed);
}

/* ---- inference ---- */

bool jobs_take(struct jobs *js, bool may_wait) {
    pthread_mutex_lock(&js->lock);
    if (may_wait) atomic_store_explicit(&js->is_busy, false, memory_order_relaxed);
    while (may_wait && !js->is_kicked) pthread_cond_wait(&js->cond, &js->lock);
    js->is_kicked = false;
    js->taken = js->inbox;
    js->inbox = NULL;
    js->inbox_end = &js->inbox;
    bool is_stopped = js->is_stopped;
    pthread_mutex_unlock(&js->lock);
    atomic_store_explicit(&js->is_busy, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&js->beats, 1, memory_order_relaxed);
    return !is_stopped;
}

void jobs_rest(struct jobs *js, uint64_t us) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + us * 1000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    atomic_store_explicit(&js->is_busy, false, memory_order_relaxed); /* resting is no standstill */
    pthread_mutex_lock(&js->lock);
    int r = 0;
    while (!js->is_kicked && r == 0) r = pthread_cond_timedwait(&js->cond, &js->lock, &until);
    pthread_mutex_unlock(&js->lock);
    atomic_store_explicit(&js->is_busy, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&js->beats, 1, memory_order_relaxed);
}

struct job *jobs_pop(struct jobs *js) {
    struct job *j = js->taken;
    if (j) js->taken = j->next;
    return j;
}

struct session *jobs_session(const struct job *j) {
    return j->session;
}

bool jobs_is_cancelled(const struct job *j) {
    return atomic_load_explicit(&j->is_cancelled, memory_order_relaxed);
}

bool jobs_has_room(const struct job *j) {
    return ring_free(&j->ring) >= STEP_BYTES + sizeof(struct job_event);
}

bool jobs_may_resume(const struct job *j) {
    return ring_free(&j->ring) >= RESUME_BYTES;
}

void jobs_set_paused(struct jobs *js, unsigned n) {
    pthread_mutex_lock(&js->lock);
    js->n_paused = n;
    pthread_mutex_unlock(&js->lock);
}

bool jobs_has_ended(const struct job *j) {
    return j->end != SESSION_RUNNING;
}

void jobs_put_end(struct jobs *js, struct job *j) {
    struct job_event ev = {.kind = JOB_END, .end = JOB_CANCELLED, .code = j->code};
    switch (j->end) {
    case SESSION_RUNNING: break;
    case SESSION_STOP: ev.end = JOB_STOPPED; break;
    case SESSION_LENGTH: ev.end = JOB_LENGTH; break;
    case SESSION_ERROR: ev.end = JOB_FAILED; break;
    }
    session_usage(j->session, &ev.usage);
    bool ok = ring_write(&j->ring, &ev, sizeof(ev), NULL, 0); /* STEP_BYTES kept room for it */
    ASSERT(ok);
    js->has_news = true;
}

void jobs_flush(struct jobs *js, bool force) {
    if (!js->has_news && !force) return;
    js->has_news = false;
    js->wake(js->ud);
}
