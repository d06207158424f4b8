/* The client's HTTP parsing: heads, bodies in every split, event streams in every split, and
 * malformed input of each kind. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_http.h"
#include "tests/t.h"

static int parse(const char *head, struct ctl_head *ret) {
    return ctl_head_parse(head, strlen(head), ret);
}

static void head_plain(void) {
    struct ctl_head h;
    CHECK_EQ(parse("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", &h), 0);
    CHECK_EQ(h.status, 200);
    CHECK_EQ(h.body.kind, CTL_BODY_LENGTH);
    CHECK_EQU(h.body.left, 12);
    CHECK(!h.is_event_stream);

    CHECK_EQ(parse("HTTP/1.1 503 Busy\r\nRetry-After:  2 \r\n"
                   "content-type: TEXT/event-stream; charset=utf-8\r\n"
                   "transfer-encoding: Chunked\r\nContent-Length: 5\r\n\r\n",
                   &h),
             0);
    CHECK_EQ(h.status, 503);
    CHECK_STR(h.retry_after, "2");
    CHECK(h.is_event_stream);
    CHECK_EQ(h.body.kind, CTL_BODY_CHUNKED);

    CHECK_EQ(parse("HTTP/1.0 200 OK\r\n\r\n", &h), 0);
    CHECK_EQ(h.body.kind, CTL_BODY_TO_END);
    CHECK_EQ(parse("HTTP/1.1 204 None\r\n\r\n", &h), 0);
    CHECK_EQ(h.body.kind, CTL_BODY_NONE);
}

static void head_bad(void) {
    static const char *const bad[] = {
        "",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno end",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct ctl_head h = {.status = 77};
        CHECK_EQ(parse(bad[i], &h), -EBADMSG);
        CHECK_EQ(h.status, 77);
    }
}

/* Feeds in[n] in pieces of `step` bytes; the decoded text, or NULL if it is refused. */
static char *decode(struct ctl_body b, const char *in, size_t step, bool *ret_done) {
    static char out[256];
    size_t n = strlen(in), n_out = 0;
    for (size_t i = 0; i < n; i += step) {
        size_t take = MIN(step, n - i);
        int64_t got = ctl_body_feed(&b, in + i, take, out + n_out);
        if (got < 0) return NULL;
        n_out += (size_t)got;
    }
    out[n_out] = '\0';
    *ret_done = b.is_done;
    return out;
}

static void body_every_split(void) {
    static const char chunked[] =
        "5\r\nHello\r\n1;x=y\r\n,\r\n006 \r\n world\r\n0\r\nT: 1\r\n\r\nrest";
    for (size_t step = 1; step <= sizeof(chunked); step++) {
        bool is_done = false;
        CHECK_STR(decode((struct ctl_body){.kind = CTL_BODY_CHUNKED}, chunked, step, &is_done),
                  "Hello, world");
        CHECK(is_done);
        CHECK_STR(
            decode((struct ctl_body){.kind = CTL_BODY_LENGTH, .left = 3}, "abcdef", step, &is_done),
            "abc");
        CHECK(is_done);
    }
    bool is_done = true;
    CHECK_STR(decode((struct ctl_body){.kind = CTL_BODY_TO_END}, "abc", 2, &is_done), "abc");
    CHECK(!is_done);
    CHECK_STR(decode((struct ctl_body){.kind = CTL_BODY_CHUNKED}, "4\r\nab", 1, &is_done), "ab");
    CHECK(!is_done);
    CHECK_STR(decode((struct ctl_body){.kind = CTL_BODY_NONE}, "abc", 1, &is_done), "");
    CHECK(is_done);
}

static void body_bad(void) {
    static const char *const bad[] = {
        "\r\n",         "x\r\n",         "-1\r\n",         "5\nHello",
        "5\r\nHelloXX", "5\r\nHello\rX", "1\r\na\r\n\r\n", "100000000000000000000\r\n",
        "0\r\nT: 1\n",  "0\r\n\rX",      "5;\n",           "0\r\n\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t step = 1; step < 8; step++) {
            bool is_done;
            if (decode((struct ctl_body){.kind = CTL_BODY_CHUNKED}, bad[i], step, &is_done))
                t_fail(__FILE__, __LINE__, "bad chunks %zu accepted in steps of %zu", i, step);
        }
}

static bool note_event(void *ud, const char *event, const char *data) {
    char *log = ud;
    size_t n = strlen(log);
    snprintf(log + n, 512 - n, "<%s|%s>", event, data);
    return strcmp(data, "[DONE]") != 0;
}

static void sse_every_split(void) {
    static const char stream[] = ": ping\n\ndata: {\"a\":1}\n\nevent: swap\r\ndata:two\r\n"
                                 "data: lines\r\n\r\nid: 7\nretry: 5\nevent: x\n\n"
                                 "data\n\ndata: [DONE]\r\rdata: after\n\n";
    for (size_t step = 1; step <= sizeof(stream); step++) {
        struct ctl_sse s = {0};
        char log[512] = "";
        int r = 0;
        for (size_t i = 0; i < sizeof(stream) - 1 && r == 0; i += step)
            r = ctl_sse_feed(&s, stream + i, MIN(step, sizeof(stream) - 1 - i), note_event, log);
        CHECK_EQ(r, 1);
        CHECK_STR(log, "<message|{\"a\":1}><swap|two\nlines><message|><message|[DONE]>");
        ctl_sse_fini(&s);
    }
}

static void sse_too_long(void) {
    struct ctl_sse s = {0};
    char log[512] = "";
    size_t n = 1 << 20;
    char *big = malloc(n);
    REQUIRE(big);
    memset(big, 'x', n);
    int r = 0;
    for (int i = 0; i < 32 && r == 0; i++) r = ctl_sse_feed(&s, big, n, note_event, log);
    CHECK_EQ(r, -EFBIG);
    ctl_sse_fini(&s);
    free(big);
}

static void connect_errors(void) {
    struct err e = {0};
    char path[200];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    CHECK_EQ(ctl_connect(path, &e), -ENAMETOOLONG);
    CHECK_EQ(ctl_connect("", &e), -ENAMETOOLONG);
    snprintf(path, sizeof(path), "%s/none.sock", t_tmpdir());
    CHECK_EQ(ctl_connect(path, &e), -ENOENT);
    CHECK(strstr(e.msg, "none.sock"));
}

static void bytes_text(void) {
    char b[32];
    CHECK_STR(ctl_bytes(0, b), "0 B");
    CHECK_STR(ctl_bytes(1023, b), "1023 B");
    CHECK_STR(ctl_bytes(1536, b), "1.5 KiB");
    CHECK_STR(ctl_bytes(96.0 * 1024 * 1024, b), "96.0 MiB");
    CHECK_STR(ctl_bytes(-2048, b), "-2.0 KiB");
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"head_plain", head_plain},
        {"head_bad", head_bad},
        {"body_every_split", body_every_split},
        {"body_bad", body_bad},
        {"sse_every_split", sse_every_split},
        {"sse_too_long", sse_too_long},
        {"connect_errors", connect_errors},
        {"bytes_text", bytes_text},
    };
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
