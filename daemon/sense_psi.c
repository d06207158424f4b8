#include "daemon/sense_psi.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_text.h"

/* The real file has 0.1 KiB. */
enum { MAX_TEXT = 1024 };

static int parse_total(const char *text, size_t n, const char *key, uint64_t *ret, struct err *e) {
    static const char total[] = " total=";
    const size_t n_total = sizeof(total) - 1;
    const char *rest;
    size_t at = 0, n_rest, i;
    int r = sense_text_line(text, n, &at, key, &rest, &n_rest, e);
    if (r < 0) return r;
    /* Backwards, as it is the last field: whatever is added before it does not matter. */
    for (i = n_rest; i > 0 && rest[i - 1] != '='; i--) continue;
    if (i < n_total || memcmp(rest + i - n_total, total, n_total) != 0)
        return err_set(e, -EBADMSG, "the line %s does not end in total=<number>", key);
    r = sense_text_number(rest + i, n_rest - i, ret, e);
    if (r < 0) err_prefix(e, "the line %s", key);
    return r;
}

int sense_psi_parse(const char *text, size_t n, struct sense_psi *ret, struct err *e) {
    struct sense_psi p;
    int r = parse_total(text, n, "some", &p.some_us, e);
    if (r == 0) r = parse_total(text, n, "full", &p.full_us, e);
    if (r == 0) *ret = p;
    return r;
}

int sense_psi_read(struct sense_file *f, const char *path, const struct sense_when *w,
                   struct sense_psi *ret, struct err *e) {
    char text[MAX_TEXT];
    size_t n;
    int r = sense_file_read(f, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_psi_parse(text, n, ret, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}
