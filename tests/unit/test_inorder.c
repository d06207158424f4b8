/* Layers changed in order: what is asked for is the source itself while nothing is spoilt, and
 * makes up for it when something is. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/inorder.h"
#include "core/make/segfit.h"
#include "core/make/source.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"

enum { WINDOWS = 11, N = 40, MAX_CALLS = 64 };

struct rig {
    struct mem *mem;
    struct pool *pool;
    struct kern_ops ops;
    struct gguf *g;
    struct source *s;
    struct inorder *o;
    const struct model_hparams *h;
    uint32_t layer, n_calls, fail_at;
    enum model_mat calls[MAX_CALLS];
    float spoil;    /* what out of layer 0 is made smaller by */
    double off;     /* relative squared distance of what was aimed at in the last call */
    uint64_t marks; /* of all that was aimed at */
};

static void rig_open(struct rig *k, unsigned n_threads) {
    char path[512];
    struct err e = {0};
    struct tiny_opts t = tiny_defaults();
    *k = (struct rig){.fail_at = MAX_CALLS};
    snprintf(path, sizeof(path), "%s/src.gguf", t_tmpdir());
    REQUIRE(tiny_write(&t, path) == 0);
    gemm_init();
    REQUIRE(mem_create(&k->mem) == 0);
    REQUIRE_OK(pool_create(n_threads, &k->pool, &e), &e);
    kern_init(&k->ops, kern_cpu_flags());
    REQUIRE_OK(gguf_open(path, &k->g, &e), &e);
    REQUIRE_OK(source_create(k->mem, k->pool, &k->ops, k->g, 0, &k->s, &e), &e);
    k->h = source_hparams(k->s);
    uint32_t ids[WINDOWS * N];
    uint64_t rng = 9;
    for (int i = 0; i < WINDOWS * N; i++) ids[i] = (uint32_t)(t_rand(&rng) % k->h->n_vocab);
    REQUIRE_OK(inorder_create(k->mem, k->s, ids, WINDOWS, N, 4, &k->o, &e), &e);
}

static void rig_close(struct rig *k) {
    inorder_destroy(k->o);
    source_destroy(k->s);
    gguf_close(k->g);
    pool_destroy(k->pool);
    CHECK_EQU(mem_bytes(k->mem, MEM_PACKER), 0);
    mem_destroy(k->mem);
}

static int fit(void *ud, enum model_mat mat, const struct segfit *f, const float *moments,
               const float *aim, float *ret, struct err *e) {
    struct rig *k = ud;
    uint32_t n_out, n_in;
    const struct source_layer *w;
    struct err unused = {0};
    CHECK(f && moments);
    if (k->n_calls == k->fail_at) return err_set(e, -EIO, "no more");
    k->calls[k->n_calls++ % MAX_CALLS] = mat;
    model_mat_shape(k->h, mat, &n_out, &n_in);
    REQUIRE_OK(source_load_layer(k->s, k->layer, &w, &unused), &unused);
    double off = 0.0, all = 0.0;
    for (size_t i = 0; i < (size_t)n_out * n_in; i++) {
        uint32_t bits;
        memcpy(&bits, &aim[i], sizeof(bits));
        k->marks = (k->marks ^ bits) * 0x100000001b3u;
        off += pow((double)aim[i] - (double)w->mats[mat][i], 2);
        all += pow((double)w->mats[mat][i], 2);
        ret[i] = mat == MODEL_OUT && k->layer == 0 ? aim[i] * (1 - k->spoil) : aim[i];
    }
    k->off = off / all;
    return 0;
}

static void same_while_nothing_changes(void) {
    static const enum model_mat order[] = {MODEL_Q,    MODEL_K,  MODEL_V,   MODEL_OUT,
                                           MODEL_GATE, MODEL_UP, MODEL_DOWN};
    struct rig k;
    struct err e = {0};
    rig_open(&k, 2);
    for (k.layer = 0; k.layer < k.h->n_layers; k.layer++) {
        REQUIRE_OK(inorder_next_layer(k.o, fit, &k, &e), &e);
        CHECK(k.off < 1e-8);
    }
    CHECK_EQU(k.n_calls, 7 * k.h->n_layers);
    for (uint32_t i = 0; i < k.n_calls; i++) CHECK_EQ(k.calls[i], order[i % 7]);
    rig_close(&k);
}

/* Out of layer 0 is a fifth too small: what comes later is asked to make up for it. */
static void makes_up_for_what_is_spoilt(void) {
    uint64_t marks[2];
    for (int t = 0; t < 2; t++) {
        struct rig k;
        struct err e = {0};
        rig_open(&k, t ? 4 : 1);
        k.spoil = 0.2f;
        for (k.layer = 0; k.layer < k.h->n_layers; k.layer++) {
            REQUIRE_OK(inorder_next_layer(k.o, fit, &k, &e), &e);
            CHECK(isfinite(k.off) && k.off > 1e-5 && k.off < 1.0);
        }
        marks[t] = k.marks;
        rig_close(&k);
    }
    CHECK(marks[0] == marks[1]); /* whatever the thread count */
}

static void errors_pass(void) {
    struct rig k;
    struct err e = {0};
    rig_open(&k, 1);
    k.fail_at = 3;
    CHECK_EQ(inorder_next_layer(k.o, fit, &k, &e), -EIO);
    if (!strstr(e.msg, "layer 0") || !strstr(e.msg, "attn_output"))
        t_fail(__FILE__, __LINE__, "'%s'", e.msg);
    rig_close(&k);
}

static void no_memory(void) {
    struct rig k;
    struct err e = {0};
    uint32_t ids[N] = {0};
    struct inorder *o;
    rig_open(&k, 1);
    for (unsigned n = 1; n <= 13; n++) {
        mem_fail_at(k.mem, n, false);
        CHECK_EQ(inorder_create(k.mem, k.s, ids, 1, N, 4, &o, &e), -ENOMEM);
    }
    mem_fail_at(k.mem, 0, false);
    rig_close(&k);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"same_while_nothing_changes", same_while_nothing_changes},
        {"makes_up_for_what_is_spoilt", makes_up_for_what_is_spoilt},
        {"errors_pass", errors_pass},
        {"no_memory", no_memory},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
