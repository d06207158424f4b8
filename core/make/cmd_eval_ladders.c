/* ebb-pack eval --ladder: names to ladders, where to measure them, one run for all of them. */
#include "core/make/cmd_eval.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/curve.h"
#include "core/make/order.h"
#include "core/make/score.h"
#include "core/make/tools.h"
#include "core/pack.h"
#include "core/pack_temp.h"

/* Spread over the text. The order of the units hardly changes with more, and scoring them takes as
 * long as half a dozen ladders. */
enum { ORACLE_WINDOWS = 24 };

static const char random_word[] = "random:";

/* ---- names -------------------------------------------------------------------------------------
 */

/* The seed of "random:SEED"; false if it is no such name. */
static bool parse_random(const char *name, uint64_t *ret) {
    size_t n = strlen(random_word);
    if (strncmp(name, random_word, n) != 0) return false;
    const char *digits = name + n;
    size_t n_digits = strlen(digits);
    if (n_digits == 0 || n_digits > 18 || strspn(digits, "0123456789") != n_digits) return false;
    *ret = strtoull(digits, NULL, 10);
    return true;
}

static int parse_name(const struct cmd_env *env, struct cmd_eval_opts *o, const char *s, size_t n) {
    if (n == 0) return cmd_usage(env, "--ladder: a name is empty");
    if (o->n_names == CMD_EVAL_LADDERS)
        return cmd_usage(env, "more than %d ladders at once", CMD_EVAL_LADDERS);
    if (n >= CMD_EVAL_NAME)
        return cmd_usage(env, "--ladder: the name '%.*s...' is too long", CMD_EVAL_NAME, s);
    char *name = o->names[o->n_names];
    memcpy(name, s, n);
    name[n] = '\0';
    uint64_t seed;
    if (strncmp(name, random_word, strlen(random_word)) == 0 && !parse_random(name, &seed))
        return cmd_usage(env, "--ladder takes random:SEED with a number, not '%s'", name);
    for (uint32_t i = 0; i < o->n_names; i++)
        if (strcmp(o->names[i], name) == 0)
            return cmd_usage(env, "--ladder names '%s' twice", name);
    o->n_names++;
    return CMD_OK;
}

/* The section goes from this rung to the one below it. */
static int parse_section(const struct cmd_env *env, struct cmd_eval_opts *o) {
    const char *word = o->from ? o->from : "full";
    if (rung_parse(word, strlen(word), &o->from_rung) == 0 && o->from_rung < RUNG_SWSC)
        return CMD_OK;
    return cmd_usage(env, "--from is full or high, not '%.40s'", word);
}

int cmd_eval_parse_ladders(const struct cmd_env *env, struct cmd_eval_opts *o) {
    const char *s = o->ladders;
    int bad = parse_section(env, o);
    if (bad != CMD_OK) return bad;
    for (;;) {
        size_t n = strcspn(s, ",");
        int r = parse_name(env, o, s, n);
        if (r != CMD_OK) return r;
        if (!s[n]) return CMD_OK;
        s += n + 1;
    }
}

/* The ladder of a name, unless it is the oracle's, which is made when the text has been read. */
static int find_ladder(const struct pack *p, const struct cmd_eval_ladders *ls,
                       struct cmd_eval_curve *c, struct err *e) {
    uint32_t n_units = model_n_units(pack_hparams(p));
    uint64_t seed = 0;
    c->ladder = pack_ladder(p, c->name);
    if (c->ladder) {
        if (ladder_bytes(c->ladder, ladder_n_steps(c->ladder)) <= ls->bottom_bytes) return 0;
        return err_set(e, -ENOTSUP, "ladder %s ends before every unit is at %s", c->name,
                       rung_name(ls->to));
    }
    c->is_oracle = strcmp(c->name, "oracle") == 0;
    c->is_random = parse_random(c->name, &seed);
    if (c->is_oracle) return 0;
    uint32_t *units = calloc(n_units, sizeof(*units));
    if (!units) return err_set(e, -ENOMEM, "no memory for an order of the units");
    int r = 0;
    if (c->is_random)
        order_random(n_units, seed, units);
    else if (strcmp(c->name, "front") == 0)
        order_front(n_units, units);
    else if (strcmp(c->name, "back") == 0)
        order_back(n_units, units);
    else
        r = cmd_ladder(p, c->name, "; made for comparison: front, back, random:SEED, oracle",
                       &c->ladder, e);
    /* A ladder's name has no colon. */
    if (r == 0)
        r = order_ladder(p, c->is_random ? "random" : c->name, ls->from, ls->to, units, NULL,
                         &c->made, e);
    c->ladder = c->made;
    free(units);
    return r;
}

/* ---- life --------------------------------------------------------------------------------------
 */

int cmd_eval_open_ladders(const struct cmd_eval_opts *o, const struct pack *p,
                          struct cmd_eval_ladders **ret, struct err *e) {
    struct cmd_eval_ladders *ls = calloc(1, sizeof(*ls));
    if (!ls) return err_set(e, -ENOMEM, "no memory for ladders");
    *ret = ls; /* the caller closes it, whatever comes */
    ls->from = o->from_rung;
    ls->to = (enum rung)(o->from_rung + 1);
    ls->curves = calloc(o->n_names, sizeof(*ls->curves));
    if (!ls->curves) return err_set(e, -ENOMEM, "no memory for ladders");
    ls->n_curves = o->n_names;
    ls->core_bytes = cmd_core_bytes(p);
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) {
        ls->top_bytes += pack_unit_bytes(p, u, ls->from);
        ls->bottom_bytes += pack_unit_bytes(p, u, ls->from) - order_freed(p, u, ls->from, ls->to);
    }
    int r = 0;
    if (ls->bottom_bytes == ls->top_bytes)
        r = err_set(e, -ENOTSUP, "no unit of the pack has the rung %s", rung_name(ls->to));
    for (uint32_t i = 0; r == 0 && i < ls->n_curves; i++) {
        memcpy(ls->curves[i].name, o->names[i], sizeof(ls->curves[i].name));
        r = find_ladder(p, ls, &ls->curves[i], e);
    }
    if (r < 0) {
        err_prefix(e, "%s", o->pack);
        return r;
    }
    if (o->csv) r = pack_temp_create(o->csv, &ls->csv, e);
    if (r == 0 && o->svg) r = pack_temp_create(o->svg, &ls->svg, e);
    return r;
}

void cmd_eval_close_ladders(struct cmd_eval_ladders *ls) {
    if (!ls) return;
    for (uint32_t i = 0; ls->curves && i < ls->n_curves; i++) ladder_destroy(ls->curves[i].made);
    pack_temp_destroy(ls->csv);
    pack_temp_destroy(ls->svg);
    free(ls->curves);
    free(ls);
}

/* ---- running -----------------------------------------------------------------------------------
 */

/* The order that knows what each unit alone costs on the very text that all are judged on. */
static int make_oracle(struct tools *t, const struct cmd_eval_inputs *in,
                       const struct cmd_eval_ladders *ls, struct cmd_eval_curve *c, struct err *e) {
    uint32_t n_units = model_n_units(pack_hparams(in->pack));
    struct score_unit *scores = calloc(n_units, sizeof(*scores));
    double *loss = calloc(n_units, sizeof(*loss));
    uint64_t *freed = calloc(n_units, sizeof(*freed));
    uint32_t *units = calloc(n_units, sizeof(*units));
    struct score_result result;
    int r = 0;
    if (!scores || !loss || !freed || !units)
        r = err_set(e, -ENOMEM, "no memory for the oracle's order");
    struct score_task task = {.pack = in->pack,
                              .text = &in->text,
                              .upper = ls->from,
                              .lower = ls->to,
                              .n_windows = MIN(in->text.n_windows, (uint32_t)ORACLE_WINDOWS),
                              .window = in->text.window};
    if (r == 0) r = score_run(t, &task, scores, &result, e);
    if (r == 0) {
        for (uint32_t u = 0; u < n_units; u++) {
            loss[u] = scores[u].kl;
            freed[u] = order_freed(in->pack, u, ls->from, ls->to);
        }
        order_by_price(n_units, loss, freed, units);
        r = order_ladder(in->pack, "oracle", ls->from, ls->to, units, loss, &c->made, e);
        c->ladder = c->made;
    }
    free(scores);
    free(loss);
    free(freed);
    free(units);
    return r;
}

static uint32_t add_places(const struct cmd_eval_opts *o, const struct cmd_eval_ladders *ls,
                           struct eval_place *places) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        struct cmd_eval_curve *c = &ls->curves[i];
        c->n_points = curve_positions(c->ladder, ls->top_bytes, ls->bottom_bytes, o->n_points,
                                      c->positions);
        for (uint32_t k = 0; k < c->n_points; k++)
            places[n++] = (struct eval_place){c->ladder, c->positions[k]};
    }
    return n;
}

static int measure(struct tools *t, const struct cmd_eval_opts *o, const struct cmd_eval_inputs *in,
                   struct cmd_eval_ladders *ls, struct err *e) {
    uint32_t max = ls->n_curves * CMD_EVAL_POINTS;
    struct eval_place *places = calloc(max, sizeof(*places));
    struct eval_score *scores = calloc(max, sizeof(*scores));
    struct eval_place best = {ls->curves[0].ladder, 0};
    int r = places && scores ? 0 : err_set(e, -ENOMEM, "no memory for %u places", max);
    if (r == 0) {
        struct eval_task task = {.pack = in->pack,
                                 .places = places,
                                 .n_places = add_places(o, ls, places),
                                 .source = in->source,
                                 .reference = in->source ? NULL : &best,
                                 .text = &in->text};
        r = eval_run(t, &task, scores, &ls->result, e);
    }
    if (r == 0) {
        const struct eval_score *from = scores;
        for (uint32_t i = 0; i < ls->n_curves; i++) {
            struct cmd_eval_curve *c = &ls->curves[i];
            memcpy(c->scores, from, c->n_points * sizeof(*from));
            from += c->n_points;
        }
    }
    free(places);
    free(scores);
    return r;
}

int cmd_eval_ladders(struct tools *t, const struct cmd_eval_opts *o,
                     const struct cmd_eval_inputs *in, struct cmd_eval_ladders *ls, struct err *e) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < ls->n_curves; i++)
        if (ls->curves[i].is_oracle) r = make_oracle(t, in, ls, &ls->curves[i], e);
    if (r == 0) r = measure(t, o, in, ls, e);
    if (r < 0) return r;
    cmd_eval_sum_up(ls);
    cmd_eval_print(o, ls);
    return cmd_eval_write(o, in->pack, ls, e);
}
