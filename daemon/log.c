#include "daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void log_init(struct log *l, int fd, enum log_level level) {
    l->fd = fd;
    l->is_terminal = isatty(fd) == 1;
    atomic_init(&l->level, (int)level);
    atomic_init(&l->dropped, 0);
}

void log_set_level(struct log *l, enum log_level level) {
    atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

bool log_wants(const struct log *l, enum log_level level) {
    return (int)level <= atomic_load_explicit(&l->level, memory_order_relaxed);
}

uint64_t log_dropped(const struct log *l) {
    return atomic_load_explicit(&l->dropped, memory_order_relaxed);
}

size_t log_escape(const char *s, size_t n, char *ret, size_t cap) {
    static const char hex[] = "0123456789abcdef";
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        /* Everything but printable ASCII: a terminal must not be steered, C1 codes included. */
        bool is_plain = c >= 0x20 && c < 0x7f && c != '\\';
        if (k + (is_plain ? 1 : 4) >= cap) break;
        if (is_plain) {
            ret[k++] = (char)c;
            continue;
        }
        ret[k++] = '\\';
        ret[k++] = 'x';
        ret[k++] = hex[c >> 4];
        ret[k++] = hex[c & 15];
    }
    if (cap > 0) ret[k] = '\0';
    return k;
}

/* journald's priorities: syslog's error, warning, informational, debug. */
static const int priority[] = {[LOG_ERROR] = 3, [LOG_WARN] = 4, [LOG_INFO] = 6, [LOG_DEBUG] = 7};
static const char *const level_name[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

void log_event(struct log *l, enum log_level level, const char *fmt, ...) {
    char text[LOG_LINE_BYTES / 2];
    char line[LOG_LINE_BYTES];
    va_list ap;

    if (!log_wants(l, level)) return;
    va_start(ap, fmt);
    int n_text = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n_text < 0) return;

    int n;
    if (l->is_terminal) {
        time_t now = time(NULL);
        struct tm tm;
        char clock[16] = "";
        if (localtime_r(&now, &tm)) (void)strftime(clock, sizeof(clock), "%H:%M:%S ", &tm);
        n = snprintf(line, sizeof(line), "%s%s: ", clock, level_name[level]);
    } else {
        n = snprintf(line, sizeof(line), "<%d>", priority[level]);
    }
    if (n < 0) return;
    size_t k = (size_t)n;
    k += log_escape(text, MIN((size_t)n_text, sizeof(text) - 1), line + k, sizeof(line) - k - 1);
    line[k++] = '\n';

    /* A pipe that polls writable takes PIPE_BUF bytes at once, and a line is shorter. The
     * descriptor is shared with others, so O_NONBLOCK is not ours to set. */
    struct pollfd p = {.fd = l->fd, .events = POLLOUT};
    bool ok = poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
    if (ok) {
        ssize_t r;
        do {
            r = write(l->fd, line, k);
        } while (r < 0 && errno == EINTR);
        ok = r == (ssize_t)k;
    }
    if (!ok) atomic_fetch_add_explicit(&l->dropped, 1, memory_order_relaxed);
}
