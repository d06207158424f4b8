/* What the files of ebb-pack eval share: cmd_eval.c (options, files), cmd_eval_places.c (rungs and
 * positions), cmd_eval_ladders.c (whole ladders) and cmd_eval_curves.c (what is told of those). */
#ifndef EBB_CORE_MAKE_CMD_EVAL_H
#define EBB_CORE_MAKE_CMD_EVAL_H

#include "core/defs.h"
#include "core/ladder.h"
#include "core/make/cmd.h"
#include "core/make/eval.h"
#include "core/make/text.h"

struct err;
struct gguf;
struct pack;
struct pack_temp;
struct tok;
struct tools;

enum {
    CMD_EVAL_POSITIONS = 64, /* of --rung and --position */
    CMD_EVAL_POSITION_MAX = 1 << 20,
    CMD_EVAL_LADDERS = 32,
    CMD_EVAL_POINTS = 32, /* of each ladder */
    CMD_EVAL_NAME = 40    /* of a ladder, with its end */
};

/* One entry of --rung or --position; a rung is looked up when the pack is open. */
struct cmd_eval_asked {
    bool is_rung;
    enum rung rung;
    uint32_t position;
};

struct cmd_eval_opts {
    const char *pack, *text, *source, *rungs, *positions, *ladders, *csv, *svg, *from;
    struct cmd_list others;
    struct cmd_eval_asked asked[CMD_EVAL_POSITIONS];
    uint32_t n_asked;
    char names[CMD_EVAL_LADDERS][CMD_EVAL_NAME]; /* of --ladder */
    uint32_t n_names, n_points;
    enum rung from_rung; /* of --from */
    uint32_t seed, n_windows, n_threads;
    bool is_json, is_self;
};

/* What is open while an evaluation runs. */
struct cmd_eval_inputs {
    struct pack *pack;
    struct tok *tok;
    struct gguf *source;
    struct eval_other others[CMD_LIST_MAX];
    struct gguf *opened[CMD_LIST_MAX]; /* the same files, owned */
    struct text text;
    /* Of --rung and --position; and the ladders, owned, for rungs that no position of the pack's
     * first one has every unit at. */
    struct eval_place places[CMD_EVAL_POSITIONS];
    struct ladder *made[RUNG_COUNT];
};

/* --rung and --position: parses them (CMD_OK or CMD_USAGE), finds them in the open pack, and judges
 * them. 0 or the first error. */
int cmd_eval_parse_places(const struct cmd_env *env, struct cmd_eval_opts *o);
int cmd_eval_find_places(const struct cmd_eval_opts *o, struct cmd_eval_inputs *in,
                         struct err *e) MUST_CHECK;
int cmd_eval_places(struct tools *t, const struct cmd_eval_opts *o,
                    const struct cmd_eval_inputs *in, struct err *e) MUST_CHECK;

/* --ladder, the same. Names are found and files to write are made before anything long begins. */
struct cmd_eval_ladders;
int cmd_eval_parse_ladders(const struct cmd_env *env, struct cmd_eval_opts *o);
int cmd_eval_open_ladders(const struct cmd_eval_opts *o, const struct pack *p,
                          struct cmd_eval_ladders **ret, struct err *e) MUST_CHECK;
void cmd_eval_close_ladders(struct cmd_eval_ladders *ls); /* accepts NULL */
int cmd_eval_ladders(struct tools *t, const struct cmd_eval_opts *o,
                     const struct cmd_eval_inputs *in, struct cmd_eval_ladders *ls,
                     struct err *e) MUST_CHECK;

/* One ladder, measured. */
struct cmd_eval_curve {
    char name[CMD_EVAL_NAME]; /* as asked for */
    bool is_random, is_oracle;
    struct ladder *made;         /* owned, or NULL: it is the pack's */
    const struct ladder *ladder; /* NULL until it is known */
    uint32_t n_points, positions[CMD_EVAL_POINTS];
    struct eval_score scores[CMD_EVAL_POINTS];
    /* Of KL, over the section; and the share of the way from the random orders to the oracle, with
     * its standard error. NaN where there is none. */
    double area, share, share_error;
};

struct cmd_eval_ladders {
    enum rung from, to;               /* the section */
    uint64_t top_bytes, bottom_bytes; /* of it, without core vectors */
    uint64_t core_bytes;
    uint32_t n_curves;
    struct cmd_eval_curve *curves; /* owned: [n_curves] */
    struct pack_temp *csv, *svg;   /* owned: files under way, or NULL */
    struct eval_result result;
    double random_area; /* mean of the random orders; NaN if there is none */
    uint32_t n_randoms;
};

/* Areas and shares from the scores. */
void cmd_eval_sum_up(struct cmd_eval_ladders *ls);
/* Results to standard output, as text or JSON. */
void cmd_eval_print(const struct cmd_eval_opts *o, const struct cmd_eval_ladders *ls);
/* Writes and publishes the files asked for. 0, -EINVAL (nothing that could be drawn), -ENOMEM or
 * the system's error. */
int cmd_eval_write(const struct cmd_eval_opts *o, const struct pack *p,
                   const struct cmd_eval_ladders *ls, struct err *e) MUST_CHECK;

/* ",\"key\":v", null if it is not known. */
void cmd_eval_json(const char *key, double v, bool is_known);

#endif
