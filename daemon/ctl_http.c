/* The client's side of HTTP: one request, one answer, then the connection is closed. Written by
 * hand because the client links neither the event loop nor the daemon's parser. The daemon is
 * trusted with our time, not with our memory: every length it states is bounded. */
#include "daemon/ctl_http.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/err.h"

struct ctl_http {
    int fd;
    int signal_fd;
    int wait_ms;
    struct ctl_head head;
    char *spare; /* body bytes that came with the head; borrowed from buf */
    size_t n_spare;
    char buf[CTL_HTTP_HEAD_MAX];
};

/* --- body --- */

enum {
    CHUNK_SIZE_FIRST,
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_CR,
    CHUNK_LF,
    TRAILER_START,
    TRAILER_LINE,
    TRAILER_LF,
    TRAILER_END_LF
};

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* One byte of a chunked body that is not chunk data. False if it may not stand there. */
static bool chunk_control(struct ctl_body *b, char c) {
    int v;
    switch (b->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        v = hex_value(c);
        if (v >= 0) {
            if (b->left >> 56) return false;
            b->left = b->left << 4 | (unsigned)v;
            b->state = CHUNK_SIZE;
            return true;
        }
        if (b->state == CHUNK_SIZE_FIRST) return false;
        if (c != '\r' && c != ';' && c != ' ' && c != '\t') return false;
        b->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
        return true;
    case CHUNK_EXT:
        if (c == '\n') return false;
        if (c == '\r') b->state = CHUNK_SIZE_LF;
        return true;
    case CHUNK_SIZE_LF: b->state = b->left ? CHUNK_DATA : TRAILER_START; return c == '\n';
    case CHUNK_CR: b->state = CHUNK_LF; return c == '\r';
    case CHUNK_LF:
        b->state = CHUNK_SIZE_FIRST;
        b->left = 0;
        return c == '\n';
    case TRAILER_START: b->state = c == '\r' ? TRAILER_END_LF : TRAILER_LINE; return c != '\n';
    case TRAILER_LINE:
        if (c == '\r') b->state = TRAILER_LF;
        return c != '\n';
    case TRAILER_LF: b->state = TRAILER_START; return c == '\n';
    default: /* TRAILER_END_LF */ b->is_done = true; return c == '\n';
    }
}

int64_t ctl_body_feed(struct ctl_body *b, const char *in, size_t n, char *out) {
    size_t n_out = 0;
    if (b->kind == CTL_BODY_NONE) b->is_done = true;
    if (b->kind == CTL_BODY_LENGTH && b->left == 0) b->is_done = true;
    for (size_t i = 0; i < n && !b->is_done;) {
        bool is_data = b->kind != CTL_BODY_CHUNKED || b->state == CHUNK_DATA;
        if (!is_data) {
            if (!chunk_control(b, in[i++])) return -EBADMSG;
            continue;
        }
        size_t take = n - i;
        if (b->kind != CTL_BODY_TO_END) {
            if (take > b->left) take = (size_t)b->left;
            b->left -= take;
        }
        memmove(out + n_out, in + i, take);
        n_out += take;
        i += take;
        if (b->kind == CTL_BODY_LENGTH && b->left == 0) b->is_done = true;
        if (b->kind == CTL_BODY_CHUNKED && b->left == 0) b->state = CHUNK_CR;
    }
    return (int64_t)n_out;
}

/* --- head --- */

/* Is line[n] the header `name`? Then *ret is its value, blanks cut. */
static bool header_is(const char *line, size_t n, const char *name, const char **ret,
                      size_t *ret_n) {
    size_t n_name = strlen(name);
    if (n <= n_name || line[n_name] != ':' || strncasecmp(line, name, n_name) != 0) return false;
    const char *v = line + n_name + 1, *end = line + n;
    while (v < end && (*v == ' ' || *v == '\t')) v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t')) end--;
    *ret = v;
    *ret_n = (size_t)(end - v);
    return true;
}

static bool number_parse(const char *v, size_t n, uint64_t *ret) {
    uint64_t x = 0;
    if (n == 0 || n > 18) return false;
    for (size_t i = 0; i < n; i++) {
        if (v[i] < '0' || v[i] > '9') return false;
        x = x * 10 + (uint64_t)(v[i] - '0');
    }
    *ret = x;
    return true;
}

static int header_take(const char *line, size_t n, struct ctl_head *h) {
    const char *v;
    size_t n_v;
    if (header_is(line, n, "Content-Length", &v, &n_v)) {
        if (h->body.kind == CTL_BODY_CHUNKED) return 0;
        if (!number_parse(v, n_v, &h->body.left)) return -EBADMSG;
        h->body.kind = CTL_BODY_LENGTH;
    } else if (header_is(line, n, "Transfer-Encoding", &v, &n_v)) {
        if (n_v != 7 || strncasecmp(v, "chunked", 7) != 0) return -EBADMSG;
        h->body = (struct ctl_body){.kind = CTL_BODY_CHUNKED, .state = CHUNK_SIZE_FIRST};
    } else if (header_is(line, n, "Content-Type", &v, &n_v)) {
        h->is_event_stream = n_v >= 17 && strncasecmp(v, "text/event-stream", 17) == 0;
    } else if (header_is(line, n, "Retry-After", &v, &n_v)) {
        size_t keep = MIN(n_v, sizeof(h->retry_after) - 1);
        memcpy(h->retry_after, v, keep);
        h->retry_after[keep] = '\0';
    }
    return 0;
}

int ctl_head_parse(const char *head, size_t n, struct ctl_head *ret) {
    struct ctl_head h = {.body.kind = CTL_BODY_TO_END};
    const char *line = head, *end = head + n;
    bool is_first = true;
    while (line < end) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        if (!nl || nl == line || nl[-1] != '\r') return -EBADMSG;
        size_t n_line = (size_t)(nl - 1 - line);
        if (is_first) {
            uint64_t status;
            if (n_line < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ') return -EBADMSG;
            if (!number_parse(line + 9, 3, &status) || status < 100 || status > 599)
                return -EBADMSG;
            h.status = (int)status;
            is_first = false;
        } else if (n_line > 0) {
            int r = header_take(line, n_line, &h);
            if (r < 0) return r;
        }
        line = nl + 1;
    }
    if (is_first) return -EBADMSG;
    if (h.status == 204 || h.status == 304) h.body.kind = CTL_BODY_NONE;
    *ret = h;
    return 0;
}

/* --- connection --- */

int ctl_connect(const char *socket_path, struct err *e) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(socket_path);
    if (n == 0 || n >= sizeof(sa.sun_path))
        return err_set(e, -ENAMETOOLONG, "socket path \"%s\": must have 1 to %zu bytes",
                       socket_path, sizeof(sa.sun_path) - 1);
    memcpy(sa.sun_path, socket_path, n + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_sys(e, -errno, "cannot make a socket");
    /* Bounds connect() too: without it a full queue is waited for as long as it is full. */
    const struct timeval longest = {.tv_sec = 2};
    int r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof(longest));
    while (r == 0) {
        r = connect(fd, (const struct sockaddr *)&sa, sizeof(sa));
        if (r == 0) return fd;
        if (errno == EINTR) r = 0;
    }
    if (errno == EAGAIN)
        r = err_set(e, -EAGAIN, "%s: the daemon takes no connections, its queue is full",
                    socket_path);
    else
        r = err_sys(e, -errno, "cannot connect to %s", socket_path);
    close(fd);
    return r;
}

/* Waits until the socket is ready for `events`. */
static int wait_for(struct ctl_http *h, short events, struct err *e) {
    struct pollfd p[2] = {{.fd = h->fd, .events = events}, {.fd = h->signal_fd, .events = POLLIN}};
    for (;;) {
        int r = poll(p, h->signal_fd < 0 ? 1 : 2, h->wait_ms);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return err_sys(e, -errno, "cannot wait for the daemon");
        if (r == 0)
            return err_set(e, -ETIMEDOUT, "the daemon said nothing for %d s", h->wait_ms / 1000);
        if (p[1].revents) return err_set(e, -EINTR, "interrupted");
        return 0;
    }
}

static int send_all(struct ctl_http *h, const char *data, size_t n, struct err *e) {
    while (n > 0) {
        int r = wait_for(h, POLLOUT, e);
        if (r < 0) return r;
        ssize_t sent = send(h->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        /* A daemon that refuses early closes its side: its answer is still there to be read. */
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return 0;
        if (sent < 0) return err_sys(e, -errno, "cannot send the request");
        data += sent;
        n -= (size_t)sent;
    }
    return 0;
}

/* Bytes as they come: > 0, 0 at the end of the connection, or a negative errno. */
static ssize_t receive(struct ctl_http *h, char *buf, size_t n, struct err *e) {
    for (;;) {
        int r = wait_for(h, POLLIN, e);
        if (r < 0) return r;
        ssize_t got = recv(h->fd, buf, n, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0) return err_sys(e, -errno, "cannot read the answer");
        return got;
    }
}

static int read_head(struct ctl_http *h, struct err *e) {
    size_t n = 0;
    for (;;) {
        ssize_t got = receive(h, h->buf + n, sizeof(h->buf) - n, e);
        if (got < 0) return (int)got;
        if (got == 0)
            return err_set(e, -ECONNRESET, "the daemon closed the connection without an answer");
        n += (size_t)got;
        char *end = memmem(h->buf, n, "\r\n\r\n", 4);
        if (!end && n == sizeof(h->buf))
            return err_set(e, -EBADMSG, "the answer's headers are over %d bytes",
                           CTL_HTTP_HEAD_MAX);
        if (!end) continue;
        size_t n_head = (size_t)(end - h->buf) + 4;
        if (ctl_head_parse(h->buf, n_head, &h->head) < 0)
            return err_set(e, -EBADMSG, "the answer is not HTTP/1.1: is this ebbd's socket?");
        /* 100 Continue and its like come before the real head. */
        if (h->head.status < 200) {
            memmove(h->buf, h->buf + n_head, n - n_head);
            n -= n_head;
            continue;
        }
        h->spare = h->buf + n_head;
        h->n_spare = n - n_head;
        return 0;
    }
}

int ctl_http_open(const char *socket_path, const char *method, const char *target, const char *body,
                  int signal_fd, int wait_ms, struct ctl_http **ret, struct err *e) {
    char head[512];
    size_t n_body = body ? strlen(body) : 0;
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ebb/" EBB_VERSION
                     "\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                     method, target, body ? "Content-Type: application/json\r\n" : "", n_body);
    if (n < 0 || (size_t)n >= sizeof(head))
        return err_set(e, -EINVAL, "request target too long: %s", target);

    struct ctl_http *h = calloc(1, sizeof(*h));
    if (!h) return err_set(e, -ENOMEM, "no memory");
    h->signal_fd = signal_fd;
    h->wait_ms = wait_ms;
    int r = h->fd = ctl_connect(socket_path, e);
    if (r < 0) goto out;
    r = send_all(h, head, (size_t)n, e);
    if (r < 0) goto out;
    r = send_all(h, body ? body : "", n_body, e);
    if (r < 0) goto out;
    r = read_head(h, e);
    if (r < 0) goto out;
    *ret = h;
    h = NULL; /* passed to the caller */
out:
    ctl_http_close(h);
    return r;
}

const struct ctl_head *ctl_http_head(const struct ctl_http *h) {
    return &h->head;
}

int ctl_http_fd(const struct ctl_http *h) {
    return h->fd;
}

void ctl_http_set_wait(struct ctl_http *h, int wait_ms) {
    h->wait_ms = wait_ms;
}

int64_t ctl_http_read(struct ctl_http *h, char *buf, size_t n, struct err *e) {
    for (;;) {
        int64_t n_out;
        if (h->n_spare > 0) {
            size_t take = MIN(n, h->n_spare);
            n_out = ctl_body_feed(&h->head.body, h->spare, take, buf);
            h->spare += take;
            h->n_spare -= take;
        } else if (h->head.body.is_done ||
                   (h->head.body.kind == CTL_BODY_LENGTH && h->head.body.left == 0) ||
                   h->head.body.kind == CTL_BODY_NONE) {
            return 0;
        } else {
            ssize_t got = receive(h, buf, n, e);
            if (got < 0) return got;
            if (got == 0 && h->head.body.kind == CTL_BODY_TO_END) return 0;
            if (got == 0)
                return err_set(e, -ECONNRESET, "the connection ended in the middle of the answer");
            n_out = ctl_body_feed(&h->head.body, buf, (size_t)got, buf);
        }
        if (n_out < 0) return err_set(e, (int)n_out, "the answer's chunks are malformed");
        if (n_out > 0) return n_out;
    }
}

int ctl_http_read_all(struct ctl_http *h, char **ret, size_t *ret_n, struct err *e) {
    size_t n = 0, cap = 0;
    char *text = NULL;
    int r;
    for (;;) {
        if (cap - n < 4096) {
            cap = cap ? cap * 2 : 16384;
            char *more = cap > CTL_HTTP_BODY_MAX ? NULL : realloc(text, cap);
            if (!more) {
                r = err_set(e, cap > CTL_HTTP_BODY_MAX ? -EFBIG : -ENOMEM,
                            "the answer is too long");
                goto out;
            }
            text = more;
        }
        int64_t got = ctl_http_read(h, text + n, cap - n - 1, e);
        if (got < 0) {
            r = (int)got;
            goto out;
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    text[n] = '\0';
    *ret = text;
    *ret_n = n;
    text = NULL; /* passed to the caller */
    r = 0;
out:
    free(text);
    return r;
}

void ctl_http_close(struct ctl_http *h) {
    if (!h) return;
    if (h->fd >= 0) close(h->fd);
    free(h);
}

/* --- event stream --- */

static int grow_append(char **text, size_t *n, size_t *cap, const char *more, size_t n_more) {
    if (*n + n_more + 1 > CTL_HTTP_BODY_MAX) return -EFBIG;
    if (*n + n_more + 1 > *cap) {
        size_t want = MAX(*cap * 2, *n + n_more + 1);
        char *grown = realloc(*text, want);
        if (!grown) return -ENOMEM;
        *text = grown;
        *cap = want;
    }
    memcpy(*text + *n, more, n_more);
    *n += n_more;
    (*text)[*n] = '\0';
    return 0;
}

/* A whole line of the stream. 0, 1 (stop) or a negative errno. */
static int sse_line(struct ctl_sse *s, ctl_sse_fn fn, void *ud) {
    const char *line = s->n_line ? s->line : "";
    if (s->n_line == 0) {
        bool go_on = true;
        if (s->has_data) go_on = fn(ud, s->event[0] ? s->event : "message", s->data);
        s->n_data = 0;
        s->has_data = false;
        s->event[0] = '\0';
        return go_on ? 0 : 1;
    }
    if (line[0] == ':') return 0;
    const char *colon = memchr(line, ':', s->n_line);
    size_t n_name = colon ? (size_t)(colon - line) : s->n_line;
    const char *value = colon ? colon + 1 : line + s->n_line;
    if (*value == ' ') value++;
    size_t n_value = s->n_line - (size_t)(value - line);
    if (n_name == 4 && memcmp(line, "data", 4) == 0) {
        if (s->has_data) {
            int r = grow_append(&s->data, &s->n_data, &s->data_cap, "\n", 1);
            if (r < 0) return r;
        }
        s->has_data = true;
        return grow_append(&s->data, &s->n_data, &s->data_cap, value, n_value);
    }
    if (n_name == 5 && memcmp(line, "event", 5) == 0) {
        size_t keep = MIN(n_value, sizeof(s->event) - 1);
        memcpy(s->event, value, keep);
        s->event[keep] = '\0';
    }
    return 0;
}

int ctl_sse_feed(struct ctl_sse *s, const char *in, size_t n, ctl_sse_fn fn, void *ud) {
    for (size_t i = 0; i < n;) {
        if (s->was_cr && in[i] == '\n') i++; /* CR LF is one end of line */
        s->was_cr = false;
        size_t end = i;
        while (end < n && in[end] != '\n' && in[end] != '\r') end++;
        int r = grow_append(&s->line, &s->n_line, &s->line_cap, in + i, end - i);
        if (r < 0) return r;
        i = end;
        if (i == n) break;
        s->was_cr = in[i++] == '\r';
        r = sse_line(s, fn, ud);
        s->n_line = 0;
        if (r != 0) return r;
    }
    return 0;
}

void ctl_sse_fini(struct ctl_sse *s) {
    free(s->line);
    free(s->data);
    *s = (struct ctl_sse){0};
}
