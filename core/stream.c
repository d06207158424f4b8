/* One pass per piece: the held text and the decoded piece are put together in the caller's buffer,
 * searched for a stop, and the longest end that could begin a stop goes back into the hold. Stops
 * are valid UTF-8, and so is the text, so a match always lies on character boundaries. */
#include "core/stream.h"

#include <errno.h>
#include <string.h>

/* Length of the sequence that `lead` begins; 0 if it begins none. */
static unsigned seq_len(uint8_t lead) {
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) return 2;
    if (lead >= 0xe0 && lead <= 0xef) return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/* Whether `b` may follow the n >= 1 bytes of `part` (Unicode table 3-7: no overlong forms, no
 * surrogates, nothing above U+10FFFF). */
static bool may_follow(const uint8_t *part, unsigned n, uint8_t b) {
    uint8_t lo = 0x80, hi = 0xbf;
    if (n == 1) {
        if (part[0] == 0xe0) lo = 0xa0;
        if (part[0] == 0xed) hi = 0x9f;
        if (part[0] == 0xf0) lo = 0x90;
        if (part[0] == 0xf4) hi = 0x8f;
    }
    return b >= lo && b <= hi;
}

static size_t put_bad(char *ret) {
    memcpy(ret, "\xef\xbf\xbd", STREAM_BAD_BYTES);
    return STREAM_BAD_BYTES;
}

/* Takes one byte; writes the characters that are decided by it. */
static size_t decode_byte(struct stream *s, uint8_t b, char *ret) {
    size_t n = 0;
    if (s->n_part > 0 && !may_follow(s->part, s->n_part, b)) {
        n = put_bad(ret);
        s->n_part = 0;
    }
    if (s->n_part == 0 && seq_len(b) == 0) return n + put_bad(ret + n);
    s->part[s->n_part++] = b;
    if (s->n_part == seq_len(s->part[0])) {
        memcpy(ret + n, s->part, s->n_part);
        n += s->n_part;
        s->n_part = 0;
    }
    return n;
}

int stream_add_stop(struct stream *s, const char *stop, size_t n) {
    if (s->n_stops == STREAM_MAX_STOPS || n == 0 || n > STREAM_MAX_STOP_BYTES) return -EINVAL;
    size_t at = 0;
    while (at < n) {
        const uint8_t *p = (const uint8_t *)stop + at;
        unsigned len = seq_len(p[0]);
        if (len == 0 || len > n - at) return -EINVAL;
        for (unsigned i = 1; i < len; i++)
            if (!may_follow(p, i, p[i])) return -EINVAL;
        at += len;
    }
    memcpy(s->stops[s->n_stops], stop, n);
    s->stop_len[s->n_stops++] = (uint16_t)n;
    return 0;
}

/* Finds the stop that ends first after `from` (what lies before holds none). Returns where the
 * longest stop that ends there begins, or n if there is none. */
static size_t find_stop(const struct stream *s, const char *text, size_t n, size_t from) {
    for (size_t end = from + 1; end <= n; end++) {
        size_t start = n;
        for (unsigned i = 0; i < s->n_stops; i++) {
            size_t len = s->stop_len[i];
            if (len <= end && memcmp(text + end - len, s->stops[i], len) == 0)
                start = MIN(start, end - len);
        }
        if (start < n) return start;
    }
    return n;
}

/* Length of the longest end of the text that is the beginning of a stop. */
static size_t hold_len(const struct stream *s, const char *text, size_t n) {
    size_t best = 0;
    for (unsigned i = 0; i < s->n_stops; i++) {
        for (size_t len = MIN((size_t)s->stop_len[i] - 1, n); len > best; len--) {
            if (memcmp(text + n - len, s->stops[i], len) == 0) best = len;
        }
    }
    return best;
}

size_t stream_push(struct stream *s, const char *piece, size_t n, char *ret, bool *ret_stopped) {
    *ret_stopped = s->is_stopped;
    if (s->is_stopped) return 0;

    size_t n_text = s->n_held;
    memcpy(ret, s->held, s->n_held);
    for (size_t i = 0; i < n; i++) n_text += decode_byte(s, (uint8_t)piece[i], ret + n_text);

    size_t start = find_stop(s, ret, n_text, s->n_held);
    s->n_held = 0;
    if (start < n_text) {
        s->n_part = 0;
        s->is_stopped = true;
        *ret_stopped = true;
        return start;
    }
    s->n_held = hold_len(s, ret, n_text);
    n_text -= s->n_held;
    memcpy(s->held, ret + n_text, s->n_held);
    return n_text;
}

size_t stream_finish(struct stream *s, char *ret) {
    if (s->is_stopped) return 0;
    size_t n = s->n_held;
    memcpy(ret, s->held, n);
    if (s->n_part > 0) n += put_bad(ret + n);
    n = find_stop(s, ret, n, s->n_held); /* a stop may end in U+FFFD itself */
    s->n_held = 0;
    s->n_part = 0;
    return n;
}
