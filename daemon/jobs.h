/* The crossing between the loop thread and the inference thread.
 *
 * A job is one request on its way through inference. The loop makes it, submits it and reads its
 * events; the inference thread runs its session and writes them into the job's own bounded ring, so
 * that a client which reads slowly fills its own ring and nothing else: the job is then paused.
 * Every submitted job ends with exactly one JOB_END event, after which the inference thread does
 * not touch it any more and the loop destroys it.
 *
 * One mutex guards the inbox of new jobs and the flags that wake the inference thread; it is never
 * held during compute. The other way there is one uv_async_t for everything: wake-ups coalesce, so
 * its callback must look at all jobs and at the store. */
#ifndef EBB_DAEMON_JOBS_H
#define EBB_DAEMON_JOBS_H

#include "core/defs.h"
#include "core/session.h"

struct err;
struct job;
struct jobs;
struct kv;

enum job_end { JOB_STOPPED, JOB_LENGTH, JOB_CANCELLED, JOB_FAILED };

enum job_event_kind { JOB_TOKEN, JOB_END };

enum { JOB_MAX_TEXT = 4096 };

struct job_event {
    enum job_event_kind kind;
    /* JOB_TOKEN */
    uint32_t n_text;   /* bytes that may be sent now; can be 0 */
    uint32_t position; /* of the plan that computed it */
    uint64_t epoch;
    /* JOB_END */
    enum job_end end;
    int code; /* negative errno of JOB_FAILED */
    struct session_usage usage;
};

/* wake: called on the inference thread when the loop has something to look at; it must be safe
 * there (uv_async_send). 0 or -ENOMEM. */
int jobs_create(void (*wake)(void *ud), void *ud, struct jobs **ret) MUST_CHECK;
void jobs_destroy(struct jobs *js); /* after both threads are done; accepts NULL */

/* ---- Thread: loop ---- */

/* Takes `kv` over on success. 0, -EINVAL or -ENOMEM. */
int jobs_make(struct jobs *js, const struct session_params *p, struct kv *kv, void *ud,
              struct job **ret, struct err *e) MUST_CHECK;
/* A job that was never submitted, or whose JOB_END has been read. Frees its KV. Accepts NULL. */
void jobs_free(struct job *j);
void *jobs_ud(const struct job *j);
/* Of a job whose JOB_END has been read: as session_take_kv(). */
struct kv *jobs_take_kv(struct job *j, const uint32_t **ret_ids, uint32_t *ret_n);
/* The inference thread's batch must have room: no more than its slots between submission and end.
 */
void jobs_submit(struct jobs *js, struct job *j);
/* Its JOB_END will come within one step. */
void jobs_cancel(struct jobs *js, struct job *j);
/* The next event and its text (room for JOB_MAX_TEXT); false if there is none now. */
bool jobs_next(struct jobs *js, struct job *j, struct job_event *ret, char *text);
/* Wakes the inference thread if it sleeps: there is a new plan to adopt. */
void jobs_kick(struct jobs *js);
/* The inference thread ends all jobs as cancelled and returns from jobs_take() for good. */
void jobs_stop(struct jobs *js);
/* True if the inference thread has something to do: then jobs_beats() is to rise. */
bool jobs_is_busy(const struct jobs *js);
/* Steps begun. */
uint64_t jobs_beats(const struct jobs *js);

/* ---- Thread: inference ---- */

/* New jobs (a list for jobs_pop()), waiting for something to do if `may_wait`. False: stop. */
bool jobs_take(struct jobs *js, bool may_wait);
/* Waits so long, or until something comes that jobs_take() would return for. */
void jobs_rest(struct jobs *js, uint64_t us);
struct job *jobs_pop(struct jobs *js); /* NULL: no more */
struct session *jobs_session(const struct job *j);
bool jobs_is_cancelled(const struct job *j);
/* False if the ring is so full that the next token might not fit: pause the job. */
bool jobs_has_room(const struct job *j);
/* Paused and drained far enough to go on. */
bool jobs_may_resume(const struct job *j);
/* How many jobs are paused, so that the loop knows whom its reading may wake. */
void jobs_set_paused(struct jobs *js, unsigned n);
/* True once the session has ended by itself. */
bool jobs_has_ended(const struct job *j);
/* Writes JOB_END: as the session ended, or as cancelled. The last touch of the job. */
void jobs_put_end(struct jobs *js, struct job *j);
/* Tells the loop, if there is something to tell. */
void jobs_flush(struct jobs *js, bool force);

#endif
