/* The batch: which sessions take part in a step, and what becomes of the logits.
 *
 * Invariants:
 *  1 the sessions of a batch stand in slots[0 .. n), oldest first; a session is in one batch at
 *    most (session.batch)
 *  2 the KV cache holds positions 0 .. n_fed - 1 of prompt followed by generated tokens
 *  3 in PREFILL n_fed < n_prompt; in DECODE n_fed = n_prompt + n_generated - 1 and `next` is the
 *    token at that position
 *  4 during a step step[] names its sessions by row; removing a session clears its entry, so that
 *    callbacks may remove and destroy any session while the step's tokens are handed out */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/mem.h"
#include "core/session.h"
#include "core/session_internal.h"
#include "core/store.h"
#include "core/tok.h"

/* The end of the stream may follow a piece in the same call. */
enum { TEXT_BYTES = STREAM_OUT_BYTES(TOK_MAX_TOKEN_BYTES) + STREAM_OUT_BYTES(0) };

struct batch {
    struct engine *en;     /* borrowed */
    const struct tok *tok; /* borrowed */
    uint32_t n_slots;
    uint32_t chunk, chunk_now; /* now: less after steps that were broken off */
    uint32_t n;
    bool was_void;          /* the last step was broken off */
    bool was_prefill;       /* the kind of the last step: the other one goes first now */
    struct session **slots; /* owned: [n_slots] */
    struct session **step;  /* owned: [n_slots] */
    uint32_t n_step;
    struct engine_row *rows; /* owned: [max(n_slots, chunk)] */
    float *logits;           /* owned: [n_slots][padded] */
    uint64_t logits_bytes;
    size_t padded; /* n_vocab rounded up to 8 */
    char text[TEXT_BYTES];
};

static bool is_prefill(const struct session *s) {
    return s->n_fed < s->usage.n_prompt;
}

int batch_create(struct engine *en, const struct tok *t, uint32_t slots, uint32_t chunk,
                 struct batch **ret, struct err *e) {
    uint32_t max_rows = engine_max_rows(en);
    if (slots == 0 || slots > max_rows)
        return err_set(e, -EINVAL, "%u slots: must be 1 to %u", slots, max_rows);
    if (chunk == 0 || chunk > max_rows)
        return err_set(e, -EINVAL, "prompt chunks of %u tokens: must be 1 to %u", chunk, max_rows);
    struct batch *b = calloc(1, sizeof(*b));
    if (!b) return err_set(e, -ENOMEM, "no memory for a batch");
    b->en = en;
    b->tok = t;
    b->n_slots = slots;
    b->chunk = b->chunk_now = chunk;
    b->slots = calloc(slots, sizeof(*b->slots));
    b->step = calloc(slots, sizeof(*b->step));
    b->rows = calloc(MAX(slots, chunk), sizeof(*b->rows));
    b->padded = ((size_t)engine_hparams(en)->n_vocab + 7) / 8 * 8;
    b->logits_bytes = (uint64_t)slots * b->padded * sizeof(float);
    b->logits = mem_alloc(engine_mem(en), MEM_SCRATCH, b->logits_bytes);
    if (!b->slots || !b->step || !b->rows || !b->logits) {
        batch_destroy(b);
        return err_set(e, -ENOMEM, "no memory for a batch of %u slots", slots);
    }
    *ret = b;
    return 0;
}

void batch_destroy(struct batch *b) {
    if (!b) return;
    ASSERT(b->n == 0);
    mem_free(engine_mem(b->en), MEM_SCRATCH, b->logits, b->logits_bytes);
    free(b->rows);
    free(b->step);
    free(b->slots);
    free(b);
}

bool batch_has_room(const struct batch *b) {
    return b->n < b->n_slots;
}

uint32_t batch_n(const struct batch *b) {
    return b->n;
}

void batch_add(struct batch *b, struct session *s) {
    ASSERT(batch_has_room(b) && !s->batch);
    s->batch = b;
    b->slots[b->n++] = s;
}

void batch_remove(struct batch *b, struct session *s) {
    if (s->batch != b) return;
    uint32_t i = 0;
    while (b->slots[i] != s) i++;
    b->n--;
    memmove(b->slots + i, b->slots + i + 1, (b->n - i) * sizeof(*b->slots));
    for (uint32_t r = 0; r < b->n_step; r++)
        if (b->step[r] == s) b->step[r] = NULL;
    s->batch = NULL;
}

void batch_pause(struct batch *b, struct session *s, bool is_paused) {
    if (s->batch == b) s->is_paused = is_paused;
}

bool batch_has_work(const struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++)
        if (!b->slots[i]->is_paused) return true;
    return false;
}

/* Gives the owner a token; the session may be gone afterwards. */
static void emit(struct batch *b, struct session *s, const struct plan *plan,
                 struct session_token *t) {
    t->text = b->text;
    t->epoch = plan->epoch;
    t->position = plan->position;
    if (t->end != SESSION_RUNNING) batch_remove(b, s);
    s->emit(s->ud, s, t);
}

static void fail(struct batch *b, struct session *s, const struct plan *plan, int code) {
    emit(b, s, plan, &(struct session_token){.end = SESSION_ERROR, .code = code});
}

/* Samples the session's next token and turns it into text. */
static void advance(struct batch *b, struct session *s, const struct plan *plan,
                    const float *logits) {
    struct session_token t = {.end = SESSION_RUNNING};
    t.id = sample_pick(&s->sampler, logits, engine_hparams(b->en)->n_vocab);
    s->next = t.id;
    s->ids[s->usage.n_prompt + s->usage.n_generated++] = t.id;
    bool is_stopped = false;
    if (!s->ignore_end && tok_is_end(b->tok, t.id)) {
        t.end = SESSION_STOP;
    } else {
        size_t n;
        const char *piece = tok_piece(b->tok, t.id, false, &n);
        t.n = stream_push(&s->stream, piece, n, b->text, &is_stopped);
        if (is_stopped)
            t.end = SESSION_STOP;
        else if (s->usage.n_generated == s->max_tokens)
            t.end = SESSION_LENGTH;
    }
    /* Nothing more will come: what was held back for a stop string or half a character is text. */
    if (t.end != SESSION_RUNNING && !is_stopped) t.n += stream_finish(&s->stream, b->text + t.n);
    emit(b, s, plan, &t);
}

/* One chunk of the oldest waiting prompt. Returns the rows set up. */
static uint32_t prepare_prefill(struct batch *b, struct session *s) {
    uint32_t n = MIN(s->usage.n_prompt - s->n_fed, b->chunk_now);
    for (uint32_t i = 0; i < n; i++)
        b->rows[i] = (struct engine_row){
            .kv = s->kv,
            .pos = s->n_fed + i,
            .token = s->ids[s->n_fed + i],
        };
    if (s->n_fed + n == s->usage.n_prompt) b->rows[n - 1].logits = b->logits;
    b->step[0] = s;
    b->n_step = 1;
    return n;
}

/* One row for every session that has a next token. */
static uint32_t prepare_decode(struct batch *b) {
    b->n_step = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct session *s = b->slots[i];
        if (s->is_paused || is_prefill(s)) continue;
        b->rows[b->n_step] = (struct engine_row){
            .kv = s->kv,
            .pos = s->n_fed,
            .token = s->next,
            .logits = b->logits + b->n_step * b->padded,
        };
        b->step[b->n_step++] = s;
    }
    return b->n_step;
}

/* The kind of step that is due: the waiting prompt to work on, or NULL for a decode step. */
static struct session *choose_prompt(const struct batch *b) {
    struct session *oldest = NULL;
    bool has_decode = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct session *s = b->slots[i];
        if (s->is_paused) continue;
        if (!is_prefill(s))
            has_decode = true;
        else if (!oldest)
            oldest = s;
    }
    return has_decode && b->was_prefill ? NULL : oldest;
}

uint32_t batch_step(struct batch *b, const struct plan *plan, uint64_t (*now_us)(void)) {
    struct session *prompt = choose_prompt(b);
    uint32_t n_rows = prompt ? prepare_prefill(b, prompt) : prepare_decode(b);
    if (n_rows == 0) return 0;

    if (b->was_void && (!prompt || n_rows == 1)) engine_spare(b->en);
    uint64_t start_us = now_us();
    int code = engine_step(b->en, plan, b->rows, n_rows, NULL);
    uint64_t took_us = now_us() - start_us;
    /* Nothing has happened: the same rows are due again, and write the same places of their KV. */
    bool is_void = code == -EAGAIN;
    b->was_void = is_void;
    if (!is_void) b->was_prefill = prompt != NULL;
    if (prompt) b->chunk_now = is_void ? MAX(n_rows / 4, 1u) : MIN(2 * b->chunk_now, b->chunk);

    for (uint32_t i = 0; i < b->n_step; i++) {
        struct session *s = b->step[i];
        if (!s) continue; /* removed by a callback of this loop */
        *(prompt ? &s->usage.prompt_us : &s->usage.decode_us) += took_us;
        if (is_void) continue;
        if (code < 0) {
            fail(b, s, plan, code);
            continue;
        }
        s->n_fed += prompt ? n_rows : 1;
        if (prompt) s->usage.n_prompt_done = s->n_fed - s->usage.n_kept;
        if (!is_prefill(s)) advance(b, s, plan, b->logits + i * b->padded);
    }
    b->n_step = 0;
    return code < 0 ? 0 : n_rows;
}
