#include "tests/golden/tiny_pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "tests/golden/gguf_build.h"
#include "tests/golden/swsc_draw.h"
#include "tests/t.h"

void tiny_source_init(struct tiny_source *s, const struct tiny_opts *o) {
    size_t n;
    *s = (struct tiny_source){0};
    s->bytes = tiny_build(o, &n);
    if (gguf_parse(s->bytes, n, n, &s->g, NULL) < 0 ||
        model_read_hparams(s->g, true, &s->h, NULL) < 0)
        abort();
}

void tiny_source_fini(struct tiny_source *s) {
    gguf_close(s->g);
    free(s->bytes);
}

void tiny_source_swsc(struct tiny_source *s, unsigned variant) {
    swsc_draw_forms(&s->h, variant, s->forms);
    s->has_swsc = true;
}

/* Scales such that weights have a deviation near 1.5 / sqrt(n_in), and mean 0: with mn = sc and
 * M = 7.5 D, w4 = D * sc * (t - 7.5). */
static void draw_scales(uint8_t *p, const struct pack_mat_layout *x, uint64_t *seed) {
    float d = 1.5f / (128 * 4.6f * 8);
    for (uint64_t at = 0; at < x->rows_bytes; at += PLANE_ROW_BYTES)
        for (unsigned r = 0; r < PLANE_ROWS; r++) {
            bytes_put_u16(p + x->rows + at + 2 * r, gb_half(d));
            bytes_put_u16(p + x->rows + at + 2 * PLANE_ROWS + 2 * r, gb_half(7.5f * d));
        }
    for (uint64_t at = 0; at < x->groups_bytes; at += PLANE_SCALE_BYTES)
        for (unsigned r = 0; r < PLANE_ROWS; r++) {
            uint8_t sc = (uint8_t)(64 + t_rand(seed) % 128);
            p[x->groups + at + r] = p[x->groups + at + PLANE_ROWS + r] = sc;
        }
}

static void draw_unit(uint8_t *p, const struct model_hparams *h, enum pack_part part, uint32_t unit,
                      uint64_t seed) {
    struct pack_mat_layout mats[MODEL_MAT_COUNT];
    pack_unit_layout(h, unit, part, mats);
    pack_unit_dir(h, unit, part, p);
    for (int m = 0; m < MODEL_MAT_COUNT; m++) {
        draw_scales(p, &mats[m], &seed);
        for (uint64_t i = 0; i < mats[m].codes_bytes; i++)
            p[mats[m].codes + i] = (uint8_t)t_rand(&seed);
    }
}

static void draw_embd(uint8_t *p, const struct model_hparams *h, uint64_t seed) {
    uint16_t *row = malloc(h->n_embd * sizeof(*row));
    size_t record = h->n_embd * sizeof(*row) + sizeof(uint64_t);
    if (!row) abort();
    for (uint32_t i = 0; i < h->n_vocab; i++) {
        for (uint32_t k = 0; k < h->n_embd; k++)
            row[k] = gb_half((float)(t_rand(&seed) >> 40) * 0x1p-23f - 1);
        pack_embd_record(h, row, p + i * record);
    }
    free(row);
}

uint8_t *tiny_pack_extent(const struct tiny_source *s, enum pack_part part, uint32_t unit,
                          uint64_t seed, uint64_t *ret_n) {
    if (part == PACK_SWSC) return swsc_draw_unit(&s->h, s->forms, unit, seed, ret_n);
    if (part == PACK_BOOKS) return swsc_draw_books(&s->h, s->forms, seed, ret_n);
    uint64_t n = pack_extent_bytes(&s->h, part, unit);
    if (part == PACK_CORE) n = pack_core_bytes(&s->h);
    if (part == PACK_EMBD) n = pack_embd_bytes(&s->h);
    uint8_t *p = calloc(1, n);
    if (!p) abort();
    seed += (uint64_t)part * 1000 + unit;
    if (part == PACK_CORE)
        for (uint64_t i = 0; i < n; i += 4) memcpy(p + i, &(float){1}, 4);
    else if (part == PACK_EMBD)
        draw_embd(p, &s->h, seed);
    else
        draw_unit(p, &s->h, part, unit, seed);
    *ret_n = n;
    return p;
}

static int write_one(struct pack_writer *w, const struct tiny_source *s, enum pack_part part,
                     uint32_t unit, uint64_t seed, struct err *e) {
    uint64_t n;
    uint8_t *p = tiny_pack_extent(s, part, unit, seed, &n);
    int r = pack_writer_extent(w, part, unit, p, n, e);
    free(p);
    return r;
}

int tiny_pack_extents(struct pack_writer *w, const struct tiny_source *s, uint64_t seed,
                      struct err *e) {
    int r = s->has_swsc ? pack_writer_swsc(w, s->forms, e) : 0;
    if (r == 0) r = write_one(w, s, PACK_CORE, 0, seed, e);
    if (r == 0 && !s->h.is_tied) r = write_one(w, s, PACK_EMBD, 0, seed, e);
    if (r == 0 && s->has_swsc && swsc_has_books(s->forms))
        r = write_one(w, s, PACK_BOOKS, 0, seed, e);
    for (uint32_t u = 0; u < model_n_units(&s->h) && r == 0; u++) {
        r = write_one(w, s, PACK_HIGH, u, seed, e);
        if (r == 0) r = write_one(w, s, PACK_LOW, u, seed, e);
        if (r == 0 && s->has_swsc && u < s->h.n_layers) r = write_one(w, s, PACK_SWSC, u, seed, e);
    }
    return r;
}

static uint64_t bytes_at(const struct tiny_source *s, uint32_t unit, enum rung rung) {
    uint64_t high = pack_extent_bytes(&s->h, PACK_HIGH, unit);
    switch (rung) {
    case RUNG_FULL: return high + pack_extent_bytes(&s->h, PACK_LOW, unit);
    case RUNG_HIGH: return high;
    case RUNG_SWSC: return pack_swsc_bytes(&s->h, s->forms);
    case RUNG_PAGED: break;
    }
    return 0;
}

static struct ladder_step step_of(const struct tiny_source *s, uint32_t unit, enum rung from,
                                  enum rung to) {
    return (struct ladder_step){.unit = unit,
                                .from = from,
                                .to = to,
                                .bytes = bytes_at(s, unit, from) - bytes_at(s, unit, to),
                                .cost = (float)unit};
}

/* All steps of "deep"; "jaccard" is its beginning. A form that is no smaller than the high plane,
 * as with sizes that all round up to one block of the file, is left out. */
static uint32_t deep_steps(const struct tiny_source *s, struct ladder_step *ret) {
    uint32_t n_layers = s->h.n_layers, n = 0;
    bool has_swsc = s->has_swsc && bytes_at(s, 0, RUNG_SWSC) < bytes_at(s, 0, RUNG_HIGH);
    for (uint32_t u = 0; u <= n_layers; u++) ret[n++] = step_of(s, u, RUNG_FULL, RUNG_HIGH);
    for (uint32_t u = 0; has_swsc && u < n_layers; u++)
        ret[n++] = step_of(s, u, RUNG_HIGH, RUNG_SWSC);
    for (uint32_t u = 0; u <= n_layers; u++) {
        enum rung from = has_swsc && u < n_layers ? RUNG_SWSC : RUNG_HIGH;
        ret[n++] = step_of(s, u, from, RUNG_PAGED);
    }
    return n;
}

/* A gate of two forms: kind m took the first with an error of (m + 1) / 100; the last took none. */
struct gate_table {
    const char *names[2];
    float bits[2 * MODEL_LAYER_MATS], error[2 * MODEL_LAYER_MATS], margin[MODEL_LAYER_MATS];
    uint8_t can_win[2 * MODEL_LAYER_MATS];
    uint32_t winner[MODEL_LAYER_MATS];
};

static struct pack_gate_in gate_of(struct gate_table *t) {
    t->names[0] = "segments-4-256";
    t->names[1] = "groups-2";
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        bool is_last = m == MODEL_LAYER_MATS - 1;
        t->bits[2 * m] = 2.25f;
        t->bits[2 * m + 1] = 2.5f;
        t->error[2 * m] = is_last ? NAN : (float)(m + 1) / 100.0f;
        t->error[2 * m + 1] = 0.5f;
        t->can_win[2 * m] = !is_last;
        t->can_win[2 * m + 1] = 0;
        t->margin[m] = is_last ? NAN : 0.25f;
        t->winner[m] = is_last ? 2 : 0;
    }
    return (struct pack_gate_in){2,        t->names,   3.0f,      t->bits,
                                 t->error, t->can_win, t->winner, t->margin};
}

int tiny_pack_finish(struct pack_writer *w, const struct tiny_source *s, struct err *e) {
    uint32_t n = model_n_units(&s->h);
    struct ladder_step *steps = calloc(3 * (size_t)n, sizeof(*steps));
    float *score = calloc(n, sizeof(*score));
    if (!steps || !score) abort();
    for (uint32_t u = 0; u < n; u++) score[u] = (float)u;
    uint32_t n_deep = deep_steps(s, steps);
    struct pack_ladder_in ladders[2] = {{.name = "jaccard", .steps = steps, .n_steps = n},
                                        {.name = "deep", .steps = steps, .n_steps = n_deep}};
    struct pack_score_in scores = {.key = "ebb.importance.jaccard", .v = score};
    struct pack_meta meta = {
        .source_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        .source_name = "tiny.gguf",
        .calibration = "none",
        .scores = &scores,
        .n_scores = 1,
        .ladders = ladders,
        .n_ladders = 2};
    struct gate_table table;
    struct pack_gate_in gate = gate_of(&table);
    if (s->has_swsc) meta.gate = &gate;
    int r = pack_writer_finish(w, &meta, e);
    free(steps);
    free(score);
    return r;
}

static int write_source(const struct tiny_source *s, const char *path, uint64_t seed,
                        struct err *e) {
    struct pack_writer *w = NULL;
    int r = pack_writer_create(path, s->g, &s->h, &w, e);
    if (r == 0) r = tiny_pack_extents(w, s, seed, e);
    if (r == 0) r = tiny_pack_finish(w, s, e);
    pack_writer_destroy(w);
    return r;
}

int tiny_pack_write(const struct tiny_opts *o, const char *path, struct err *e) {
    struct tiny_source s;
    tiny_source_init(&s, o);
    int r = write_source(&s, path, o->seed, e);
    tiny_source_fini(&s);
    return r;
}

int tiny_pack_write_swsc(const struct tiny_opts *o, unsigned variant, const char *path,
                         struct err *e) {
    struct tiny_source s;
    tiny_source_init(&s, o);
    tiny_source_swsc(&s, variant);
    int r = write_source(&s, path, o->seed, e);
    tiny_source_fini(&s);
    return r;
}
