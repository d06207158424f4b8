/* A growing byte buffer for replies. The first failed allocation sticks (`failed`) and everything
 * after it is ignored, so that a writer checks once at the end. Zero it to start. */
#ifndef EBB_DAEMON_BUF_H
#define EBB_DAEMON_BUF_H

#include "core/defs.h"

struct buf {
    char *p; /* owned; not NUL-terminated; buf_fini() */
    size_t n;
    size_t cap;
    bool failed; /* some bytes are missing: do not send this */
};

void buf_fini(struct buf *b);  /* accepts a zeroed one; leaves it zeroed */
void buf_clear(struct buf *b); /* keeps the memory */

/* Makes room for n more bytes. 0 or -ENOMEM (which sticks). */
int buf_reserve(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Removes the first n bytes (n <= b->n). */
void buf_eat(struct buf *b, size_t n);

#endif
