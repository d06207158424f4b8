/* ebb-pack tokenize: standard input to token ids. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/make/cmd.h"
#include "core/pack.h"
#include "core/tok.h"

enum { MAX_INPUT_BYTES = 256 << 20 };

static int read_input(char **ret, size_t *ret_n, struct err *e) {
    char *buf = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            if (cap >= MAX_INPUT_BYTES) {
                free(buf);
                return err_set(e, -EFBIG, "standard input: more than %u MiB of text",
                               (unsigned)MAX_INPUT_BYTES >> 20);
            }
            cap = cap ? 2 * cap : 1 << 16;
            char *more = realloc(buf, cap);
            if (!more) {
                free(buf);
                return err_set(e, -ENOMEM, "standard input: no memory for %zu bytes", cap);
            }
            buf = more;
        }
        ssize_t got = read(STDIN_FILENO, buf + n, cap - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            free(buf);
            return err_sys(e, -errno, "standard input: cannot read");
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    *ret = buf;
    *ret_n = n;
    return 0;
}

/* The tokenizer of a GGUF file; a pack's header is checked as a pack's. */
static int open_tok(const char *path, struct tok **ret, struct err *e) {
    struct gguf *g;
    struct pack *p = NULL;
    int r = gguf_open(path, &g, e);
    if (r < 0) return r; /* it names the file */
    if (gguf_find(g, "ebb.version")) r = pack_open(path, &p, e);
    if (r == 0) {
        r = tok_create(p ? pack_gguf(p) : g, ret, e);
        if (r < 0) err_prefix(e, "%s", path);
    }
    pack_close(p);
    gguf_close(g);
    return r;
}

int cmd_tokenize(const struct cmd_env *env, int argc, char **argv) {
    const char *path = NULL;
    struct cmd_arg args[] = {{.what = "FILE", .kind = CMD_TEXT, .ret = &path}};
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;

    struct err e = {0};
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    char *text = NULL;
    size_t n = 0;
    r = open_tok(path, &t, &e);
    if (r == 0) r = read_input(&text, &n, &e);
    if (r == 0) {
        r = tok_encode(t, text, n, false, 0, &ids);
        if (r < 0) err_sys(&e, r, "standard input: cannot be cut into tokens");
    }
    for (size_t i = 0; r == 0 && i < ids.n; i++) printf("%s%" PRIu32, i ? " " : "", ids.v[i]);
    if (r == 0) putchar('\n');
    free(text);
    tok_ids_fini(&ids);
    tok_destroy(t);
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}
