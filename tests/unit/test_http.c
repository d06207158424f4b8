/* The HTTP parser: any split gives the same result, and what could smuggle is refused. */
#include "daemon/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/defs.h"
#include "tests/t.h"

/* What came out of a byte string: a line per request, then the fault. */
struct outcome {
    char text[8192];
    size_t n;
};

static void note(struct outcome *o, const char *s) {
    size_t n = strlen(s);
    if (o->n + n >= sizeof(o->text)) return;
    memcpy(o->text + o->n, s, n + 1);
    o->n += n;
}

static void take(struct http *h, struct outcome *o) {
    char line[512];
    if (http_phase(h) == HTTP_PHASE_FAULT) {
        struct http_fault f = http_fault(h);
        snprintf(line, sizeof(line), "fault %d %s\n", f.status, f.text);
        note(o, line);
    } else if (http_phase(h) == HTTP_PHASE_DONE) {
        const struct http_request *rq = http_request(h);
        size_t n;
        char *body = http_take_body(h, &n);
        unsigned sum = 0;
        for (size_t i = 0; i < n; i++) sum = sum * 31 + (unsigned char)body[i];
        free(body);
        snprintf(line, sizeof(line), "%d %.80s %s 10=%d ka=%d body=%zu/%u\n", (int)rq->verb,
                 rq->path, rq->id, rq->is_http10, rq->keep_alive, n, sum);
        note(o, line);
        http_next(h);
    }
}

static void feed(struct http *h, const char *p, size_t n, struct outcome *o) {
    while (n > 0) {
        size_t k = http_feed(h, p, n);
        CHECK(k <= n);
        p += k;
        n -= k;
        bool is_fault = http_phase(h) == HTTP_PHASE_FAULT;
        take(h, o);
        if (is_fault) return;
    }
}

/* Fed in two pieces cut at `cut`, or byte by byte if cut is SIZE_MAX. */
static struct outcome run(const char *p, size_t n, size_t cut) {
    struct http *h;
    struct outcome o = {.n = 0, .text = ""};
    if (http_create(1000, &h) < 0) {
        CHECK(!"no memory");
        return o;
    }
    if (cut == SIZE_MAX) {
        for (size_t i = 0; i < n && http_phase(h) != HTTP_PHASE_FAULT; i++) feed(h, p + i, 1, &o);
    } else {
        feed(h, p, cut, &o);
        if (http_phase(h) != HTTP_PHASE_FAULT) feed(h, p + cut, n - cut, &o);
    }
    http_destroy(h);
    return o;
}

static const char *outcome_of(const char *s) {
    static struct outcome o;
    o = run(s, strlen(s), 0);
    return o.text;
}

#define H "Host: x\r\n"

static void splits(void) {
    static const char *const good[] = {
        "GET /health HTTP/1.1\r\n" H "\r\n",
        "\r\nGET /v1/models?a=b HTTP/1.1\r\n" H "X-Request-Id: a.b-c_1\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\n" H
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"
        "GET /next HTTP/1.1\r\n" H "\r\n",
        "GET /a HTTP/1.1\r\n" H "\r\nPOST /b HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nokGET /c "
        "HTTP/1.1\r\n" H "\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n",
        "GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\nGET /2 HTTP/1.1\r\n" H
        "\r\n",
        "CONNECT x:1 HTTP/1.1\r\n" H "\r\nGET /2 HTTP/1.1\r\n" H "\r\n",
        "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\n" H " folded\r\n\r\n",
        "POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabcgarbage\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        size_t n = strlen(good[i]);
        struct outcome whole = run(good[i], n, 0);
        CHECK(whole.n > 0);
        for (size_t cut = 1; cut <= n; cut++) {
            struct outcome o = run(good[i], n, cut);
            CHECK_STR(o.text, whole.text);
        }
        struct outcome bytewise = run(good[i], n, SIZE_MAX);
        CHECK_STR(bytewise.text, whole.text);
    }
}

static void values(void) {
    CHECK_STR(outcome_of("GET /h?q HTTP/1.1\r\n" H "\r\n"), "0 /h  10=0 ka=1 body=0/0\n");
    CHECK_STR(outcome_of("POST /x HTTP/1.1\r\n" H "X-Request-Id: r1\r\nContent-Length: 1\r\n\r\nA"),
              "1 /x r1 10=0 ka=1 body=1/65\n");
    CHECK_STR(outcome_of("DELETE /x HTTP/1.1\r\n" H "Connection: close\r\n\r\n"),
              "2 /x  10=0 ka=0 body=0/0\n");
    CHECK_STR(outcome_of("GET / HTTP/1.1\r\n" H "X-Request-Id: a b\r\n\r\n"),
              "0 /  10=0 ka=1 body=0/0\n");
    CHECK_STR(outcome_of("GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n"),
              "0 /a  10=0 ka=1 body=0/0\n0 /b  10=0 ka=1 body=0/0\n");
    CHECK_STR(outcome_of("CONNECT x:1 HTTP/1.1\r\n" H "\r\nGET /2 HTTP/1.1\r\n" H "\r\n"),
              "2 x:1  10=0 ka=1 body=0/0\n0 /2  10=0 ka=1 body=0/0\n");
}

/* Every one must be refused, and nothing after it may be taken for a request. */
static void refused(void) {
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5,5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A : b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\n\r\n", 400},
        {"GET / HTTP/1.1\n" H "\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H ": b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "novalue\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A\"b: c\r\n\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\n" H "\r\n", 400},
        {"GET\t/ HTTP/1.1\r\n" H "\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H H "\r\n", 400},
        {"GET / HTTP/2.0\r\n" H "\r\n", 505},
        {"GET / HTTP/1.7\r\n" H "\r\n", 505},
        {"GET /\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"\x16\x03\x01\x02", 400},
        {"FOO / HTTP/1.1\r\n" H "\r\n", 400},
        {"\r\n\r\n\r\n\r\n\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "Content-Encoding: gzip\r\n\r\n", 415},
        {"GET / HTTP/1.1\r\n" H "Expect: 200-maybe\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nEvil: yes\r\n\r\n", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[1024], want[16];
        /* A second request follows; it must never come out. */
        snprintf(text, sizeof(text), "%sGET /evil HTTP/1.1\r\n" H "\r\n", cases[i].text);
        snprintf(want, sizeof(want), "fault %d", cases[i].status);
        const char *got = outcome_of(text);
        if (strncmp(got, want, strlen(want)) != 0 || strstr(got, "/evil"))
            t_fail(__FILE__, __LINE__, "case %zu: %s gives %s, not %s", i, cases[i].text, got,
                   want);
    }
    struct outcome o = run("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29, 0);
    CHECK(strncmp(o.text, "fault 400", 9) == 0);
}

static char *fill(const char *before, char c, size_t n, const char *after) {
    size_t a = strlen(before), b = strlen(after);
    char *s = malloc(a + n + b + 1);
    REQUIRE(s);
    memcpy(s, before, a);
    memset(s + a, c, n);
    memcpy(s + a + n, after, b + 1);
    return s;
}

static void check_fill(const char *before, size_t n, const char *after, const char *want) {
    char *s = fill(before, 'a', n, after);
    const char *got = outcome_of(s);
    if (strncmp(got, want, strlen(want)) != 0)
        t_fail(__FILE__, __LINE__, "%s + %zu: %s, not %s", before, n, got, want);
    free(s);
}

static void limits(void) {
    check_fill("GET /", HTTP_TARGET_BYTES - 1, " HTTP/1.1\r\n" H "\r\n", "0 /a");
    check_fill("GET /", HTTP_TARGET_BYTES, " HTTP/1.1\r\n" H "\r\n", "fault 414");
    check_fill("GET /", 1 << 20, "", "fault 414");
    check_fill("GET / HTTP/1.1\r\n" H "A:", HTTP_LINE_BYTES - 2, "\r\n\r\n", "0 /");
    check_fill("GET / HTTP/1.1\r\n" H "A:", HTTP_LINE_BYTES - 1, "\r\n\r\n", "fault 431");
    check_fill("GET / HTTP/1.1\r\n" H "A:", 1 << 20, "", "fault 431");
    check_fill("POST / HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n", 1000, "", "1 / ");
    check_fill("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 1001, "\r\n",
               "fault 413");

    char *many = malloc(200 * 8 + 100);
    REQUIRE(many);
    for (int n = 99; n <= 101; n++) { /* Host is one of the lines */
        size_t k = (size_t)sprintf(many, "GET / HTTP/1.1\r\n" H);
        for (int i = 1; i < n; i++) k += (size_t)sprintf(many + k, "A: b\r\n");
        sprintf(many + k, "\r\n");
        CHECK(strncmp(outcome_of(many), n <= 100 ? "0 /" : "fault 431", 3) == 0);
    }
    free(many);

    char *total = malloc(64 << 10);
    REQUIRE(total);
    size_t k = (size_t)sprintf(total, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < 5; i++) {
        k += (size_t)sprintf(total + k, "A: ");
        memset(total + k, 'x', 8000);
        k += 8000;
        k += (size_t)sprintf(total + k, "\r\n");
    }
    sprintf(total + k, "\r\n");
    CHECK(strncmp(outcome_of(total), "fault 431", 9) == 0);
    free(total);
}

static void expect(void) {
    struct http *h;
    const char *head = "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    REQUIRE(http_create(10, &h) == 0);
    CHECK_EQ(http_feed(h, head, strlen(head)), strlen(head));
    CHECK_EQ(http_phase(h), HTTP_PHASE_BODY);
    CHECK(http_take_expect(h));
    CHECK(!http_take_expect(h));
    CHECK_EQ(http_feed(h, "okX", 3), 2);
    CHECK_EQ(http_phase(h), HTTP_PHASE_DONE);
    http_next(h);
    CHECK_EQ(http_phase(h), HTTP_PHASE_IDLE);
    http_destroy(h);
}

/* Random mutations of a valid request: never more than one request for its bytes, no crash. */
static void mutations(void) {
    static const char seed_text[] = "POST /v1/completions HTTP/1.1\r\n" H
                                    "Content-Type: application/json\r\n"
                                    "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    uint64_t st = t_seed();
    for (int i = 0; i < 20000; i++) {
        char s[sizeof(seed_text)];
        memcpy(s, seed_text, sizeof(s));
        size_t n = sizeof(s) - 1;
        for (unsigned k = 0; k <= t_rand(&st) % 3; k++) s[t_rand(&st) % n] = (char)t_rand(&st);
        size_t cut = t_rand(&st) % n;
        struct outcome a = run(s, n, 0), b = run(s, n, cut);
        CHECK_STR(a.text, b.text);
    }
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"splits", splits}, {"values", values}, {"refused", refused},
        {"limits", limits}, {"expect", expect}, {"mutations", mutations},
    };
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
