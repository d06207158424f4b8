#include "daemon/call_answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "core/ladder.h"
#include "daemon/api_body.h"
#include "daemon/conn.h"
#include "daemon/jobs.h"
#include "daemon/json.h"
#include "daemon/server_internal.h"
#include "daemon/sse.h"

void call_answer_init(struct call_answer *a, const struct server *s, bool is_chat, uint64_t id) {
    *a = (struct call_answer){.s = s, .is_chat = is_chat, .created = (int64_t)time(NULL)};
    snprintf(a->id, sizeof(a->id), "%s-%016" PRIx64, is_chat ? "chatcmpl" : "cmpl",
             id * UINT64_C(0x9e3779b97f4a7c15));
}

void call_answer_fini(struct call_answer *a) {
    buf_fini(&a->text);
    buf_fini(&a->epochs);
}

static void begin(struct call_answer *a, struct conn *c) {
    if (a->has_begun) return;
    a->has_begun = true;
    sse_begin(c);
}

void call_answer_ping(struct call_answer *a, struct conn *c) {
    begin(a, c);
    sse_comment(c, "ping");
}

/* ---- pieces ---- */

static void put_top(struct call_answer *a, struct buf *b, const char *object) {
    buf_printf(b, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", a->id,
               object, a->created);
    json_put_cstr(b, a->s->model.name);
    buf_printf(b, ",\"system_fingerprint\":\"ebb-%s-p%" PRIu32 "\"", a->s->model.hash, a->position);
}

static void put_usage(struct buf *b, const struct session_usage *u) {
    buf_printf(b,
               "\"usage\":{\"prompt_tokens\":%" PRIu32 ",\"completion_tokens\":%" PRIu32
               ",\"total_tokens\":%" PRIu32 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu32
               "}}",
               u->n_prompt, u->n_generated, u->n_prompt + u->n_generated, u->n_kept);
}

static double rate(double n, double ms) {
    return ms > 0 ? n * 1000 / ms : 0;
}

static void put_extras(struct call_answer *a, struct buf *b, const struct session_usage *u) {
    double prompt_ms = (double)u->prompt_us / 1000, decode_ms = (double)u->decode_us / 1000;
    buf_printf(b,
               "\"timings\":{\"cache_n\":%" PRIu32 ",\"prompt_n\":%" PRIu32
               ",\"prompt_ms\":%.3f,\"prompt_per_token_ms\":%.3f,\"prompt_per_second\":%.3f,",
               u->n_kept, u->n_prompt_done, prompt_ms,
               u->n_prompt_done ? prompt_ms / u->n_prompt_done : 0,
               rate(u->n_prompt_done, prompt_ms));
    buf_printf(
        b,
        "\"predicted_n\":%" PRIu32
        ",\"predicted_ms\":%.3f,\"predicted_per_token_ms\":%.3f,\"predicted_per_second\":%.3f}",
        u->n_generated, decode_ms, u->n_generated ? decode_ms / u->n_generated : 0,
        rate(u->n_generated, decode_ms));
    buf_printf(b, ",\"ebb\":{\"position\":%" PRIu32 ",\"bits\":%.3f,\"epochs\":[", a->position,
               api_info_bits(a->s, a->position));
    buf_add(b, a->epochs.p, a->epochs.n);
    buf_str(b, "]}");
}

static const char *chunk_object(const struct call_answer *a) {
    return a->is_chat ? "chat.completion.chunk" : "text_completion";
}

static void send_chunk(struct conn *c, struct buf *b) {
    if (b->failed)
        conn_abort(c);
    else
        sse_event(c, NULL, b->p, b->n);
    buf_fini(b);
}

/* One chunk with a choice: its role, its text (NULL: none), its end (NULL: none). */
static void put_choice(struct call_answer *a, struct buf *b, bool with_role, const char *text,
                       size_t n, const char *finish) {
    put_top(a, b, chunk_object(a));
    buf_str(b, ",\"choices\":[{\"index\":0,");
    if (a->is_chat) {
        buf_str(b, "\"delta\":{");
        if (with_role) buf_str(b, "\"role\":\"assistant\"");
        if (text) {
            buf_str(b, with_role ? ",\"content\":" : "\"content\":");
            json_put_string(b, text, n);
        }
        buf_str(b, "}");
    } else {
        buf_str(b, "\"text\":");
        json_put_string(b, text ? text : "", n);
    }
    buf_str(b, ",\"logprobs\":null,\"finish_reason\":");
    if (finish)
        json_put_cstr(b, finish);
    else
        buf_str(b, "null");
    buf_str(b, "}]");
}

static void send_role(struct call_answer *a, struct conn *c, const struct api_body *body) {
    struct buf b = {0};
    if (a->has_role) return;
    a->has_role = true;
    if (!a->is_chat) return;
    put_choice(a, &b, /* with_role= */ true, "", 0, NULL);
    buf_str(&b, body->include_usage ? ",\"usage\":null}" : "}");
    send_chunk(c, &b);
}

/* ---- the answer ---- */

static void note_epoch(struct call_answer *a, const struct job_event *ev) {
    a->position = ev->position;
    if (a->epoch != ev->epoch) {
        buf_printf(&a->epochs, "%s[%" PRIu64 ",%" PRIu32 ",%" PRIu32 "]", a->epoch ? "," : "",
                   ev->epoch, ev->position, a->n_tokens);
        a->epoch = ev->epoch;
    }
    a->n_tokens++;
}

void call_answer_token(struct call_answer *a, struct conn *c, const struct api_body *body,
                       const struct job_event *ev, const char *text) {
    note_epoch(a, ev);
    if (!body->is_stream) {
        buf_add(&a->text, text, ev->n_text);
        return;
    }
    begin(a, c);
    send_role(a, c, body);
    if (ev->n_text == 0) return;
    struct buf b = {0};
    put_choice(a, &b, /* with_role= */ false, text, ev->n_text, NULL);
    buf_str(&b, body->include_usage ? ",\"usage\":null}" : "}");
    send_chunk(c, &b);
}

static void end_stream(struct call_answer *a, struct conn *c, const struct api_body *body,
                       const struct session_usage *u, const char *finish) {
    struct buf b = {0};
    begin(a, c);
    send_role(a, c, body);
    put_choice(a, &b, /* with_role= */ false, NULL, 0, finish);
    buf_str(&b, body->include_usage ? ",\"usage\":null," : ",");
    put_extras(a, &b, u);
    buf_str(&b, "}");
    send_chunk(c, &b);
    if (body->include_usage) {
        put_top(a, &b, chunk_object(a));
        buf_str(&b, ",\"choices\":[],");
        put_usage(&b, u);
        buf_str(&b, ",");
        put_extras(a, &b, u);
        buf_str(&b, "}");
        send_chunk(c, &b);
    }
    sse_event(c, NULL, "[DONE]", 6);
    sse_end(c);
}

void call_answer_end(struct call_answer *a, struct conn *c, const struct api_body *body,
                     const struct job_event *ev) {
    const char *finish = ev->end == JOB_STOPPED ? "stop" : "length";
    if (body->is_stream) {
        end_stream(a, c, body, &ev->usage, finish);
        return;
    }
    struct buf b = {0};
    put_top(a, &b, a->is_chat ? "chat.completion" : "text_completion");
    buf_str(&b, ",\"choices\":[{\"index\":0,");
    buf_str(&b, a->is_chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    json_put_string(&b, a->text.p ? a->text.p : "", a->text.n);
    buf_printf(&b, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}],", a->is_chat ? "}" : "",
               finish);
    put_usage(&b, &ev->usage);
    buf_str(&b, ",");
    put_extras(a, &b, &ev->usage);
    buf_str(&b, "}");
    if (b.failed || a->text.failed) {
        struct api_fault f = {0};
        api_fault_set(&f, -ENOMEM, "No memory for the answer.");
        api_error(c, &f, "");
    } else {
        conn_reply(c, 200, "application/json", "", b.p, b.n);
    }
    buf_fini(&b);
}

void call_answer_fail(struct call_answer *a, struct conn *c, const struct api_fault *f) {
    struct buf b = {0};
    (void)a;
    api_put_error(&b, f);
    send_chunk(c, &b);
    sse_event(c, NULL, "[DONE]", 6);
    sse_end(c);
}
