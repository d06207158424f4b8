#include "daemon/sense_vmstat.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_text.h"

enum {
    MAX_TEXT = 32768, /* the real file has 4 to 8 KiB */
    MAX_SELF = 2048,  /* 52 numbers and a name of 64 bytes at most */
    FIELD_STATE = 3,  /* the first after the name; proc(5) counts from 1 */
    FIELD_MAJFLT = 12,
};

/* One line a zone ("allocstall_dma 0"), and on old kernels one for all ("allocstall 0"). */
static int parse_alloc_stalls(const char *text, size_t n, uint64_t *ret, struct err *e) {
    uint64_t sum = 0;
    size_t at = 0;
    for (bool is_seen = false;; is_seen = true) {
        const char *rest, *blank;
        size_t n_rest;
        uint64_t v;
        int r = sense_text_line(text, n, &at, "allocstall", &rest, &n_rest, e);
        if (r == -ENODATA && is_seen) break;
        if (r < 0) return r;
        blank = memchr(rest, ' ', n_rest);
        if (!blank) return err_set(e, -EBADMSG, "allocstall: there is no number");
        r = sense_text_number(blank + 1, n_rest - (size_t)(blank + 1 - rest), &v, e);
        if (r < 0) {
            err_prefix(e, "allocstall");
            return r;
        }
        if (__builtin_add_overflow(sum, v, &sum))
            return err_set(e, -EBADMSG, "allocstall: the sum does not fit 64 bits");
    }
    *ret = sum;
    return 0;
}

int sense_vmstat_parse(const char *text, size_t n, struct sense_vmstat *ret, struct err *e) {
    struct sense_vmstat v = {0};
    struct err unused;
    int r = sense_text_key(text, n, "workingset_refault_file", &v.refaults, e);
    if (r == -ENODATA && sense_text_key(text, n, "workingset_refault", &v.refaults, &unused) == 0)
        r = 0;
    if (r == 0) r = sense_text_key(text, n, "pgmajfault", &v.major_faults, e);
    if (r == 0) r = parse_alloc_stalls(text, n, &v.alloc_stalls, e);
    if (r == 0) {
        r = sense_text_key(text, n, "pswpout", &v.swap_outs, e);
        if (r == -ENODATA) r = 0; /* a kernel without swap swaps nothing out */
    }
    if (r < 0) return r;
    if (e) *e = (struct err){0}; /* of what was tried first */
    *ret = v;
    return 0;
}

int sense_vmstat_read(struct sense_file *f, const char *root, const struct sense_when *w,
                      struct sense_vmstat *ret, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = sense_text_path(path, e, root, "/proc/vmstat");
    if (r == 0) r = sense_file_read(f, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_vmstat_parse(text, n, ret, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}

int sense_vmstat_parse_self(const char *text, size_t n, uint64_t *ret_major_faults, struct err *e) {
    const char *name_end = memrchr(text, ')', n), *end = text + n;
    if (!name_end || n == 0 || end[-1] != '\n')
        return err_set(e, -EBADMSG, "it is no line of a process, or cut");
    if (name_end + 1 == end || name_end[1] != ' ')
        return err_set(e, -EBADMSG, "nothing follows the name");
    const char *field = name_end + 2;
    for (int i = FIELD_STATE;; i++) {
        const char *blank = memchr(field, ' ', (size_t)(end - field));
        if (!blank) return err_set(e, -EBADMSG, "there is no field %d", FIELD_MAJFLT);
        if (i == FIELD_MAJFLT) {
            int r = sense_text_number(field, (size_t)(blank - field), ret_major_faults, e);
            if (r < 0) err_prefix(e, "field %d", FIELD_MAJFLT);
            return r;
        }
        field = blank + 1;
    }
}

int sense_vmstat_read_self(struct sense_file *f, const char *root, const struct sense_when *w,
                           uint64_t *ret_major_faults, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_SELF];
    size_t n;
    int r = sense_text_path(path, e, root, "/proc/self/stat");
    if (r == 0) r = sense_file_read(f, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_vmstat_parse_self(text, n, ret_major_faults, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}
