#include "daemon/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <llhttp.h>

#include "daemon/buf.h"

enum { NAME_BYTES = 24, MAX_BLANK_LINES = 4 };

/* The headers that we act on; all others are checked for form and dropped. */
enum header {
    HEADER_OTHER,
    HEADER_LENGTH,
    HEADER_CODING,
    HEADER_TRANSFER,
    HEADER_EXPECT,
    HEADER_HOST,
    HEADER_ID
};

static const struct {
    const char *name;
    enum header header;
} header_names[] = {
    {"content-length", HEADER_LENGTH},
    {"content-encoding", HEADER_CODING},
    {"transfer-encoding", HEADER_TRANSFER},
    {"expect", HEADER_EXPECT},
    {"host", HEADER_HOST},
    {"x-request-id", HEADER_ID},
};

/* Where we are in a chunked body: what the next byte must be. */
enum chunk_at {
    CHUNK_SIZE,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_LAST_CR,
    CHUNK_LAST_LF
};

struct http {
    llhttp_t parser;
    enum http_phase phase;
    uint64_t body_limit;
    struct http_request request;
    struct http_fault fault;

    /* Guard over the head's bytes. */
    size_t head_bytes;
    size_t line_bytes;
    unsigned n_lines; /* ended, the request line included */
    bool was_cr;
    bool in_name;     /* of a header line, before its colon */
    unsigned n_blank; /* empty lines before the request line */

    /* The header being parsed. */
    char name[NAME_BYTES];
    size_t n_name; /* NAME_BYTES: too long to be one of ours */
    struct buf value;
    struct buf line; /* of the head, not yet ended: at most HTTP_LINE_BYTES and its end */

    struct buf target;
    unsigned n_host, n_length, n_transfer;
    bool expects;
    bool is_head_parsed;

    /* The body. */
    struct buf body;
    uint64_t left; /* bytes of the body or of the chunk that have not come */
    enum chunk_at chunk_at;
    unsigned n_digits; /* of the chunk's size */
};

static int set_fault(struct http *h, int status, const char *text) {
    if (h->phase != HTTP_PHASE_FAULT) {
        h->phase = HTTP_PHASE_FAULT;
        h->fault = (struct http_fault){.status = status, .text = text};
    }
    return -1;
}

/* ---- callbacks of the parser: -1 after set_fault() ends it ---- */

static struct http *self(llhttp_t *p) {
    return p->data;
}

static int on_url(llhttp_t *p, const char *at, size_t n) {
    struct http *h = self(p);
    if (h->target.n + n > HTTP_TARGET_BYTES) return set_fault(h, 414, "The URI is too long.");
    buf_add(&h->target, at, n);
    return h->target.failed ? set_fault(h, 503, "No memory for the request.") : 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n) {
    struct http *h = self(p);
    for (size_t i = 0; i < n && h->n_name < NAME_BYTES; i++) h->name[h->n_name++] = at[i];
    return 0;
}

static enum header header_of(const struct http *h) {
    for (size_t i = 0; i < ARRAY_LEN(header_names); i++) {
        const char *s = header_names[i].name;
        if (strlen(s) == h->n_name && strncasecmp(s, h->name, h->n_name) == 0)
            return header_names[i].header;
    }
    return HEADER_OTHER;
}

static int on_value(llhttp_t *p, const char *at, size_t n) {
    struct http *h = self(p);
    if (header_of(h) == HEADER_OTHER) return 0;
    buf_add(&h->value, at, n); /* bounded by the guard's line length */
    return h->value.failed ? set_fault(h, 503, "No memory for the request.") : 0;
}

static bool value_is(const struct http *h, const char *s) {
    return h->value.n == strlen(s) && strncasecmp(h->value.p, s, h->value.n) == 0;
}

static bool is_all(const struct buf *b, const char *set) {
    for (size_t i = 0; i < b->n; i++)
        if (!b->p[i] || !strchr(set, b->p[i])) return false;
    return b->n > 0;
}

static void keep_id(struct http *h) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    if (h->value.n > HTTP_ID_BYTES || !is_all(&h->value, plain)) return;
    memcpy(h->request.id, h->value.p, h->value.n);
    h->request.id[h->value.n] = '\0';
}

static int on_value_complete(llhttp_t *p) {
    struct http *h = self(p);
    enum header header = header_of(h);
    h->n_name = 0;
    while (h->value.n > 0 &&
           (h->value.p[h->value.n - 1] == ' ' || h->value.p[h->value.n - 1] == '\t'))
        h->value.n--;
    switch (header) {
    case HEADER_OTHER: break;
    case HEADER_LENGTH:
        if (h->n_length++ > 0) return set_fault(h, 400, "Content-Length is given twice.");
        if (!is_all(&h->value, "0123456789") || h->value.n > 18)
            return set_fault(h, 400, "Content-Length is not a length.");
        break;
    case HEADER_TRANSFER:
        if (h->n_transfer++ > 0) return set_fault(h, 400, "Transfer-Encoding is given twice.");
        if (!value_is(h, "chunked"))
            return set_fault(h, 400, "Of transfer codings only chunked is accepted.");
        break;
    case HEADER_CODING:
        if (!value_is(h, "identity")) return set_fault(h, 415, "Send the body without encoding.");
        break;
    case HEADER_EXPECT:
        if (!value_is(h, "100-continue")) return set_fault(h, 417, "Unknown expectation.");
        h->expects = true;
        break;
    case HEADER_HOST:
        if (h->n_host++ > 0) return set_fault(h, 400, "Host is given twice.");
        break;
    case HEADER_ID: keep_id(h); break;
    }
    buf_clear(&h->value);
    return 0;
}

static int on_headers_complete(llhttp_t *p) {
    struct http *h = self(p);
    if (h->n_length && h->n_transfer)
        return set_fault(h, 400, "Content-Length and Transfer-Encoding exclude each other.");
    bool is_10 = p->http_major == 1 && p->http_minor == 0;
    if (p->http_major != 1 || p->http_minor > 1)
        return set_fault(h, 505, "Speak HTTP/1.0 or HTTP/1.1.");
    if (is_10 && h->n_transfer) return set_fault(h, 400, "HTTP/1.0 has no transfer codings.");
    if (!is_10 && h->n_host == 0) return set_fault(h, 400, "HTTP/1.1 needs a Host header.");
    if (h->n_length && p->content_length > h->body_limit)
        return set_fault(h, 413, "The body is over the limit (serve.body_limit).");
    p->upgrade = 0; /* never taken up: the request is answered as plain HTTP */
    h->request.keep_alive = llhttp_should_keep_alive(p) != 0;
    h->left = h->n_length ? p->content_length : 0;
    h->is_head_parsed = true;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* ---- the guard ---- */

/* Checks one byte of the head. Returns 1 at the head's last byte, 0 to go on, -1 on a fault. */
static int guard(struct http *h, unsigned char c) {
    bool is_first = h->n_lines == 0;
    if (++h->head_bytes > HTTP_HEAD_BYTES) return set_fault(h, 431, "The head is too long.");
    if (h->was_cr) {
        if (c != '\n') return set_fault(h, 400, "A CR stands without its LF.");
        h->was_cr = false;
        if (h->line_bytes == 0) {
            if (!is_first) return 1;
            /* Empty lines before a request are to be forgiven (RFC 9112, 2.2), but not for ever. */
            if (++h->n_blank > MAX_BLANK_LINES) return set_fault(h, 400, "No request line.");
            return 0;
        }
        if (h->in_name) return set_fault(h, 400, "A header line has no colon.");
        h->n_lines++;
        h->line_bytes = 0;
        if (h->n_lines > HTTP_MAX_HEADERS + 1) return set_fault(h, 431, "Too many header lines.");
        return 0;
    }
    if (c == '\r') {
        h->was_cr = true;
        return 0;
    }
    if (c == '\n') return set_fault(h, 400, "An LF stands without its CR.");
    if (c == 0x7f || (c < 0x20 && c != '\t')) return set_fault(h, 400, "A control character.");
    if (is_first) {
        if (c == '\t' || c > 0x7e) return set_fault(h, 400, "The request line is not plain ASCII.");
    } else {
        if (h->line_bytes == 0) {
            if (c == ' ' || c == '\t') return set_fault(h, 400, "Folded lines are not accepted.");
            if (c == ':') return set_fault(h, 400, "A header line has no name.");
            h->in_name = true;
        }
        if (h->in_name && (c == ' ' || c == '\t'))
            return set_fault(h, 400, "A space stands before a colon.");
        if (c == ':') h->in_name = false;
    }
    if (++h->line_bytes > HTTP_LINE_BYTES)
        return is_first ? set_fault(h, 414, "The URI is too long.")
                        : set_fault(h, 431, "A header line is too long.");
    return 0;
}

/* ---- feeding ---- */

static void begin(struct http *h) {
    llhttp_init(&h->parser, HTTP_REQUEST, &settings);
    h->parser.data = h;
    h->head_bytes = h->line_bytes = 0;
    h->n_lines = h->n_blank = 0;
    h->was_cr = h->in_name = false;
    h->n_name = 0;
    h->n_host = h->n_length = h->n_transfer = 0;
    h->expects = h->is_head_parsed = false;
    h->left = 0;
    h->chunk_at = CHUNK_SIZE;
    h->n_digits = 0;
    buf_fini(&h->line);
    buf_fini(&h->value); /* an idle connection holds no more than it needs */
    buf_fini(&h->target);
    buf_fini(&h->body);
    h->request = (struct http_request){.verb = HTTP_VERB_OTHER};
    h->phase = HTTP_PHASE_IDLE;
}

static void finish(struct http *h) {
    buf_add(&h->target, "", 1);
    if (h->target.failed) {
        set_fault(h, 503, "No memory for the request.");
        return;
    }
    char *query = strpbrk(h->target.p, "?#");
    if (query) *query = '\0';
    h->request.path = h->target.p;
    h->request.is_http10 = h->parser.http_minor == 0;
    unsigned method = h->parser.method;
    h->request.verb = method == HTTP_GET    ? HTTP_VERB_GET
                      : method == HTTP_POST ? HTTP_VERB_POST
                                            : HTTP_VERB_OTHER;
    h->phase = HTTP_PHASE_DONE;
}

/* Gives a part of the head to the parser. */
static void parse(struct http *h, const char *p, size_t n) {
    llhttp_errno_t r = llhttp_execute(&h->parser, p, n);
    if (h->phase == HTTP_PHASE_FAULT || r == HPE_OK) return;
    set_fault(h, r == HPE_INVALID_VERSION ? 505 : 400, "The request is not valid HTTP.");
}

/* The head's bytes up to its end or the data's: through the guard, then, in whole lines, to the
 * parser. So it is the same fault that ends a bad request, however its bytes were cut. */
static size_t feed_head(struct http *h, const char *p, size_t n) {
    size_t i = 0;
    int r = 0;
    while (i < n && r == 0) {
        unsigned line = h->n_lines;
        size_t from = i;
        while (i < n && r == 0 && h->n_lines == line) r = guard(h, (unsigned char)p[i++]);
        if (r < 0) return i;
        /* Blank lines before the request line are ours alone. */
        if (h->n_lines == 0 && h->line_bytes == 0) continue;
        buf_add(&h->line, p + from, i - from);
        if (h->line.failed) {
            set_fault(h, 503, "No memory for the request.");
            return i;
        }
        if (h->n_lines == line && r == 0) return i; /* the line goes on */
        parse(h, h->line.p, h->line.n);
        buf_clear(&h->line);
        if (h->phase == HTTP_PHASE_FAULT) return i;
        if (r == 0 && h->is_head_parsed) {
            set_fault(h, 400, "The request is not valid HTTP."); /* parser and guard disagree */
            return i;
        }
    }
    if (r == 0) return i;
    buf_fini(&h->line);
    if (!h->is_head_parsed) {
        set_fault(h, 400, "The request is not valid HTTP.");
    } else if (h->left == 0 && h->n_transfer == 0) {
        finish(h);
    } else {
        h->phase = HTTP_PHASE_BODY;
    }
    return i;
}

/* ---- bodies ---- */

/* Takes up to h->left bytes of content. */
static size_t feed_content(struct http *h, const char *p, size_t n) {
    size_t k = (size_t)MIN((uint64_t)n, h->left);
    buf_add(&h->body, p, k);
    if (h->body.failed) set_fault(h, 503, "No memory for the body.");
    h->left -= k;
    return k;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static void feed_chunk_size(struct http *h, char c) {
    int d = hex_digit(c);
    if (c == '\r' && h->n_digits > 0) {
        h->chunk_at = CHUNK_SIZE_LF;
    } else if (d < 0) {
        set_fault(h, 400, c == ';' ? "Chunk extensions are not accepted." : "A chunk has no size.");
    } else if (++h->n_digits > 15) {
        set_fault(h, 400, "A chunk's size is too long.");
    } else {
        h->left = h->left << 4 | (unsigned)d;
    }
}

/* One byte of the framing of chunks: strictly size CRLF data CRLF ... 0 CRLF CRLF. */
static void feed_framing(struct http *h, char c) {
    enum chunk_at at = h->chunk_at;
    if (at == CHUNK_SIZE) {
        feed_chunk_size(h, c);
        return;
    }
    bool wants_lf = at == CHUNK_SIZE_LF || at == CHUNK_DATA_LF || at == CHUNK_LAST_LF;
    if (c != (wants_lf ? '\n' : '\r')) {
        set_fault(h, 400,
                  at == CHUNK_LAST_CR ? "Trailers are not accepted."
                                      : "A chunk does not end where its size says.");
        return;
    }
    switch (at) {
    case CHUNK_SIZE_LF:
        h->chunk_at = h->left > 0 ? CHUNK_DATA : CHUNK_LAST_CR;
        h->n_digits = 0;
        if (h->left > h->body_limit - h->body.n)
            set_fault(h, 413, "The body is over the limit (serve.body_limit).");
        break;
    case CHUNK_DATA_CR: h->chunk_at = CHUNK_DATA_LF; break;
    case CHUNK_DATA_LF: h->chunk_at = CHUNK_SIZE; break;
    case CHUNK_LAST_CR: h->chunk_at = CHUNK_LAST_LF; break;
    case CHUNK_LAST_LF: finish(h); break;
    case CHUNK_SIZE:
    case CHUNK_DATA: break;
    }
}

static size_t feed_body(struct http *h, const char *p, size_t n) {
    h->expects = false; /* the client did not wait */
    if (h->n_transfer == 0) {
        size_t k = feed_content(h, p, n);
        if (h->left == 0 && h->phase == HTTP_PHASE_BODY) finish(h);
        return k;
    }
    size_t i = 0;
    while (i < n && h->phase == HTTP_PHASE_BODY) {
        if (h->chunk_at == CHUNK_DATA) {
            i += feed_content(h, p + i, n - i);
            if (h->left == 0) h->chunk_at = CHUNK_DATA_CR;
        } else {
            feed_framing(h, p[i++]);
        }
    }
    return i;
}

size_t http_feed(struct http *h, const void *data, size_t n) {
    const char *p = data;
    size_t done = 0;
    while (done < n) {
        switch (h->phase) {
        case HTTP_PHASE_IDLE: h->phase = HTTP_PHASE_HEAD; break;
        case HTTP_PHASE_HEAD: done += feed_head(h, p + done, n - done); break;
        case HTTP_PHASE_BODY: done += feed_body(h, p + done, n - done); break;
        case HTTP_PHASE_DONE:
        case HTTP_PHASE_FAULT: return done;
        }
    }
    return done;
}

/* ---- the rest ---- */

int http_create(uint64_t body_limit, struct http **ret) {
    struct http *h = calloc(1, sizeof(*h));
    if (!h) return -ENOMEM;
    h->body_limit = body_limit;
    begin(h);
    *ret = h;
    return 0;
}

void http_destroy(struct http *h) {
    if (!h) return;
    buf_fini(&h->line);
    buf_fini(&h->value);
    buf_fini(&h->target);
    buf_fini(&h->body);
    free(h);
}

enum http_phase http_phase(const struct http *h) {
    return h->phase;
}

const struct http_request *http_request(const struct http *h) {
    ASSERT(h->phase == HTTP_PHASE_DONE);
    return &h->request;
}

struct http_fault http_fault(const struct http *h) {
    ASSERT(h->phase == HTTP_PHASE_FAULT);
    return h->fault;
}

bool http_take_expect(struct http *h) {
    bool r = h->phase == HTTP_PHASE_BODY && h->expects;
    if (r) h->expects = false;
    return r;
}

char *http_take_body(struct http *h, size_t *ret_n) {
    char *p = h->body.p;
    *ret_n = h->body.n;
    h->body = (struct buf){0};
    return p;
}

void http_next(struct http *h) {
    ASSERT(h->phase == HTTP_PHASE_DONE);
    begin(h);
}

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].status == status) return texts[i].text;
    return "Error";
}
