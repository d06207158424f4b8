#include "core/make/cmd.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/ladder.h"
#include "core/make/cmd_progress.h"
#include "core/make/text.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"

/* ---- tools
 * --------------------------------------------------------------------------------------- */

int cmd_tools_init(const struct cmd_env *env, uint32_t n_threads, struct tools *ret,
                   struct err *e) {
    *ret = (struct tools){0};
    gemm_init();
    kern_init(&ret->ops, kern_cpu_flags());
    struct cmd_progress *bar = cmd_progress_create(env->is_terminal, env->has_colour);
    int r = bar ? mem_create(&ret->mem) : -ENOMEM;
    if (r < 0) {
        cmd_progress_destroy(bar);
        return err_set(e, r, "no memory");
    }
    ret->progress = cmd_progress_listener(bar);
    r = pool_create(n_threads, &ret->pool, e);
    if (r < 0)
        cmd_tools_fini(ret);
    else
        pool_enter(ret->pool);
    return r;
}

void cmd_tools_fini(struct tools *t) {
    cmd_progress_destroy(t->progress.ud);
    pool_destroy(t->pool);
    mem_destroy(t->mem);
    *t = (struct tools){0};
}

/* ---- ladders
 * ------------------------------------------------------------------------------------- */

int cmd_ladder(const struct pack *p, const char *name, const char *more, const struct ladder **ret,
               struct err *e) {
    *ret = pack_ladder(p, name);
    if (*ret) return 0;
    char names[160] = "";
    size_t k = 0;
    for (size_t i = 0; i < pack_n_ladders(p) && k < sizeof(names); i++) {
        int n = snprintf(names + k, sizeof(names) - k, "%s%s", i ? ", " : "",
                         ladder_name(pack_ladder_at(p, i)));
        if (n > 0) k += (size_t)n;
    }
    return err_set(e, -EINVAL, "no ladder '%s'; the pack has: %s%s", name, names, more);
}

uint64_t cmd_core_bytes(const struct pack *p) {
    const struct pack_extent *core = pack_find(p, PACK_CORE, 0);
    const struct pack_extent *books = pack_find(p, PACK_BOOKS, 0);
    return (core ? core->bytes : 0) + (books ? books->bytes : 0);
}

/* ---- JSON
 * ---------------------------------------------------------------------------------------- */

void cmd_json_str(FILE *f, const char *s, size_t n) {
    fputc('"', f);
    for (size_t i = 0; i < n;) {
        const uint8_t *p = (const uint8_t *)s + i;
        size_t len = text_utf8_len(p, n - i);
        if (len == 0) {
            fputs("\\ufffd", f);
            len = 1;
        } else if (*p == '"' || *p == '\\') {
            fprintf(f, "\\%c", *p);
        } else if (*p < ' ' || *p == 0x7f) {
            fprintf(f, "\\u%04x", *p);
        } else {
            fwrite(p, 1, len, f);
        }
        i += len;
    }
    fputc('"', f);
}
