/* An error as a value: a negative errno and a sentence that says what, where and what to do.
 *
 * Functions return 0 (or a count >= 0) or a negative errno, the same space as libuv's. The
 * `struct err *` is optional (NULL is allowed) and is filled where the fault is seen; callers add
 * context with err_prefix() on the way up. Fixed meanings across modules:
 *   -EBADMSG corrupt data        -ENOTSUP valid, but not supported   -EINVAL the caller's fault
 *   -ENOMEM  no memory           -ENOSPC  over the byte budget       -EAGAIN not now
 *   -ECANCELED cancelled         -ENODATA sensor absent              -ETIMEDOUT too late */
#ifndef EBB_CORE_ERR_H
#define EBB_CORE_ERR_H

#include "core/defs.h"

struct err {
    int code;      /* negative errno; 0 = none yet */
    char msg[240]; /* whole sentence without a final stop; NUL-terminated, cut if too long */
};

/* Sets code and message, and returns `code` so that `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "text: " in front of the message and keeps the code. */
void err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* As err_set, with ": " and the system's text for `code` appended. */
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
