#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
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

/* ---- given by the service manager ---- */

enum { FIRST_GIVEN_FD = 3, MAX_GIVEN = 64 };

static const char *const given_names[LISTEN_COUNT] = {
    [LISTEN_API] = "api", [LISTEN_ADMIN] = "admin"};

static bool parse_number(const char *s, long max, long *ret) {
    char *end;
    if (s[0] < '0' || s[0] > '9') return false;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (errno != 0 || *end != '\0' || v > max) return false;
    *ret = v;
    return true;
}

int listen_parse_given(const char *pid, const char *fds, const char *names, long self,
                       int ret_fds[LISTEN_COUNT], struct err *e) {
    int given[LISTEN_COUNT] = {-1, -1};
    long to, n = 0;
    if (!pid || !fds) goto out;
    if (!parse_number(pid, LONG_MAX, &to))
        return err_set(e, -EINVAL, "LISTEN_PID is not a number: '%.20s'", pid);
    if (to != self) goto out;
    if (!parse_number(fds, MAX_GIVEN, &n))
        return err_set(e, -EINVAL, "LISTEN_FDS is not a number of 0 to %d: '%.20s'", MAX_GIVEN,
                       fds);
    if (n > 0 && !names)
        return err_set(e, -EINVAL,
                       "LISTEN_FDNAMES is missing: call the sockets api and admin "
                       "(FileDescriptorName=)");
    for (long i = 0; i < n; i++) {
        size_t len = strcspn(names, ":"), k = 0;
        while (k < LISTEN_COUNT &&
               (strlen(given_names[k]) != len || memcmp(given_names[k], names, len) != 0))
            k++;
        if (k == LISTEN_COUNT)
            return err_set(e, -EINVAL,
                           "the service manager hands over a descriptor called '%.*s': only api "
                           "and admin are known (FileDescriptorName=)",
                           (int)MIN(len, (size_t)40), names);
        if (given[k] >= 0)
            return err_set(e, -EINVAL, "the service manager hands over two sockets called %s",
                           given_names[k]);
        given[k] = FIRST_GIVEN_FD + (int)i;
        names += len;
        if ((*names == ':') != (i + 1 < n))
            return err_set(e, -EINVAL, "LISTEN_FDNAMES has not as many names as LISTEN_FDS says");
        if (*names == ':') names++;
    }
out:
    memcpy(ret_fds, given, sizeof(given));
    return 0;
}

static bool has_option(int fd, int option, int want) {
    int value = 0;
    socklen_t n = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &n) == 0 && value == want;
}

int listen_adopt(struct listen_socket *l, int fd, const char *path, struct err *e) {
    struct sockaddr_un sa = {.sun_family = AF_UNSPEC};
    socklen_t sa_len = sizeof(sa);
    *l = (struct listen_socket){.fd = -1, .lock_fd = -1};
    if (!has_option(fd, SO_DOMAIN, AF_UNIX) || !has_option(fd, SO_TYPE, SOCK_STREAM) ||
        !has_option(fd, SO_ACCEPTCONN, 1))
        return err_set(e, -EINVAL,
                       "descriptor %d of the service manager is not a Unix stream socket that "
                       "listens (ListenStream= with a path)",
                       fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || getsockname(fd, (struct sockaddr *)&sa, &sa_len) < 0)
        return err_sys(e, -errno, "cannot use descriptor %d of the service manager", fd);
    /* The name need not end with a NUL, when it fills its place. */
    size_t n = MIN((size_t)sa_len, sizeof(sa));
    n = n > offsetof(struct sockaddr_un, sun_path) ? n - offsetof(struct sockaddr_un, sun_path) : 0;
    if (n > 0 && sa.sun_path[0] != '\0')
        n = strnlen(sa.sun_path, n);
    else
        n = strlen(path);
    if (n >= sizeof(l->path)) return err_set(e, -ENAMETOOLONG, "%s: the path is too long", path);
    memcpy(l->path, sa.sun_path[0] != '\0' ? sa.sun_path : path, n);
    l->path[n] = '\0';
    int r = take_lock(l, e);
    if (r < 0) {
        listen_close(l);
        return r;
    }
    l->fd = fd;
    return 0;
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
