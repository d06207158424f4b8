/* A bounded byte ring between two threads: one writes, one reads. Records are written whole or not
 * at all. The memory is made once, before either thread uses it. */
#ifndef EBB_DAEMON_RING_H
#define EBB_DAEMON_RING_H

#include <stdatomic.h>

#include "core/defs.h"

struct ring {
    uint8_t *p;   /* owned */
    size_t bytes; /* power of two */
    /* Bytes ever written. Writer stores with release after the copy; the reader's acquire in
     * ring_read() and ring_used() pairs with it. */
    _Atomic size_t head;
    /* Bytes ever read. Reader stores with release after the copy; the writer's acquire in
     * ring_free() pairs with it, so that it never overwrites bytes still being copied. */
    _Atomic size_t tail;
};

/* 0, -EINVAL (not a power of two) or -ENOMEM. */
int ring_init(struct ring *r, size_t bytes) MUST_CHECK;
void ring_fini(struct ring *r);

/* Thread: writer. */
size_t ring_free(const struct ring *r);
/* Writes both parts as one piece, or nothing. Thread: writer. */
bool ring_write(struct ring *r, const void *a, size_t n_a, const void *b, size_t n_b);

/* Thread: reader. */
size_t ring_used(const struct ring *r);
/* Copies n bytes out and gives them back; false (and nothing done) if there are fewer. */
bool ring_read(struct ring *r, void *dst, size_t n);
/* The same without giving them back. */
bool ring_peek(const struct ring *r, void *dst, size_t n);

#endif
