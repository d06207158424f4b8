/* ebb-pack eval: options in, one call of eval_run(), numbers out. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/ladder.h"
#include "core/make/build.h"
#include "core/make/cmd.h"
#include "core/make/eval.h"
#include "core/make/text.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/tok.h"

struct opts {
    const char *pack, *text, *source, *rung;
    uint32_t position, n_windows, n_threads;
    bool is_json, has_position;
};

/* The position that --rung or --position means, on the pack's first ladder. */
static int find_position(const struct opts *o, const struct ladder *l, uint32_t *ret,
                         struct err *e) {
    if (!o->rung) {
        if (o->position > ladder_n_steps(l))
            return err_set(e, -EINVAL, "position %u: the ladder has positions 0 to %u", o->position,
                           ladder_n_steps(l));
        *ret = o->position;
        return 0;
    }
    enum rung rung;
    int r = rung_parse(o->rung, strlen(o->rung), &rung);
    ASSERT(r == 0); /* checked with the command line */
    *ret = rung == RUNG_FULL ? 0 : ladder_all_at(l, rung);
    if (*ret > ladder_n_steps(l))
        return err_set(e, -ENOTSUP, "no position of this pack has every unit at %s", o->rung);
    return 0;
}

static void print_json(const struct opts *o, const struct eval_result *r, uint32_t position) {
    double none = o->source ? 0.0 : (double)NAN;
    printf("{\"ppl\":");
    cmd_json_num(stdout, r->ppl);
    printf(",\"kl\":");
    cmd_json_num(stdout, r->kl + none);
    printf(",\"top1\":");
    cmd_json_num(stdout, r->top1 + none);
    printf(",\"bits_per_weight\":");
    cmd_json_num(stdout, r->bits_per_weight);
    printf(",\"bytes\":%" PRIu64 ",\"windows\":%u,\"source_ppl\":", r->bytes, r->n_windows);
    cmd_json_num(stdout, r->source_ppl + none);
    printf(",\"position\":%u,\"tokens\":%u}\n", position, r->n_scored);
}

static void print_text(const struct opts *o, const struct eval_result *r, uint32_t position) {
    printf("position         %u\n", position);
    printf("bytes            %" PRIu64 " (%.2f bits a weight)\n", r->bytes, r->bits_per_weight);
    printf("windows          %u (%u tokens scored)\n", r->n_windows, r->n_scored);
    printf("perplexity       %.4f\n", r->ppl);
    if (!o->source) return;
    printf("source's         %.4f\n", r->source_ppl);
    printf("KL to source     %.5f\n", r->kl);
    printf("top-1 agreement  %.4f\n", r->top1);
}

static int eval(struct tools *t, const struct opts *o, struct err *e) {
    struct pack *p = NULL;
    struct tok *tok = NULL;
    struct gguf *source = NULL;
    struct text text = {0};
    struct eval_result result;
    uint32_t position = 0;
    const struct ladder *l = NULL;
    int r = pack_open(o->pack, &p, e);
    if (r == 0) {
        r = tok_create(pack_gguf(p), &tok, e);
        if (r == 0 && pack_n_ladders(p) == 0) r = err_set(e, -EBADMSG, "the pack has no ladder");
        if (r == 0) {
            l = pack_ladder_at(p, 0);
            r = find_position(o, l, &position, e);
        }
        if (r < 0) err_prefix(e, "%s", o->pack);
    }
    if (r == 0 && o->source) r = gguf_open(o->source, &source, e);
    if (r == 0) r = text_read(tok, o->text, o->n_windows, BUILD_WINDOW, &text, e);
    if (r == 0) r = eval_run(t, p, l, position, source, &text, &result, e);
    if (r == 0 && o->is_json) print_json(o, &result, position);
    if (r == 0 && !o->is_json) print_text(o, &result, position);
    text_fini(&text);
    gguf_close(source);
    tok_destroy(tok);
    pack_close(p);
    return r;
}

int cmd_eval(const struct cmd_env *env, int argc, char **argv) {
    struct opts o = {.n_windows = BUILD_WINDOWS};
    struct cmd_arg args[] = {
        {.what = "PACK", .kind = CMD_TEXT, .ret = &o.pack},
        {.name = "--text", .kind = CMD_TEXT, .ret = &o.text},
        {.name = "--source", .kind = CMD_TEXT, .ret = &o.source},
        {.name = "--rung", .kind = CMD_TEXT, .ret = &o.rung},
        {.name = "--position", .kind = CMD_COUNT, .ret = &o.position, .max = 1 << 20},
        {.name = "--windows",
         .kind = CMD_COUNT,
         .ret = &o.n_windows,
         .min = 1,
         .max = TEXT_MAX_WINDOWS},
        {.name = "--threads",
         .kind = CMD_COUNT,
         .ret = &o.n_threads,
         .min = 1,
         .max = POOL_MAX_THREADS},
        {.name = "--json", .kind = CMD_FLAG, .ret = &o.is_json},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    o.has_position = args[4].is_given;
    if (!o.text) return cmd_usage(env, "--text FILE is missing");
    if (!o.rung == !o.has_position) return cmd_usage(env, "give --rung or --position, one of them");
    if (o.rung && strcmp(o.rung, "full") != 0 && strcmp(o.rung, "high") != 0)
        return cmd_usage(env, "--rung is full or high, not '%.40s'", o.rung);

    struct err e = {0};
    struct tools t;
    r = cmd_tools_init(env, o.n_threads, &t, &e);
    if (r == 0) {
        r = eval(&t, &o, &e);
        cmd_tools_fini(&t);
    }
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}
