/* ebb-pack plan: what a pack is for a number of bytes, and how much better it could be. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/make/bound.h"
#include "core/make/cmd.h"
#include "core/pack.h"

struct answer {
    const struct pack *pack;
    const struct ladder *ladder;
    uint64_t budget_bytes, core_bytes, bytes; /* bytes: those held, core vectors included */
    uint32_t position;
    uint32_t n_units[RUNG_COUNT];
    double loss;
    struct bound bound; /* NaN where units are paged */
};

/* The one asked for; else jaccard, the daemon's default, or the pack's first. */
static int find_ladder(const struct pack *p, const char *name, const struct ladder **ret,
                       struct err *e) {
    if (name) return cmd_ladder(p, name, "", ret, e);
    *ret = pack_ladder(p, "jaccard");
    if (!*ret && pack_n_ladders(p) > 0) *ret = pack_ladder_at(p, 0);
    return *ret ? 0 : err_set(e, -EBADMSG, "the pack has no ladder");
}

static int solve(const struct pack *p, const char *name, uint64_t budget_bytes, struct answer *a,
                 struct err *e) {
    *a = (struct answer){.pack = p, .budget_bytes = budget_bytes};
    int r = find_ladder(p, name, &a->ladder, e);
    if (r < 0) return r;
    const struct ladder *l = a->ladder;
    a->core_bytes = cmd_core_bytes(p);
    uint64_t least = ladder_bytes(l, ladder_n_steps(l)) + a->core_bytes;
    if (budget_bytes < least)
        return err_set(e, -ERANGE,
                       "%" PRIu64 " bytes are too few: the ladder's last position takes %" PRIu64
                       " (%.1f MiB), %" PRIu64 " of them core vectors",
                       budget_bytes, least, (double)least / 1048576, a->core_bytes);
    bool fits;
    a->position = ladder_fit(l, budget_bytes - a->core_bytes, &fits);
    ASSERT(fits);
    a->bytes = ladder_bytes(l, a->position) + a->core_bytes;
    for (uint32_t i = 0; i < a->position; i++) a->loss += (double)ladder_step_at(l, i)->cost;
    for (uint32_t u = 0; u < ladder_n_units(l); u++) a->n_units[ladder_rung(l, a->position, u)]++;
    r = bound_of_ladder(l, budget_bytes - a->core_bytes, &a->bound, e);
    if (r == -ENOSPC) {
        a->bound.loss = a->bound.price = (double)NAN;
        r = 0;
    }
    return r;
}

/* What rounding leaves of no gap is none. */
static double gap_of(const struct answer *a) {
    double gap = a->loss - a->bound.loss;
    return fabs(gap) <= 1e-9 * fabs(a->loss) ? 0.0 : gap;
}

static void print_json(const struct answer *a) {
    printf("{\"ladder\":");
    cmd_json_str(stdout, ladder_name(a->ladder), strlen(ladder_name(a->ladder)));
    printf(",\"budget_bytes\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"core_bytes\":%" PRIu64
           ",\"position\":%u,\"positions\":%u,\"loss\":",
           a->budget_bytes, a->bytes, a->core_bytes, a->position, ladder_n_steps(a->ladder));
    cmd_json_num(stdout, a->loss);
    printf(",\"bound\":");
    cmd_json_num(stdout, a->bound.loss);
    printf(",\"gap\":");
    cmd_json_num(stdout, gap_of(a));
    printf(",\"price\":");
    cmd_json_num(stdout, a->bound.price);
    printf(",\"rungs\":{");
    for (int r = 0; r < RUNG_COUNT; r++)
        printf("%s\"%s\":%u", r ? "," : "", rung_name((enum rung)r), a->n_units[r]);
    printf("},\"units\":[");
    for (uint32_t u = 0; u < ladder_n_units(a->ladder); u++) {
        enum rung rung = ladder_rung(a->ladder, a->position, u);
        char name[32];
        model_unit_name(pack_hparams(a->pack), u, name, sizeof(name));
        printf("%s{\"name\":", u ? "," : "");
        cmd_json_str(stdout, name, strlen(name));
        printf(",\"rung\":\"%s\",\"bytes\":%" PRIu64 "}", rung_name(rung),
               rung == RUNG_PAGED ? 0 : pack_unit_bytes(a->pack, u, rung));
    }
    printf("]}\n");
}

static void print_text(const struct answer *a) {
    const struct ladder *l = a->ladder;
    printf("ladder    %s\nposition  %u of %u\nbytes     %" PRIu64 " of %" PRIu64
           " (%.1f of %.1f MiB): weights and, %" PRIu64 ", core vectors.\n"
           "          ebbd's budget also holds KV cache and scratch\n",
           ladder_name(l), a->position, ladder_n_steps(l), a->bytes, a->budget_bytes,
           (double)a->bytes / 1048576, (double)a->budget_bytes / 1048576, a->core_bytes);
    printf("loss      %.6g, the sum of the steps' costs\n", a->loss);
    if (isnan(a->bound.loss))
        printf("bound     -: not everything can be resident, and paging costs time, not quality\n");
    else
        printf("bound     %.6g: no choice of rungs of this size loses less\n"
               "gap       %.3g (%.2f %%)\nprice     %.3g more loss for a MiB less\n",
               a->bound.loss, gap_of(a), a->loss > 0.0 ? 100.0 * gap_of(a) / a->loss : 0.0,
               a->bound.price * 1048576);
    printf("units    ");
    for (int r = 0; r < RUNG_COUNT; r++)
        if (a->n_units[r] > 0) printf(" %u %s", a->n_units[r], rung_name((enum rung)r));
    printf("\n\n");
    for (uint32_t u = 0; u < ladder_n_units(l); u++) {
        char name[32];
        printf("%-10s %s\n", model_unit_name(pack_hparams(a->pack), u, name, sizeof(name)),
               rung_name(ladder_rung(l, a->position, u)));
    }
}

int cmd_plan(const struct cmd_env *env, int argc, char **argv) {
    const char *path = NULL, *name = NULL;
    uint64_t bytes = 0;
    bool is_json = false;
    enum { BYTES };
    struct cmd_arg args[] = {
        [BYTES] = {.name = "--bytes", .kind = CMD_BYTES, .ret = &bytes},
        {.what = "PACK", .kind = CMD_TEXT, .ret = &path},
        {.name = "--ladder", .kind = CMD_TEXT, .ret = &name},
        {.name = "--json", .kind = CMD_FLAG, .ret = &is_json},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    if (!args[BYTES].is_given) return cmd_usage(env, "--bytes N is missing");
    struct err e = {0};
    struct pack *p;
    struct answer a;
    r = pack_open(path, &p, &e);
    if (r < 0) return cmd_fail(env, &e);
    r = solve(p, name, bytes, &a, &e);
    if (r < 0)
        err_prefix(&e, "%s", path);
    else if (is_json)
        print_json(&a);
    else
        print_text(&a);
    pack_close(p);
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}
