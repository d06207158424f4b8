/* sense_text_read() opens its file each time: it is for what is read once. What is read again and
 * again is kept open, see sense_file.h. */
#include "daemon/sense_text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"

int sense_text_path(char *ret, struct err *e, const char *root, const char *fmt, ...) {
    int n = snprintf(ret, SENSE_MAX_PATH, "%s", strcmp(root, "/") == 0 ? "" : root);
    if (n >= 0 && n < SENSE_MAX_PATH) {
        size_t room = SENSE_MAX_PATH - (size_t)n;
        va_list ap;
        va_start(ap, fmt);
        int more = vsnprintf(ret + n, room, fmt, ap);
        va_end(ap);
        if (more >= 0 && (size_t)more < room) return 0;
    }
    return err_set(e, -ENAMETOOLONG, "the path of a sensor is longer than %d bytes",
                   SENSE_MAX_PATH - 1);
}

static int read_fd(int fd, const char *path, char *ret, size_t cap, size_t *ret_n, struct err *e) {
    struct stat st;
    size_t n = 0;
    if (fstat(fd, &st) < 0) return err_sys(e, -errno, "%s", path);
    if (S_ISDIR(st.st_mode)) return err_sys(e, -EISDIR, "%s", path);
    if (!S_ISREG(st.st_mode)) return err_set(e, -ENOTSUP, "%s is not a regular file", path);
    while (n < cap) {
        ssize_t got = read(fd, ret + n, cap - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_sys(e, -errno, "%s", path);
        if (got == 0) break;
        n += (size_t)got;
    }
    *ret_n = n;
    return 0;
}

int sense_text_read(const char *path, char *ret, size_t cap, size_t *ret_n, struct err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return err_sys(e, -errno, "%s", path);
    int r = read_fd(fd, path, ret, cap, ret_n, e);
    close(fd);
    return r;
}

int sense_text_number(const char *s, size_t n, uint64_t *ret, struct err *e) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return err_set(e, -EBADMSG, "what should be a number is not");
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return err_set(e, -EBADMSG, "the number does not fit 64 bits");
    }
    if (n == 0) return err_set(e, -EBADMSG, "there is no number");
    *ret = v;
    return 0;
}

int sense_text_value(const char *text, size_t n, uint64_t *ret, struct err *e) {
    if (n == 0) return err_set(e, -EBADMSG, "the file is empty");
    if (text[n - 1] != '\n') return err_set(e, -EBADMSG, "the number is cut");
    return sense_text_number(text, n - 1, ret, e);
}

int sense_text_signed(const char *text, size_t n, int64_t *ret, struct err *e) {
    uint64_t v = 0;
    size_t sign = n > 0 && text[0] == '-';
    int r = sense_text_value(text + sign, n - sign, &v, e);
    if (r < 0) return r;
    if (v > INT64_MAX) return err_set(e, -EBADMSG, "the number does not fit 64 bits");
    *ret = sign ? -(int64_t)v : (int64_t)v;
    return 0;
}

int sense_text_line(const char *text, size_t n, size_t *at, const char *key, const char **ret_rest,
                    size_t *ret_n, struct err *e) {
    size_t n_key = strlen(key);
    for (size_t i = *at; i < n;) {
        const char *line = text + i;
        const char *end = memchr(line, '\n', n - i);
        size_t len = end ? (size_t)(end - line) : n - i;
        if (len >= n_key && memcmp(line, key, n_key) == 0) {
            if (!end) return err_set(e, -EBADMSG, "the line %s is cut", key);
            *ret_rest = line + n_key;
            *ret_n = len - n_key;
            *at = i + len + 1;
            return 0;
        }
        i += len + 1;
    }
    return err_set(e, -ENODATA, "there is no line %s", key);
}

int sense_text_key(const char *text, size_t n, const char *key, uint64_t *ret, struct err *e) {
    size_t at = 0;
    for (;;) {
        const char *rest;
        size_t n_rest;
        int r = sense_text_line(text, n, &at, key, &rest, &n_rest, e);
        if (r < 0) return r;
        /* A longer key begins alike. */
        if (n_rest > 0 && rest[0] != ' ') continue;
        r = sense_text_number(rest + (n_rest > 0), n_rest - (n_rest > 0), ret, e);
        if (r < 0) err_prefix(e, "%s", key);
        return r;
    }
}

int sense_text_word(const char *text, size_t n, char *ret, size_t cap, struct err *e) {
    if (n == 0) return err_set(e, -EBADMSG, "the file is empty");
    if (text[n - 1] != '\n') return err_set(e, -EBADMSG, "the name is cut");
    if (n == 1) return err_set(e, -EBADMSG, "the name is empty");
    if (n > cap) return err_set(e, -EBADMSG, "the name is longer than %zu bytes", cap - 1);
    for (size_t i = 0; i + 1 < n; i++)
        if (text[i] < ' ' || text[i] > '~') return err_set(e, -EBADMSG, "the name has odd bytes");
    memcpy(ret, text, n - 1);
    ret[n - 1] = '\0';
    return 0;
}

/* "thermal_zone12" -> 12: nine digits at most, and none too many. */
static bool parse_numbered(const char *name, const char *prefix, uint32_t *ret) {
    size_t n_prefix = strlen(prefix), n = strlen(name);
    uint64_t v = 0;
    if (n <= n_prefix || n > n_prefix + 9 || memcmp(name, prefix, n_prefix) != 0) return false;
    const char *digits = name + n_prefix;
    if (digits[0] == '0' && digits[1] != '\0') return false;
    if (sense_text_number(digits, n - n_prefix, &v, NULL) < 0) return false;
    *ret = (uint32_t)v;
    return true;
}

static int compare(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int sense_text_numbered(const char *path, const char *prefix, uint32_t *ret, size_t cap,
                        size_t *ret_n, size_t *ret_n_beyond, struct err *e) {
    size_t n = 0, n_beyond = 0;
    /* Not opendir(): ThreadSanitizer does not see it open a descriptor, and takes the number for
     * that of a socket which libuv has closed. */
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_sys(e, -errno, "%s", path);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int code = -errno;
        close(fd);
        return err_sys(e, code, "%s", path);
    }
    for (;;) {
        uint32_t v;
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d) break;
        if (!parse_numbered(d->d_name, prefix, &v)) continue;
        if (n < cap)
            ret[n++] = v;
        else
            n_beyond++;
    }
    int r = errno ? err_sys(e, -errno, "%s", path) : 0;
    closedir(dir);
    if (r < 0) return r;
    qsort(ret, n, sizeof(ret[0]), compare);
    *ret_n = n;
    *ret_n_beyond = n_beyond;
    return 0;
}
