/* See ctl_tty.h. */
#include "daemon/ctl_tty.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Alternate screen, no cursor, no wrap at the right edge (a resize may outrun a frame). */
static const char enter_codes[] = "\33[?1049h\33[?25l\33[?7l\33[2J";
static const char leave_codes[] = "\33[?2026l\33[0m\33[?7h\33[?25h\33[?1049l";

static int write_all(int fd, const char *data, size_t n) {
    while (n > 0) {
        ssize_t wrote = write(fd, data, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return -errno;
        data += wrote;
        n -= (size_t)wrote;
    }
    return 0;
}

int ctl_tty_enter(struct ctl_tty *t) {
    struct termios raw;
    if (tcgetattr(t->out_fd, &t->saved) < 0) return -errno;
    raw = t->saved;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(t->out_fd, TCSADRAIN, &raw) < 0) return -errno;
    t->is_entered = true;
    int r = write_all(t->out_fd, enter_codes, sizeof(enter_codes) - 1);
    if (r < 0) ctl_tty_leave(t);
    return r;
}

void ctl_tty_leave(struct ctl_tty *t) {
    if (!t->is_entered) return;
    t->is_entered = false;
    /* The terminal may be gone: then there is nothing to restore, and nobody to tell. */
    ignore_result(write_all(t->out_fd, leave_codes, sizeof(leave_codes) - 1));
    /* Keys that came too late for us are not for the shell. */
    ignore_result(tcsetattr(t->out_fd, TCSAFLUSH, &t->saved));
}

void ctl_tty_size(const struct ctl_tty *t, unsigned *ret_cols, unsigned *ret_rows) {
    struct winsize w = {0};
    bool is_known = ioctl(t->out_fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0;
    *ret_cols = is_known ? w.ws_col : 80;
    *ret_rows = is_known ? w.ws_row : 24;
}

int ctl_tty_write(const struct ctl_tty *t, const char *data, size_t n) {
    struct pollfd p = {.fd = t->out_fd, .events = POLLOUT};
    int r = poll(&p, 1, 0);
    if (r < 0) return errno == EINTR ? -EAGAIN : -errno;
    if (r == 0) return -EAGAIN;
    return write_all(t->out_fd, data, n);
}

/* --- what wakes us --- */

static int watch(int epoll_fd, int fd) {
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int ctl_wake_open(struct ctl_wake *w, const sigset_t *set, int key_fd) {
    *w = (struct ctl_wake){.fd = -1, .signal_fd = -1, .key_fd = -1};
    if (sigprocmask(SIG_BLOCK, set, NULL) < 0) return -errno;
    w->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signal_fd < 0) return -errno;
    w->fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->fd < 0) return -errno;
    int r = watch(w->fd, w->signal_fd);
    if (r == 0 && key_fd >= 0) {
        r = watch(w->fd, key_fd);
        if (r == 0) w->key_fd = key_fd;
    }
    return r;
}

void ctl_wake_close(struct ctl_wake *w) {
    if (w->fd >= 0) close(w->fd);
    if (w->signal_fd >= 0) close(w->signal_fd);
    *w = (struct ctl_wake){.fd = -1, .signal_fd = -1, .key_fd = -1};
}

int ctl_wake_signal(const struct ctl_wake *w) {
    struct signalfd_siginfo info;
    ssize_t n = read(w->signal_fd, &info, sizeof(info));
    return n == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

int ctl_wake_key(struct ctl_wake *w) {
    struct pollfd p = {.fd = w->key_fd, .events = POLLIN};
    unsigned char c;
    if (w->key_fd < 0 || poll(&p, 1, 0) <= 0) return 0;
    if (read(w->key_fd, &c, 1) == 1) return c ? c : ' ';
    /* Hung up: it would be readable for ever. */
    epoll_ctl(w->fd, EPOLL_CTL_DEL, w->key_fd, NULL);
    w->key_fd = -1;
    return -1;
}
