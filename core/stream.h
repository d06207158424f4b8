/* From tokens to the text a client gets: joins pieces, holds back incomplete UTF-8 and anything
 * that may still become a stop string; never emits any part of a stop or what follows it. */
#ifndef EBB_CORE_STREAM_H
#define EBB_CORE_STREAM_H

#include "core/defs.h"

enum { STREAM_MAX_STOPS = 4, STREAM_MAX_STOP_BYTES = 256, STREAM_HOLD_BYTES = 2048 };

struct stream { /* caller's memory; zeroed = no stops */
    uint8_t n_stops;
    uint16_t stop_len[STREAM_MAX_STOPS];
    char stops[STREAM_MAX_STOPS][STREAM_MAX_STOP_BYTES];
    size_t n_held;
    char held[STREAM_HOLD_BYTES];
    bool is_stopped;
};

/* 0 or -EINVAL (too many, empty or too long). */
int stream_add_stop(struct stream *s, const char *stop, size_t n) MUST_CHECK;

/* Takes a piece (n <= TOK_MAX_TOKEN_BYTES) and writes what may now be sent to ret (room for
 * STREAM_HOLD_BYTES + n); returns its length. *ret_stopped: a stop string is complete, nothing
 * more will come. Invalid UTF-8 that can never become whole is replaced by U+FFFD. */
size_t stream_push(struct stream *s, const char *piece, size_t n, char *ret, bool *ret_stopped);
/* The end without a stop: what was held back, incomplete UTF-8 replaced by U+FFFD. */
size_t stream_finish(struct stream *s, char *ret);

#endif
