/* Pressure stall information: for how long, in all since boot, tasks waited for memory. "some": at
 * least one task waited; "full": no task ran. The totals are exact; the averages beside them lag.
 */
#ifndef EBB_DAEMON_SENSE_PSI_H
#define EBB_DAEMON_SENSE_PSI_H

#include "core/defs.h"

struct err;
struct sense_file;
struct sense_when;

struct sense_psi {
    uint64_t some_us;
    uint64_t full_us;
};

/* Pure. 0, -ENODATA (a line is missing) or -EBADMSG (a line that does not end in "total=<number>"
 * and a newline). */
int sense_psi_parse(const char *text, size_t n, struct sense_psi *ret, struct err *e) MUST_CHECK;

/* Reads such a file, /proc/pressure/memory or a cgroup's memory.pressure. Also the errors of
 * sense_file_read(), of which -EOPNOTSUPP and -ENOENT mean that the kernel does not account. */
int sense_psi_read(struct sense_file *f, const char *path, const struct sense_when *w,
                   struct sense_psi *ret, struct err *e) MUST_CHECK;

#endif
