#include "daemon/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool notify_init(struct notify *n, const char *path) {
    n->fd = -1;
    if (!path || !path[0]) return true;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len >= sizeof(sa.sun_path)) return false;
    memcpy(sa.sun_path, path, len);
    if (path[0] == '@') sa.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    socklen_t sa_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (connect(fd, (struct sockaddr *)&sa, sa_len) < 0) {
        close(fd);
        return false;
    }
    n->fd = fd;
    return true;
}

void notify_fini(struct notify *n) {
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

void notify_send(struct notify *n, const char *fmt, ...) {
    char msg[1024];
    va_list ap;
    if (n->fd < 0) return;
    va_start(ap, fmt);
    int len = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    if (len <= 0) return;
    /* The manager may be gone or its queue full; serving goes on either way. */
    ignore_result((int)send(n->fd, msg, MIN((size_t)len, sizeof(msg) - 1), MSG_NOSIGNAL));
}
