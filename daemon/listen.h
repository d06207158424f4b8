/* The daemon's two listening sockets and the locks that make it the only one there.
 *
 * Beside each socket lies SOCKET.lock, held by flock() for the daemon's life and never removed.
 * Only who holds it may remove a socket that a dead daemon left; anything else at the path, a
 * symbolic link included, is left alone and refused.
 *
 * A service manager may have bound the sockets already (socket activation): such a one is checked
 * and used, and never removed, so that whoever connects between two daemons waits for the next.
 * Thread: loop. */
#ifndef EBB_DAEMON_LISTEN_H
#define EBB_DAEMON_LISTEN_H

#include <sys/types.h>

#include "core/defs.h"

struct err;

/* By what the service manager calls them: "api", "admin". */
enum listen_name { LISTEN_API, LISTEN_ADMIN };
enum { LISTEN_COUNT = LISTEN_ADMIN + 1 };

struct listen_socket {
    int fd;      /* owned until listen_take_fd(); -1 */
    int lock_fd; /* owned; -1 */
    dev_t dev;   /* of what we bound, so that we remove nothing else */
    ino_t ino;
    bool is_bound; /* by us */
    char path[108];
};

/* Locks, removes a stale socket, binds with `mode` (and `group`, "" = leave) and nothing wider in
 * between. Does not listen yet. 0, -EALREADY (another daemon), -EEXIST (not a socket at the path),
 * -ENAMETOOLONG, -EINVAL (no such group) or the system's error. */
int listen_open(struct listen_socket *l, const char *path, unsigned mode, const char *group,
                struct err *e) MUST_CHECK;
/* What LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (their values; NULL = not set) give to the process
 * `self`: a descriptor each, not owned, or -1. Pure. 0 or -EINVAL (not a number, an unknown name,
 * one name twice, more or fewer names than descriptors); variables meant for another process give
 * none. */
int listen_parse_given(const char *pid, const char *fds, const char *names, long self,
                       int ret_fds[LISTEN_COUNT], struct err *e) MUST_CHECK;
/* Locks and uses `fd`, a Unix stream socket that listens; takes it over on success. `path` stands
 * for its own in the lock's name if it has none (an abstract one). 0, -EINVAL (not such a socket),
 * -EALREADY (another daemon) or the system's error. */
int listen_adopt(struct listen_socket *l, int fd, const char *path, struct err *e) MUST_CHECK;
/* Hands the descriptor to the event loop. */
int listen_take_fd(struct listen_socket *l);
/* Removes the socket if it is still ours, and gives the lock back. Accepts a zeroed one. */
void listen_close(struct listen_socket *l);

#endif
