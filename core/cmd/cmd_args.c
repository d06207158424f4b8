#include "core/cmd/cmd_args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

static void complain(const struct cmd_env *env, const char *text) {
    fflush(stdout);
    fprintf(stderr, "%s%s:%s ", env->has_colour ? "\033[31m" : "", env->program,
            env->has_colour ? "\033[0m" : "");
    /* Names from files may be in there: control bytes must not reach the terminal. */
    for (const char *c = text; *c; c++)
        fputc((unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c, stderr);
    fputc('\n', stderr);
}

int cmd_usage(const struct cmd_env *env, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    complain(env, text);
    fprintf(stderr, "Try: %s --help\n", env->program);
    return CMD_USAGE;
}

void cmd_warn(const struct cmd_env *env, const char *fmt, ...) {
    char text[256] = "warning: ";
    size_t n = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + n, sizeof(text) - n, fmt, ap);
    va_end(ap);
    complain(env, text);
}

int cmd_fail(const struct cmd_env *env, const struct err *e) {
    complain(env, e->msg[0] ? e->msg : strerror(e->code < 0 ? -e->code : EIO));
    switch (-e->code) {
    case EBADMSG:
    case EINVAL: return CMD_DATA;
    case ENOENT:
    case ENOTDIR:
    case EISDIR: return CMD_NO_INPUT;
    case ENOTSUP: return CMD_UNSUPPORTED;
    case ENOMEM: return CMD_NO_MEMORY;
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS: return CMD_IO;
    case EBUSY:
    case EAGAIN: return CMD_BUSY;
    case EACCES:
    case EPERM: return CMD_NOT_ALLOWED;
    default: return CMD_FAILED;
    }
}

int cmd_end(const struct cmd_env *env, int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    complain(env, "cannot write to standard output");
    return CMD_IO;
}

/* ---- arguments
 * ----------------------------------------------------------------------------------- */

static struct cmd_arg *find(struct cmd_arg *args, size_t n, const char *word, size_t len) {
    for (size_t i = 0; i < n; i++) {
        if (!args[i].name) continue;
        if (len == 2 && word[0] == '-' && args[i].letter && word[1] == args[i].letter)
            return &args[i];
        if (strlen(args[i].name) == len && strncmp(args[i].name, word, len) == 0) return &args[i];
    }
    return NULL;
}

static int add_value(const struct cmd_env *env, struct cmd_list *l, const char *name,
                     const char *value) {
    if (l->n == CMD_LIST_MAX)
        return cmd_usage(env, "%s is given more than %d times", name, CMD_LIST_MAX);
    l->v[l->n++] = value;
    return CMD_OK;
}

/* "77MiB" */
static bool parse_bytes(const char *s, uint64_t *ret) {
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno || *s < '0' || *s > '9') return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].name) != 0) continue;
        if (v > UINT64_MAX >> units[i].shift) return false;
        *ret = (uint64_t)v << units[i].shift;
        return true;
    }
    return false;
}

static int set_value(const struct cmd_env *env, struct cmd_arg *a, const char *value) {
    const char *name = a->name ? a->name : a->what;
    if (a->is_given && a->kind != CMD_LIST) return cmd_usage(env, "%s is given twice", name);
    a->is_given = true;
    if (a->kind == CMD_TEXT || a->kind == CMD_LIST) {
        if (!*value) return cmd_usage(env, "%s is empty", name);
        if (a->kind == CMD_LIST) return add_value(env, a->ret, name, value);
        *(const char **)a->ret = value;
        return CMD_OK;
    }
    if (a->kind == CMD_BYTES) {
        if (parse_bytes(value, a->ret)) return CMD_OK;
        return cmd_usage(env, "%s takes a number of bytes, KiB, MiB or GiB, not '%.40s'", name,
                         value);
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (errno || *end || end == value || *value < '0' || *value > '9' || v < a->min || v > a->max)
        return cmd_usage(env, "%s takes a number from %u to %u, not '%.40s'", name, a->min, a->max,
                         value);
    *(uint32_t *)a->ret = (uint32_t)v;
    return CMD_OK;
}

static struct cmd_arg *next_operand(struct cmd_arg *args, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!args[i].name && !args[i].is_given) return &args[i];
    return NULL;
}

/* One option and, if it takes one, its value; *i moves over what was used. */
static int take_option(const struct cmd_env *env, int argc, char **argv, int *i,
                       struct cmd_arg *args, size_t n) {
    const char *word = argv[*i], *eq = strchr(word, '=');
    size_t len = eq && word[1] == '-' ? (size_t)(eq - word) : strlen(word);
    struct cmd_arg *a = find(args, n, word, len);
    if (!a) return cmd_usage(env, "unknown option '%.60s'", word);
    if (a->kind == CMD_FLAG) {
        if (word[len]) return cmd_usage(env, "%s takes no value", a->name);
        *(bool *)a->ret = true;
        a->is_given = true;
        return CMD_OK;
    }
    if (word[len]) return set_value(env, a, word + len + 1);
    if (*i + 1 >= argc) return cmd_usage(env, "%s needs a value", a->name);
    return set_value(env, a, argv[++*i]);
}

int cmd_parse(const struct cmd_env *env, int argc, char **argv, struct cmd_arg *args, size_t n) {
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        int r;
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
            continue;
        }
        if (!only_operands && argv[i][0] == '-' && argv[i][1]) {
            r = take_option(env, argc, argv, &i, args, n);
        } else {
            struct cmd_arg *a = next_operand(args, n);
            r = a ? set_value(env, a, argv[i])
                  : cmd_usage(env, "one argument too many: '%.60s'", argv[i]);
        }
        if (r != CMD_OK) return r;
    }
    const struct cmd_arg *missing = next_operand(args, n);
    if (missing) return cmd_usage(env, "%s is missing", missing->what);
    return CMD_OK;
}

void cmd_json_num(FILE *f, double v) {
    if (isfinite(v))
        fprintf(f, "%.9g", v);
    else
        fputs("null", f);
}
