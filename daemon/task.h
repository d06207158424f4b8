/* What a thread is doing, as the kernel sees it: for the log when one is stuck. Thread: any. */
#ifndef EBB_DAEMON_TASK_H
#define EBB_DAEMON_TASK_H

#include "core/defs.h"

/* "S (sleeping), wchan futex_wait_queue, syscall 202" from the files status, wchan and syscall of
 * `dir`, which is /proc/self/task/TID; what cannot be read is "unknown". Always NUL-terminated. */
void task_describe(const char *dir, char *ret, size_t cap);

#endif
