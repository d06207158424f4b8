/* HTTP from any bytes: the first byte of the input says where they are cut, and the cut must not
 * show; nothing is parsed after a fault; bodies stay within the limit. */
#include <stdlib.h>
#include <string.h>

#include "daemon/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_LIMIT = 500, MAX_REQUESTS = 64 };

struct seen {
    unsigned n;
    struct {
        int verb;
        bool keep_alive;
        size_t n_path, n_body;
        uint32_t sum;
    } requests[MAX_REQUESTS];
    int fault;
};

static void feed(struct http *h, const uint8_t *p, size_t n, struct seen *s) {
    while (n > 0 && !s->fault) {
        size_t k = http_feed(h, p, n);
        if (k > n) abort();
        p += k;
        n -= k;
        if (http_phase(h) == HTTP_PHASE_FAULT) {
            s->fault = http_fault(h).status;
            if (http_feed(h, "GET / HTTP/1.1\r\n", 16) != 0) abort();
        } else if (http_phase(h) == HTTP_PHASE_DONE) {
            const struct http_request *rq = http_request(h);
            size_t n_body;
            char *body = http_take_body(h, &n_body);
            if (n_body > BODY_LIMIT) abort();
            if (s->n < MAX_REQUESTS) {
                s->requests[s->n].verb = (int)rq->verb;
                s->requests[s->n].keep_alive = rq->keep_alive;
                s->requests[s->n].n_path = strlen(rq->path);
                s->requests[s->n].n_body = n_body;
                for (size_t i = 0; i < n_body; i++)
                    s->requests[s->n].sum = s->requests[s->n].sum * 31 + (uint8_t)body[i];
            }
            s->n++;
            free(body);
            http_next(h);
        } else if (n > 0) {
            abort(); /* it left bytes and wants more */
        }
    }
}

static void run(const uint8_t *p, size_t n, size_t cut, struct seen *s) {
    struct http *h;
    memset(s, 0, sizeof(*s)); /* padding too: they are compared as bytes */
    if (http_create(BODY_LIMIT, &h) < 0) abort();
    feed(h, p, cut, s);
    feed(h, p + cut, n - cut, s);
    http_destroy(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct seen whole, cut;
    if (size == 0) return 0;
    run(data + 1, size - 1, 0, &whole);
    run(data + 1, size - 1, (size_t)data[0] % size, &cut);
    if (memcmp(&whole, &cut, sizeof(whole)) != 0) abort();
    return 0;
}
