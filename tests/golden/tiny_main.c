/* tiny_model OUT.gguf [--layers N] [--embd N] [--ff N] [--ctx N] [--type f32|f16|q8_0] [--untied]
 *            [--rope-freqs] [--seed N]
 * tiny_model OUT.ebb [the same] [--swsc VARIANT]
 *
 * The second one is the pack of tiny_pack.h: drawn, not built. With --swsc it has the rung swsc, in
 * forms of a variant of swsc_draw.h, and the ladder "deep" beside "jaccard"; the forms only help if
 * the matrices are not too small (--embd 256 --ff 512). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "tests/golden/tiny.h"
#include "tests/golden/tiny_pack.h"

static int usage(void) {
    fprintf(stderr,
            "usage: tiny_model OUT.gguf|OUT.ebb [--layers N] [--embd N] [--ff N] [--ctx N]\n"
            "       [--type f32|f16|q8_0] [--untied] [--rope-freqs] [--seed N]\n"
            "       [--swsc VARIANT]\n");
    return 2;
}

static int set_type(struct tiny_opts *o, const char *s) {
    if (strcmp(s, "f32") == 0)
        o->type = GGUF_T_F32;
    else if (strcmp(s, "f16") == 0)
        o->type = GGUF_T_F16;
    else if (strcmp(s, "q8_0") == 0)
        o->type = GGUF_T_Q8_0;
    else
        return -1;
    return 0;
}

static bool is_pack(const char *path) {
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".ebb") == 0;
}

static int write_pack(const struct tiny_opts *o, long variant, const char *path) {
    struct err e = {0};
    int r = variant < 0 ? tiny_pack_write(o, path, &e)
                        : tiny_pack_write_swsc(o, (unsigned)variant, path, &e);
    if (r == 0) return 0;
    fprintf(stderr, "%s: %s\n", path, e.msg);
    return 1;
}

int main(int argc, char **argv) {
    long variant = -1;
    struct tiny_opts o = tiny_defaults();
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *next = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(a, "--untied") == 0) {
            o.is_untied = true;
        } else if (strcmp(a, "--rope-freqs") == 0) {
            o.has_rope_freqs = true;
        } else if (strncmp(a, "--", 2) != 0) {
            if (out) return usage();
            out = a;
        } else {
            unsigned long n = strtoul(next, NULL, 10);
            if (strcmp(a, "--layers") == 0)
                o.n_layers = (uint32_t)n;
            else if (strcmp(a, "--embd") == 0)
                o.n_embd = (uint32_t)n;
            else if (strcmp(a, "--ff") == 0)
                o.n_ff = (uint32_t)n;
            else if (strcmp(a, "--ctx") == 0)
                o.n_ctx = (uint32_t)n;
            else if (strcmp(a, "--seed") == 0)
                o.seed = n;
            else if (strcmp(a, "--swsc") == 0)
                variant = (long)n;
            else if (strcmp(a, "--type") != 0 || set_type(&o, next) < 0)
                return usage();
            i++;
        }
    }
    if (!out) return usage();
    if (is_pack(out)) return write_pack(&o, variant, out);
    int r = variant < 0 ? tiny_write(&o, out) : -EINVAL; /* a form is a pack's */
    if (r == 0) return 0;
    fprintf(stderr, "%s: %s\n", out, strerror(-r));
    return 1;
}
