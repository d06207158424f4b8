#include "core/make/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/err.h"
#include "core/tok.h"

/* Most texts have three to five bytes a token; if this guess is short, it is doubled. */
enum { BYTES_PER_TOKEN = 6, SPARE_TOKENS = 64 };

size_t text_utf8_len(const uint8_t *p, size_t n) {
    if (p[0] < 0x80) return 1;
    size_t len = p[0] >= 0xf5 ? 0 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    if (len == 0 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90)) return 0;
    if ((p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90)) return 0;
    return len;
}

bool text_is_binary(const uint8_t *p, size_t n) {
    if (memchr(p, 0, n)) return true;
    size_t n_bad = 0;
    for (size_t i = 0; i < n;) {
        size_t len = text_utf8_len(p + i, n - i);
        if (len == 0 && n - i >= 4) n_bad++;
        i += len ? len : 1;
    }
    return n_bad > n / 20;
}

/* The first `want` bytes of a file, or all of it if it is shorter; *ret_n says how many. */
static int read_head(const char *path, int fd, size_t want, uint8_t **ret, size_t *ret_n,
                     struct err *e) {
    uint8_t *buf = malloc(want);
    if (!buf) return err_set(e, -ENOMEM, "%s: no memory for %zu bytes of text", path, want);
    size_t n = 0;
    while (n < want) {
        ssize_t got = pread(fd, buf + n, want - n, (off_t)n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int r = err_sys(e, -errno, "%s: cannot read", path);
            free(buf);
            return r;
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    *ret = buf;
    *ret_n = n;
    return 0;
}

/* Fills `ids` with at least n_tokens, or with all the text has. */
static int read_ids(const struct tok *t, const char *path, int fd, size_t file_bytes,
                    size_t n_tokens, struct tok_ids *ids, struct err *e) {
    for (size_t want = n_tokens * BYTES_PER_TOKEN;; want *= 2) {
        want = MIN(want, file_bytes);
        uint8_t *buf = NULL;
        size_t n = 0;
        int r = read_head(path, fd, want, &buf, &n, e);
        if (r < 0) return r;
        if (text_is_binary(buf, n)) {
            free(buf);
            return err_set(e, -EINVAL, "%s: this is no UTF-8 text", path);
        }
        /* A cut must not split a character. */
        while (n < file_bytes && n > 0 && (buf[n - 1] & 0xc0) == 0x80) n--;
        if (n < file_bytes && n > 0 && buf[n - 1] >= 0xc0) n--;
        ids->n = 0;
        r = tok_encode(t, (const char *)buf, n, false, 0, ids);
        free(buf);
        if (r < 0) return err_sys(e, r, "%s: cannot be cut into tokens", path);
        /* The tokens before a cut may differ from those of the whole text: spare ones go there. */
        if (want >= file_bytes || ids->n >= n_tokens + SPARE_TOKENS) return 0;
    }
}

void text_adopt(struct text *t, uint32_t *ids, uint32_t n_windows, uint32_t window) {
    *t = (struct text){.ids = ids, .n_windows = n_windows, .window = window};
    t->xxh3 = XXH3_64bits(ids, (size_t)n_windows * window * sizeof(*ids));
}

int text_read(const struct tok *t, const char *path, uint32_t n_windows, uint32_t window,
              struct text *ret, struct err *e) {
    ASSERT(n_windows >= 1 && n_windows <= TEXT_MAX_WINDOWS && window >= 1);
    struct tok_ids ids = {0};
    /* Opening a pipe would wait for a writer for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_sys(e, -errno, "%s: cannot open", path);
    struct stat st;
    int r = 0;
    if (fstat(fd, &st) < 0)
        r = err_sys(e, -errno, "%s: cannot look at", path);
    else if (!S_ISREG(st.st_mode))
        r = err_set(e, -EINVAL, "%s: not a regular file", path);
    else if (st.st_size == 0)
        r = err_set(e, -EINVAL, "%s: the text is empty", path);
    if (r < 0) goto out;
    r = read_ids(t, path, fd, (size_t)st.st_size, (size_t)n_windows * window, &ids, e);
    if (r < 0) goto out;
    if (ids.n < window) {
        r = err_set(e, -EINVAL, "%s: the text has %zu tokens, and one window takes %u", path, ids.n,
                    window);
        goto out;
    }
    n_windows = (uint32_t)MIN((size_t)n_windows, ids.n / window);
    if (tok_adds_bos(t) && tok_bos(t) >= 0)
        for (size_t w = 0; w < n_windows; w++) ids.v[w * window] = (uint32_t)tok_bos(t);
    text_adopt(ret, ids.v, n_windows, window);
    ids = (struct tok_ids){0};
out:
    tok_ids_fini(&ids);
    close(fd);
    return r;
}

void text_fini(struct text *t) {
    free(t->ids);
    *t = (struct text){0};
}
