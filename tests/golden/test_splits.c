/* Tokens do not depend on how the work was cut: on whole packs, prompts in chunks of 1, 7 and 32,
 * one to three threads, and two streams together give the same bits as one row at a time on one
 * thread. The tiny model is packed here; EBB_PACK=FILE in the environment adds a real one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bench/loaded.h"
#include "core/engine.h"
#include "core/err.h"
#include "core/gemm.h"
#include "core/kv.h"
#include "core/make/build.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/slab.h"
#include "kernels/kernels.h"
#include "tests/golden/tiny.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

enum { TOKENS = 40 };

static struct kern_ops ops;

struct run {
    struct loaded *l;
    struct pool *pool;
    struct engine *en;
    struct kv *kv[2];
    size_t padded; /* floats of one row's logits */
};

static void run_init(struct run *r, struct loaded *l, unsigned n_threads) {
    struct err e = {0};
    r->l = l;
    REQUIRE_OK(pool_create(n_threads, &r->pool, &e), &e);
    struct engine_opts opts = {.max_rows = 2 * TOKENS, .max_ctx = TOKENS};
    REQUIRE_OK(engine_create(l->mem, r->pool, &ops, l->pack, l->core->data, &opts, &r->en, &e), &e);
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(kv_create(l->mem, pack_hparams(l->pack), KV_Q8, TOKENS, &r->kv[i], &e), &e);
    r->padded = ((size_t)pack_hparams(l->pack)->n_vocab + 7) / 8 * 8;
}

static void run_fini(struct run *r) {
    kv_destroy(r->kv[0]);
    kv_destroy(r->kv[1]);
    engine_destroy(r->en);
    pool_destroy(r->pool);
}

static struct engine_row row_of(const struct run *r, uint32_t stream, uint32_t pos, float *logits) {
    uint64_t rng = stream * 10000 + pos;
    uint32_t token = (uint32_t)(t_rand(&rng) % pack_hparams(r->l->pack)->n_vocab);
    return (struct engine_row){r->kv[stream], pos, token,
                               logits + (stream * TOKENS + pos) * r->padded};
}

/* Both streams, one after the other, in chunks. */
static void feed_apart(struct run *r, uint32_t chunk, float *logits) {
    struct err e = {0};
    for (uint32_t s = 0; s < 2; s++) {
        for (uint32_t pos = 0; pos < TOKENS; pos += chunk) {
            struct engine_row rows[TOKENS];
            uint32_t n = MIN(chunk, TOKENS - pos);
            for (uint32_t i = 0; i < n; i++) rows[i] = row_of(r, s, pos + i, logits);
            REQUIRE_OK(engine_step(r->en, r->l->plan, rows, n, &e), &e);
        }
    }
}

/* Both streams in the same steps, the second one three positions a step. */
static void feed_together(struct run *r, float *logits) {
    struct err e = {0};
    uint32_t other = 0;
    for (uint32_t pos = 0; pos < TOKENS; pos++) {
        struct engine_row rows[4];
        uint32_t n = 0;
        rows[n++] = row_of(r, 0, pos, logits);
        while (n < 4 && other < TOKENS) rows[n++] = row_of(r, 1, other++, logits);
        REQUIRE_OK(engine_step(r->en, r->l->plan, rows, n, &e), &e);
    }
}

static void check_splits(const char *path, const char *position) {
    struct err e = {0};
    struct loaded l;
    struct run r;
    REQUIRE_OK(loaded_open(path, position, &l, &e), &e);
    run_init(&r, &l, 1);
    size_t bytes = 2 * TOKENS * r.padded * sizeof(float);
    float *want = calloc(1, bytes), *got = calloc(1, bytes);
    REQUIRE(want && got);
    feed_apart(&r, 1, want);
    run_fini(&r);
    for (unsigned n_threads = 1; n_threads <= 3; n_threads++) {
        static const uint32_t chunks[] = {1, 7, 32};
        run_init(&r, &l, n_threads);
        for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
            memset(got, 0, bytes);
            feed_apart(&r, chunks[c], got);
            CHECK_MEM(got, want, bytes);
        }
        memset(got, 0, bytes);
        feed_together(&r, got);
        CHECK_MEM(got, want, bytes);
        run_fini(&r);
    }
    free(want);
    free(got);
    loaded_close(&l);
}

/* A text of printable characters for calibration: what it says does not matter here. */
static void write_text(const char *path) {
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    uint64_t rng = 3;
    for (int i = 0; i < 20000; i++) fputc(i % 61 == 60 ? '\n' : 32 + (int)(t_rand(&rng) % 95), f);
    REQUIRE(fclose(f) == 0);
}

static void pack_tiny(const struct tiny_opts *o, char *pack, size_t n) {
    char gguf[600], text[600];
    struct err e = {0};
    struct tools tools = {0};
    struct build_report report;
    snprintf(gguf, sizeof(gguf), "%s/tiny.gguf", t_tmpdir());
    snprintf(text, sizeof(text), "%s/calib.txt", t_tmpdir());
    snprintf(pack, n, "%s/tiny.ebb", t_tmpdir());
    REQUIRE(tiny_write(o, gguf) == 0);
    write_text(text);
    REQUIRE(mem_create(&tools.mem) == 0);
    REQUIRE_OK(pool_create(1, &tools.pool, &e), &e);
    tools.ops = ops;
    struct build_opts opts = {.source = gguf, .out = pack, .calib = text, .n_windows = 2};
    REQUIRE_OK(build_run(&tools, &opts, &report, &e), &e);
    pool_destroy(tools.pool);
    mem_destroy(tools.mem);
}

static void check_tiny(const struct tiny_opts *o) {
    char pack[600];
    pack_tiny(o, pack, sizeof(pack));
    check_splits(pack, "full");
    check_splits(pack, "high");
    check_splits(pack, "2");
}

static void tied_pack(void) {
    struct tiny_opts o = tiny_defaults();
    check_tiny(&o);
}

static void untied_pack_with_rope_freqs(void) {
    struct tiny_opts o = tiny_defaults();
    o.is_untied = true;
    o.has_rope_freqs = true;
    check_tiny(&o);
}

/* Drawn, not built: what is asked is whether splits show, in every form. */
static void pack_with_swsc(void) {
    char pack[600];
    struct tiny_opts o = tiny_defaults();
    struct err e = {0};
    o.n_embd = 256, o.n_ff = 512; /* so that the forms are on the ladder */
    snprintf(pack, sizeof(pack), "%s/swsc.ebb", t_tmpdir());
    for (unsigned variant = 0; variant < 7; variant += 3) {
        REQUIRE_OK(tiny_pack_write_swsc(&o, variant, pack, &e), &e);
        check_splits(pack, "swsc");
        check_splits(pack, "2");
    }
}

static void real_pack(void) {
    const char *path = getenv("EBB_PACK");
    if (!path) t_skip("EBB_PACK names no pack");
    check_splits(path, "full");
    check_splits(path, "high");
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"tied_pack", tied_pack},
        {"untied_pack_with_rope_freqs", untied_pack_with_rope_freqs},
        {"pack_with_swsc", pack_with_swsc},
        {"real_pack", real_pack},
    };
    gemm_init();
    kern_init(&ops, kern_cpu_flags());
    /* Listed only when asked for: without a pack there is nothing to skip. */
    return t_main(argc, argv, cases, getenv("EBB_PACK") ? 4 : 3);
}
