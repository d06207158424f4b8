/* What the commands of ebb-pack share: options, errors, exit codes, tools.
 *
 * A command parses its arguments, calls one method and prints. Results go to standard output,
 * progress and errors to standard error. Exit codes follow sysexits.h where one fits. */
#ifndef EBB_CORE_MAKE_CMD_H
#define EBB_CORE_MAKE_CMD_H

#include <stdio.h>

#include "core/defs.h"
#include "core/make/tools.h"

struct cmd_progress;
struct err;
struct gguf;
struct ladder;
struct pack;

enum cmd_exit {
    CMD_OK = 0,
    CMD_FAILED = 1,       /* anything not named below */
    CMD_USAGE = 2,        /* the command line */
    CMD_DATA = 65,        /* a file is damaged or not what it should be */
    CMD_NO_INPUT = 66,    /* a file does not exist */
    CMD_UNSUPPORTED = 69, /* a valid file that ebb cannot use */
    CMD_NO_MEMORY = 71,
    CMD_IO = 74,          /* reading or writing failed, or the disk is full */
    CMD_BUSY = 75,        /* another packer writes the same file */
    CMD_NOT_ALLOWED = 77, /* permissions */
};

struct cmd_env {
    bool is_terminal; /* of standard error: progress as a bar */
    bool has_colour;
};

enum cmd_arg_kind {
    CMD_FLAG,  /* ret: bool */
    CMD_TEXT,  /* ret: const char * */
    CMD_COUNT, /* ret: uint32_t, min .. max */
    CMD_LIST,  /* ret: struct cmd_list; an option that may be given several times */
    CMD_BYTES, /* ret: uint64_t; KiB, MiB or GiB may follow the number */
};

enum { CMD_LIST_MAX = 32 };
struct cmd_list {
    const char *v[CMD_LIST_MAX];
    uint32_t n;
};

struct cmd_arg {
    const char *name; /* "--calib"; NULL for an operand, which is taken in order */
    char letter;      /* 'o' of -o, or 0 */
    enum cmd_arg_kind kind;
    void *ret;
    uint32_t min, max; /* of a count */
    const char *what;  /* of an operand, for messages: "PACK" */
    bool is_given;     /* written by cmd_parse() */
};

/* Parses argv (without program and command) into args; operands must all be given. CMD_OK, or
 * CMD_USAGE after saying why. */
int cmd_parse(const struct cmd_env *env, int argc, char **argv, struct cmd_arg *args, size_t n);

/* Prints the error and returns the exit code for it. */
int cmd_fail(const struct cmd_env *env, const struct err *e);
/* Prints a complaint about the command line; returns CMD_USAGE. */
int cmd_usage(const struct cmd_env *env, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Something to know about a result that was made all the same. */
void cmd_warn(const struct cmd_env *env, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Flushes standard output: `code`, or CMD_IO if what was printed could not be written. */
int cmd_end(const struct cmd_env *env, int code);

/* Memory, pool (0 = one thread for each CPU), kernels, and progress on standard error. */
int cmd_tools_init(const struct cmd_env *env, uint32_t n_threads, struct tools *ret,
                   struct err *e) MUST_CHECK;
void cmd_tools_fini(struct tools *t);

/* The pack's ladder of that name. 0 or -EINVAL; the message says which there are, and `more`. */
int cmd_ladder(const struct pack *p, const char *name, const char *more, const struct ladder **ret,
               struct err *e) MUST_CHECK;

/* Bytes that are resident at every position: core vectors and books. */
uint64_t cmd_core_bytes(const struct pack *p);

/* A string as JSON, quotes included; bytes that are not UTF-8 come out as U+FFFD. */
void cmd_json_str(FILE *f, const char *s, size_t n);
/* A number as JSON; null if it is not finite. */
void cmd_json_num(FILE *f, double v);

int cmd_build(const struct cmd_env *env, int argc, char **argv);
int cmd_inspect(const struct cmd_env *env, int argc, char **argv);
int cmd_plan(const struct cmd_env *env, int argc, char **argv);
int cmd_verify(const struct cmd_env *env, int argc, char **argv);
int cmd_eval(const struct cmd_env *env, int argc, char **argv);
int cmd_tokenize(const struct cmd_env *env, int argc, char **argv);

#endif
