#include "daemon/sse.h"

#include <string.h>

#include "daemon/buf.h"
#include "daemon/conn.h"

void sse_begin(struct conn *c) {
    conn_stream_begin(c, "text/event-stream", "Cache-Control: no-cache\r\n");
}

void sse_event(struct conn *c, const char *name, const char *data, size_t n) {
    struct buf b = {0};
    if (name) buf_printf(&b, "event: %s\n", name);
    buf_str(&b, "data: ");
    buf_add(&b, data, n);
    buf_str(&b, "\n\n");
    if (b.failed)
        conn_abort(c);
    else
        conn_stream_write(c, b.p, b.n);
    buf_fini(&b);
}

void sse_comment(struct conn *c, const char *text) {
    struct buf b = {0};
    buf_printf(&b, ": %s\n\n", text);
    if (!b.failed) conn_stream_write(c, b.p, b.n);
    buf_fini(&b);
}

void sse_end(struct conn *c) {
    conn_stream_end(c);
}
