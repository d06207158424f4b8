/* What reclaim costs: pages that were dropped and had to be read again (refaults), allocations that
 * had to reclaim themselves, and our own waits for the disk. Where the kernel has no pressure
 * accounting these tell of thrashing. All are totals that only grow. */
#ifndef EBB_DAEMON_SENSE_VMSTAT_H
#define EBB_DAEMON_SENSE_VMSTAT_H

#include "core/defs.h"

struct err;
struct sense_file;
struct sense_when;

struct sense_vmstat {
    uint64_t refaults;     /* file pages; before Linux 5.9 all pages */
    uint64_t major_faults; /* of all processes */
    uint64_t alloc_stalls; /* direct reclaims, sum of the zones */
    uint64_t swap_outs;    /* pages; 0 for a kernel without swap, which has no such line */
};

/* The text of /proc/vmstat. Pure. 0, -ENODATA (a line is missing) or -EBADMSG. */
int sense_vmstat_parse(const char *text, size_t n, struct sense_vmstat *ret,
                       struct err *e) MUST_CHECK;
/* Reads <root>/proc/vmstat. Also the errors of sense_file_read(), and -ENAMETOOLONG. */
int sense_vmstat_read(struct sense_file *f, const char *root, const struct sense_when *w,
                      struct sense_vmstat *ret, struct err *e) MUST_CHECK;

/* Our own major faults from the text of /proc/self/stat (field 12; the second one is a name in
 * brackets that may hold anything, blanks and brackets too). Pure. 0 or -EBADMSG. */
int sense_vmstat_parse_self(const char *text, size_t n, uint64_t *ret_major_faults,
                            struct err *e) MUST_CHECK;
/* Reads <root>/proc/self/stat. Also the errors of sense_file_read(), and -ENAMETOOLONG. */
int sense_vmstat_read_self(struct sense_file *f, const char *root, const struct sense_when *w,
                           uint64_t *ret_major_faults, struct err *e) MUST_CHECK;

#endif
