/* A source that is gone must not turn into a busy loop. That of a removed cgroup is POLLERR with
 * POLLPRI for ever, which libuv gives as an event like any other, so each event is looked at once
 * more: a true one is over when it has been seen. A socket's end is told by read(). */
#include "daemon/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/err.h"

enum {
    MAX_PATH = 1024,
    MAX_READS = 16, /* of an event: someone who never stops writing must not stop the loop */
};

struct watch {
    uv_poll_t poll;
    int fd;
    char path[MAX_PATH];
    void (*on_pressure)(void *ud);
    void (*on_gone)(void *ud, const struct err *why);
    void *ud;
    bool is_file;     /* the kernel's; else there is something to read */
    bool is_gone;     /* the handle is closed or about to be */
    bool is_closed;   /* its callback has come */
    bool is_released; /* by watch_close() */
    size_t n_echo;    /* bytes that we wrote into a FIFO, and will read again */
};

/* ---- base64 ---- */

static int value_of(char c) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(set, c) : NULL;
    return at ? (int)(at - set) : -1;
}

int watch_decode(const char *text, uint8_t *ret, size_t cap, size_t *ret_n, struct err *e) {
    size_t len = strlen(text), n_pad = 0, n;
    if (len % 4 != 0) return err_set(e, -EBADMSG, "base64 comes in fours, not %zu bytes", len);
    while (n_pad < 2 && n_pad < len && text[len - 1 - n_pad] == '=') n_pad++;
    n = len / 4 * 3 - n_pad;
    if (n > cap) return err_set(e, -EFBIG, "%zu bytes are more than %zu", n, cap);
    /* Twice, as nothing may be written before all is known to be good. */
    for (unsigned pass = 0; pass < 2; pass++) {
        uint32_t bits = 0;
        for (size_t i = 0; i < len; i++) {
            int v = i >= len - n_pad ? 0 : value_of(text[i]);
            if (v < 0) return err_set(e, -EBADMSG, "byte %zu is no base64", i);
            bits = bits << 6 | (uint32_t)v;
            if (i % 4 != 3) continue;
            for (size_t k = 0; k < 3; k++) {
                size_t at = i / 4 * 3 + k;
                uint8_t byte = (uint8_t)(bits >> (16 - 8 * k));
                if (at < n && pass == 1) ret[at] = byte;
                if (at >= n && byte != 0)
                    return err_set(e, -EBADMSG, "bits are left over at the end");
            }
            bits = 0;
        }
    }
    *ret_n = n;
    return 0;
}

/* ---- events ---- */

static void free_if_done(struct watch *w) {
    if (w->is_closed && w->is_released) free(w);
}

static void on_closed(uv_handle_t *h) {
    struct watch *w = h->data;
    close(w->fd); /* takes the trigger away */
    w->is_closed = true;
    free_if_done(w);
}

static void shut(struct watch *w) {
    if (w->is_gone) return;
    w->is_gone = true;
    uv_close((uv_handle_t *)&w->poll, on_closed);
}

static void tell_gone(struct watch *w, int code, const char *what) {
    struct err e = {0};
    err_set(&e, code, "%s: %s", w->path, what);
    shut(w);
    w->on_gone(w->ud, &e);
}

/* True if there was more than what we wrote ourselves; *ret_code < 0 if that was the last. */
static bool drain(struct watch *w, int *ret_code) {
    char waste[1024];
    bool is_event = false;
    *ret_code = 0;
    for (int i = 0; i < MAX_READS; i++) {
        ssize_t got = read(w->fd, waste, sizeof(waste));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            *ret_code = got < 0 ? -errno : -EPIPE;
            break;
        }
        size_t n_echo = MIN(w->n_echo, (size_t)got);
        w->n_echo -= n_echo;
        is_event |= (size_t)got > n_echo;
    }
    return is_event;
}

static void on_poll(uv_poll_t *h, int status, int events) {
    struct watch *w = h->data;
    (void)events;
    if (status < 0) {
        tell_gone(w, status, "cannot be polled any more");
        return;
    }
    if (w->is_file) {
        struct pollfd p = {.fd = w->fd, .events = POLLPRI};
        if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)))
            tell_gone(w, -ENODEV, "its cgroup was removed, or it has no trigger");
        else
            w->on_pressure(w->ud);
        return;
    }
    int code;
    bool is_event = drain(w, &code);
    if (code < 0) /* an event that came with the end is one of a source that ended */
        tell_gone(w, code, code == -EPIPE ? "the other side has closed it" : strerror(-code));
    else if (is_event)
        w->on_pressure(w->ud);
}

/* ---- opening ---- */

static int connect_socket(const char *path, int *ret_fd, struct err *e) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        return err_set(e, -EINVAL, "%s: too long for a socket", path);
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_sys(e, -errno, "%s", path);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int r = err_sys(e, -errno, "%s", path);
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Opens w->path, whatever it is. */
static int open_source(struct watch *w, struct err *e) {
    struct stat st;
    if (stat(w->path, &st) < 0) return err_sys(e, -errno, "%s", w->path);
    if (S_ISSOCK(st.st_mode)) return connect_socket(w->path, &w->fd, e);
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
        return err_set(e, -ENOTSUP, "%s is no file, FIFO or socket", w->path);
    w->is_file = S_ISREG(st.st_mode);
    /* A FIFO too is opened for both, so that it has no end when its last writer leaves. */
    w->fd = open(w->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return w->fd < 0 ? err_sys(e, -errno, "%s", w->path) : 0;
}

/* In one piece: the kernel takes a trigger in one write(). */
static int write_source(struct watch *w, const uint8_t *p, size_t n, struct err *e) {
    if (n == 0) return 0;
    ssize_t done = w->is_file || w->n_echo > 0 ? write(w->fd, p, n)
                                               : send(w->fd, p, n, MSG_NOSIGNAL);
    if (done < 0) return err_sys(e, -errno, "%s: cannot write the trigger", w->path);
    if ((size_t)done != n)
        return err_set(e, -EIO, "%s: %zd of %zu bytes of the trigger were taken", w->path, done, n);
    return 0;
}

/* With the descriptor open and the handle made. */
static int start(struct watch *w, const uint8_t *trigger, size_t n, struct err *e) {
    struct stat st;
    if (fstat(w->fd, &st) < 0) return err_sys(e, -errno, "%s", w->path);
    /* It may have been replaced since it was looked at. */
    if (w->is_file != S_ISREG(st.st_mode))
        return err_set(e, -ENOTSUP, "%s has changed its type", w->path);
    if (S_ISFIFO(st.st_mode)) w->n_echo = n;
    int r = write_source(w, trigger, n, e);
    if (r < 0) return r;
    r = uv_poll_start(&w->poll, w->is_file ? UV_PRIORITIZED : UV_READABLE, on_poll);
    return r < 0 ? err_set(e, r, "%s: %s", w->path, uv_strerror(r)) : 0;
}

int watch_open(const struct watch_opts *o, struct watch **ret, struct err *e) {
    uint8_t trigger[WATCH_MAX_WRITE];
    size_t n = 0;
    *ret = NULL;
    if (!o->path || !o->path[0] || strcmp(o->path, "/dev/null") == 0) return 0;
    if (o->path[0] != '/' || strlen(o->path) >= MAX_PATH)
        return err_set(e, -EINVAL, "the path is not absolute, or longer than %d bytes",
                       MAX_PATH - 1);
    int r = o->write ? watch_decode(o->write, trigger, sizeof(trigger), &n, e) : 0;
    if (r < 0) return r;
    struct watch *w = calloc(1, sizeof(*w));
    if (!w) return err_set(e, -ENOMEM, "no memory to watch for pressure");
    strcpy(w->path, o->path);
    w->on_pressure = o->on_pressure;
    w->on_gone = o->on_gone;
    w->ud = o->ud;
    r = open_source(w, e);
    if (r < 0) {
        free(w);
        return r;
    }
    /* Refuses an ordinary file, before anything is written into it. */
    r = uv_poll_init(o->loop, &w->poll, w->fd);
    if (r < 0) {
        err_set(e, r == -EPERM ? -ENOTSUP : r, "%s cannot be polled: %s", w->path, uv_strerror(r));
        r = r == -EPERM ? -ENOTSUP : r;
        close(w->fd);
        free(w);
        return r;
    }
    w->poll.data = w;
    r = start(w, trigger, n, e);
    if (r < 0) {
        watch_close(w);
        return r;
    }
    *ret = w;
    return 0;
}

bool watch_owns_file(const struct watch *w) {
    return w && w->is_file && !w->is_gone;
}

void watch_close(struct watch *w) {
    if (!w) return;
    shut(w);
    w->is_released = true;
    free_if_done(w);
}
