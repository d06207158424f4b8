/* The daemon's two listening sockets and the locks that make it the only one there.
 *
 * Beside each socket lies SOCKET.lock, held by flock() for the daemon's life and never removed.
 * Only who holds it may remove a socket that a dead daemon left; anything else at the path, a
 * symbolic link included, is left alone and refused. Thread: loop. */
#ifndef EBB_DAEMON_LISTEN_H
#define EBB_DAEMON_LISTEN_H

#include <sys/types.h>

#include "core/defs.h"

struct err;

struct listen_socket {
    int fd;      /* owned until listen_take_fd(); -1 */
    int lock_fd; /* owned; -1 */
    dev_t dev;   /* of what we bound, so that we remove nothing else */
    ino_t ino;
    bool is_bound;
    char path[108];
};

/* Locks, removes a stale socket, binds with `mode` (and `group`, "" = leave) and nothing wider in
 * between. Does not listen yet. 0, -EALREADY (another daemon), -EEXIST (not a socket at the path),
 * -ENAMETOOLONG, -EINVAL (no such group) or the system's error. */
int listen_open(struct listen_socket *l, const char *path, unsigned mode, const char *group,
                struct err *e) MUST_CHECK;
/* Hands the descriptor to the event loop. */
int listen_take_fd(struct listen_socket *l);
/* Removes the socket if it is still ours, and gives the lock back. Accepts a zeroed one. */
void listen_close(struct listen_socket *l);

#endif
