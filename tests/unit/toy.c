#include "tests/unit/toy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/pack.h"
#include "core/tok.h"
#include "kernels/kernels.h"
#include "tests/golden/swsc_draw.h"
#include "tests/t.h"

struct tok {
    char piece[16];
};

static uint16_t f16(float x) {
    struct kern_ops ops;
    uint16_t h;
    kern_init(&ops, 0);
    ops.to_f16(&x, 1, &h);
    return h;
}

static float near_one(uint64_t *rng) {
    return 0.75f + (float)(t_rand(rng) % 1000) / 2000;
}

static uint8_t *bytes_of(size_t n) {
    uint8_t *p = aligned_alloc(64, (n + 63) / 64 * 64);
    REQUIRE(p);
    memset(p, 0, n);
    return p;
}

/* Group scales of 20..33 steps of D, offsets that bring the mean code to zero: a weight is about
 * D * 27 * (t - 7.5), of deviation D * 124, so D is chosen to give 1 / sqrt(n_in). */
static void make_planes(struct kern_planes *w, uint32_t n_out, uint32_t n_in, uint64_t *rng) {
    uint32_t tiles = planes_row_tiles(n_out), groups = n_in / PLANE_GROUP;
    uint8_t *rows = bytes_of((size_t)tiles * PLANE_ROW_BYTES);
    uint8_t *scales = bytes_of((size_t)tiles * groups * PLANE_SCALE_BYTES);
    uint8_t *high = bytes_of((size_t)tiles * groups * PLANE_TILE_BYTES);
    uint8_t *low = bytes_of((size_t)tiles * groups * PLANE_TILE_BYTES);
    for (uint32_t row = 0; row < n_out; row++) {
        float d = near_one(rng) / 124 / sqrtf((float)n_in);
        uint8_t *dm = rows + (size_t)(row / PLANE_ROWS) * PLANE_ROW_BYTES;
        uint16_t h = f16(d);
        memcpy(dm + 2 * (row % PLANE_ROWS), &h, 2);
        memcpy(dm + 2 * (PLANE_ROWS + row % PLANE_ROWS), &h, 2);
        for (uint32_t g = 0; g < groups; g++) {
            size_t tile = (size_t)(row / PLANE_ROWS) * groups + g;
            uint8_t sc = (uint8_t)(20 + t_rand(rng) % 14);
            scales[tile * PLANE_SCALE_BYTES + row % PLANE_ROWS] = sc;
            scales[tile * PLANE_SCALE_BYTES + PLANE_ROWS + row % PLANE_ROWS] = (uint8_t)(sc * 15 /
                                                                                         2);
            for (uint32_t i = 0; i < PLANE_GROUP; i++) {
                size_t at = tile * PLANE_TILE_BYTES + planes_code_byte(row % PLANE_ROWS, i);
                uint64_t r = t_rand(rng);
                high[at] |= (uint8_t)((r & 15) << planes_code_shift(i));
                low[at] |= (uint8_t)((r >> 4 & 15) << planes_code_shift(i));
            }
        }
    }
    *w = (struct kern_planes){rows, scales, high, low, n_out, n_in};
}

static struct plan *make_plan(const struct toy *t, uint64_t epoch, uint32_t position,
                              uint32_t keep_low_every) {
    uint32_t n = model_n_units(&t->pack.hp);
    struct plan *p = calloc(1, sizeof(*p) + n * sizeof(p->units[0]));
    REQUIRE(p);
    p->epoch = epoch;
    p->position = position;
    p->n_units = n;
    for (uint32_t u = 0; u < n; u++) {
        memcpy(p->units[u].mats, t->mats[u], sizeof(p->units[u].mats));
        if (keep_low_every && u % keep_low_every == 0) continue;
        p->units[u].rung = RUNG_HIGH;
        for (int m = 0; m < MODEL_MAT_COUNT; m++) p->units[u].mats[m].low = NULL;
    }
    return p;
}

static void free_forms(struct toy *t) {
    for (uint32_t u = 0; t->extents && u <= t->pack.hp.n_layers; u++) free(t->extents[u]);
    free(t->extents);
    free(t->bound);
    free(t->swsc);
    free(t->rungs);
}

void toy_draw_forms(struct toy *t, unsigned variant) {
    const struct model_hparams *h = &t->pack.hp;
    uint32_t n = h->n_layers;
    struct err e = {0};
    uint64_t n_books, n_unit;
    free_forms(t);
    swsc_draw_forms(h, variant, t->forms);
    t->pack.forms = t->forms;
    t->extents = calloc(n + 1, sizeof(*t->extents));
    t->bound = calloc(n, sizeof(*t->bound));
    REQUIRE(t->extents && t->bound);
    t->extents[n] = swsc_draw_books(h, t->forms, 1, &n_books);
    t->swsc = make_plan(t, 4, 2 * n, 1);
    t->rungs = make_plan(t, 5, n, 0);
    for (uint32_t u = 0; u < n; u++) {
        t->extents[u] = swsc_draw_unit(h, t->forms, u, 1, &n_unit);
        REQUIRE_OK(pack_bind_swsc(h, t->forms, u, t->extents[n], n_books, t->extents[u], n_unit,
                                  t->bound[u], &e),
                   &e);
        t->swsc->units[u].rung = RUNG_SWSC;
        t->swsc->units[u].forms = t->bound[u];
        memset(t->swsc->units[u].mats, 0, sizeof(t->swsc->units[u].mats));
        t->rungs->units[u] = u % 3 == 0   ? t->swsc->units[u]
                             : u % 3 == 1 ? t->full->units[u]
                                          : t->high->units[u];
    }
}

static const struct model_hparams shapes[TOY_SHAPE_COUNT] = {
    [TOY_PLAIN] = {.n_layers = 3,
                   .n_embd = 96,
                   .n_ff = 160,
                   .n_heads = 6,
                   .n_kv_heads = 2,
                   .head_dim = 32,
                   .rope_dim = 32,
                   .n_vocab = 299,
                   .is_tied = true},
    [TOY_ODD] = {.n_layers = 2,
                 .n_embd = 64,
                 .n_ff = 96,
                 .n_heads = 6,
                 .n_kv_heads = 3,
                 .head_dim = 16,
                 .rope_dim = 8,
                 .n_vocab = 128,
                 .is_tied = false},
    [TOY_SINGLE] = {.n_layers = 1,
                    .n_embd = 32,
                    .n_ff = 32,
                    .n_heads = 2,
                    .n_kv_heads = 1,
                    .head_dim = 64,
                    .rope_dim = 64,
                    .n_vocab = 9,
                    .is_tied = true},
};

void toy_init(struct toy *t, enum toy_shape shape, uint64_t seed) {
    uint64_t rng = seed;
    *t = (struct toy){.pack = {.hp = shapes[shape], .fail_token = UINT32_MAX}};
    struct model_hparams *h = &t->pack.hp;
    h->n_ctx_train = 512;
    h->rope_base = 10000;
    h->norm_eps = 1e-5f;
    REQUIRE(mem_create(&t->mem) == 0);

    size_t n_core = model_core_floats(h), n_freqs = h->rope_dim / 2;
    t->core = calloc(n_core, sizeof(float));
    REQUIRE(t->core);
    for (size_t i = 0; i < n_core; i++) t->core[i] = near_one(&rng);
    if (shape != TOY_ODD)
        for (size_t i = n_core - n_freqs; i < n_core; i++) t->core[i] = 1;

    uint32_t n_units = model_n_units(h);
    t->mats = calloc(n_units, sizeof(*t->mats));
    REQUIRE(t->mats);
    for (uint32_t u = 0; u < n_units; u++) {
        int from = u < h->n_layers ? MODEL_Q : MODEL_HEAD;
        int to = u < h->n_layers ? MODEL_DOWN : MODEL_HEAD;
        for (int m = from; m <= to; m++) {
            uint32_t n_out, n_in;
            model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
            make_planes(&t->mats[u][m], n_out, n_in, &rng);
        }
    }
    if (!h->is_tied) {
        size_t n = (size_t)h->n_vocab * h->n_embd;
        t->pack.embd = calloc(n, sizeof(float));
        REQUIRE(t->pack.embd);
        for (size_t i = 0; i < n; i++) t->pack.embd[i] = near_one(&rng) * (i % 2 ? 0.1f : -0.1f);
    }
    t->full = make_plan(t, 1, 0, 1);
    t->high = make_plan(t, 2, n_units, 0);
    t->mixed = make_plan(t, 3, n_units / 2, 2);
    toy_draw_forms(t, 0);
}

void toy_fini(struct toy *t) {
    for (uint32_t u = 0; u < t->full->n_units; u++) {
        for (int m = 0; m < MODEL_MAT_COUNT; m++) {
            free((void *)(uintptr_t)t->mats[u][m].rows);
            free((void *)(uintptr_t)t->mats[u][m].groups);
            free((void *)(uintptr_t)t->mats[u][m].high);
            free((void *)(uintptr_t)t->mats[u][m].low);
        }
    }
    free_forms(t);
    free(t->mats);
    free(t->full);
    free(t->high);
    free(t->mixed);
    free(t->core);
    free(t->pack.embd);
    mem_destroy(t->mem);
}

const struct model_hparams *pack_hparams(const struct pack *p) {
    return &p->hp;
}

const struct swsc_form *pack_swsc(const struct pack *p) {
    return p->forms;
}

int pack_read_embd(const struct pack *p, uint32_t row, float *ret, struct err *e) {
    if (row == p->fail_token) return err_set(e, -EBADMSG, "embd: row %u: checksum differs", row);
    memcpy(ret, p->embd + (size_t)row * p->hp.n_embd, p->hp.n_embd * sizeof(float));
    return 0;
}

const struct tok *toy_tok(void) {
    static struct tok tok;
    return &tok;
}

bool tok_is_end(const struct tok *t, uint32_t id) {
    (void)t;
    return id == TOY_END;
}

const char *tok_piece(const struct tok *t, uint32_t id, bool special, size_t *ret_n) {
    (void)special;
    struct tok *tok = (struct tok *)(uintptr_t)t;
    int n = id == TOY_END ? 0 : snprintf(tok->piece, sizeof(tok->piece), "<%u>", id);
    *ret_n = (size_t)n;
    return tok->piece;
}
