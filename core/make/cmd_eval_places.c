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
        if (r == 0 && (ret->rung == RUNG_FULL || ret->rung == RUNG_HIGH)) return CMD_OK;
        return cmd_usage(env, "--rung is full or high, not '%s'", word);
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

/* The position that is meant, on the pack's first ladder. */
static int find_position(const struct cmd_eval_asked *a, const struct ladder *l, uint32_t *ret,
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

int cmd_eval_find_places(const struct cmd_eval_opts *o, const struct pack *p,
                         uint32_t positions[CMD_EVAL_POSITIONS], struct err *e) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < o->n_asked; i++)
        r = find_position(&o->asked[i], pack_ladder_at(p, 0), &positions[i], e);
    return r;
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

/* Without its braces; what needs a source is null without one. */
static void json_score(const struct cmd_eval_opts *o, const struct eval_score *s) {
    bool has_source = o->source != NULL;
    printf("\"ppl\":");
    cmd_json_num(stdout, s->ppl);
    cmd_eval_json("kl", s->kl, has_source);
    cmd_eval_json("top1", s->top1, has_source);
    cmd_eval_json("jaccard", s->jaccard, has_source);
    cmd_eval_json("bits_per_weight", s->bits_per_weight, true);
    printf(",\"bytes\":%" PRIu64, s->bytes);
}

static void json_positions(const struct cmd_eval_opts *o, const struct eval_place *places,
                           const struct eval_score *scores) {
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(places[i].ladder, places[i].position);
        printf("%s{\"position\":%u,\"rung\":", i ? "," : "", places[i].position);
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
                       const struct eval_place *places, const struct eval_score *scores,
                       const struct eval_result *r) {
    putchar('{');
    json_score(o, &scores[0]);
    printf(",\"windows\":%u", r->n_windows);
    cmd_eval_json("source_ppl", r->source_ppl, o->source != NULL);
    printf(",\"position\":%u,\"tokens\":%u,\"positions\":[", places[0].position, r->n_scored);
    json_positions(o, places, scores);
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

static void print_text(const struct cmd_eval_opts *o, const struct eval_place *places,
                       const struct eval_score *scores, const struct eval_result *r) {
    printf("%u windows, %u tokens scored", r->n_windows, r->n_scored);
    if (o->source) printf("; the source's perplexity is %.4f", r->source_ppl);
    printf("\n\n%-32s %13s %12s %11s", "", "bytes", "bits/weight", "perplexity");
    if (o->source) printf(" %10s %7s", "KL", "top-1");
    putchar('\n');
    for (uint32_t i = 0; i < o->n_asked; i++) {
        const char *rung = rung_at(places[i].ladder, places[i].position);
        char name[40];
        snprintf(name, sizeof(name), "position %u%s%s", places[i].position, rung ? ", all " : "",
                 rung ? rung : "");
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
    struct eval_place places[CMD_EVAL_POSITIONS];
    uint32_t positions[CMD_EVAL_POSITIONS];
    struct eval_result result;
    int r = cmd_eval_find_places(o, in->pack, positions, e);
    if (r < 0) return r;
    for (uint32_t i = 0; i < o->n_asked; i++)
        places[i] = (struct eval_place){pack_ladder_at(in->pack, 0), positions[i]};
    struct eval_task task = {.pack = in->pack,
                             .places = places,
                             .n_places = o->n_asked,
                             .others = in->others,
                             .n_others = o->others.n,
                             .source = in->source,
                             .text = &in->text};
    r = eval_run(t, &task, scores, &result, e);
    if (r == 0 && o->is_json) print_json(o, in, places, scores, &result);
    if (r == 0 && !o->is_json) print_text(o, places, scores, &result);
    return r;
}
