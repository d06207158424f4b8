/* The answer to a generation request in OpenAI's words, streamed or whole. Only formats: what
 * happens when is call.c's business. After a call that writes, the client may be gone, and with it
 * whatever its `gone` callback frees. Thread: loop. */
#ifndef EBB_DAEMON_CALL_ANSWER_H
#define EBB_DAEMON_CALL_ANSWER_H

#include "core/defs.h"
#include "daemon/buf.h"

struct api_body;
struct api_fault;
struct conn;
struct job_event;
struct server;

struct call_epoch {
    uint64_t epoch;
    uint32_t position;
    uint32_t first_token; /* index of the first token computed under it */
};

struct call_answer {        /* caller's memory */
    const struct server *s; /* borrowed */
    bool is_chat;
    bool has_begun; /* a stream's head is out */
    bool has_role;  /* and its first chunk */
    char id[40];
    int64_t created;
    uint32_t n_tokens;
    uint32_t position; /* of the newest token */
    struct buf text;   /* of a whole answer */
    struct buf epochs; /* JSON, without the brackets */
    uint64_t epoch;
};

void call_answer_init(struct call_answer *a, const struct server *s, bool is_chat, uint64_t id);
void call_answer_fini(struct call_answer *a);
/* A sign of life while nothing has come; begins the stream. */
void call_answer_ping(struct call_answer *a, struct conn *c);
void call_answer_token(struct call_answer *a, struct conn *c, const struct api_body *b,
                       const struct job_event *ev, const char *text);
/* The end of a good one. */
void call_answer_end(struct call_answer *a, struct conn *c, const struct api_body *b,
                     const struct job_event *ev);
/* A stream breaks off: an error event, [DONE], the end. */
void call_answer_fail(struct call_answer *a, struct conn *c, const struct api_fault *f);

#endif
