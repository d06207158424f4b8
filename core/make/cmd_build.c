/* ebb-pack build: options in, one call of build_run(), a summary out. */
#include <inttypes.h>
#include <time.h>

#include "core/err.h"
#include "core/make/build.h"
#include "core/make/cmd.h"
#include "core/make/cmd_progress.h"
#include "core/make/text.h"
#include "core/pool.h"

static void print_report(const struct build_opts *o, const struct build_report *r, double seconds) {
    char clock[16];
    double n = (double)r->n_weights;
    printf("wrote %s in %s\n", o->out, cmd_progress_clock(seconds, clock, sizeof(clock)));
    printf("  weights      %" PRIu64 "\n", r->n_weights);
    printf("  full         %.1f MB, %.2f bits a weight\n", (double)r->full_bytes / 1e6,
           8.0 * (double)r->full_bytes / n);
    printf("  high         %.1f MB, %.2f bits a weight\n", (double)r->high_bytes / 1e6,
           8.0 * (double)r->high_bytes / n);
    printf("  calibration  %u windows of %u tokens\n", r->n_windows, (unsigned)BUILD_WINDOW);
    printf("  clipped      %.3f %% of the weights are beyond the low plane's reach\n",
           100.0 * (double)r->n_clipped / n);
    if (r->n_windows < o->n_windows)
        printf("note: the text has only %u windows, %u were asked for\n", r->n_windows,
               o->n_windows);
}

int cmd_build(const struct cmd_env *env, int argc, char **argv) {
    struct build_opts o = {0};
    uint32_t n_threads = 0;
    struct cmd_arg args[] = {
        {.what = "SRC.gguf", .kind = CMD_TEXT, .ret = &o.source},
        {.name = "--output", .letter = 'o', .kind = CMD_TEXT, .ret = &o.out},
        {.name = "--calib", .kind = CMD_TEXT, .ret = &o.calib},
        {.name = "--windows",
         .kind = CMD_COUNT,
         .ret = &o.n_windows,
         .min = 1,
         .max = TEXT_MAX_WINDOWS},
        {.name = "--threads",
         .kind = CMD_COUNT,
         .ret = &n_threads,
         .min = 1,
         .max = POOL_MAX_THREADS},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    if (!o.out) return cmd_usage(env, "-o OUT.ebb is missing");
    if (!o.n_windows) o.n_windows = o.calib ? BUILD_WINDOWS : BUILD_SELF_WINDOWS;

    struct err e = {0};
    struct tools t;
    r = cmd_tools_init(env, n_threads, &t, &e);
    if (r < 0) return cmd_fail(env, &e);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct build_report report;
    r = build_run(&t, &o, &report, &e);
    clock_gettime(CLOCK_MONOTONIC, &b);
    cmd_tools_fini(&t);
    if (r < 0) return cmd_fail(env, &e);
    print_report(&o, &report,
                 (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    return CMD_OK;
}
