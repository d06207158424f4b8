/* HTTP/1.x requests, one after the other, from bytes in any split. No sockets, no clock.
 *
 * llhttp parses the head; in front of it stands a guard of our own over its bytes, so that what a
 * lenient parser might let through never reaches it: bare CR or LF, NUL and controls, folded lines,
 * space before a colon, lengths over the limits. Bodies come by Content-Length or in chunks, never
 * both, and are read here, as llhttp forgives line ends there; chunk extensions and trailers are
 * refused. The first fault ends the parsing: the
 * connection answers with http_fault() and closes, so a second request in the same bytes is never
 * executed.
 *
 *   IDLE --first byte--> HEAD --blank line--> BODY --last byte--> DONE --http_next()--> IDLE
 *     any of them --fault--> FAULT */
#ifndef EBB_DAEMON_HTTP_H
#define EBB_DAEMON_HTTP_H

#include "core/defs.h"

struct http;

enum {
    HTTP_LINE_BYTES = 8 << 10,  /* request line, header line */
    HTTP_HEAD_BYTES = 32 << 10, /* all of them */
    HTTP_MAX_HEADERS = 100,
    HTTP_TARGET_BYTES = 4 << 10,
    HTTP_ID_BYTES = 64,
};

enum http_phase {
    HTTP_PHASE_IDLE,
    HTTP_PHASE_HEAD,
    HTTP_PHASE_BODY,
    HTTP_PHASE_DONE,
    HTTP_PHASE_FAULT
};

enum http_verb { HTTP_VERB_GET, HTTP_VERB_POST, HTTP_VERB_OTHER };

struct http_request { /* valid in HTTP_PHASE_DONE, borrowed until http_next() */
    enum http_verb verb;
    const char *path; /* target without its query; NUL-terminated, printable ASCII */
    bool is_http10;
    bool keep_alive;
    char id[HTTP_ID_BYTES + 1]; /* the client's X-Request-Id if it is plain, else "" */
};

struct http_fault {
    int status;       /* 400, 413, 414, 415, 417, 431, 505 */
    const char *text; /* static */
};

/* body_limit: bytes of a body. 0 or -ENOMEM. */
int http_create(uint64_t body_limit, struct http **ret) MUST_CHECK;
void http_destroy(struct http *h); /* accepts NULL */

/* Eats up to n bytes and returns how many: fewer than n only in DONE and FAULT. */
size_t http_feed(struct http *h, const void *data, size_t n);

enum http_phase http_phase(const struct http *h);
const struct http_request *http_request(const struct http *h);
struct http_fault http_fault(const struct http *h);
/* True once per request when the client waits for "100 Continue" before it sends the body. */
bool http_take_expect(struct http *h);
/* Hands the body over (free() it); NULL if there is none. */
char *http_take_body(struct http *h, size_t *ret_n);
/* From DONE to IDLE, ready for the next request of the connection. */
void http_next(struct http *h);

/* "Not Found" ...; "Error" for a code we never send. */
const char *http_status_text(int status);

#endif
