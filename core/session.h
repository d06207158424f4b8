/* A session is one request's timeline; a batch runs up to `slots` of them together.
 *
 * The batch alternates steps: one chunk of one waiting prompt (oldest first), then one decode step
 * for all sessions that have a next token, so that running streams wait at most one chunk. A new
 * plan is used from the next step on. Thread: inference. Nothing allocates inside batch_step().
 *
 *   PREFILL --prompt done--> DECODE --stop, length, error, removed--> (out of the batch) */
#ifndef EBB_CORE_SESSION_H
#define EBB_CORE_SESSION_H

#include "core/defs.h"
#include "core/sample.h"
#include "core/stream.h"

struct batch;
struct engine;
struct err;
struct kv;
struct plan;
struct session;
struct tok;

enum session_end {
    SESSION_RUNNING,
    SESSION_STOP,   /* end token or stop string */
    SESSION_LENGTH, /* max_tokens reached */
    SESSION_ERROR,  /* the engine failed; code in session_token */
};

struct session_token {
    uint32_t id;      /* the token sampled; meaningless if end is SESSION_ERROR */
    const char *text; /* what may be sent now; borrowed during the call; n may be 0 */
    size_t n;
    uint64_t epoch;    /* of the plan that computed it */
    uint32_t position; /* of that plan */
    enum session_end end;
    int code; /* negative errno if SESSION_ERROR */
};

/* Called on the inference thread, inside batch_step(), for every token sampled, an end token too:
 * that has no text of its own, but brings what was held back before it. After `end` !=
 * SESSION_RUNNING the session is out of the batch and belongs to the owner again, who may destroy
 * it at once. The callback may add, remove and pause sessions. */
typedef void (*session_emit_fn)(void *ud, struct session *s, const struct session_token *t);

struct session_params {
    const uint32_t *prompt; /* copied */
    uint32_t n_prompt;      /* >= 1 */
    uint32_t n_kept;        /* that the kv holds already; < n_prompt */
    uint32_t max_tokens;    /* >= 1 */
    struct sample_params sample;
    const struct stream *stops; /* copied; NULL = none */
    bool ignore_end;            /* go on past end tokens (benchmarks, tests) */
};

struct session_usage {
    uint32_t n_prompt, n_kept, n_prompt_done, n_generated; /* done: computed, beside those kept */
    uint64_t prompt_us, decode_us;                         /* time in steps it took part in */
};

/* Any thread. Owns nothing but its copies; `kv` (capacity >= n_prompt + max_tokens) is owned by
 * the session from success on. 0, -EINVAL or -ENOMEM. */
int session_create(const struct session_params *p, struct kv *kv, session_emit_fn emit, void *ud,
                   struct session **ret, struct err *e) MUST_CHECK;
void session_destroy(struct session *s); /* frees the kv; accepts NULL */
void session_usage(const struct session *s, struct session_usage *ret);
/* Of a session that is in no batch: its kv, now the caller's, and the tokens that it holds the
 * positions of; these are borrowed until the session is destroyed. */
struct kv *session_take_kv(struct session *s, const uint32_t **ret_ids, uint32_t *ret_n);

/* chunk: prompt tokens of one prefill step, slots: sessions that run together; both 1 .. the
 * engine's max_rows. Takes room for the logits of all slots from the engine's memory. 0, -EINVAL
 * or -ENOMEM. */
int batch_create(struct engine *en, const struct tok *t, uint32_t slots, uint32_t chunk,
                 struct batch **ret, struct err *e) MUST_CHECK;
void batch_destroy(struct batch *b); /* accepts NULL; must be empty */
bool batch_has_room(const struct batch *b);
uint32_t batch_n(const struct batch *b);
/* Borrowed until it ends or is removed. The batch must have room. */
void batch_add(struct batch *b, struct session *s);
/* Takes a session out (cancelled); no callback. No-op if it is not in. */
void batch_remove(struct batch *b, struct session *s);
/* A paused session keeps its slot and takes no part in steps (its reader is slow). No-op if it is
 * not in the batch. */
void batch_pause(struct batch *b, struct session *s, bool is_paused);
/* True if a step would do something. */
bool batch_has_work(const struct batch *b);
/* One step under `plan`; now_us() is for usage only. An engine error ends the sessions of that
 * step with SESSION_ERROR; the batch goes on. After -EAGAIN of the engine the next call takes the
 * same step again, a prompt's with a quarter of the rows: a chunk may take seconds, and memory is
 * wanted sooner. The chunks grow again with each that ends. So that tokens come however fast plans
 * do, one row of a prompt and every decode step are spared when they are taken again. Returns how
 * many rows were computed: 0 if there was nothing to do or the engine failed. */
uint32_t batch_step(struct batch *b, const struct plan *plan, uint64_t (*now_us)(void));

#endif
