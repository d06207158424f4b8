/* ebb-pack eval: options in, one call of eval_run(), numbers out. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/ladder.h"
#include "core/make/build.h"
#include "core/make/cmd.h"
#include "core/make/eval.h"
#include "core/make/selftext.h"
#include "core/make/text.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/tok.h"

enum { MAX_POSITIONS = 64, MAX_POSITION = 1 << 20, SELF_WINDOWS = 32 };

/* One entry of --rung or --position; a rung is looked up when the pack is open. */
struct asked {
    bool is_rung;
    enum rung rung;
    uint32_t position;
};

struct opts {
    const char *pack, *text, *source, *rungs, *positions;
    struct cmd_list others;
    struct asked asked[MAX_POSITIONS];
    uint32_t n_asked;
    uint32_t seed, n_windows, n_threads;
    bool is_json, is_self;
};

/* What is open while an evaluation runs. */
struct inputs {
    struct pack *pack;
    struct tok *tok;
    const struct ladder *ladder;
    struct gguf *source;
    struct eval_other others[CMD_LIST_MAX];
    struct gguf *opened[CMD_LIST_MAX]; /* the same files, owned */
    uint32_t positions[MAX_POSITIONS];
    struct text text;
};

/* ---- options -----------------------------------------------------------------------------------
 */

static int parse_one(const struct cmd_env *env, bool is_rung, const char *s, size_t n,
                     struct asked *ret) {
    char word[41];
    snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), s);
    *ret = (struct asked){.is_rung = is_rung};
    if (is_rung) {
        int r = rung_parse(s, n, &ret->rung);
        if (r == 0 && (ret->rung == RUNG_FULL || ret->rung == RUNG_HIGH)) return CMD_OK;
        return cmd_usage(env, "--rung is full or high, not '%s'", word);
    }
    char *end = word;
    unsigned long v = *word >= '0' && *word <= '9' ? strtoul(word, &end, 10) : 0;
    if (end == word || *end || v > MAX_POSITION)
        return cmd_usage(env, "--position takes a number from 0 to %d, not '%s'", MAX_POSITION,
                         word);
    ret->position = (uint32_t)v;
    return CMD_OK;
}

/* "full,high" or "0,12,31" */
static int parse_asked(const struct cmd_env *env, struct opts *o) {
    const char *s = o->rungs ? o->rungs : o->positions;
    for (;;) {
        size_t n = strcspn(s, ",");
        if (o->n_asked == MAX_POSITIONS)
            return cmd_usage(env, "more than %d positions at once", MAX_POSITIONS);
        int r = parse_one(env, o->rungs != NULL, s, n, &o->asked[o->n_asked++]);
        if (r != CMD_OK) return r;
        if (!s[n]) return CMD_OK;
        s += n + 1;
    }
}

static int check(const struct cmd_env *env, struct opts *o, bool has_windows) {
    if (!o->text && !o->is_self) return cmd_usage(env, "--text FILE is missing");
    if (o->text && o->is_self) return cmd_usage(env, "give --text or --self-text, one of them");
    if (o->is_self && !o->source)
        return cmd_usage(env, "--self-text is written by the source: --source is missing");
    if (!o->rungs == !o->positions) return cmd_usage(env, "give --rung or --position, one of them");
    if (!has_windows) o->n_windows = o->is_self ? SELF_WINDOWS : BUILD_WINDOWS;
    return parse_asked(env, o);
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* The position that is meant, on the pack's first ladder. */
static int find_position(const struct asked *a, const struct ladder *l, uint32_t *ret,
                         struct err *e) {
    if (!a->is_rung) {
        if (a->position > ladder_n_steps(l))
            return err_set(e, -EINVAL, "position %u: the ladder has positions 0 to %u", a->position,
                           ladder_n_steps(l));
        *ret = a->position;
        return 0;
    }
    *ret = a->rung == RUNG_FULL ? 0 : ladder_all_at(l, a->rung);
    if (*ret > ladder_n_steps(l))
        return err_set(e, -ENOTSUP, "no position of this pack has every unit at %s",
                       rung_name(a->rung));
    return 0;
}

static int open_pack(const struct opts *o, struct inputs *in, struct err *e) {
    int r = pack_open(o->pack, &in->pack, e);
    if (r < 0) return r;
    r = tok_create(pack_gguf(in->pack), &in->tok, e);
    if (r == 0 && pack_n_ladders(in->pack) == 0) r = err_set(e, -EBADMSG, "the pack has no ladder");
    if (r == 0) in->ladder = pack_ladder_at(in->pack, 0);
    for (uint32_t i = 0; r == 0 && i < o->n_asked; i++)
        r = find_position(&o->asked[i], in->ladder, &in->positions[i], e);
    if (r < 0) err_prefix(e, "%s", o->pack);
    return r;
}

static int open_all(struct tools *t, const struct opts *o, struct inputs *in, struct err *e) {
    int r = open_pack(o, in, e);
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

static void close_all(const struct opts *o, struct inputs *in) {
    text_fini(&in->text);
    for (uint32_t i = 0; i < o->others.n; i++) gguf_close(in->opened[i]);
    gguf_close(in->source);
    tok_destroy(in->tok);
    pack_close(in->pack);
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* The rung that every unit has at a position; NULL if they differ. */
static const char *rung_at(const struct ladder *l, uint32_t position) {
    enum rung rung = ladder_rung(l, position, 0);
    for (uint32_t u = 1; u < ladder_n_units(l); u++)
        if (ladder_rung(l, position, u) != rung) return NULL;
    return rung_name(rung);
}

static void json_num(const char *key, double v, bool is_known) {
    printf(",\"%s\":", key);
    cmd_json_num(stdout, is_known ? v : (double)NAN);
}

/* Without its braces; what needs a source is null without one. */
static void json_score(const struct opts *o, const struct eval_score *s) {
    bool has_source = o->source != NULL;
    printf("\"ppl\":");
    cmd_json_num(stdout, s->ppl);
    json_num("kl", s->kl, has_source);
    json_num("top1", s->top1, has_source);
    json_num("bits_per_weight", s->bits_per_weight, true);
    printf(",\"bytes\":%" PRIu64, s->bytes);
}

static void json_positions(const struct opts *o, const struct inputs *in,
                           const struct eval_score *scores) {
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(in->ladder, in->positions[i]);
        printf("%s{\"position\":%u,\"rung\":", i ? "," : "", in->positions[i]);
        if (rung)
            cmd_json_str(stdout, rung, strlen(rung));
        else
            printf("null");
        putchar(',');
        json_score(o, &scores[i]);
        putchar('}');
    }
}

static void json_others(const struct opts *o, const struct eval_score *scores) {
    for (uint32_t i = 0; i < o->others.n; i++) {
        printf("%s{\"file\":", i ? "," : "");
        cmd_json_str(stdout, o->others.v[i], strlen(o->others.v[i]));
        putchar(',');
        json_score(o, &scores[o->n_asked + i]);
        putchar('}');
    }
}

/* The weighted output errors of the unit's matrices, which the packer has left in the pack. */
static void json_units(const struct pack *p) {
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) {
        char name[32];
        model_unit_name(pack_hparams(p), u, name, sizeof(name));
        printf("%s{\"name\":", u ? "," : "");
        cmd_json_str(stdout, name, strlen(name));
        json_num("high_error", pack_score(p, "ebb.distortion.high.error", u), true);
        json_num("full_error", pack_score(p, "ebb.distortion.full.error", u), true);
        putchar('}');
    }
}

static void print_json(const struct opts *o, const struct inputs *in,
                       const struct eval_score *scores, const struct eval_result *r) {
    putchar('{');
    json_score(o, &scores[0]);
    printf(",\"windows\":%u", r->n_windows);
    json_num("source_ppl", r->source_ppl, o->source != NULL);
    printf(",\"position\":%u,\"tokens\":%u,\"positions\":[", in->positions[0], r->n_scored);
    json_positions(o, in, scores);
    printf("],\"compare\":[");
    json_others(o, scores);
    printf("],\"units\":[");
    json_units(in->pack);
    printf("]}\n");
}

static void text_score(const struct opts *o, const char *name, const struct eval_score *s) {
    for (const char *c = name; *c; c++) /* a file's name: no control bytes to a terminal */
        putchar((unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c);
    printf("%*s %13" PRIu64 " %12.3f %11.4f", (int)(32 - MIN(strlen(name), (size_t)32)), "",
           s->bytes, s->bits_per_weight, s->ppl);
    if (o->source) printf(" %10.5f %7.4f", s->kl, s->top1);
    putchar('\n');
}

static void print_text(const struct opts *o, const struct inputs *in,
                       const struct eval_score *scores, const struct eval_result *r) {
    printf("%u windows, %u tokens scored", r->n_windows, r->n_scored);
    if (o->source) printf("; the source's perplexity is %.4f", r->source_ppl);
    printf("\n\n%-32s %13s %12s %11s", "", "bytes", "bits/weight", "perplexity");
    if (o->source) printf(" %10s %7s", "KL", "top-1");
    putchar('\n');
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(in->ladder, in->positions[i]);
        char name[40];
        snprintf(name, sizeof(name), "position %u%s%s", in->positions[i], rung ? ", all " : "",
                 rung ? rung : "");
        text_score(o, name, &scores[i]);
    }
    for (uint32_t i = 0; i < o->others.n; i++) {
        const char *slash = strrchr(o->others.v[i], '/');
        text_score(o, slash ? slash + 1 : o->others.v[i], &scores[o->n_asked + i]);
    }
}

static int eval(struct tools *t, const struct opts *o, struct err *e) {
    struct inputs in = {0};
    struct eval_score scores[MAX_POSITIONS + CMD_LIST_MAX];
    struct eval_result result;
    int r = open_all(t, o, &in, e);
    if (r == 0) {
        struct eval_task task = {.pack = in.pack,
                                 .ladder = in.ladder,
                                 .positions = in.positions,
                                 .n_positions = o->n_asked,
                                 .others = in.others,
                                 .n_others = o->others.n,
                                 .source = in.source,
                                 .text = &in.text};
        r = eval_run(t, &task, scores, &result, e);
    }
    if (r == 0 && o->is_json) print_json(o, &in, scores, &result);
    if (r == 0 && !o->is_json) print_text(o, &in, scores, &result);
    close_all(o, &in);
    return r;
}

int cmd_eval(const struct cmd_env *env, int argc, char **argv) {
    struct opts o = {0};
    enum { SEED, WINDOWS };
    struct cmd_arg args[] = {
        [SEED] = {.name = "--self-text", .kind = CMD_COUNT, .ret = &o.seed, .max = UINT32_MAX},
        [WINDOWS] = {.name = "--windows",
                     .kind = CMD_COUNT,
                     .ret = &o.n_windows,
                     .min = 1,
                     .max = TEXT_MAX_WINDOWS},
        {.what = "PACK", .kind = CMD_TEXT, .ret = &o.pack},
        {.name = "--text", .kind = CMD_TEXT, .ret = &o.text},
        {.name = "--source", .kind = CMD_TEXT, .ret = &o.source},
        {.name = "--compare", .kind = CMD_LIST, .ret = &o.others},
        {.name = "--rung", .kind = CMD_TEXT, .ret = &o.rungs},
        {.name = "--position", .kind = CMD_TEXT, .ret = &o.positions},
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
    r = check(env, &o, args[WINDOWS].is_given);
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
