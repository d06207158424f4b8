/* A blocking HTTP/1.1 client for one request on a Unix socket: `Connection: close`, answers with a
 * length, chunked, or up to the end of the connection. Headers over 16 KiB are refused. */
#ifndef EBB_DAEMON_CTL_HTTP_H
#define EBB_DAEMON_CTL_HTTP_H

#include "core/defs.h"

struct err;
struct ctl_http;

enum { CTL_HTTP_HEAD_MAX = 16 << 10, CTL_HTTP_BODY_MAX = 16 << 20 };

/* Decoder of a message body, in the caller's memory; pure. */
enum ctl_body_kind { CTL_BODY_NONE, CTL_BODY_LENGTH, CTL_BODY_CHUNKED, CTL_BODY_TO_END };
struct ctl_body {
    enum ctl_body_kind kind;
    uint64_t left; /* of the body (LENGTH) or of the chunk */
    unsigned state;
    bool is_done;
};
/* Takes in[n], writes the decoded bytes to out (room for n; may be `in`) and returns how many, or
 * -EBADMSG. What follows the end of the body is dropped. */
int64_t ctl_body_feed(struct ctl_body *b, const char *in, size_t n, char *out);

struct ctl_head {
    int status;
    bool is_event_stream;
    char retry_after[32]; /* "" = none */
    struct ctl_body body;
};
/* Parses head[n], the bytes up to and with the empty line. 0 or -EBADMSG. Pure. */
int ctl_head_parse(const char *head, size_t n, struct ctl_head *ret) MUST_CHECK;

/* Connects, sends, and reads the head of the answer. signal_fd (-1: none): gives up with -EINTR as
 * soon as it is readable. wait_ms: the longest silence allowed, < 0 = for ever.
 * 0, -EINTR, -ETIMEDOUT, -EBADMSG, -ENAMETOOLONG, what ctl_connect() gives, or the system's error.
 */
int ctl_http_open(const char *socket_path, const char *method, const char *target, const char *body,
                  int signal_fd, int wait_ms, struct ctl_http **ret, struct err *e) MUST_CHECK;
const struct ctl_head *ctl_http_head(const struct ctl_http *h);
/* Decoded bytes of the body: > 0, 0 at its end, or a negative errno as above (-ECONNRESET if the
 * connection ends before the body does). */
int64_t ctl_http_read(struct ctl_http *h, char *buf, size_t n, struct err *e) MUST_CHECK;
/* The rest of the body, NUL-terminated, owned by the caller (free()). Also -ENOMEM, -EFBIG. */
int ctl_http_read_all(struct ctl_http *h, char **ret, size_t *ret_n, struct err *e) MUST_CHECK;
void ctl_http_close(struct ctl_http *h); /* accepts NULL */
/* To read a stream beside other things: its descriptor, to be polled, and from then on the longest
 * silence that a read allows (0: -ETIMEDOUT when there is nothing more now). */
int ctl_http_fd(const struct ctl_http *h);
void ctl_http_set_wait(struct ctl_http *h, int wait_ms);

/* Connects to a Unix socket. The descriptor, or a negative errno; -EAGAIN if the daemon takes no
 * connection for two seconds, as when it is stopped and its queue is full. */
int ctl_connect(const char *socket_path, struct err *e) MUST_CHECK;

/* Splits an event stream into events. Zero it to start; ctl_sse_fini() frees. */
struct ctl_sse {
    char *line; /* owned; the line being read */
    size_t n_line, line_cap;
    char *data; /* owned; joined data lines of the event being read */
    size_t n_data, data_cap;
    char event[64];
    bool has_data;
    bool was_cr;
};
/* `event` is "message" if the stream names none. Returns false to stop. */
typedef bool (*ctl_sse_fn)(void *ud, const char *event, const char *data);
/* 0, 1 if `fn` asked to stop, -ENOMEM, or -EFBIG for an event over CTL_HTTP_BODY_MAX. */
int ctl_sse_feed(struct ctl_sse *s, const char *in, size_t n, ctl_sse_fn fn, void *ud) MUST_CHECK;
void ctl_sse_fini(struct ctl_sse *s);

#endif
