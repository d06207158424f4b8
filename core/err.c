#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_fail(const char *cond, const char *file, int line) {
    /* The only place in core/ that prints: the process is already lost. */
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

int err_set(struct err *e, int code, const char *fmt, ...) {
    if (!e) return code;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...) {
    if (!e) return code;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(-code));
    return code;
}

void err_prefix(struct err *e, const char *fmt, ...) {
    if (!e) return;
    char head[sizeof(e->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head) - 2, fmt, ap);
    va_end(ap);
    size_t n = strlen(head);
    head[n++] = ':';
    head[n++] = ' ';
    /* memmove rather than snprintf: gcc's -Wformat-truncation rejects the natural way. */
    size_t keep = strlen(e->msg);
    if (keep > sizeof(e->msg) - 1 - n) keep = sizeof(e->msg) - 1 - n;
    memmove(e->msg + n, e->msg, keep);
    memcpy(e->msg, head, n);
    e->msg[n + keep] = '\0';
}
