/* Parser and reader of /proc/meminfo. The file is opened for every reading: in a test or a
 * demonstration it may be replaced, and the cost is that of a few system calls. */
#include "daemon/sense_meminfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"

/* The real file has 1.5 KiB and the line is its third. */
enum { MAX_TEXT = 8192 };

static const char key[] = "MemAvailable:";

/* The value from a line without its newline. */
static int parse_line(const char *s, size_t n, uint64_t *ret_bytes, struct err *e) {
    size_t i = 0, start;
    uint64_t v = 0;
    while (i < n && (s[i] == ' ' || s[i] == '\t')) i++;
    start = i;
    for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return err_set(e, -EBADMSG, "%s the number does not fit 64 bits", key);
    }
    if (i == start) return err_set(e, -EBADMSG, "%s no number follows", key);
    if (n - i != 3 || memcmp(s + i, " kB", 3) != 0)
        return err_set(e, -EBADMSG, "%s its unit is not kB", key);
    if (__builtin_mul_overflow(v, UINT64_C(1024), &v))
        return err_set(e, -EBADMSG, "%s the number does not fit 64 bits", key);
    *ret_bytes = v;
    return 0;
}

int sense_meminfo_parse(const char *text, size_t n, uint64_t *ret_bytes, struct err *e) {
    const size_t n_key = sizeof(key) - 1;
    for (size_t at = 0; at < n;) {
        const char *line = text + at;
        const char *end = memchr(line, '\n', n - at);
        size_t len = end ? (size_t)(end - line) : n - at;
        if (len >= n_key && memcmp(line, key, n_key) == 0) {
            /* Without its newline the number itself may have been cut. */
            if (!end) return err_set(e, -EBADMSG, "%s the line is cut", key);
            return parse_line(line + n_key, len - n_key, ret_bytes, e);
        }
        at += len + 1;
    }
    return err_set(e, -ENODATA, "there is no line %s", key);
}

int sense_meminfo_read(const char *root, uint64_t *ret_bytes, struct err *e) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/proc/meminfo", strcmp(root, "/") == 0 ? "" : root);
    if (len < 0 || (size_t)len >= sizeof(path))
        return err_set(e, -ENAMETOOLONG, "the path of proc/meminfo is too long");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return err_sys(e, -errno, "%s", path);

    char text[MAX_TEXT];
    size_t n = 0;
    int r = 0;
    while (n < sizeof(text)) {
        ssize_t got = read(fd, text + n, sizeof(text) - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) r = err_sys(e, -errno, "%s", path);
        if (got <= 0) break;
        n += (size_t)got;
    }
    close(fd);
    if (r < 0) return r;
    r = sense_meminfo_parse(text, n, ret_bytes, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}
