/* sd_notify without a library: datagrams to the service manager's socket. Without NOTIFY_SOCKET
 * every call does nothing. Never blocks; a lost message is not an error. Thread: loop. */
#ifndef EBB_DAEMON_NOTIFY_H
#define EBB_DAEMON_NOTIFY_H

#include "core/defs.h"

struct notify {
    int fd; /* owned; -1: no manager */
};

/* `path`: NOTIFY_SOCKET's value, '@' first for an abstract one; NULL or "" = none. Returns false if
 * the value cannot be used. */
bool notify_init(struct notify *n, const char *path);
void notify_fini(struct notify *n);
/* "READY=1\nSTATUS=..."; line breaks separate the assignments. */
void notify_send(struct notify *n, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
