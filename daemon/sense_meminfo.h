/* MemAvailable from /proc/meminfo: the kernel's own estimate of what programs may still take. */
#ifndef EBB_DAEMON_SENSE_MEMINFO_H
#define EBB_DAEMON_SENSE_MEMINFO_H

#include "core/defs.h"

struct err;

/* The value in bytes from the file's text. Pure. 0, -ENODATA (no such line) or -EBADMSG (a line
 * that is not "MemAvailable: <number> kB" and a newline). Nothing that is wrong is read as zero. */
int sense_meminfo_parse(const char *text, size_t n, uint64_t *ret_bytes, struct err *e) MUST_CHECK;

/* Reads <root>/proc/meminfo. Also the system's errors. Never blocks on a FIFO. */
int sense_meminfo_read(const char *root, uint64_t *ret_bytes, struct err *e) MUST_CHECK;

#endif
