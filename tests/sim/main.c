/* ebb-sim: how the governor and the pager decide, on virtual time.
 *
 * With a trace that the daemon wrote (log.trace) it computes every call again and compares: the
 * governor is a pure function, so a log of what it saw is all that is needed to see why it decided
 * as it did. With a world (a CSV file, or one made by a formula) it closes the loop: what they do
 * changes what they see next (plant.h). It reads no clock and needs no daemon. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cmd/cmd_args.h"
#include "core/err.h"
#include "core/gov_trace.h"
#include "core/ladder.h"
#include "daemon/govern_set.h"
#include "tests/sim/chart.h"
#include "tests/sim/plant.h"
#include "tests/sim/replay.h"
#include "tests/sim/setup.h"
#include "tests/sim/tally.h"
#include "tests/sim/world.h"

enum { MAX_FILE_BYTES = 1 << 30, DEFAULT_TRIP_MC = 80000, DEFAULT_THREADS = 4 };

static const char usage[] =
    "usage: ebb-sim [options] TRACE      compute again what a daemon recorded (log.trace)\n"
    "       ebb-sim [options] WORLD.csv  run in a recorded world:\n"
    "                                    time_s,left_mib,stall_percent,celsius\n"
    "       ebb-sim [options] --world KIND[:key=value,...]\n"
    "\n"
    "  --csv            what was decided, as CSV; the summary goes to standard error then\n"
    "  --svg FILE       and as a picture\n"
    "  --trace FILE     the governor's calls, as the daemon would record them\n"
    "  --set KEY=VALUE  a setting of the daemon's file: memory.*, heat.*, sense.interval, ...\n"
    "  --pack PACK.ebb  the pack's ladder; default is a made-up one of 31 units, 144 MB\n"
    "  --other-mib N    bytes held beside the weights, default 24\n"
    "  --return-ms N    until dropped bytes are back, default 20\n"
    "  --read-mib-s N   speed of the disk, default 90\n"
    "\n"
    "left_mib is what there is for ebbd in all: its own bytes + MemAvailable. Exit status 1: a "
    "call\n"
    "of a trace came to another answer, or bytes were held that no budget allowed.\n"
    "\n"
    "worlds:\n";

struct row {
    uint64_t now_us;
    uint32_t position, stage, level;
    uint64_t budget_bytes;
    enum gov_reason reason;
};

struct sim {
    struct cmd_env env;
    struct config config;
    struct gov_settings set;
    struct setup setup;
    const char *file, *world, *svg, *trace, *pack;
    uint32_t other_mib, return_ms, read_mib_s;
    struct cmd_list sets;
    bool is_csv;
    FILE *trace_file; /* owned, or NULL */
    bool has_row;
    struct row row; /* the last one printed */
    struct chart chart;
    struct tally tally;
};

/* ---- output ---- */

/* One line whenever something other than the budget is another. */
static void put_row(struct sim *s, const struct row *r) {
    const struct row *last = &s->row;
    if (!s->is_csv) return;
    if (!s->has_row) printf("time_s,position,stage,level,budget_mib,reason\n");
    if (s->has_row && last->position == r->position && last->stage == r->stage &&
        last->level == r->level && last->reason == r->reason)
        return;
    s->has_row = true;
    s->row = *r;
    printf("%.3f,%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",", (double)r->now_us / 1e6, r->position,
           r->stage, r->level);
    if (r->budget_bytes != UINT64_MAX) printf("%.1f", (double)r->budget_bytes / 1048576);
    printf(",%s\n", gov_reason_name(r->reason));
}

static void put_chart(struct sim *s, const struct ladder *l, const struct gov_settings *set,
                      const struct row *r, const struct gov_input *in) {
    double at_s = (double)r->now_us / 1e6, allowed = NAN;
    if (in->has_mem) {
        bool fits;
        uint64_t left;
        if (__builtin_add_overflow(in->mem_available_bytes, in->weight_bytes, &left))
            left = UINT64_MAX;
        allowed = ladder_fit(l, left > set->reserve_bytes ? left - set->reserve_bytes : 0, &fits);
    }
    chart_add(&s->chart, CHART_POSITION, at_s, r->position);
    chart_add(&s->chart, CHART_STAGE, at_s, r->stage);
    chart_add(&s->chart, CHART_ALLOWED, at_s, allowed);
}

static int write_svg(const struct sim *s, const char *title, struct err *e) {
    if (!s->svg) return 0;
    FILE *f = fopen(s->svg, "we");
    if (!f) return err_sys(e, -errno, "%s", s->svg);
    int r = chart_write(&s->chart, title, f);
    if (fclose(f) != 0 && r == 0) r = -EIO;
    return r < 0 ? err_sys(e, r, "%s cannot be written", s->svg) : 0;
}

/* ---- a recorded trace ---- */

static void on_replayed(void *ud, const struct replay_call *c) {
    struct sim *s = ud;
    const struct row row = {c->now_us,     c->out->position,     c->out->stage,
                            c->out->level, c->out->budget_bytes, c->out->reason};
    put_row(s, &row);
    if (s->svg) put_chart(s, c->ladder, c->set, &row, c->in);
}

static int replay(struct sim *s, const char *text, size_t n, struct err *e) {
    struct replay_result got;
    int r = replay_run(s->file, text, n, on_replayed, s, &got, e);
    if (r == 0 && got.n_calls == 0) r = err_set(e, -EBADMSG, "%s: there is no call in it", s->file);
    if (r < 0) return cmd_fail(&s->env, e);
    FILE *to = s->is_csv ? stderr : stdout;
    fprintf(to, "%" PRIu64 " calls, %" PRIu64 " the same\n", got.n_calls, got.n_same);
    if (got.n_guard > 0)
        fprintf(to, "%" PRIu64 " decisions of the guard, %" PRIu64 " the same\n", got.n_guard,
                got.n_guard - got.n_guard_other);
    if (got.first_line) cmd_warn(&s->env, "%s:%" PRIu64 ": %s", s->file, got.first_line, got.first);
    if (write_svg(s, s->file, e) < 0) return cmd_fail(&s->env, e);
    return got.n_same == got.n_calls && got.n_guard_other == 0 ? CMD_OK : CMD_FAILED;
}

/* ---- a world ---- */

static void put_trace(struct sim *s, const struct plant_moment *m) {
    char line[GOV_TRACE_MAX];
    if (!s->trace_file) return;
    size_t n = gov_trace_put_call(m->now_us, m->in, m->out, line, sizeof(line));
    fwrite(line, 1, n, s->trace_file); /* errors are seen when it is closed */
}

static void on_moment(void *ud, const struct plant_moment *m) {
    struct sim *s = ud;
    const struct row row = {m->now_us,     m->position,          m->out->stage,
                            m->out->level, m->out->budget_bytes, m->out->reason};
    tally_add(&s->tally, m);
    put_row(s, &row);
    put_trace(s, m);
    if (s->svg) put_chart(s, s->setup.ladder, &s->set, &row, m->in);
}

static int open_trace(struct sim *s, struct err *e) {
    char line[GOV_TRACE_MAX];
    if (!s->trace) return 0;
    s->trace_file = fopen(s->trace, "we");
    if (!s->trace_file) return err_sys(e, -errno, "%s", s->trace);
    size_t n = gov_trace_put_ladder(s->setup.ladder, line, sizeof(line));
    if (n == 0) return err_set(e, -ENOTSUP, "%s: the ladder is too long for a line", s->trace);
    fwrite(line, 1, n, s->trace_file);
    n = gov_trace_put_settings(&s->set, line, sizeof(line));
    fwrite(line, 1, n, s->trace_file);
    return 0;
}

static int close_trace(struct sim *s, struct err *e) {
    if (!s->trace_file) return 0;
    bool has_failed = ferror(s->trace_file);
    has_failed |= fclose(s->trace_file) != 0;
    s->trace_file = NULL;
    return has_failed ? err_sys(e, -EIO, "%s cannot be written", s->trace) : 0;
}

static int run_world(struct sim *s, const struct world *w, struct err *e) {
    int r = s->pack ? setup_open(s->pack, s->config.precision_ladder, &s->setup, e)
                    : setup_make(&s->setup, e);
    if (r == 0) r = open_trace(s, e);
    if (r < 0) return r;
    bool is_auto = s->config.heat_trip_mc == CONFIG_AUTO;
    const struct plant_opts o = {
        .ladder = s->setup.ladder,
        .units = s->setup.units,
        .set = &s->set,
        .interval_us = s->config.sense_interval_us,
        .trip_mc = is_auto ? DEFAULT_TRIP_MC : (int32_t)s->config.heat_trip_mc,
        .other_bytes = (uint64_t)s->other_mib << 20,
        .return_us = (uint64_t)s->return_ms * 1000,
        .read_bytes_per_s = (uint64_t)s->read_mib_s << 20,
        .fn = on_moment,
        .ud = s,
    };
    s->tally.ladder = s->setup.ladder;
    s->tally.reserve_bytes = s->set.reserve_bytes;
    r = plant_run(&o, w, world_span_us(w), e);
    if (r == 0) r = close_trace(s, e);
    if (r == 0) r = write_svg(s, s->world ? s->world : s->file, e);
    if (r == 0 && (r = tally_print(&s->tally, s->is_csv ? stderr : stdout)) < 0)
        err_sys(e, r, "the summary cannot be written");
    return r;
}

static int simulate(struct sim *s, struct world *w, struct err *e) {
    int r = run_world(s, w, e);
    world_destroy(w);
    if (r < 0) return cmd_fail(&s->env, e);
    if (s->tally.unexplained_bytes == 0 && s->tally.n_too_high == 0) return CMD_OK;
    cmd_warn(&s->env,
             "%" PRIu64 " bytes were held that no budget allowed, and %" PRIu64
             " decisions ended at too high a position",
             s->tally.unexplained_bytes, s->tally.n_too_high);
    return CMD_FAILED;
}

/* ---- input ---- */

/* A whole file; owned by the caller. */
static int read_file(const char *path, char **ret, size_t *ret_n, struct err *e) {
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t n = 0, cap = 0, got;
    if (!f) return err_sys(e, -errno, "%s", path);
    int r = 0;
    do {
        if (n == cap) {
            size_t more = cap ? 2 * cap : 65536;
            char *p = more <= MAX_FILE_BYTES ? realloc(text, more) : NULL;
            if (!p) {
                r = more <= MAX_FILE_BYTES
                        ? err_set(e, -ENOMEM, "%s: no memory", path)
                        : err_set(e, -EFBIG, "%s is over %d bytes", path, MAX_FILE_BYTES / 2);
                break;
            }
            text = p;
            cap = more;
        }
        got = fread(text + n, 1, cap - n, f);
        n += got;
    } while (got > 0);
    if (r == 0 && ferror(f)) r = err_sys(e, -EIO, "%s", path);
    fclose(f);
    if (r < 0) {
        free(text);
        return r;
    }
    *ret = text;
    *ret_n = n;
    return 0;
}

static int take_file(struct sim *s, struct err *e) {
    char *text = NULL;
    size_t n = 0, at = 0;
    if (read_file(s->file, &text, &n, e) < 0) return cmd_fail(&s->env, e);
    /* A trace begins with the letter of a line, a world with its header; both behind remarks. */
    while (at < n && text[at] == '#') {
        const char *nl = memchr(text + at, '\n', n - at);
        at = nl ? (size_t)(nl + 1 - text) : n;
    }
    int code;
    struct world *w;
    if (at < n && (text[at] == 'L' || text[at] == 'S' || text[at] == 'C'))
        code = replay(s, text, n, e);
    else if (world_parse(s->file, text, n, &w, e) == 0)
        code = simulate(s, w, e);
    else
        code = cmd_fail(&s->env, e);
    free(text);
    return code;
}

static int take_settings(struct sim *s, struct err *e) {
    config_defaults(&s->config);
    for (uint32_t i = 0; i < s->sets.n; i++)
        if (setup_set(s->sets.v[i], &s->config, e) < 0) return cmd_usage(&s->env, "%s", e->msg);
    uint32_t threads = s->config.serve_threads;
    govern_set_make(&s->config, threads ? threads : DEFAULT_THREADS, &s->set);
    return CMD_OK;
}

static void help(void) {
    char text[WORLD_MAX_HELP];
    const char *name;
    fputs(usage, stdout);
    for (unsigned i = 0; (name = world_help(i, text)) != NULL; i++)
        printf("  %-12s %s\n", name, text);
}

static int run(struct sim *s, int argc, char **argv) {
    struct err e = {0};
    bool has_file = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return CMD_OK;
        }
        if (strncmp(argv[i], "--world", 7) == 0) has_file = false;
    }
    struct cmd_arg args[] = {
        {.name = "--csv", .kind = CMD_FLAG, .ret = &s->is_csv},
        {.name = "--svg", .kind = CMD_TEXT, .ret = &s->svg},
        {.name = "--trace", .kind = CMD_TEXT, .ret = &s->trace},
        {.name = "--set", .kind = CMD_LIST, .ret = &s->sets},
        {.name = "--pack", .kind = CMD_TEXT, .ret = &s->pack},
        {.name = "--other-mib", .kind = CMD_COUNT, .ret = &s->other_mib, .max = 1 << 20},
        {.name = "--return-ms", .kind = CMD_COUNT, .ret = &s->return_ms, .max = 60000},
        {.name = "--read-mib-s",
         .kind = CMD_COUNT,
         .ret = &s->read_mib_s,
         .min = 1,
         .max = 1 << 20},
        {.name = "--world", .kind = CMD_TEXT, .ret = &s->world},
        {.kind = CMD_TEXT, .ret = &s->file, .what = "TRACE, WORLD.csv or --world"},
    };
    int code = cmd_parse(&s->env, argc - 1, argv + 1, args, ARRAY_LEN(args) - !has_file);
    if (code == CMD_OK) code = take_settings(s, &e);
    if (code != CMD_OK) return code;
    if (!s->world) return take_file(s, &e);
    struct world *w;
    if (world_make(s->world, &w, &e) < 0) return cmd_usage(&s->env, "%s", e.msg);
    return simulate(s, w, &e);
}

int main(int argc, char **argv) {
    struct sim *s = calloc(1, sizeof(*s));
    if (!s) return CMD_NO_MEMORY;
    s->env.program = "ebb-sim";
    s->other_mib = 24;
    s->return_ms = 20;
    s->read_mib_s = 90;
    int code = cmd_end(&s->env, run(s, argc, argv));
    if (s->trace_file) fclose(s->trace_file); /* of a run that failed */
    setup_fini(&s->setup);
    free(s);
    return code;
}
