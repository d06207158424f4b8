/* Connections: bytes in and out of one client's socket, and the life of its requests.
 *
 * A connection reads one request at a time and hands it to the handler, which answers at once or
 * owns the answer and gives it later; further requests wait in a bounded buffer, so answers keep
 * their order. The handler never sees a socket. What a client does not read waits in a bounded
 * queue: the handler asks conn_unsent() before it says more and hears of room by `drained`; a
 * client that takes nothing for serve.stall_timeout is cut off. All deadlines are absolute and
 * monotonic.
 *
 *   READING --request complete--> ANSWERING --answer ended--> READING
 *   READING, ANSWERING --last answer given--> FLUSHING --all sent--> LINGERING
 *   any --error, deadline, client gone--> CLOSED (freed in libuv's close callback)
 *
 * READING: no request is being answered; http.h's phase says how far the next one is.
 * ANSWERING: `owner`, if set, is told by `gone` exactly once if the client leaves first.
 * FLUSHING, LINGERING: nothing more is parsed; LINGERING drops input so that a client which still
 * sends its body gets to read the answer. Thread: loop. */
#ifndef EBB_DAEMON_CONN_H
#define EBB_DAEMON_CONN_H

#include <uv.h>

#include "core/defs.h"

struct config;
struct conn;
struct conn_hub;
struct http_request;

/* The request is borrowed during the call. Answer with conn_reply(), conn_stream_begin() or
 * conn_own(). The body is the handler's: free() it. */
typedef void (*conn_request_fn)(void *ud, struct conn *c, const struct http_request *rq, char *body,
                                size_t n_body);
/* Something is wrong before there is a request: answer with conn_reply(), which then closes. */
typedef void (*conn_fault_fn)(void *ud, struct conn *c, int status, const char *text);
/* Told once per answer, for the counters. */
typedef void (*conn_answered_fn)(void *ud, struct conn *c, int status);

struct conn_hub_opts {
    uv_loop_t *loop;             /* borrowed */
    const struct config *config; /* borrowed; limits and timeouts are read anew each time */
    conn_request_fn on_request;
    conn_fault_fn on_fault;
    conn_answered_fn on_answered;
    void *ud;
};

/* 0 or a libuv error. */
int conn_hub_create(const struct conn_hub_opts *o, struct conn_hub **ret) MUST_CHECK;
/* After the loop has run all close callbacks. Accepts NULL. */
void conn_hub_destroy(struct conn_hub *hub);
/* Accepts one pending connection of a listening handle. */
void conn_hub_accept(struct conn_hub *hub, uv_stream_t *listener, bool is_admin);
unsigned conn_hub_n(const struct conn_hub *hub);
/* Connections cut off because they took nothing, or too long. */
uint64_t conn_hub_n_stalled(const struct conn_hub *hub);
uint64_t conn_hub_n_late(const struct conn_hub *hub);
/* Stops keep-alive: idle connections close now, the others after their answer. */
void conn_hub_drain(struct conn_hub *hub);
/* Closes all at once, and the sweeping timer; nothing may be accepted any more. */
void conn_hub_close(struct conn_hub *hub);

struct conn_owner {
    void (*gone)(void *ud);    /* the client left; the connection must not be used any more */
    void (*drained)(void *ud); /* there is room for more output; may be NULL */
};

bool conn_is_admin(const struct conn *c);
const char *conn_request_id(const struct conn *c);   /* "" before there is one */
void conn_set_route(struct conn *c, unsigned route); /* a label for on_answered; 0 at first */
unsigned conn_route(const struct conn *c);

/* The answer will come later. `o` is static; NULL: nobody is told any more when the client goes. */
void conn_own(struct conn *c, const struct conn_owner *o, void *ud);
/* Any of the writing calls may find the client gone, and then calls the owner's `gone` before it
 * returns; conn_reply() and conn_stream_end() end the ownership first. */
/* A whole answer. `headers`: further lines, each with its CRLF, or "". */
void conn_reply(struct conn *c, int status, const char *type, const char *headers, const void *body,
                size_t n);
/* An answer of unknown length (status 200): chunks in HTTP/1.1, until the end in HTTP/1.0. */
void conn_stream_begin(struct conn *c, const char *type, const char *headers);
void conn_stream_write(struct conn *c, const void *p, size_t n);
void conn_stream_end(struct conn *c);
/* Cuts the connection, as if the client had left. */
void conn_abort(struct conn *c);
/* Bytes that the kernel has not taken yet. */
size_t conn_unsent(const struct conn *c);

#endif
