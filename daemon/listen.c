#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/err.h"

static int take_lock(struct listen_socket *l, struct err *e) {
    char path[sizeof(l->path) + 8];
    snprintf(path, sizeof(path), "%s.lock", l->path);
    l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (l->lock_fd < 0) return err_sys(e, -errno, "cannot open the lock file %s", path);
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK) return err_sys(e, -errno, "cannot lock %s", path);
    return err_set(e, -EALREADY, "another ebbd serves %s (%s is locked)", l->path, path);
}

/* The lock is ours, so no ebbd lives here; but some other program might. */
static int remove_stale(struct listen_socket *l, const struct sockaddr_un *sa, struct err *e) {
    struct stat st;
    if (lstat(l->path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot look at %s", l->path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, -EEXIST, "%s exists and is not a socket: remove it or set another path",
                       l->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_sys(e, -errno, "cannot make a socket");
    int r = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
    close(fd);
    if (r == 0 || r == -EAGAIN) return err_set(e, -EALREADY, "another program serves %s", l->path);
    if (unlink(l->path) < 0)
        return err_sys(e, -errno, "cannot remove the stale socket %s", l->path);
    return 0;
}

static int find_group(const char *name, gid_t *ret, struct err *e) {
    struct group g, *found = NULL;
    char buf[16 << 10];
    int r = getgrnam_r(name, &g, buf, sizeof(buf), &found);
    if (r != 0) return err_sys(e, -r, "cannot look up the group %s", name);
    if (!found)
        return err_set(e, -EINVAL, "there is no group %s (socket.group): add it, or name another",
                       name);
    *ret = g.gr_gid;
    return 0;
}

static int bind_socket(struct listen_socket *l, const struct sockaddr_un *sa, unsigned mode,
                       const char *group, struct err *e) {
    gid_t gid = 0;
    struct stat st;
    int r = group[0] ? find_group(group, &gid, e) : 0;
    if (r < 0) return r;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0) return err_sys(e, -errno, "cannot make a socket");
    /* Born closed to everyone; opened once owner and group are right. */
    mode_t old = umask(0177);
    r = bind(l->fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
    umask(old);
    if (r < 0) return err_sys(e, r, "cannot bind %s", l->path);
    l->is_bound = true;
    if (lstat(l->path, &st) < 0) return err_sys(e, -errno, "cannot look at %s", l->path);
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    if (group[0] && chown(l->path, (uid_t)-1, gid) < 0)
        return err_sys(e, -errno, "cannot give %s to the group %s", l->path, group);
    if (chmod(l->path, (mode_t)mode) < 0)
        return err_sys(e, -errno, "cannot set the mode of %s", l->path);
    return 0;
}

int listen_open(struct listen_socket *l, const char *path, unsigned mode, const char *group,
                struct err *e) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    *l = (struct listen_socket){.fd = -1, .lock_fd = -1};
    size_t n = strlen(path);
    if (n >= sizeof(sa.sun_path))
        return err_set(e, -ENAMETOOLONG,
                       "the socket's path has %zu bytes, and the system takes %zu", n,
                       sizeof(sa.sun_path) - 1);
    memcpy(sa.sun_path, path, n + 1);
    memcpy(l->path, path, n + 1);
    int r = take_lock(l, e);
    if (r == 0) r = remove_stale(l, &sa, e);
    if (r == 0) r = bind_socket(l, &sa, mode, group, e);
    if (r < 0) listen_close(l);
    return r;
}

int listen_take_fd(struct listen_socket *l) {
    int fd = l->fd;
    l->fd = -1;
    return fd;
}

void listen_close(struct listen_socket *l) {
    struct stat st;
    if (!l->path[0]) return; /* zeroed */
    if (l->is_bound && lstat(l->path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == l->dev &&
        st.st_ino == l->ino)
        ignore_result(unlink(l->path)); /* a stale one is removed by the next start */
    if (l->fd >= 0) close(l->fd);
    if (l->lock_fd >= 0) close(l->lock_fd);
    *l = (struct listen_socket){.fd = -1, .lock_fd = -1};
}
