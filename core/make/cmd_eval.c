/* ebb-pack eval: options and files; the rest is in the other cmd_eval_*.c. */
#include "core/make/cmd_eval.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/make/build.h"
#include "core/make/selftext.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/tok.h"

enum { SELF_WINDOWS = 32, DEFAULT_POINTS = 11 };

/* ---- options -----------------------------------------------------------------------------------
 */

static int check_ladders(const struct cmd_env *env, const struct cmd_eval_opts *o) {
    if (!o->ladders && (o->csv || o->svg))
        return cmd_usage(env, "%s tells of ladders: --ladder is missing",
                         o->csv ? "--csv" : "--svg");
    if (!o->ladders) return CMD_OK;
    if (o->others.n > 0) return cmd_usage(env, "--compare goes with --rung or --position");
    if (o->csv && o->svg && strcmp(o->csv, o->svg) == 0)
        return cmd_usage(env, "--csv and --svg are the same file");
    return CMD_OK;
}

static int check(const struct cmd_env *env, struct cmd_eval_opts *o, bool has_windows,
                 bool has_points) {
    if (!o->text && !o->is_self) return cmd_usage(env, "--text FILE is missing");
    if (o->text && o->is_self) return cmd_usage(env, "give --text or --self-text, one of them");
    if (o->is_self && !o->source)
        return cmd_usage(env, "--self-text is written by the source: --source is missing");
    if (!o->rungs + !o->positions + !o->ladders != 2)
        return cmd_usage(env, "give --rung, --position or --ladder, one of them");
    int r = check_ladders(env, o);
    if (r != CMD_OK) return r;
    if ((has_points || o->from) && !o->ladders)
        return cmd_usage(env, "%s is of a ladder: --ladder is missing",
                         has_points ? "--points" : "--from");
    if (!has_windows) o->n_windows = o->is_self ? SELF_WINDOWS : BUILD_WINDOWS;
    return o->ladders ? cmd_eval_parse_ladders(env, o) : cmd_eval_parse_places(env, o);
}

/* ---- files -------------------------------------------------------------------------------------
 */

static int open_pack(const struct cmd_eval_opts *o, struct cmd_eval_inputs *in,
                     struct cmd_eval_ladders **ladders, struct err *e) {
    int r = pack_open(o->pack, &in->pack, e);
    if (r < 0) return r;
    r = tok_create(pack_gguf(in->pack), &in->tok, e);
    if (r == 0 && pack_n_ladders(in->pack) == 0) r = err_set(e, -EBADMSG, "the pack has no ladder");
    /* What cannot be is told before anything long begins. */
    if (r == 0 && !o->ladders) r = cmd_eval_find_places(o, in, e);
    if (r < 0) {
        err_prefix(e, "%s", o->pack);
        return r;
    }
    return o->ladders ? cmd_eval_open_ladders(o, in->pack, ladders, e) : 0;
}

static int open_all(struct tools *t, const struct cmd_eval_opts *o, struct cmd_eval_inputs *in,
                    struct cmd_eval_ladders **ladders, struct err *e) {
    int r = open_pack(o, in, ladders, e);
    if (r == 0 && o->source) r = gguf_open(o->source, &in->source, e);
    for (uint32_t i = 0; r == 0 && i < o->others.n; i++) {
        r = gguf_open(o->others.v[i], &in->opened[i], e);
        in->others[i] = (struct eval_other){o->others.v[i], in->opened[i]};
    }
    if (r < 0) return r;
    if (!o->is_self) return text_read(in->tok, o->text, o->n_windows, BUILD_WINDOW, &in->text, e);
    return selftext_write(t, in->source, in->tok, o->n_windows, BUILD_WINDOW, o->seed, &in->text,
                          e);
}

static void close_all(const struct cmd_eval_opts *o, struct cmd_eval_inputs *in,
                      struct cmd_eval_ladders *ladders) {
    cmd_eval_close_ladders(ladders);
    text_fini(&in->text);
    for (uint32_t i = 0; i < o->others.n; i++) gguf_close(in->opened[i]);
    gguf_close(in->source);
    for (int r = 0; r < RUNG_COUNT; r++) ladder_destroy(in->made[r]);
    tok_destroy(in->tok);
    pack_close(in->pack);
}

static int eval(struct tools *t, const struct cmd_eval_opts *o, struct err *e) {
    struct cmd_eval_inputs in = {0};
    struct cmd_eval_ladders *ladders = NULL;
    int r = open_all(t, o, &in, &ladders, e);
    if (r == 0 && ladders)
        r = cmd_eval_ladders(t, o, &in, ladders, e);
    else if (r == 0)
        r = cmd_eval_places(t, o, &in, e);
    close_all(o, &in, ladders);
    return r;
}

void cmd_eval_json(const char *key, double v, bool is_known) {
    printf(",\"%s\":", key);
    cmd_json_num(stdout, is_known ? v : (double)NAN);
}

int cmd_eval(const struct cmd_env *env, int argc, char **argv) {
    struct cmd_eval_opts o = {.n_points = DEFAULT_POINTS};
    enum { SEED, WINDOWS, POINTS };
    struct cmd_arg args[] = {
        [SEED] = {.name = "--self-text", .kind = CMD_COUNT, .ret = &o.seed, .max = UINT32_MAX},
        [WINDOWS] = {.name = "--windows",
                     .kind = CMD_COUNT,
                     .ret = &o.n_windows,
                     .min = 1,
                     .max = TEXT_MAX_WINDOWS},
        [POINTS] = {.name = "--points",
                    .kind = CMD_COUNT,
                    .ret = &o.n_points,
                    .min = 2,
                    .max = CMD_EVAL_POINTS},
        {.what = "PACK", .kind = CMD_TEXT, .ret = &o.pack},
        {.name = "--text", .kind = CMD_TEXT, .ret = &o.text},
        {.name = "--source", .kind = CMD_TEXT, .ret = &o.source},
        {.name = "--compare", .kind = CMD_LIST, .ret = &o.others},
        {.name = "--rung", .kind = CMD_TEXT, .ret = &o.rungs},
        {.name = "--position", .kind = CMD_TEXT, .ret = &o.positions},
        {.name = "--ladder", .kind = CMD_TEXT, .ret = &o.ladders},
        {.name = "--from", .kind = CMD_TEXT, .ret = &o.from},
        {.name = "--csv", .kind = CMD_TEXT, .ret = &o.csv},
        {.name = "--svg", .kind = CMD_TEXT, .ret = &o.svg},
        {.name = "--threads",
         .kind = CMD_COUNT,
         .ret = &o.n_threads,
         .min = 1,
         .max = POOL_MAX_THREADS},
        {.name = "--json", .kind = CMD_FLAG, .ret = &o.is_json},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    o.is_self = args[SEED].is_given;
    r = check(env, &o, args[WINDOWS].is_given, args[POINTS].is_given);
    if (r != CMD_OK) return r;

    struct err e = {0};
    struct tools t;
    r = cmd_tools_init(env, o.n_threads, &t, &e);
    if (r == 0) {
        r = eval(&t, &o, &e);
        cmd_tools_fini(&t);
    }
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}
