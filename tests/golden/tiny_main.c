/* tiny_model OUT.gguf [--layers N] [--embd N] [--ff N] [--ctx N] [--type f32|f16|q8_0] [--untied]
 *            [--rope-freqs] [--seed N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/tiny.h"

static int usage(void) {
    fprintf(stderr, "usage: tiny_model OUT.gguf [--layers N] [--embd N] [--ff N] [--ctx N]\n"
                    "       [--type f32|f16|q8_0] [--untied] [--rope-freqs] [--seed N]\n");
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

int main(int argc, char **argv) {
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
            else if (strcmp(a, "--type") != 0 || set_type(&o, next) < 0)
                return usage();
            i++;
        }
    }
    if (!out) return usage();
    int r = tiny_write(&o, out);
    if (r == 0) return 0;
    fprintf(stderr, "%s: %s\n", out, strerror(-r));
    return 1;
}
