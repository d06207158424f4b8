/* The byte ring between two threads. */
#include "daemon/ring.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "core/defs.h"
#include "tests/t.h"

static void basics(void) {
    struct ring r;
    char out[16];
    CHECK_EQ(ring_init(&r, 0), -EINVAL);
    CHECK_EQ(ring_init(&r, 12), -EINVAL);
    REQUIRE(ring_init(&r, 16) == 0);
    CHECK_EQU(ring_free(&r), 16);
    CHECK(!ring_read(&r, out, 1));
    CHECK(ring_write(&r, "abc", 3, "defghij", 7));
    CHECK_EQU(ring_used(&r), 10);
    CHECK(!ring_write(&r, "0123456", 7, NULL, 0)); /* whole or not at all */
    CHECK_EQU(ring_used(&r), 10);
    CHECK(ring_read(&r, out, 8));
    CHECK_MEM(out, "abcdefgh", 8);
    CHECK(ring_write(&r, "0123", 4, "456789ABCD", 10)); /* wraps, and fills it */
    CHECK_EQU(ring_free(&r), 0);
    CHECK(ring_peek(&r, out, 16));
    CHECK(ring_read(&r, out, 16));
    CHECK_MEM(out, "ij0123456789ABCD", 16);
    ring_fini(&r);
}

enum { N_BYTES = 1 << 20 };

static void *writer(void *ud) {
    struct ring *r = ud;
    uint64_t st = 7;
    uint8_t piece[200];
    uint32_t at = 0;
    while (at < N_BYTES) {
        size_t n = 1 + t_rand(&st) % sizeof(piece);
        n = MIN(n, (size_t)(N_BYTES - at));
        for (size_t i = 0; i < n; i++) piece[i] = (uint8_t)((at + i) * 37 >> 3);
        size_t a = n / 3;
        while (!ring_write(r, piece, a, piece + a, n - a)) sched_yield();
        at += (uint32_t)n;
    }
    return NULL;
}

static void two_threads(void) {
    struct ring r;
    pthread_t t;
    uint64_t st = 9;
    uint8_t piece[300];
    unsigned n_bad = 0;
    REQUIRE(ring_init(&r, 1024) == 0);
    REQUIRE(pthread_create(&t, NULL, writer, &r) == 0);
    for (uint32_t at = 0; at < N_BYTES;) {
        size_t n = MIN(1 + t_rand(&st) % sizeof(piece), (size_t)(N_BYTES - at));
        while (!ring_read(&r, piece, n)) sched_yield();
        for (size_t i = 0; i < n; i++) n_bad += piece[i] != (uint8_t)((at + i) * 37 >> 3);
        at += (uint32_t)n;
    }
    pthread_join(t, NULL);
    CHECK_EQ(n_bad, 0);
    CHECK_EQU(ring_used(&r), 0);
    ring_fini(&r);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {{"basics", basics}, {"two_threads", two_threads}};
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
