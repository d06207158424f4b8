/* ebb-pack eval --rung and --position: a pack held at single positions, beside other files. */
#include "core/make/cmd_eval.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/pack.h"

/* ---- what is asked for -------------------------------------------------------------------------
 */

static int parse_one(const struct cmd_env *env, bool is_rung, const char *s, size_t n,
                     struct cmd_eval_asked *ret) {
    char word[41];
    snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), s);
    *ret = (struct cmd_eval_asked){.is_rung = is_rung};
    if (is_rung) {
        int r = rung_parse(s, n, &ret->rung);
        if (r == 0 && ret->rung != RUNG_PAGED) return CMD_OK;
        return cmd_usage(env, "--rung is full, high or swsc, not '%s'", word);
    }
    char *end = word;
    unsigned long v = *word >= '0' && *word <= '9' ? strtoul(word, &end, 10) : 0;
    if (end == word || *end || v > CMD_EVAL_POSITION_MAX)
        return cmd_usage(env, "--position takes a number from 0 to %d, not '%s'",
                         CMD_EVAL_POSITION_MAX, word);
    ret->position = (uint32_t)v;
    return CMD_OK;
}

/* "full,high" or "0,12,31" */
int cmd_eval_parse_places(const struct cmd_env *env, struct cmd_eval_opts *o) {
    const char *s = o->rungs ? o->rungs : o->positions;
    for (;;) {
        size_t n = strcspn(s, ",");
        if (o->n_asked == CMD_EVAL_POSITIONS)
            return cmd_usage(env, "more than %d positions at once", CMD_EVAL_POSITIONS);
        int r = parse_one(env, o->rungs != NULL, s, n, &o->asked[o->n_asked++]);
        if (r != CMD_OK) return r;
        if (!s[n]) return CMD_OK;
        s += n + 1;
    }
}

/* The head has no form of the rung swsc and stays high then. */
static enum rung rung_of(const struct pack *p, uint32_t unit, enum rung rung) {
    return rung == RUNG_SWSC && unit == pack_hparams(p)->n_layers ? RUNG_HIGH : rung;
}

static bool is_all_at(const struct pack *p, const struct ladder *l, uint32_t position,
                      enum rung rung) {
    for (uint32_t u = 0; u < ladder_n_units(l); u++)
        if (ladder_rung(l, position, u) != rung_of(p, u, rung)) return false;
    return true;
}

/* A ladder that takes each unit down to the rung at once. */
static int make_ladder(const struct pack *p, enum rung rung, struct ladder **ret, struct err *e) {
    uint32_t n = model_n_units(pack_hparams(p));
    struct ladder_step *steps = calloc(n, sizeof(*steps));
    if (!steps) return err_set(e, -ENOMEM, "no memory for a ladder");
    uint64_t full_bytes = 0;
    for (uint32_t u = 0; u < n; u++) {
        enum rung to = rung_of(p, u, rung);
        uint64_t bytes = pack_unit_bytes(p, u, RUNG_FULL);
        full_bytes += bytes;
        steps[u] = (struct ladder_step){
            .unit = u, .from = RUNG_FULL, .to = to, .bytes = bytes - pack_unit_bytes(p, u, to)};
    }
    int r = ladder_create(rung_name(rung), n, full_bytes, steps, n, ret, e);
    free(steps);
    return r;
}

/* The place that is meant: on the pack's first ladder if it is there. */
static int find_place(const struct cmd_eval_asked *a, struct cmd_eval_inputs *in,
                      struct eval_place *ret, struct err *e) {
    const struct ladder *l = pack_ladder_at(in->pack, 0);
    uint32_t n = ladder_n_steps(l), at = 0;
    if (!a->is_rung) {
        *ret = (struct eval_place){l, a->position};
        if (a->position <= n) return 0;
        return err_set(e, -EINVAL, "position %u: the ladder has positions 0 to %u", a->position, n);
    }
    if (!pack_has_rung(in->pack, 0, a->rung))
        return err_set(e, -ENOTSUP, "the pack has no rung %s", rung_name(a->rung));
    while (at <= n && !is_all_at(in->pack, l, at, a->rung)) at++;
    *ret = (struct eval_place){l, at};
    if (at <= n) return 0;
    struct ladder **made = &in->made[a->rung];
    int r = *made ? 0 : make_ladder(in->pack, a->rung, made, e);
    if (r == 0) *ret = (struct eval_place){*made, ladder_n_steps(*made)};
    return r;
}

int cmd_eval_find_places(const struct cmd_eval_opts *o, struct cmd_eval_inputs *in, struct err *e) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < o->n_asked; i++)
        r = find_place(&o->asked[i], in, &in->places[i], e);
    return r;
}

/* ---- results -----------------------------------------------------------------------------------
 */

/* The rung that every unit has at a place; NULL if they differ. */
static const char *rung_at(const struct cmd_eval_inputs *in, const struct eval_place *at) {
    enum rung rung = ladder_rung(at->ladder, at->position, 0);
    return is_all_at(in->pack, at->ladder, at->position, rung) ? rung_name(rung) : NULL;
}

/* A number if it is one of the pack's first ladder. */
static void json_position(const struct cmd_eval_inputs *in, const struct eval_place *at) {
    bool is_there = at->ladder == pack_ladder_at(in->pack, 0);
    cmd_json_num(stdout, is_there ? (double)at->position : (double)NAN);
}

/* Without its braces; what needs a source is null without one. */
static void json_score(const struct cmd_eval_opts *o, const struct eval_score *s) {
    bool has_source = o->source != NULL;
    printf("\"ppl\":");
    cmd_json_num(stdout, s->ppl);
    cmd_eval_json("kl", s->kl, has_source);
    cmd_eval_json("top1", s->top1, has_source);
    cmd_eval_json("jaccard", s->jaccard, has_source);
    cmd_eval_json("bits_per_weight", s->bits_per_weight, true);
    cmd_eval_json("layer_bits_per_weight", s->layer_bits_per_weight, true);
    printf(",\"bytes\":%" PRIu64, s->bytes);
}

static void json_positions(const struct cmd_eval_opts *o, const struct cmd_eval_inputs *in,
                           const struct eval_score *scores) {
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(in, &in->places[i]);
        printf("%s{\"position\":", i ? "," : "");
        json_position(in, &in->places[i]);
        printf(",\"rung\":");
        if (rung)
            cmd_json_str(stdout, rung, strlen(rung));
        else
            printf("null");
        putchar(',');
        json_score(o, &scores[i]);
        putchar('}');
    }
}

static void json_others(const struct cmd_eval_opts *o, const struct eval_score *scores) {
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
        cmd_eval_json("high_error", pack_score(p, "ebb.distortion.high.error", u), true);
        cmd_eval_json("full_error", pack_score(p, "ebb.distortion.full.error", u), true);
        putchar('}');
    }
}

static void print_json(const struct cmd_eval_opts *o, const struct cmd_eval_inputs *in,
                       const struct eval_score *scores, const struct eval_result *r) {
    putchar('{');
    json_score(o, &scores[0]);
    printf(",\"windows\":%u", r->n_windows);
    cmd_eval_json("source_ppl", r->source_ppl, o->source != NULL);
    printf(",\"position\":");
    json_position(in, &in->places[0]);
    printf(",\"tokens\":%u,\"positions\":[", r->n_scored);
    json_positions(o, in, scores);
    printf("],\"compare\":[");
    json_others(o, scores);
    printf("],\"units\":[");
    json_units(in->pack);
    printf("]}\n");
}

static void text_score(const struct cmd_eval_opts *o, const char *name,
                       const struct eval_score *s) {
    for (const char *c = name; *c; c++) /* a file's name: no control bytes to a terminal */
        putchar((unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c);
    printf("%*s %13" PRIu64 " %12.3f %11.4f", (int)(32 - MIN(strlen(name), (size_t)32)), "",
           s->bytes, s->bits_per_weight, s->ppl);
    if (o->source) printf(" %10.5f %7.4f", s->kl, s->top1);
    putchar('\n');
}

static void print_text(const struct cmd_eval_opts *o, const struct cmd_eval_inputs *in,
                       const struct eval_score *scores, const struct eval_result *r) {
    printf("%u windows, %u tokens scored", r->n_windows, r->n_scored);
    if (o->source) printf("; the source's perplexity is %.4f", r->source_ppl);
    printf("\n\n%-32s %13s %12s %11s", "", "bytes", "bits/weight", "perplexity");
    if (o->source) printf(" %10s %7s", "KL", "top-1");
    putchar('\n');
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(in, &in->places[i]);
        char name[40];
        if (in->places[i].ladder == pack_ladder_at(in->pack, 0))
            snprintf(name, sizeof(name), "position %u%s%s", in->places[i].position,
                     rung ? ", all " : "", rung ? rung : "");
        else
            snprintf(name, sizeof(name), "all %s", rung ? rung : "");
        text_score(o, name, &scores[i]);
    }
    for (uint32_t i = 0; i < o->others.n; i++) {
        const char *slash = strrchr(o->others.v[i], '/');
        text_score(o, slash ? slash + 1 : o->others.v[i], &scores[o->n_asked + i]);
    }
}

int cmd_eval_places(struct tools *t, const struct cmd_eval_opts *o,
                    const struct cmd_eval_inputs *in, struct err *e) {
    struct eval_score scores[CMD_EVAL_POSITIONS + CMD_LIST_MAX];
    struct eval_result result;
    struct eval_task task = {.pack = in->pack,
                             .places = in->places,
                             .n_places = o->n_asked,
                             .others = in->others,
                             .n_others = o->others.n,
                             .source = in->source,
                             .text = &in->text};
    int r = eval_run(t, &task, scores, &result, e);
    if (r == 0 && o->is_json) print_json(o, in, scores, &result);
    if (r == 0 && !o->is_json) print_text(o, in, scores, &result);
    return r;
}
