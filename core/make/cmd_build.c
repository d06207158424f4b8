/* ebb-pack build: options in, one call of build_run(), a summary out. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "core/make/build.h"
#include "core/make/cmd.h"
#include "core/make/cmd_progress.h"
#include "core/make/text.h"
#include "core/model.h"
#include "core/pool.h"

static void print_fallbacks(const struct cmd_env *env, const struct build_report *r) {
    for (uint32_t u = 0; u < model_n_units(&r->hparams); u++)
        for (uint32_t m = 0; m < MODEL_MAT_COUNT; m++) {
            char name[32];
            if (!(r->fallback[u] >> m & 1)) continue;
            cmd_warn(env,
                     "%s, %s: the calibration text shows nothing of its inputs; scales by "
                     "clip search, no error feedback",
                     model_unit_name(&r->hparams, u, name, sizeof(name)),
                     model_mat_name((enum model_mat)m));
        }
}

static void print_report(const struct build_opts *o, const struct build_report *r, double seconds) {
    char clock[16];
    double n = (double)r->n_weights;
    printf("wrote %s in %s\n", o->out, cmd_progress_clock(seconds, clock, sizeof(clock)));
    if (o->is_resumed)
        printf("  resumed      after %" PRIu32 " of %" PRIu32 " layers\n", r->n_resumed,
               r->hparams.n_layers);
    printf("  weights      %" PRIu64 "\n", r->n_weights);
    printf("  full         %.1f MB, %.2f bits a weight\n", (double)r->full_bytes / 1e6,
           8.0 * (double)r->full_bytes / n);
    printf("  high         %.1f MB, %.2f bits a weight\n", (double)r->high_bytes / 1e6,
           8.0 * (double)r->high_bytes / n);
    if (r->swsc_bytes > 0)
        printf("  swsc         %.1f MB of layers, %.2f bits a weight, fitted on %" PRIu32
               " windows\n",
               (double)r->swsc_bytes / 1e6,
               8.0 * (double)r->swsc_bytes / (double)r->n_layer_weights, r->n_fitted);
    printf("  method       %s\n", o->is_fast ? "fast: clip search only" : "error feedback");
    printf("  calibration  %u windows of %u tokens, %u by the model itself\n", r->n_windows,
           r->window, r->n_own);
    printf("  scored       every unit alone at each of its rungs, on %" PRIu32 " positions\n",
           r->n_scored);
    printf("  clipped      %.3f %% of the weights are beyond the low plane's reach\n",
           100.0 * (double)r->n_clipped / n);
    if (r->n_fallbacks > 0)
        printf("  fallback     %" PRIu32 " matrices without error feedback\n", r->n_fallbacks);
    if (r->n_windows < r->n_asked)
        printf("note: the text has only %u windows, %u were asked for\n", r->n_windows - r->n_own,
               r->n_asked - r->n_own);
}

/* "TEXT", "self", "TEXT,self" or "self,TEXT"; other commas belong to the name. The name is cut
 * out of `arg`, which is the program's own. */
static int parse_calib(const struct cmd_env *env, char *arg, struct build_opts *o) {
    static const char self[] = "self";
    enum { N = sizeof(self) - 1 };
    size_t n = strlen(arg);
    if (strcmp(arg, self) == 0) return CMD_OK;
    if (n > N && arg[n - N - 1] == ',' && strcmp(arg + n - N, self) == 0) {
        o->is_mixed = true;
        arg[n - N - 1] = '\0';
    } else if (n > N && arg[N] == ',' && strncmp(arg, self, N) == 0) {
        o->is_mixed = true;
        arg += N + 1;
    }
    if (!*arg || (o->is_mixed && strcmp(arg, self) == 0))
        return cmd_usage(env, "--calib takes TEXT, self or TEXT,self");
    o->calib = arg;
    return CMD_OK;
}

static int build(const struct cmd_env *env, const struct build_opts *o, uint32_t n_threads) {
    struct err e = {0};
    struct tools t;
    int r = cmd_tools_init(env, n_threads, &t, &e);
    if (r < 0) return cmd_fail(env, &e);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct build_report report;
    r = build_run(&t, o, &report, &e);
    clock_gettime(CLOCK_MONOTONIC, &b);
    cmd_tools_fini(&t);
    if (r < 0) return cmd_fail(env, &e);
    print_report(o, &report,
                 (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    print_fallbacks(env, &report);
    return CMD_OK;
}

int cmd_build(const struct cmd_env *env, int argc, char **argv) {
    struct build_opts o = {0};
    const char *calib = NULL;
    uint32_t n_threads = 0;
    struct cmd_arg args[] = {
        {.what = "SRC.gguf", .kind = CMD_TEXT, .ret = &o.source},
        {.name = "--output", .letter = 'o', .kind = CMD_TEXT, .ret = &o.out},
        {.name = "--calib", .kind = CMD_TEXT, .ret = &calib},
        {.name = "--no-swsc", .kind = CMD_FLAG, .ret = &o.is_without_swsc},
        {.name = "--no-gate", .kind = CMD_FLAG, .ret = &o.is_without_gate},
        {.name = "--form", .kind = CMD_TEXT, .ret = &o.form},
        {.name = "--fast", .kind = CMD_FLAG, .ret = &o.is_fast},
        {.name = "--resume", .kind = CMD_FLAG, .ret = &o.is_resumed},
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
    if (o.form && (o.is_without_swsc || o.is_fast))
        return cmd_usage(env, "--form is of the rung swsc, which is left out");
    char *text = calib ? strdup(calib) : NULL;
    if (calib && !text) return CMD_NO_MEMORY;
    if (text) r = parse_calib(env, text, &o);
    if (r == CMD_OK && o.is_mixed && o.n_windows == 1)
        r = cmd_usage(env, "--windows is at least 2 for half of each");
    if (r == CMD_OK) r = build(env, &o, n_threads);
    free(text);
    return r;
}
