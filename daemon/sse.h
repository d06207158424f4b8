/* Server-sent events over a streamed answer. Thread: loop. */
#ifndef EBB_DAEMON_SSE_H
#define EBB_DAEMON_SSE_H

#include "core/defs.h"

struct conn;

void sse_begin(struct conn *c);
/* One event: `name` (NULL = none) and one line of data (no line breaks in it). */
void sse_event(struct conn *c, const char *name, const char *data, size_t n);
/* ": text", which clients skip; it keeps the connection visibly alive. */
void sse_comment(struct conn *c, const char *text);
void sse_end(struct conn *c);

#endif
