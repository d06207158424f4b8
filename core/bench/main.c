/* main() of ebb-bench: options, the repetitions, exit codes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bench/loaded.h"
#include "core/bench/measure.h"
#include "core/bench/report.h"
#include "core/bench/spread.h"
#include "core/cmd/cmd_args.h"
#include "core/cpu.h"
#include "core/engine.h"
#include "core/err.h"
#include "core/make/cmd_progress.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/store.h"

/* clang-format off */
static const char help[] =
"ebb-bench: speed of a pack on this machine\n"
"\n"
"Usage:\n"
"  ebb-bench PACK [-t N] [-p N] [-n N] [-b N] [--position P] [--reps N] [--json]\n"
"  ebb-bench --help | --version\n"
"\n"
"Measures, one after the other and all of it --reps times: plain reading of memory, a prompt,\n"
"decoding, and with -b several requests that decode together. Each starts with an empty KV cache.\n"
"Tells the median of the repetitions, the least and the greatest.\n"
"\n"
"  -t, --threads N  1 to 64, as serve.threads of ebbd (default: one for each big core)\n"
"  -p, --prompt N   tokens of the prompt, 0 to 131072 (default 512; 0: none)\n"
"  -n, --tokens N   tokens to decode, 0 to 131072 (default 128; 0: none)\n"
"  -b, --batch N    also N requests together, 1 to 64; their rate is that of all tokens\n"
"                   (default 1: not measured)\n"
"  --position P     a position of the pack's first ladder, whose weights are all in memory, or every\n"
"                   unit full, high or swsc; the head stays high where it has no swsc (default: 0,\n"
"                   what ebbd has when there is memory enough)\n"
"  --reps N         1 to 1000 (default 5), after a first one that is not counted\n"
"  --chunk N        prompt tokens taken in one step, 1 to 512 (default 512; ebbd takes\n"
"                   serve.prompt_chunk, by default 32)\n"
"  --cpu NAME       the kernels of a lesser CPU, as --cpu of ebbd: ref, avx2, neon, ...\n"
"  --json           one object: {\"decode_tps\", \"prefill_tps\", \"batch_tps\" (with -b), \"read_gbps\",\n"
"                   \"plain_read_gbps\", \"read_ratio\", each also with _min and _max; \"threads\",\n"
"                   \"position\" (null where no position has every unit at the rung), \"rung\" (null:\n"
"                   several), \"bytes_per_token\", \"gap_median_ms\", \"gap_p99_ms\", \"gap_max_ms\",\n"
"                   \"model\", \"kernels\", \"prompt\", \"gen\", \"batch\", \"reps\"}; null where nothing\n"
"                   was measured\n"
"\n"
"Decoding reads every resident weight once a token, so its rate times these bytes is what it reads a\n"
"second. Plain reading is a loop on the same threads that does nothing else, over as many bytes, but\n"
"64 MiB at least and 256 MiB at most. The share of it that decoding reaches (read_ratio) is taken\n"
"within each repetition, so that a machine that changes speed changes both. The gaps are the times\n"
"of single tokens while one request decodes alone, of all repetitions together.\n"
"\n"
"Exit codes:\n"
"  0   done\n"
"  1   failed for another reason than those below\n"
"  2   wrong usage\n"
"  65  the pack is damaged, or not a pack, or has no such position\n"
"  66  the pack does not exist\n"
"  69  a valid pack that this program cannot use (version, architecture; units on disk)\n"
"  71  not enough memory\n"
"  74  reading or writing failed\n"
"  77  permission denied\n";
/* clang-format on */

struct opts {
    const char *pack, *position, *cpu;
    uint32_t n_reps;
    bool is_json;
    struct measure_opts m;
};

/* Of each repetition, [n_reps]. */
struct results {
    double *prefill, *decode, *batch, *plain, *read, *ratio;
    double *gaps; /* [n_reps][n_gen], milliseconds in the end */
    double *all;  /* owned: what those are in */
};

static int results_init(struct results *v, const struct opts *o, struct err *e) {
    size_t n = o->n_reps;
    v->all = calloc(n * (6 + (size_t)o->m.n_gen), sizeof(*v->all));
    if (!v->all) return err_set(e, -ENOMEM, "no memory for the times of %u repetitions", o->n_reps);
    double **parts[] = {&v->prefill, &v->decode, &v->batch, &v->plain,
                        &v->read,    &v->ratio,  &v->gaps};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) *parts[i] = v->all + i * n;
    return 0;
}

static int repeat(const struct opts *o, struct measure *m, uint64_t bytes_per_token,
                  const struct progress *progress, struct results *v, struct err *e) {
    int r = measure_warm_up(m, e);
    for (uint32_t i = 0; r == 0 && i < o->n_reps; i++) {
        struct measure_round round;
        progress_tell(progress, "measuring", i, o->n_reps, "repetitions");
        r = measure_round(m, &round, v->gaps + (size_t)i * o->m.n_gen, e);
        if (r < 0) break;
        v->prefill[i] = round.prefill_tps;
        v->decode[i] = round.decode_tps;
        v->batch[i] = round.batch_tps;
        v->plain[i] = round.plain_gbps;
        v->read[i] = round.decode_tps * (double)bytes_per_token * 1e-9;
        v->ratio[i] = v->read[i] / v->plain[i];
    }
    if (r == 0) progress_tell(progress, "measuring", o->n_reps, o->n_reps, "repetitions");
    return r;
}

static void report(const struct opts *o, const struct loaded *l, const struct measure *m,
                   struct results *v) {
    size_t n_decode = o->m.n_gen ? o->n_reps : 0, n_gaps = (size_t)o->n_reps * o->m.n_gen;
    for (size_t i = 0; i < n_gaps; i++) v->gaps[i] *= 1e3;
    struct report r = {
        .model = pack_model_name(l->pack),
        .cpu = cpu_ops_name(o->m.ops),
        .rung = l->rung,
        .is_on_ladder = l->is_on_ladder,
        .position = l->plan->position,
        .n_threads = measure_threads(m),
        .n_prompt = o->m.n_prompt,
        .n_gen = o->m.n_gen,
        .n_batch = o->m.n_batch,
        .n_reps = o->n_reps,
        .bytes_per_token = l->weight_bytes,
        .prefill_tps = spread_of(v->prefill, o->m.n_prompt ? o->n_reps : 0),
        .decode_tps = spread_of(v->decode, n_decode),
        .batch_tps = spread_of(v->batch, o->m.n_batch > 1 ? n_decode : 0),
        .read_gbps = spread_of(v->read, n_decode),
        .plain_gbps = spread_of(v->plain, o->n_reps),
        .ratio = spread_of(v->ratio, n_decode),
        .gap_ms = spread_of(v->gaps, n_gaps),
    };
    if (n_gaps) r.gap_p99_ms = spread_quantile(v->gaps, n_gaps, 0.99);
    o->is_json ? report_print_json(&r) : report_print(&r);
}

static int bench(const struct cmd_env *env, const struct opts *o) {
    struct err e = {0};
    struct loaded l = {0};
    struct measure *m = NULL;
    struct results v = {0};
    struct cmd_progress *bar = env->is_terminal ? cmd_progress_create(true, env->has_colour) : NULL;
    struct progress progress = bar ? cmd_progress_listener(bar) : (struct progress){0};
    int r = results_init(&v, o, &e);
    if (r == 0) r = loaded_open(o->pack, o->position, &l, &e);
    if (r == 0) r = measure_create(&l, &o->m, &m, &e);
    if (r == 0) r = repeat(o, m, l.weight_bytes, &progress, &v, &e);
    cmd_progress_destroy(bar);
    if (r == 0) report(o, &l, m, &v);
    measure_destroy(m);
    loaded_close(&l);
    free(v.all);
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}

static int run(const struct cmd_env *env, int argc, char **argv) {
    struct opts o = {.position = "0",
                     .n_reps = 5,
                     .cpu = "",
                     .m = {.n_prompt = 512, .n_gen = 128, .n_batch = 1, .chunk = 512}};
    const uint32_t most = 1 << 17;
    struct cmd_arg args[] = {
        {.what = "PACK", .kind = CMD_TEXT, .ret = &o.pack},
        {.name = "--threads",
         .letter = 't',
         .kind = CMD_COUNT,
         .ret = &o.m.n_threads,
         .min = 1,
         .max = POOL_MAX_THREADS},
        {.name = "--prompt", .letter = 'p', .kind = CMD_COUNT, .ret = &o.m.n_prompt, .max = most},
        {.name = "--tokens", .letter = 'n', .kind = CMD_COUNT, .ret = &o.m.n_gen, .max = most},
        {.name = "--batch",
         .letter = 'b',
         .kind = CMD_COUNT,
         .ret = &o.m.n_batch,
         .min = 1,
         .max = MEASURE_MAX_BATCH},
        {.name = "--reps", .kind = CMD_COUNT, .ret = &o.n_reps, .min = 1, .max = 1000},
        {.name = "--chunk", .kind = CMD_COUNT, .ret = &o.m.chunk, .min = 1, .max = ENGINE_MAX_ROWS},
        {.name = "--position", .kind = CMD_TEXT, .ret = &o.position},
        {.name = "--cpu", .kind = CMD_TEXT, .ret = &o.cpu},
        {.name = "--json", .kind = CMD_FLAG, .ret = &o.is_json},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    if (!loaded_is_position(o.position))
        return cmd_usage(env, "--position takes a number, full, high or swsc, not '%.40s'",
                         o.position);
    if (o.m.n_batch > 1 && o.m.n_gen == 0) return cmd_usage(env, "-b decodes: it needs -n above 0");
    struct kern_ops *ops = NULL;
    struct err e = {0};
    r = cpu_ops_create(o.cpu, &ops, &e);
    if (r == -EINVAL) return cmd_usage(env, "--cpu: %s", e.msg);
    if (r < 0) return cmd_fail(env, &e);
    o.m.ops = ops;
    r = bench(env, &o);
    cpu_ops_destroy(ops);
    return r;
}

static bool asks(int argc, char **argv, const char *name, const char *letter) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], name) == 0 || strcmp(argv[i], letter) == 0) return true;
    return false;
}

int main(int argc, char **argv) {
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool is_terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    struct cmd_env env = {.program = "ebb-bench",
                          .is_terminal = is_terminal,
                          .has_colour = is_terminal && !(no_colour && *no_colour)};
    int code = CMD_OK;
    if (asks(argc, argv, "--help", "-h"))
        fputs(help, stdout);
    else if (asks(argc, argv, "--version", "-V"))
        puts("ebb-bench " EBB_VERSION);
    else
        code = run(&env, argc - 1, argv + 1);
    return cmd_end(&env, code);
}
