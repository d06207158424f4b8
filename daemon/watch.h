/* Memory pressure that is told and not asked for: the protocol of MEMORY_PRESSURE_WATCH, by which a
 * service manager names a file to be polled and what to write into it first.
 *
 * The file is one of the kernel's (a cgroup's memory.pressure: an event is POLLPRI, and it is never
 * read), or a FIFO or a Unix socket (an event is anything to read, which is thrown away). Events
 * come at most once a window of the kernel's, two seconds by default, and have no degree.
 * Thread: loop. */
#ifndef EBB_DAEMON_WATCH_H
#define EBB_DAEMON_WATCH_H

#include <uv.h>

#include "core/defs.h"

struct err;
struct watch;

enum { WATCH_MAX_WRITE = 4096 };

struct watch_opts {
    uv_loop_t *loop;
    const char *path;              /* MEMORY_PRESSURE_WATCH, NULL = not set */
    const char *write;             /* MEMORY_PRESSURE_WRITE, base64; NULL = not set */
    void (*on_pressure)(void *ud); /* there is pressure now */
    void (*on_gone)(void *ud, const struct err *why); /* once: no event will come any more */
    void *ud;
};

/* Base64 (RFC 4648, with its padding and nothing else) into ret[cap]. Pure. 0, -EBADMSG or -EFBIG
 * (more than cap bytes). */
int watch_decode(const char *text, uint8_t *ret, size_t cap, size_t *ret_n,
                 struct err *e) MUST_CHECK;

/* Opens, writes and polls. 0; *ret is NULL if there is nothing to watch (path NULL, "" or
 * /dev/null), and otherwise owned by the caller. -EINVAL (path not absolute, or too long), -EBADMSG
 * and -EFBIG (what to write), -ENOTSUP (a file that cannot be polled), -ENOMEM or the system's
 * errors. No callback comes after an error, nor before this returns. */
int watch_open(const struct watch_opts *o, struct watch **ret, struct err *e) MUST_CHECK;

/* True while it has a trigger on a kernel's file, which nobody should poll besides. */
bool watch_owns_file(const struct watch *w);

/* Accepts NULL; allowed in a callback. No callback comes any more; the memory is freed by the loop,
 * which must run once more. */
void watch_close(struct watch *w);

#endif
