#include "daemon/sense_meminfo.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_text.h"

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

int sense_meminfo_read(struct sense_file *f, const char *root, const struct sense_when *w,
                       uint64_t *ret_bytes, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = sense_text_path(path, e, root, "/proc/meminfo");
    if (r == 0) r = sense_file_read(f, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_meminfo_parse(text, n, ret_bytes, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}
