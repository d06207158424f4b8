/* What ebb-pack and ebb-bench share: options, errors, exit codes.
 *
 * Compiled into each program, not into a library, as it prints. Results go to standard output,
 * progress and errors to standard error. Exit codes follow sysexits.h where one fits. */
#ifndef EBB_CORE_CMD_CMD_ARGS_H
#define EBB_CORE_CMD_CMD_ARGS_H

#include <stdio.h>

#include "core/defs.h"

struct err;

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
    const char *program; /* "ebb-pack", for messages */
    bool is_terminal;    /* of standard error: progress as a bar */
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

/* A number as JSON; null if it is not finite. */
void cmd_json_num(FILE *f, double v);

#endif
