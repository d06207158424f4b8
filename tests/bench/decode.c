/* Speed of the engine on a pack: prompt and decode tokens a second, without daemon or tokenizer.
 *
 *   decode PACK [--threads N] [--prompt N] [--gen N] [--position P|full|high|swsc]
 *               [--reps N] [--chunk N] [--cpu FLAG,...] [--json]
 *
 * One repetition is a prompt of --prompt tokens in chunks of --chunk, then --gen greedy tokens
 * after it (with --prompt 0 after one token); the first one is not counted. Prints the mean and
 * deviation of the rates. Exit status 1 on an error, 2 on bad options. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/sample.h"
#include "core/slab.h"
#include "core/store.h"
#include "kernels/kernels.h"
#include "tests/golden/loaded.h"

struct opts {
    const char *pack;
    const char *position;
    unsigned threads, prompt, gen, reps, chunk;
    unsigned cpu_flags;
    bool json;
};

struct bench {
    struct opts o;
    struct loaded l;
    struct pool *pool;
    struct engine *en;
    struct kv *kv;
    float *logits;
    struct kern_ops ops;
};

/* Rates of the counted repetitions. */
struct rate {
    double sum, sum2;
    unsigned n;
};

static void rate_add(struct rate *r, double x) {
    r->sum += x;
    r->sum2 += x * x;
    r->n++;
}

static double rate_mean(const struct rate *r) {
    return r->n ? r->sum / r->n : 0;
}

static double rate_sd(const struct rate *r) {
    double mean = rate_mean(r);
    return r->n > 1 ? sqrt(fmax(r->sum2 / r->n - mean * mean, 0) * r->n / (r->n - 1)) : 0;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int setup(struct bench *b, struct err *e) {
    int r = loaded_open(b->o.pack, b->o.position, &b->l, e);
    if (r < 0) return r;
    const struct model_hparams *h = pack_hparams(b->l.pack);
    r = pool_create(b->o.threads, &b->pool, e);
    if (r < 0) return r;
    kern_init(&b->ops, b->o.cpu_flags);
    uint32_t n_ctx = b->o.prompt + b->o.gen + 1;
    struct engine_opts opts = {.max_rows = b->o.chunk, .max_ctx = n_ctx};
    r = engine_create(b->l.mem, b->pool, &b->ops, b->l.pack, b->l.core->data, &opts, &b->en, e);
    if (r < 0) return r;
    r = kv_create(b->l.mem, h, n_ctx, &b->kv, e);
    if (r < 0) return r;
    b->logits = calloc((size_t)h->n_vocab + 8, sizeof(float));
    return b->logits ? 0 : err_set(e, -ENOMEM, "no memory for the logits");
}

static void teardown(struct bench *b) {
    free(b->logits);
    kv_destroy(b->kv);
    engine_destroy(b->en);
    pool_destroy(b->pool);
    loaded_close(&b->l);
}

static int feed_prompt(struct bench *b, uint32_t n, struct err *e) {
    struct engine_row rows[ENGINE_MAX_ROWS];
    uint32_t n_vocab = pack_hparams(b->l.pack)->n_vocab;
    for (uint32_t pos = 0; pos < n;) {
        uint32_t n_rows = MIN(n - pos, b->o.chunk);
        for (uint32_t i = 0; i < n_rows; i++, pos++)
            rows[i] = (struct engine_row){b->kv, pos, (pos * 2654435761u >> 7) % n_vocab,
                                          pos + 1 == n ? b->logits : NULL};
        int r = engine_step(b->en, b->l.plan, rows, n_rows, e);
        if (r < 0) return r;
    }
    return 0;
}

static int repeat(struct bench *b, struct rate *prefill, struct rate *decode, struct err *e) {
    static struct sampler greedy;
    sample_init(&greedy, &(struct sample_params){.top_p = 1});
    uint32_t n_vocab = pack_hparams(b->l.pack)->n_vocab;
    uint32_t n_prompt = MAX(b->o.prompt, 1u);
    for (unsigned rep = 0; rep <= b->o.reps; rep++) {
        double t0 = now_s();
        int r = feed_prompt(b, n_prompt, e);
        if (r < 0) return r;
        double t1 = now_s();
        for (uint32_t i = 0; i < b->o.gen; i++) {
            struct engine_row row = {b->kv, n_prompt + i, sample_pick(&greedy, b->logits, n_vocab),
                                     b->logits};
            r = engine_step(b->en, b->l.plan, &row, 1, e);
            if (r < 0) return r;
        }
        double t2 = now_s();
        if (rep == 0) continue; /* first touch of memory and code */
        if (b->o.prompt) rate_add(prefill, n_prompt / (t1 - t0));
        if (b->o.gen) rate_add(decode, b->o.gen / (t2 - t1));
    }
    return 0;
}

static void report(const struct bench *b, const struct rate *prefill, const struct rate *decode) {
    double tps = rate_mean(decode), gbps = tps * (double)b->l.weight_bytes * 1e-9;
    if (b->o.json) {
        printf("{\"decode_tps\":%.2f,\"decode_sd\":%.2f,\"prefill_tps\":%.2f,\"prefill_sd\":%.2f,"
               "\"threads\":%u,\"position\":%u,\"bytes_per_token\":%llu,\"read_gbps\":%.2f,"
               "\"kernels\":\"%s\",\"prompt\":%u,\"gen\":%u,\"reps\":%u}\n",
               tps, rate_sd(decode), rate_mean(prefill), rate_sd(prefill), pool_threads(b->pool),
               b->l.plan->position, (unsigned long long)b->l.weight_bytes, gbps, b->ops.name,
               b->o.prompt, b->o.gen, b->o.reps);
        return;
    }
    printf("threads %u, position %u, %s, %.1f MB a token\n", pool_threads(b->pool),
           b->l.plan->position, b->ops.name, (double)b->l.weight_bytes * 1e-6);
    if (b->o.prompt)
        printf("prompt of %u: %.1f +- %.1f tokens/s\n", b->o.prompt, rate_mean(prefill),
               rate_sd(prefill));
    if (b->o.gen)
        printf("decode of %u: %.1f +- %.1f tokens/s (%.1f GB/s)\n", b->o.gen, tps, rate_sd(decode),
               gbps);
}

static bool parse_number(const char *s, unsigned max, unsigned *ret) {
    char *end;
    unsigned long v = s ? strtoul(s, &end, 10) : 0;
    if (!s || end == s || *end || v > max) return false;
    *ret = (unsigned)v;
    return true;
}

static bool parse_cpu(const char *s, unsigned *ret) {
    unsigned flags = 0;
    for (unsigned bit = 0; s && bit < 32; bit++) {
        const char *name = kern_cpu_flag_name(1u << bit);
        if (name && strstr(s, name)) flags |= 1u << bit;
    }
    *ret = flags & kern_cpu_flags();
    return s && (flags || strcmp(s, "ref") == 0);
}

static bool parse_opts(int argc, char **argv, struct opts *o) {
    *o = (struct opts){.position = "high",
                       .prompt = 512,
                       .gen = 128,
                       .reps = 3,
                       .chunk = 512,
                       .threads = 1,
                       .cpu_flags = kern_cpu_flags()};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        bool ok = true;
        if (strcmp(a, "--json") == 0) {
            o->json = true;
            continue;
        }
        if (a[0] != '-') {
            if (o->pack) return false;
            o->pack = a;
            continue;
        }
        i++;
        if (strcmp(a, "--threads") == 0)
            ok = parse_number(v, POOL_MAX_THREADS, &o->threads);
        else if (strcmp(a, "--prompt") == 0)
            ok = parse_number(v, 1 << 17, &o->prompt);
        else if (strcmp(a, "--gen") == 0)
            ok = parse_number(v, 1 << 17, &o->gen);
        else if (strcmp(a, "--reps") == 0)
            ok = parse_number(v, 1000, &o->reps) && o->reps > 0;
        else if (strcmp(a, "--chunk") == 0)
            ok = parse_number(v, ENGINE_MAX_ROWS, &o->chunk) && o->chunk > 0;
        else if (strcmp(a, "--cpu") == 0)
            ok = parse_cpu(v, &o->cpu_flags);
        else if (strcmp(a, "--position") == 0)
            ok = (o->position = v) != NULL;
        else
            ok = false;
        if (!ok) return false;
    }
    return o->pack != NULL;
}

int main(int argc, char **argv) {
    static struct bench b;
    struct err e = {0};
    struct rate prefill = {0}, decode = {0};
    if (!parse_opts(argc, argv, &b.o)) {
        fprintf(stderr,
                "usage: %s PACK [--threads N] [--prompt N] [--gen N] "
                "[--position P|full|high|swsc] [--reps N] [--chunk N] [--cpu FLAG,..|ref] "
                "[--json]\n",
                argv[0]);
        return 2;
    }
    int r = setup(&b, &e);
    if (r == 0) r = repeat(&b, &prefill, &decode, &e);
    if (r == 0)
        report(&b, &prefill, &decode);
    else
        fprintf(stderr, "%s: %s\n", argv[0], e.msg);
    teardown(&b);
    return r == 0 ? 0 : 1;
}
