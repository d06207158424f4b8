/* From tokens to the text a client gets: joins pieces, holds back incomplete UTF-8 and anything
 * that may still become a stop string; never emits any part of a stop or what follows it.
 *
 * The text is what a client would see: bytes that can never become whole UTF-8 are U+FFFD, one for
 * each longest broken sequence. The stop that is complete first ends it (of several that end at the
 * same byte, the longest), so the result does not depend on how the text was cut into tokens. */
#ifndef EBB_CORE_STREAM_H
#define EBB_CORE_STREAM_H

#include "core/defs.h"

enum {
    STREAM_MAX_STOPS = 4,
    STREAM_MAX_STOP_BYTES = 256,
    STREAM_HOLD_BYTES = 2048,
    STREAM_BAD_BYTES = 3, /* what one broken byte may grow to: U+FFFD */
};

/* What one call may write, for a piece of n bytes. */
#define STREAM_OUT_BYTES(n) (STREAM_HOLD_BYTES + STREAM_BAD_BYTES * (n))

struct stream { /* caller's memory; zeroed = no stops, nothing held */
    uint8_t n_stops;
    uint16_t stop_len[STREAM_MAX_STOPS];
    char stops[STREAM_MAX_STOPS][STREAM_MAX_STOP_BYTES];
    size_t n_held; /* whole characters that begin a stop */
    char held[STREAM_MAX_STOP_BYTES];
    uint8_t n_part; /* bytes of a character that is not whole yet */
    uint8_t part[4];
    bool is_stopped;
};

/* 0 or -EINVAL (too many, empty, too long, or not UTF-8, which could never be met). */
int stream_add_stop(struct stream *s, const char *stop, size_t n) MUST_CHECK;

/* Takes a piece and writes what may now be sent to ret (room for STREAM_OUT_BYTES(n)); returns its
 * length. *ret_stopped: a stop string is complete, nothing more will come. */
size_t stream_push(struct stream *s, const char *piece, size_t n, char *ret, bool *ret_stopped);
/* The end without a stop: what was held back, with U+FFFD for an incomplete character (room for
 * STREAM_OUT_BYTES(0)). The stream is empty then. */
size_t stream_finish(struct stream *s, char *ret);

#endif
