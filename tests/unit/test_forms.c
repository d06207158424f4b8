/* The rung swsc in every form that it can have, from a fitted matrix to logits: third_run() makes
 * it, the pack opens and its extents bind, they read as the fit says and as something like the
 * source's weights, and the engine puts out what these floats would in the source's own forward
 * pass. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/kv.h"
#include "core/make/gate.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/third_internal.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/slab.h"
#include "core/store.h"
#include "tests/golden/swsc_draw.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

enum { WINDOW = 48, WINDOWS = 6, UNITS = 4, LAYERS = UNITS - 1 };
/* Of the logits, root of the mean square over that of all: activations in two int8 (15 bits) and
 * keys and values in fp16, three layers deep. */
#define MAX_ERROR 2e-3

/* Matrices of six shapes; three layers, so that one basis is of a pair and one of a layer alone. */
static struct tiny_opts opts(void) {
    struct tiny_opts o = tiny_defaults();
    o.n_layers = LAYERS;
    o.n_kv_heads = 1;
    o.head_dim = 24;
    return o;
}

static float *floats(size_t n) {
    float *p = calloc(n, sizeof(*p));
    REQUIRE(p);
    return p;
}

struct rig {
    struct tools t;
    struct tiny_source tiny;
    struct gguf *g; /* the same, as a file */
    struct source *source;
    struct text text;
    char path[512]; /* of the pack */
};

static void rig_open(struct rig *k, unsigned n_threads) {
    struct tiny_opts o = opts();
    struct err e = {0};
    uint64_t seed = 5;
    *k = (struct rig){0};
    snprintf(k->path, sizeof(k->path), "%s/forms%u.ebb", t_tmpdir(), n_threads);
    gemm_init();
    kern_init(&k->t.ops, kern_cpu_flags());
    REQUIRE_OK(mem_create(&k->t.mem), &e);
    REQUIRE_OK(pool_create(n_threads, &k->t.pool, &e), &e);
    tiny_source_init(&k->tiny, &o);
    char path[512];
    snprintf(path, sizeof(path), "%s/forms%u.gguf", t_tmpdir(), n_threads);
    REQUIRE(tiny_write(&o, path) == 0);
    REQUIRE_OK(gguf_open(path, &k->g, &e), &e);
    REQUIRE_OK(source_create(k->t.mem, k->t.pool, &k->t.ops, k->g, 0, &k->source, &e), &e);
    uint32_t *ids = malloc(WINDOWS * WINDOW * sizeof(*ids));
    REQUIRE(ids);
    for (int i = 0; i < WINDOWS * WINDOW; i++) ids[i] = (uint32_t)(t_rand(&seed) % tiny_n_vocab());
    text_adopt(&k->text, ids, WINDOWS, WINDOW);
}

static void rig_close(struct rig *k) {
    text_fini(&k->text);
    source_destroy(k->source);
    gguf_close(k->g);
    tiny_source_fini(&k->tiny);
    pool_destroy(k->t.pool);
    mem_destroy(k->t.mem); /* asserts that nothing is left */
}

/* Planes are drawn: only the rung swsc is looked at. */
static void write_pack(struct rig *k, struct third_result *ret) {
    struct tiny_source *s = &k->tiny;
    struct pack_writer *w;
    struct err e = {0};
    uint64_t n;
    s->has_swsc = true;
    REQUIRE_OK(pack_writer_create(k->path, s->g, &s->h, &w, &e), &e);
    REQUIRE_OK(pack_writer_swsc(w, s->forms, &e), &e);
    REQUIRE_OK(
        pack_writer_extent(w, PACK_CORE, 0, source_core(k->source), pack_core_bytes(&s->h), &e),
        &e);
    for (uint32_t u = 0; u < UNITS; u++)
        for (int low = 0; low < 2; low++) {
            enum pack_part part = low ? PACK_LOW : PACK_HIGH;
            uint8_t *p = tiny_pack_extent(s, part, u, 1, &n);
            REQUIRE_OK(pack_writer_extent(w, part, u, p, n, &e), &e);
            free(p);
        }
    REQUIRE_OK(third_run(&k->t, k->source, &k->text, s->forms, w, ret, &e), &e);
    REQUIRE_OK(tiny_pack_finish(w, s, &e), &e);
    pack_writer_destroy(w);
}

/* ---- what the pack holds ---- */

struct read {
    struct pack *pack;
    struct slab *core, *books, *swsc[LAYERS], *high, *low; /* planes: of the head */
    struct plan *plan;
    struct source_layer layers[LAYERS]; /* as floats; owned */
};

/* base + A B, row by row. */
static const float *dequantised(const struct tools *t, const struct swsc_mat *w) {
    float *ret = floats((size_t)w->n_out * w->n_in);
    float *a = floats(w->rank + 1), *b = floats(w->n_in);
    for (uint32_t row = 0; row < w->n_out; row++) {
        float *q = ret + (size_t)row * w->n_in;
        if (w->base != SWSC_NONE) swsc_draw_base_row(&t->ops, w, row, q);
        if (w->rank > 0) t->ops.row(&w->a, row, a);
        for (uint32_t i = 0; i < w->rank; i++) {
            t->ops.row(&w->b, i, b);
            for (uint32_t c = 0; c < w->n_in; c++) q[c] += a[i] * b[c];
        }
    }
    free(a);
    free(b);
    return ret;
}

static void read_open(struct read *p, struct rig *k) {
    const struct model_hparams *h = &k->tiny.h;
    struct mem *mem = k->t.mem;
    struct err e = {0};
    *p = (struct read){0};
    REQUIRE_OK(pack_open(k->path, &p->pack, &e), &e);
    REQUIRE(pack_has_swsc(p->pack) && model_n_units(h) == UNITS);
    REQUIRE_OK(slab_load(mem, p->pack, pack_find(p->pack, PACK_CORE, 0), &p->core, &e), &e);
    REQUIRE_OK(slab_load(mem, p->pack, pack_find(p->pack, PACK_HIGH, LAYERS), &p->high, &e), &e);
    REQUIRE_OK(slab_load(mem, p->pack, pack_find(p->pack, PACK_LOW, LAYERS), &p->low, &e), &e);
    const struct pack_extent *books = pack_find(p->pack, PACK_BOOKS, 0);
    CHECK_EQ(books != NULL, swsc_has_books(k->tiny.forms));
    if (books) REQUIRE_OK(slab_load(mem, p->pack, books, &p->books, &e), &e);
    p->plan = calloc(1, sizeof(*p->plan) + UNITS * sizeof(p->plan->units[0]));
    REQUIRE(p->plan);
    p->plan->epoch = 1;
    p->plan->n_units = UNITS;
    for (uint32_t u = 0; u < LAYERS; u++) {
        const struct pack_extent *x = pack_find(p->pack, PACK_SWSC, u);
        REQUIRE_OK(slab_load(mem, p->pack, x, &p->swsc[u], &e), &e);
        REQUIRE_OK(slab_bind_swsc(p->swsc[u], h, pack_swsc(p->pack), p->books, &e), &e);
        p->plan->units[u] = (struct plan_unit){.rung = RUNG_SWSC, .forms = p->swsc[u]->forms};
        for (int m = 0; m < MODEL_LAYER_MATS; m++)
            p->layers[u].mats[m] = dequantised(&k->t, &p->swsc[u]->forms[m]);
    }
    struct plan_unit *head = &p->plan->units[LAYERS];
    head->rung = RUNG_FULL;
    REQUIRE_OK(pack_bind_unit(h, LAYERS, p->high->data, p->high->bytes, p->low->data, p->low->bytes,
                              head->mats, &e),
               &e);
}

static void read_close(struct read *p) {
    for (uint32_t u = 0; u < LAYERS; u++) {
        for (int m = 0; m < MODEL_LAYER_MATS; m++) free((void *)p->layers[u].mats[m]);
        slab_destroy(p->swsc[u]);
    }
    slab_destroy(p->core);
    slab_destroy(p->books);
    slab_destroy(p->high);
    slab_destroy(p->low);
    free(p->plan);
    pack_close(p->pack);
}

/* ---- checks ---- */

/* How far each matrix points the source's way: the cosine between both. */
static void check_alike(struct rig *k, const struct read *p, const char *name, double least) {
    for (uint32_t l = 0; l < LAYERS; l++) {
        const struct source_layer *w;
        struct err e = {0};
        REQUIRE_OK(source_load_layer(k->source, l, &w, &e), &e);
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            double ab = 0.0, aa = 0.0, bb = 0.0;
            uint32_t n_out, n_in;
            model_mat_shape(&k->tiny.h, (enum model_mat)m, &n_out, &n_in);
            for (size_t i = 0; i < (size_t)n_out * n_in; i++) {
                double a = (double)w->mats[m][i], b = (double)p->layers[l].mats[m][i];
                ab += a * b, aa += a * a, bb += b * b;
            }
            if (!(ab > least * sqrt(aa * bb)))
                t_fail(__FILE__, __LINE__, "%s: layer %u, %s: cosine %.3f", name, l,
                       model_mat_name((enum model_mat)m), ab / sqrt(aa * bb));
        }
    }
}

/* A book as the pack holds it. The caller frees what is in `columns`. */
static struct codebook book_of(const struct swsc_form *f, const int8_t *entries) {
    struct codebook b = {.len = f->len, .k = f->k, .scale = 1.0f};
    b.entries = (int8_t *)entries;
    b.columns = floats((size_t)f->k * f->len);
    for (uint32_t e = 0; e < f->k; e++)
        for (uint32_t j = 0; j < f->len; j++)
            b.columns[(size_t)j * f->k + e] = (float)entries[e * f->len + j];
    return b;
}

/* What a matrix is said to read as when it is fitted is what it is bound as. */
static void check_stored(struct rig *k, const struct read *p, const char *name) {
    const struct model_hparams *h = &k->tiny.h;
    struct third x = {.t = &k->t, .forms = k->tiny.forms, .h = h, .layer = 1};
    struct swsc_mat bound[MODEL_LAYER_MATS];
    float *says[MODEL_LAYER_MATS];
    const struct source_layer *w;
    struct err e = {0};
    swsc_unit_layout(h, x.forms, x.layout);
    swsc_books_layout(h, x.forms, x.shared);
    x.extent_bytes = pack_swsc_bytes(h, x.forms);
    x.extent = mem_alloc(k->t.mem, MEM_PACKER, x.extent_bytes);
    x.books_extent = p->books ? p->books->data : NULL;
    REQUIRE(x.extent);
    pack_swsc_dir(h, x.forms, x.extent);
    REQUIRE_OK(source_load_layer(k->source, x.layer, &w, &e), &e);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        struct segfit *f;
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        if (x.forms[m].is_shared)
            x.books[m] = book_of(&x.forms[m], (int8_t *)x.books_extent + x.shared[m].book);
        says[m] = floats((size_t)n_out * n_in);
        REQUIRE_OK(segfit_create(k->t.mem, NULL, n_in, 4, &f, &e), &e);
        REQUIRE_OK(third_fit(&x, (enum model_mat)m, f, NULL, w->mats[m], says[m], &e), &e);
        segfit_destroy(f);
        free(x.books[m].columns);
    }
    REQUIRE_OK(pack_bind_swsc(h, x.forms, x.layer, x.books_extent, p->books ? p->books->bytes : 0,
                              x.extent, x.extent_bytes, bound, &e),
               &e);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        const float *reads = dequantised(&k->t, &bound[m]);
        float off = 0.0f, most = 0.0f;
        for (size_t i = 0; i < (size_t)bound[m].n_out * bound[m].n_in; i++) {
            off = fmaxf(off, fabsf(reads[i] - says[m][i]));
            most = fmaxf(most, fabsf(reads[i]));
        }
        if (!(off <= 1e-5f * most))
            t_fail(__FILE__, __LINE__, "%s: %s reads off by %g of %g", name,
                   model_mat_name((enum model_mat)m), (double)off, (double)most);
        free((void *)reads);
        free(says[m]);
    }
    mem_free(k->t.mem, MEM_PACKER, x.extent, x.extent_bytes);
}

static void by_floats(struct rig *k, const struct read *p, float *logits, size_t ld) {
    const struct model_hparams *h = &k->tiny.h;
    const struct kern_planes *head = &p->plan->units[LAYERS].mats[MODEL_HEAD];
    uint32_t d = h->n_embd;
    float *x = floats(WINDOW * d), *row = floats(d);
    for (uint32_t i = 0; i < WINDOW; i++) k->t.ops.row(head, k->text.ids[i], x + (size_t)i * d);
    for (uint32_t l = 0; l < LAYERS; l++)
        source_block(k->source, l, &p->layers[l], x, 1, WINDOW, NULL, NULL);
    source_norm(k->source, source_vectors(k->source)->output_norm, x, WINDOW, x);
    for (uint32_t v = 0; v < h->n_vocab; v++) {
        k->t.ops.row(head, v, row);
        for (uint32_t i = 0; i < WINDOW; i++) {
            double sum = 0.0;
            for (uint32_t c = 0; c < d; c++) sum += (double)row[c] * (double)x[(size_t)i * d + c];
            logits[i * ld + v] = (float)sum;
        }
    }
    free(x);
    free(row);
}

static void by_engine(struct rig *k, const struct read *p, float *logits, size_t ld) {
    struct engine_opts o = {.max_rows = WINDOW, .max_ctx = WINDOW, .fine_rows = WINDOW};
    struct engine_row rows[WINDOW];
    struct engine *en;
    struct kv *kv;
    struct err e = {0};
    REQUIRE_OK(kv_create(k->t.mem, &k->tiny.h, KV_F16, WINDOW, &kv, &e), &e);
    REQUIRE_OK(engine_create(k->t.mem, k->t.pool, &k->t.ops, p->pack, p->core->data, &o, &en, &e),
               &e);
    for (uint32_t i = 0; i < WINDOW; i++)
        rows[i] = (struct engine_row){kv, i, k->text.ids[i], logits + i * ld};
    REQUIRE_OK(engine_step(en, p->plan, rows, WINDOW, &e), &e);
    engine_destroy(en);
    kv_destroy(kv);
}

static void check_logits(struct rig *k, const struct read *p, const char *name) {
    uint32_t n = k->tiny.h.n_vocab;
    size_t ld = (n + 7) / 8 * 8;
    float *a = floats(WINDOW * ld), *b = floats(WINDOW * ld);
    double off = 0.0, all = 0.0;
    by_floats(k, p, a, ld);
    by_engine(k, p, b, ld);
    for (uint32_t i = 0; i < WINDOW; i++)
        for (uint32_t v = 0; v < n; v++) {
            double x = (double)a[i * ld + v], y = (double)b[i * ld + v];
            off += (x - y) * (x - y);
            all += x * x;
        }
    if (!(all > 0.0 && off <= MAX_ERROR * MAX_ERROR * all))
        t_fail(__FILE__, __LINE__, "%s: the engine is off by %g", name, sqrt(off / all));
    free(a);
    free(b);
}

static void check_same_file(const char *a, const char *b) {
    int x, y;
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    REQUIRE(f && g);
    do {
        x = fgetc(f);
        y = fgetc(g);
    } while (x == y && x != EOF);
    CHECK_EQ(x, y);
    fclose(f);
    fclose(g);
}

/* One of one thread, one of two. */
static void rigs_open(struct rig k[2]) {
    rig_open(&k[0], 1);
    rig_open(&k[1], 2);
}

static void rigs_close(struct rig k[2]) {
    rig_close(&k[0]);
    rig_close(&k[1]);
}

static bool is_same_form(const struct swsc_form *a, const struct swsc_form *b) {
    return a->base == b->base && a->len == b->len && a->bits == b->bits && a->k == b->k &&
           a->is_shared == b->is_shared && a->rank == b->rank && a->factor_bits == b->factor_bits &&
           a->is_basis_shared == b->is_basis_shared;
}

/* The forms are in k[0].tiny. max_error: of each layer's output; least: see check_alike(). */
static void check_forms(struct rig k[2], const char *name, double max_error, double least) {
    struct third_result r[2];
    struct read p;
    memcpy(k[1].tiny.forms, k[0].tiny.forms, sizeof(k[1].tiny.forms));
    for (int i = 0; i < 2; i++) write_pack(&k[i], &r[i]);
    read_open(&p, &k[0]);
    for (int m = 0; m < MODEL_LAYER_MATS; m++)
        CHECK(is_same_form(&pack_swsc(p.pack)[m], &k[0].tiny.forms[m]));
    check_alike(&k[0], &p, name, least);
    check_stored(&k[0], &p, name);
    check_logits(&k[0], &p, name);
    read_close(&p);
    check_same_file(k[0].path, k[1].path);
    for (uint32_t l = 0; l < LAYERS; l++)
        if (!(r[0].error[l] > 0.0f && (double)r[0].error[l] < max_error))
            t_fail(__FILE__, __LINE__, "%s: layer %u: error %g", name, l, (double)r[0].error[l]);
}

/* All that the gate can choose. */
static void every_rival(void) {
    struct rig k[2];
    unsigned n = 0;
    rigs_open(k);
    for (unsigned i = 0; i < RIVAL_COUNT; i++) {
        char name[RIVAL_NAME];
        bool is_form = true;
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            struct rival_task task = {.n_layers = LAYERS, .target = GATE_TARGET};
            model_mat_shape(&k[0].tiny.h, (enum model_mat)m, &task.n_out, &task.n_in);
            is_form = rival_form(&task, i, &k[0].tiny.forms[m]) && is_form;
        }
        if (!is_form) continue;
        rival_name(i, name);
        bool is_coarse = strcmp(name, "channels-4") == 0; /* few rows are alike in what is noise */
        check_forms(k, name, is_coarse ? 0.6 : 0.25, is_coarse ? 0.15 : 0.25);
        n++;
    }
    CHECK_EQU(n, RIVAL_COUNT - 2); /* groups are no forms */
    rigs_close(k);
}

/* Kinds of different forms in one pack, and forms that are no rivals: bases under a base. */
static void mixed(void) {
    struct rig k[2];
    rigs_open(k);
    for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
        char name[32];
        snprintf(name, sizeof(name), "variant %u", v);
        tiny_source_swsc(&k[0].tiny, v);
        check_forms(k, name, 0.25, 0.25);
    }
    rigs_close(k);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"every_rival", every_rival},
        {"mixed", mixed},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
