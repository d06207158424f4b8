/* The program's own pages, kept in memory.
 *
 * Code is page cache, and charged to the cgroup that first ran it. Lowering memory.high makes the
 * kernel reclaim that cache, the code of the running daemon with it; the next instruction of it is
 * then read from disk and charged, and the thread sleeps, the guard's as well. Seen on Linux 6.1: a
 * standstill of more than 19 s. So all that is mapped from files (the daemon and its libraries, no
 * weights) is locked: about 4 MiB, of which other programs use the larger part, too. */
#ifndef EBB_DAEMON_PROGRAM_H
#define EBB_DAEMON_PROGRAM_H

#include "core/defs.h"

struct err;

/* Locks every mapping of a file that the process has now. 0 with the bytes, -EPERM, -ENOMEM or
 * -EAGAIN (RLIMIT_MEMLOCK; what is locked by then stays so), or the system's errors of reading
 * /proc/self/maps. */
int program_lock(uint64_t *ret_bytes, struct err *e) MUST_CHECK;

#endif
