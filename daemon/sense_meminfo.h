/* MemAvailable from /proc/meminfo: the kernel's own estimate of what programs may still take. */
#ifndef EBB_DAEMON_SENSE_MEMINFO_H
#define EBB_DAEMON_SENSE_MEMINFO_H

#include "core/defs.h"

struct err;
struct sense_file;
struct sense_when;

/* The value in bytes from the file's text. Pure. 0, -ENODATA (no such line) or -EBADMSG (a line
 * that is not "MemAvailable: <number> kB" and a newline). Nothing that is wrong is read as zero. */
int sense_meminfo_parse(const char *text, size_t n, uint64_t *ret_bytes, struct err *e) MUST_CHECK;

/* Reads <root>/proc/meminfo. Also the errors of sense_file_read(), and -ENAMETOOLONG. */
int sense_meminfo_read(struct sense_file *f, const char *root, const struct sense_when *w,
                       uint64_t *ret_bytes, struct err *e) MUST_CHECK;

#endif
