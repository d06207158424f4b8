#include "daemon/conn.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/fsm.h"
#include "daemon/buf.h"
#include "daemon/http.h"

enum {
    READ_BYTES = 64 << 10,
    MAX_PENDING_BYTES = 64 << 10, /* pipelined input that waits for its turn */
    SWEEP_MS = 200,
    LINGER_US = 1000000, /* for a client to notice the answer and stop sending */
};

enum conn_state { CONN_READING, CONN_ANSWERING, CONN_FLUSHING, CONN_LINGERING, CONN_CLOSED };

static const uint32_t conn_next[] = {
    [CONN_READING] = FSM_TO(CONN_ANSWERING) | FSM_TO(CONN_FLUSHING) | FSM_TO(CONN_CLOSED),
    [CONN_ANSWERING] = FSM_TO(CONN_READING) | FSM_TO(CONN_FLUSHING) | FSM_TO(CONN_CLOSED),
    [CONN_FLUSHING] = FSM_TO(CONN_LINGERING) | FSM_TO(CONN_CLOSED),
    [CONN_LINGERING] = FSM_TO(CONN_CLOSED),
    [CONN_CLOSED] = 0,
};
static const char *const conn_names[] = {"reading", "answering", "flushing", "lingering", "closed"};
static const struct fsm_table conn_table = {
    .name = "conn", .next = conn_next, .names = conn_names, .n_states = ARRAY_LEN(conn_names)};

struct conn_hub {
    struct conn_hub_opts o;
    struct conn *first;
    unsigned n;
    bool is_draining;
    bool is_closing;
    uv_timer_t sweeper;
    uint64_t n_stalled, n_late;
    struct {
        uv_stream_t *listener; /* whose connection found no memory; NULL = none */
        bool is_admin;
    } waiting[2];     /* ordinary, admin */
    uint64_t id_next; /* of requests that bring no name; starts at random */
    char rbuf[READ_BYTES];
};

struct conn {
    uv_pipe_t pipe;
    struct conn_hub *hub; /* borrowed: outlives all connections */
    struct conn *prev, *next;
    struct fsm fsm;
    struct http *http; /* owned */
    struct buf in;     /* bytes read and not yet parsed */
    const struct conn_owner *owner;
    void *owner_ud;
    uint64_t since_us;     /* of the phase of reading, or of flushing and lingering */
    enum http_phase phase; /* that since_us belongs to */
    size_t unsent_last;    /* queue at the last sweep, and when it last shrank */
    uint64_t taken_us;
    unsigned route;
    char id[HTTP_ID_BYTES + 1];
    bool is_admin;
    bool is_reading; /* libuv delivers input */
    bool is_parsing; /* guards against recursion through the handler */
    bool saw_end;    /* the client has said all it will say */
    bool keep_alive;
    bool is_http10;
    bool is_stream;
};

static uint64_t now_us(void) {
    return uv_hrtime() / 1000;
}

static uv_stream_t *stream_of(struct conn *c) {
    return (uv_stream_t *)&c->pipe;
}

static void parse_input(struct conn *c);

/* ---- life ---- */

static void on_closed(uv_handle_t *h) {
    struct conn *c = h->data;
    http_destroy(c->http);
    buf_fini(&c->in);
    free(c);
}

static void close_conn(struct conn *c) {
    if (c->fsm.state == CONN_CLOSED) return;
    fsm_move(&c->fsm, CONN_CLOSED);
    struct conn_hub *hub = c->hub;
    if (c->prev)
        c->prev->next = c->next;
    else
        hub->first = c->next;
    if (c->next) c->next->prev = c->prev;
    hub->n--;
    const struct conn_owner *o = c->owner;
    c->owner = NULL;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
    if (o) o->gone(c->owner_ud);
}

void conn_abort(struct conn *c) {
    close_conn(c);
}

static void set_phase(struct conn *c, enum http_phase p) {
    if (c->phase == p) return;
    c->phase = p;
    c->since_us = now_us();
}

/* ---- output ---- */

struct conn_write {
    uv_write_t req;
    struct conn *c;
    char data[];
};

static void on_shutdown(uv_shutdown_t *req, int status) {
    (void)status;
    free(req);
}

/* FLUSHING and nothing unsent: say goodbye, then wait for the client's. */
static void maybe_linger(struct conn *c) {
    if (c->fsm.state != CONN_FLUSHING || conn_unsent(c) > 0) return;
    if (c->saw_end) {
        close_conn(c);
        return;
    }
    fsm_move(&c->fsm, CONN_LINGERING);
    c->since_us = now_us();
    uv_shutdown_t *req = malloc(sizeof(*req));
    if (!req || uv_shutdown(req, stream_of(c), on_shutdown) < 0) {
        free(req);
        close_conn(c);
    }
}

static void on_written(uv_write_t *req, int status) {
    struct conn_write *w = (struct conn_write *)req;
    struct conn *c = w->c;
    free(w);
    if (c->fsm.state == CONN_CLOSED) return;
    if (status < 0) {
        close_conn(c);
        return;
    }
    maybe_linger(c);
    if (c->fsm.state == CONN_READING) parse_input(c);
    if (c->owner && c->owner->drained && conn_unsent(c) <= c->hub->o.config->serve_buffer_bytes / 2)
        c->owner->drained(c->owner_ud);
}

size_t conn_unsent(const struct conn *c) {
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->pipe);
}

static void send_bytes(struct conn *c, const void *p, size_t n) {
    if (c->fsm.state == CONN_CLOSED || n == 0) return;
    size_t done = 0;
    if (conn_unsent(c) == 0) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)MIN(n, (size_t)1 << 30));
        int r = uv_try_write(stream_of(c), &b, 1);
        if (r < 0 && r != UV_EAGAIN) {
            close_conn(c);
            return;
        }
        if (r > 0) done = (size_t)r;
        c->taken_us = now_us();
    }
    if (done == n) return;
    struct conn_write *w = malloc(sizeof(*w) + (n - done));
    if (!w) {
        close_conn(c);
        return;
    }
    w->c = c;
    memcpy(w->data, (const char *)p + done, n - done);
    uv_buf_t b = uv_buf_init(w->data, (unsigned)(n - done));
    if (uv_write(&w->req, stream_of(c), &b, 1, on_written) < 0) {
        free(w);
        close_conn(c);
    }
}

static void put_head(struct conn *c, struct buf *b, int status, const char *type,
                     const char *headers) {
    buf_printf(b, "HTTP/1.1 %d %s\r\nServer: ebbd\r\nContent-Type: %s\r\n", status,
               http_status_text(status), type);
    if (c->id[0]) buf_printf(b, "X-Request-Id: %s\r\n", c->id);
    buf_printf(b, "Connection: %s\r\n%s", c->keep_alive ? "keep-alive" : "close", headers);
}

/* The answer is complete: on to the next request, or to the end. */
static void end_answer(struct conn *c) {
    if (c->fsm.state == CONN_CLOSED) return;
    c->is_stream = false;
    if (!c->keep_alive || (c->saw_end && c->in.n == 0)) {
        fsm_move(&c->fsm, CONN_FLUSHING);
        c->since_us = now_us();
        maybe_linger(c);
        return;
    }
    if (http_phase(c->http) == HTTP_PHASE_DONE) http_next(c->http);
    c->phase = HTTP_PHASE_DONE;
    set_phase(c, HTTP_PHASE_IDLE);
    c->route = 0;
    c->id[0] = '\0';
    fsm_move(&c->fsm, CONN_READING);
    parse_input(c);
}

void conn_reply(struct conn *c, int status, const char *type, const char *headers, const void *body,
                size_t n) {
    struct buf b = {0};
    if (c->fsm.state != CONN_ANSWERING) return;
    c->owner = NULL; /* for the handler it is over, whatever becomes of the socket */
    if (c->hub->is_draining) c->keep_alive = false;
    put_head(c, &b, status, type, headers);
    buf_printf(&b, "Content-Length: %zu\r\n\r\n", n);
    buf_add(&b, body, n);
    if (b.failed) {
        close_conn(c);
    } else {
        c->hub->o.on_answered(c->hub->o.ud, c, status);
        send_bytes(c, b.p, b.n);
        end_answer(c);
    }
    buf_fini(&b);
}

void conn_stream_begin(struct conn *c, const char *type, const char *headers) {
    struct buf b = {0};
    if (c->fsm.state != CONN_ANSWERING) return;
    if (c->hub->is_draining || c->is_http10) c->keep_alive = false;
    put_head(c, &b, 200, type, headers);
    buf_str(&b, c->is_http10 ? "\r\n" : "Transfer-Encoding: chunked\r\n\r\n");
    c->is_stream = true;
    if (b.failed) {
        close_conn(c);
    } else {
        c->hub->o.on_answered(c->hub->o.ud, c, 200);
        send_bytes(c, b.p, b.n);
    }
    buf_fini(&b);
}

void conn_stream_write(struct conn *c, const void *p, size_t n) {
    if (c->fsm.state != CONN_ANSWERING || n == 0) return; /* an empty chunk would end the answer */
    ASSERT(c->is_stream);
    if (c->is_http10) {
        send_bytes(c, p, n);
        return;
    }
    struct buf b = {0};
    buf_printf(&b, "%zx\r\n", n);
    buf_add(&b, p, n);
    buf_str(&b, "\r\n");
    if (b.failed)
        close_conn(c);
    else
        send_bytes(c, b.p, b.n);
    buf_fini(&b);
}

void conn_stream_end(struct conn *c) {
    if (c->fsm.state != CONN_ANSWERING) return;
    ASSERT(c->is_stream);
    c->owner = NULL;
    if (c->hub->is_draining) c->keep_alive = false;
    if (!c->is_http10) send_bytes(c, "0\r\n\r\n", 5);
    end_answer(c);
}

/* ---- input ---- */

static void name_request(struct conn *c) {
    const struct http_request *rq = http_request(c->http);
    if (rq->id[0]) {
        memcpy(c->id, rq->id, sizeof(c->id));
        return;
    }
    /* Odd multiplier: a bijection, so that names neither repeat nor count our requests. */
    uint64_t v = c->hub->id_next++ * UINT64_C(0x9e3779b97f4a7c15);
    snprintf(c->id, sizeof(c->id), "req-%016" PRIx64, v);
}

static void fail_request(struct conn *c, int status, const char *text) {
    c->keep_alive = false;
    fsm_move(&c->fsm, CONN_ANSWERING);
    c->hub->o.on_fault(c->hub->o.ud, c, status, text);
}

static void hand_over(struct conn *c) {
    const struct http_request *rq = http_request(c->http);
    size_t n_body;
    c->keep_alive = rq->keep_alive;
    c->is_http10 = rq->is_http10;
    name_request(c);
    set_phase(c, HTTP_PHASE_DONE);
    fsm_move(&c->fsm, CONN_ANSWERING);
    char *body = http_take_body(c->http, &n_body);
    c->hub->o.on_request(c->hub->o.ud, c, rq, body, n_body);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret) {
    (void)suggested;
    struct conn *c = h->data;
    /* One buffer for all: libuv fills it and calls on_read() before anything else. */
    *ret = uv_buf_init(c->hub->rbuf, READ_BYTES);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b);

static void set_reading(struct conn *c, bool want) {
    if (c->fsm.state == CONN_CLOSED || c->is_reading == want) return;
    if (!want) {
        uv_read_stop(stream_of(c));
    } else if (uv_read_start(stream_of(c), on_alloc, on_read) < 0) {
        close_conn(c);
        return;
    }
    c->is_reading = want;
}

/* Parses what is there until a request waits for its answer. */
static void parse_input(struct conn *c) {
    if (c->is_parsing) return; /* the loop below goes on by itself */
    c->is_parsing = true;
    while (c->fsm.state == CONN_READING && c->in.n > 0 &&
           conn_unsent(c) <= c->hub->o.config->serve_buffer_bytes) {
        size_t n = http_feed(c->http, c->in.p, c->in.n);
        buf_eat(&c->in, n);
        set_phase(c, http_phase(c->http));
        if (http_phase(c->http) == HTTP_PHASE_FAULT) {
            struct http_fault f = http_fault(c->http);
            fail_request(c, f.status, f.text);
        } else if (http_phase(c->http) == HTTP_PHASE_DONE) {
            hand_over(c);
        } else if (http_take_expect(c->http)) {
            static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
            send_bytes(c, go_on, sizeof(go_on) - 1);
        }
    }
    c->is_parsing = false;
    if (c->fsm.state == CONN_CLOSED) return;
    if (c->in.n == 0) buf_fini(&c->in);
    if (c->fsm.state == CONN_READING && c->saw_end && c->in.n == 0) {
        close_conn(c); /* nobody can complete this request any more */
        return;
    }
    set_reading(c, !c->saw_end && c->in.n < MAX_PENDING_BYTES);
}

/* True if the other end is closed altogether, and not just done with sending. */
static bool is_hung_up(struct conn *c) {
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&c->pipe, &fd) < 0) return true;
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    struct conn *c = s->data;
    if (n == 0) return;
    if (n == UV_EOF && c->fsm.state != CONN_LINGERING && !is_hung_up(c)) {
        c->saw_end = true;
        set_reading(c, false);
        parse_input(c);
        return;
    }
    if (n < 0) {
        close_conn(c);
        return;
    }
    if (c->fsm.state == CONN_FLUSHING || c->fsm.state == CONN_LINGERING) return;
    buf_add(&c->in, b->base, (size_t)n);
    if (c->in.failed) {
        close_conn(c);
        return;
    }
    parse_input(c);
}

/* ---- deadlines ---- */

static void sweep_stall(struct conn *c, uint64_t now) {
    size_t unsent = conn_unsent(c);
    if (unsent == 0 || unsent != c->unsent_last) c->taken_us = now;
    c->unsent_last = unsent;
    if (now - c->taken_us < c->hub->o.config->serve_stall_us) return;
    c->hub->n_stalled++;
    close_conn(c);
}

static void sweep_reading(struct conn *c, uint64_t now) {
    const struct config *cfg = c->hub->o.config;
    uint64_t limit = cfg->serve_idle_us;
    if (c->phase == HTTP_PHASE_HEAD) limit = cfg->serve_header_us;
    if (c->phase == HTTP_PHASE_BODY) limit = cfg->serve_body_us;
    if (now - c->since_us < limit || conn_unsent(c) > 0) return;
    if (c->phase == HTTP_PHASE_IDLE) {
        close_conn(c);
        return;
    }
    c->hub->n_late++;
    fail_request(c, 408, "The request did not arrive in time.");
}

static void on_sweep(uv_timer_t *t) {
    struct conn_hub *hub = t->data;
    uint64_t now = now_us();
    struct conn *next;
    for (size_t i = 0; i < ARRAY_LEN(hub->waiting); i++) {
        uv_stream_t *l = hub->waiting[i].listener;
        hub->waiting[i].listener = NULL;
        if (l) conn_hub_accept(hub, l, hub->waiting[i].is_admin);
    }
    for (struct conn *c = hub->first; c; c = next) {
        next = c->next; /* closing c unlinks c alone */
        sweep_stall(c, now);
        switch ((enum conn_state)c->fsm.state) {
        case CONN_READING: sweep_reading(c, now); break;
        case CONN_ANSWERING:
            if (c->saw_end && is_hung_up(c)) close_conn(c);
            break;
        case CONN_LINGERING:
            if (now - c->since_us >= LINGER_US) close_conn(c);
            break;
        case CONN_FLUSHING:
        case CONN_CLOSED: break;
        }
    }
    if (hub->n == 0 && !hub->waiting[0].listener && !hub->waiting[1].listener)
        uv_timer_stop(&hub->sweeper); /* an idle daemon does not wake up for nothing */
}

/* ---- all of them ---- */

int conn_hub_create(const struct conn_hub_opts *o, struct conn_hub **ret) {
    struct conn_hub *hub = calloc(1, sizeof(*hub));
    if (!hub) return -ENOMEM;
    hub->o = *o;
    int r = uv_random(NULL, NULL, &hub->id_next, sizeof(hub->id_next), 0, NULL);
    if (r < 0) hub->id_next = uv_hrtime();
    r = uv_timer_init(o->loop, &hub->sweeper);
    if (r < 0) {
        free(hub);
        return r;
    }
    hub->sweeper.data = hub;
    *ret = hub;
    return 0;
}

void conn_hub_destroy(struct conn_hub *hub) {
    if (!hub) return;
    ASSERT(hub->n == 0);
    free(hub);
}

/* Makes room by closing the connection that has been idle longest. */
static bool shed_idle(struct conn_hub *hub) {
    struct conn *oldest = NULL;
    for (struct conn *c = hub->first; c; c = c->next) {
        if (c->fsm.state == CONN_LINGERING ||
            (c->fsm.state == CONN_READING && c->phase == HTTP_PHASE_IDLE && c->in.n == 0)) {
            if (!oldest || c->since_us < oldest->since_us) oldest = c;
        }
    }
    if (oldest) close_conn(oldest);
    return oldest != NULL;
}

/* libuv stops listening until the connection is accepted, so it is tried again later. */
static void accept_later(struct conn_hub *hub, uv_stream_t *listener, bool is_admin) {
    hub->waiting[is_admin].listener = listener;
    hub->waiting[is_admin].is_admin = is_admin;
    uv_timer_start(&hub->sweeper, on_sweep, SWEEP_MS, SWEEP_MS);
}

void conn_hub_accept(struct conn_hub *hub, uv_stream_t *listener, bool is_admin) {
    struct conn *c = calloc(1, sizeof(*c));
    if (!c || http_create(hub->o.config->serve_body_bytes, &c->http) < 0) {
        free(c);
        accept_later(hub, listener, is_admin);
        return;
    }
    if (uv_pipe_init(hub->o.loop, &c->pipe, 0) < 0) {
        http_destroy(c->http);
        free(c);
        accept_later(hub, listener, is_admin);
        return;
    }
    c->pipe.data = c;
    unsigned limit = hub->o.config->serve_connections;
    bool is_over = hub->n >= limit && !shed_idle(hub);
    if (uv_accept(listener, stream_of(c)) < 0 || hub->n >= 2 * limit) {
        /* Twice the limit: not even an answer, or refusing would cost more than serving. */
        uv_close((uv_handle_t *)&c->pipe, on_closed);
        return;
    }
    c->hub = hub;
    c->is_admin = is_admin;
    c->phase = HTTP_PHASE_IDLE;
    c->since_us = c->taken_us = now_us();
    fsm_init(&c->fsm, &conn_table, CONN_READING);
    c->next = hub->first;
    if (c->next) c->next->prev = c;
    hub->first = c;
    hub->n++;
    if (!uv_is_active((uv_handle_t *)&hub->sweeper))
        uv_timer_start(&hub->sweeper, on_sweep, SWEEP_MS, SWEEP_MS);
    set_reading(c, true);
    if (is_over && c->fsm.state == CONN_READING)
        fail_request(c, 503, "Too many connections (serve.connections).");
}

unsigned conn_hub_n(const struct conn_hub *hub) {
    return hub->n;
}

uint64_t conn_hub_n_stalled(const struct conn_hub *hub) {
    return hub->n_stalled;
}

uint64_t conn_hub_n_late(const struct conn_hub *hub) {
    return hub->n_late;
}

void conn_hub_drain(struct conn_hub *hub) {
    struct conn *next;
    hub->is_draining = true;
    for (struct conn *c = hub->first; c; c = next) {
        next = c->next;
        if (c->fsm.state == CONN_READING && c->phase == HTTP_PHASE_IDLE && conn_unsent(c) == 0)
            close_conn(c);
    }
}

void conn_hub_close(struct conn_hub *hub) {
    hub->is_draining = hub->is_closing = true;
    while (hub->first) close_conn(hub->first);
    uv_close((uv_handle_t *)&hub->sweeper, NULL);
}

/* ---- small things for handlers ---- */

bool conn_is_admin(const struct conn *c) {
    return c->is_admin;
}

const char *conn_request_id(const struct conn *c) {
    return c->id;
}

void conn_set_route(struct conn *c, unsigned route) {
    c->route = route;
}

unsigned conn_route(const struct conn *c) {
    return c->route;
}

void conn_own(struct conn *c, const struct conn_owner *o, void *ud) {
    if (c->fsm.state != CONN_ANSWERING) return;
    c->owner = o;
    c->owner_ud = ud;
}
