/* What the commands of ebb-pack share beside cmd_args.h: tools, ladders, strings as JSON.
 *
 * A command parses its arguments, calls one method and prints. */
#ifndef EBB_CORE_MAKE_CMD_H
#define EBB_CORE_MAKE_CMD_H

#include <stdio.h>

#include "core/cmd/cmd_args.h"
#include "core/defs.h"
#include "core/make/tools.h"

struct cmd_progress;
struct err;
struct gguf;
struct ladder;
struct pack;

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

int cmd_build(const struct cmd_env *env, int argc, char **argv);
int cmd_inspect(const struct cmd_env *env, int argc, char **argv);
int cmd_plan(const struct cmd_env *env, int argc, char **argv);
int cmd_verify(const struct cmd_env *env, int argc, char **argv);
int cmd_eval(const struct cmd_env *env, int argc, char **argv);
int cmd_tokenize(const struct cmd_env *env, int argc, char **argv);

#endif
