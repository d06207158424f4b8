/* Stop strings and broken UTF-8: explicit cases, and random streams against an oracle that sees
 * the whole text at once and shares no code with the stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/stream.h"
#include "tests/t.h"

enum { MAX_TEXT = 4096 };

/* --- the oracle --- */

static bool is_valid_char(const uint8_t *p, size_t n) {
    utf8proc_int32_t c;
    return utf8proc_iterate(p, (utf8proc_ssize_t)n, &c) == (utf8proc_ssize_t)n;
}

/* Whether some continuation makes a character of p[n]: tries the edges of all ranges. */
static bool can_become_char(const uint8_t *p, size_t n) {
    static const uint8_t edges[] = {0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf};
    uint8_t c[4];
    if (n >= 4) return false;
    memcpy(c, p, n);
    for (unsigned k = 0; k < 6 * 6 * 6; k++) {
        c[n] = edges[k % 6];
        if (n + 1 < 4) c[n + 1] = edges[k / 6 % 6];
        if (n + 2 < 4) c[n + 2] = edges[k / 36];
        for (size_t len = n + 1; len <= 4; len++)
            if (is_valid_char(c, len)) return true;
    }
    return false;
}

static bool is_cut_off(const uint8_t *p, size_t n) {
    for (size_t len = 1; len <= 3 && len <= n; len++)
        if (can_become_char(p + n - len, len)) return true;
    return false;
}

static size_t clean_text(const uint8_t *p, size_t n, char *ret) {
    size_t n_ret = 0;
    for (size_t at = 0; at < n;) {
        size_t len = 1;
        while (len <= 4 && at + len <= n && !is_valid_char(p + at, len)) len++;
        if (len <= 4 && at + len <= n) {
            memcpy(ret + n_ret, p + at, len);
            n_ret += len;
            at += len;
            continue;
        }
        memcpy(ret + n_ret, "\xef\xbf\xbd", 3);
        n_ret += 3;
        len = 1; /* one mark for the longest broken start of a character */
        if (can_become_char(p + at, 1))
            while (at + len < n && can_become_char(p + at, len + 1)) len++;
        at += len;
    }
    return n_ret;
}

struct stop {
    const char *p;
    size_t n;
};

/* What the client must get of the whole text; *ret_stopped as the stream should say. */
static size_t cut_text(const char *p, size_t n, const struct stop *stops, unsigned n_stops,
                       bool *ret_stopped) {
    size_t best_end = SIZE_MAX, best_start = n;
    for (unsigned i = 0; i < n_stops; i++) {
        const char *hit = memmem(p, n, stops[i].p, stops[i].n);
        if (!hit) continue;
        size_t start = (size_t)(hit - p), end = start + stops[i].n;
        if (end < best_end || (end == best_end && start < best_start)) {
            best_end = end;
            best_start = start;
        }
    }
    *ret_stopped = best_end != SIZE_MAX;
    return best_start;
}

/* --- runs a stream over pieces --- */

/* Each chunk must be valid UTF-8 on its own; returns the whole length. */
static size_t run(struct stream *s, const uint8_t *in, size_t n, uint64_t *rand, size_t max_piece,
                  char *ret, bool *ret_stopped) {
    char out[STREAM_OUT_BYTES(MAX_TEXT)];
    size_t n_ret = 0, at = 0;
    *ret_stopped = false;
    while (at < n && !*ret_stopped) {
        size_t len = t_rand(rand) % (max_piece + 1);
        if (len > n - at) len = n - at;
        size_t got = stream_push(s, (const char *)in + at, len, out, ret_stopped);
        utf8proc_int32_t c;
        for (size_t i = 0; i < got;) {
            utf8proc_ssize_t k = utf8proc_iterate((uint8_t *)out + i, (utf8proc_ssize_t)(got - i),
                                                  &c);
            REQUIRE(k > 0);
            i += (size_t)k;
        }
        memcpy(ret + n_ret, out, got);
        n_ret += got;
        at += len;
    }
    if (*ret_stopped) {
        bool again;
        CHECK_EQU(stream_push(s, "more", 4, out, &again), 0);
        CHECK(again);
    }
    size_t got = stream_finish(s, out);
    if (*ret_stopped) CHECK_EQU(got, 0);
    memcpy(ret + n_ret, out, got);
    return n_ret + got;
}

static void check(const char *in, size_t n, const struct stop *stops, unsigned n_stops,
                  const char *want) {
    for (size_t max_piece = 1; max_piece <= n; max_piece++) {
        struct stream s = {0};
        char out[STREAM_OUT_BYTES(MAX_TEXT)];
        uint64_t rand = t_seed() + max_piece;
        bool stopped;
        for (unsigned i = 0; i < n_stops; i++)
            CHECK_EQ(stream_add_stop(&s, stops[i].p, stops[i].n), 0);
        size_t got = run(&s, (const uint8_t *)in, n, &rand, max_piece, out, &stopped);
        out[got] = '\0';
        CHECK_STR(out, want);
    }
}

#define STOP(s)                                                                                    \
    { s, sizeof(s) - 1 }
#define CHECK_STREAM(in, want, ...)                                                                \
    do {                                                                                           \
        const struct stop stops_[] = {__VA_ARGS__};                                                \
        check(in, sizeof(in) - 1, stops_, sizeof(stops_) / sizeof(stops_[0]), want);               \
    } while (0)

static void stops(void) {
    CHECK_STREAM("Hello world", "Hello world", STOP("xyz"));
    CHECK_STREAM("Hello world", "Hello", STOP(" wor"));
    CHECK_STREAM("Hello world", "", STOP("Hello world")); /* the whole output */
    CHECK_STREAM("Hello world", "Hello wor", STOP("ld"));
    CHECK_STREAM("Hello worl", "Hello worl", STOP("world")); /* never complete: sent at the end */
    CHECK_STREAM("aaaab", "aa", STOP("aab"));                /* the start of a stop in itself */
    CHECK_STREAM("ababac", "ab", STOP("abac"));
    CHECK_STREAM("abcd", "ab", STOP("bcd"), STOP("c")); /* the one complete first */
    CHECK_STREAM("xabc", "x", STOP("c"), STOP("abc"));  /* of two at one end, the longest */
    CHECK_STREAM("one\n\ntwo", "one", STOP("###"), STOP("\n\n"), STOP("END"), STOP("one "));
    CHECK_STREAM("caf\xc3\xa9 \xe2\x82\xac 5", "caf\xc3\xa9 ", STOP("\xe2\x82\xac"));
    CHECK_STREAM("\xf0\x9f\x98\x80\xf0\x9f\x98\x81", "\xf0\x9f\x98\x80", STOP("\xf0\x9f\x98\x81"));
}

#define BAD "\xef\xbf\xbd"

static void broken_utf8(void) {
    CHECK_STREAM("a\xff"
                 "b",
                 "a" BAD "b", STOP("zz"));
    CHECK_STREAM("a\xe2\x82", "a" BAD, STOP("zz"));
    CHECK_STREAM("\xe2\x82"
                 "a",
                 BAD "a", STOP("zz"));
    CHECK_STREAM("\xe2\xe2\x82\xac", BAD "\xe2\x82\xac", STOP("zz"));
    CHECK_STREAM("\xed\xa0\x80", BAD BAD BAD, STOP("zz")); /* a surrogate */
    CHECK_STREAM("\xc0\xaf\x80", BAD BAD BAD, STOP("zz")); /* overlong */
    CHECK_STREAM("\xf0\x9f\x98", BAD, STOP("zz"));
    CHECK_STREAM("a\xe2\x82", "a", STOP(BAD)); /* it is the text the client sees that is searched */
    CHECK_STREAM("a\xff"
                 "b",
                 "a", STOP(BAD "b"));
}

static void bad_stops(void) {
    struct stream s = {0};
    char longest[STREAM_MAX_STOP_BYTES + 1];
    memset(longest, 'x', sizeof(longest));
    CHECK_EQ(stream_add_stop(&s, "", 0), -EINVAL);
    CHECK_EQ(stream_add_stop(&s, longest, sizeof(longest)), -EINVAL);
    CHECK_EQ(stream_add_stop(&s, "\xff", 1), -EINVAL);
    CHECK_EQ(stream_add_stop(&s, "a\xe2\x82", 3), -EINVAL);
    CHECK_EQ(stream_add_stop(&s, "\xed\xa0\x80", 3), -EINVAL);
    CHECK_EQ(stream_add_stop(&s, longest, sizeof(longest) - 1), 0);
    for (int i = 1; i < STREAM_MAX_STOPS; i++) CHECK_EQ(stream_add_stop(&s, "a", 1), 0);
    CHECK_EQ(stream_add_stop(&s, "a", 1), -EINVAL);
}

/* The most a push may write: a full hold that turns out to be none, and broken bytes only. */
static void widest_output(void) {
    struct stream s = {0};
    char stop[STREAM_MAX_STOP_BYTES], piece[1024];
    static char out[STREAM_OUT_BYTES(sizeof(piece))];
    bool stopped;
    memset(stop, 'x', sizeof(stop));
    memset(piece, 0xff, sizeof(piece));
    CHECK_EQ(stream_add_stop(&s, stop, sizeof(stop)), 0);
    CHECK_EQU(stream_push(&s, stop, sizeof(stop) - 1, out, &stopped), 0);
    CHECK_EQU(stream_push(&s, piece, sizeof(piece), out, &stopped), sizeof(stop) - 1 + 3072);
    CHECK(!stopped);
    CHECK_EQU(stream_finish(&s, out), 0);
}

/* --- random streams --- */

/* Few letters, so that stops overlap and nearly match all the time; some of several bytes. */
static size_t random_text(uint64_t *rand, size_t max, bool is_valid, char *ret) {
    static const char *const parts[] = {
        "a",  "b", "a", "b", "\xc3\xa9", "\xe2\x82\xac", "\xe2\x82\xad", "\xf0\x9f\x98\x80",
        "\n", BAD};
    static const char broken[] = {'\xff', '\x82', '\xe2', '\xf0', '\x9f', '\xc3', '\xed', '\xa0'};
    size_t n = 0, want = 1 + t_rand(rand) % max;
    while (n < want) {
        if (!is_valid && t_rand(rand) % 6 == 0) {
            ret[n++] = broken[t_rand(rand) % sizeof(broken)];
            continue;
        }
        const char *s = parts[t_rand(rand) % (sizeof(parts) / sizeof(parts[0]))];
        memcpy(ret + n, s, strlen(s));
        n += strlen(s);
    }
    return n;
}

static void random_streams(void) {
    unsigned n_stopped = 0, n_cases = 10000;
    for (unsigned i = 0; i < n_cases; i++) {
        uint64_t rand = t_seed() * n_cases + i;
        struct stream s = {0};
        char text[512], clean[3 * 512], out[STREAM_OUT_BYTES(MAX_TEXT)];
        char stop_text[STREAM_MAX_STOPS][64];
        struct stop list[STREAM_MAX_STOPS];
        bool stopped, want_stopped;
        size_t n = random_text(&rand, 200, t_rand(&rand) % 2, text);
        unsigned n_stops = t_rand(&rand) % (STREAM_MAX_STOPS + 1);
        size_t n_clean = clean_text((uint8_t *)text, n, clean);
        for (unsigned k = 0; k < n_stops; k++) {
            size_t max = t_rand(&rand) % 2 ? 4 : 12;
            list[k] = (struct stop){stop_text[k], random_text(&rand, max, true, stop_text[k])};
            if (k == 0 && i % 100 == 0 && n_clean <= STREAM_MAX_STOP_BYTES)
                list[k] = (struct stop){clean, n_clean}; /* the whole output */
            REQUIRE(stream_add_stop(&s, list[k].p, list[k].n) == 0);
        }
        size_t n_want = cut_text(clean, n_clean, list, n_stops, &want_stopped);
        size_t got = run(&s, (uint8_t *)text, n, &rand, 1 + t_rand(&rand) % 20, out, &stopped);
        if (got != n_want || memcmp(out, clean, got) != 0)
            t_fail(__FILE__, __LINE__, "case %u: %zu bytes, not %zu, or others", i, got, n_want);
        /* A stop that U+FFFD for a cut-off character completes is only found at the end. */
        CHECK(stopped == want_stopped || (want_stopped && is_cut_off((uint8_t *)text, n)));
        n_stopped += want_stopped;
    }
    CHECK(n_stopped > n_cases / 4 && n_stopped < n_cases - n_cases / 8);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"stops", stops},
        {"broken_utf8", broken_utf8},
        {"bad_stops", bad_stops},
        {"widest_output", widest_output},
        {"random_streams", random_streams},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
