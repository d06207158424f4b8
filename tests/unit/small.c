#include "tests/unit/small.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/slab.h"
#include "tests/golden/swsc_draw.h"
#include "tests/t.h"

const struct model_hparams small = {
    .n_layers = 2,
    .n_embd = 32,
    .n_ff = 64,
    .n_heads = 2,
    .n_kv_heads = 1,
    .head_dim = 16,
    .rope_dim = 16,
    .n_vocab = 40,
    .n_ctx_train = 64,
    .rope_base = 10000,
    .norm_eps = 1e-5f,
    .is_tied = true,
};

uint64_t small_body_at(uint32_t unit) {
    return PACK_DIR_BYTES + (unit == small.n_layers ? 1 : MODEL_LAYER_MATS) * PACK_DIR_ENTRY_BYTES;
}

static struct slab *empty_slab(struct mem *m, enum pack_part part, uint32_t unit, uint64_t bytes) {
    struct slab *s = calloc(1, sizeof(*s));
    REQUIRE(s);
    s->mem = m;
    s->part = part;
    s->unit = unit;
    s->bytes = bytes;
    s->data = mem_alloc(m, MEM_SLAB, s->bytes);
    REQUIRE(s->data);
    return s;
}

struct slab *small_slab(struct mem *m, enum pack_part part, uint32_t unit, uint64_t mark) {
    struct slab *s = empty_slab(m, part, unit, pack_extent_bytes(&small, part, unit));
    pack_unit_dir(&small, unit, part, s->data);
    uint64_t *w = s->data;
    for (uint64_t i = small_body_at(unit) / 8; i < s->bytes / 8; i++) w[i] = mark;
    return s;
}

struct swsc_form small_forms[MODEL_LAYER_MATS];

void small_init(void) {
    swsc_draw_forms(&small, 0, small_forms);
}

struct slab *small_swsc(struct mem *m, uint32_t unit, uint64_t seed) {
    uint64_t n;
    uint8_t *p = swsc_draw_unit(&small, small_forms, unit, seed, &n);
    struct slab *s = empty_slab(m, PACK_SWSC, unit, n);
    memcpy(s->data, p, n);
    free(p);
    return s;
}

struct slab *small_books(struct mem *m) {
    uint64_t n;
    uint8_t *p = swsc_draw_books(&small, small_forms, 1, &n);
    struct slab *s = empty_slab(m, PACK_BOOKS, 0, n);
    memcpy(s->data, p, n);
    free(p);
    return s;
}

static void add_all(struct store *s, struct mem *m, enum pack_part part) {
    for (uint32_t u = 0; u < SMALL_UNITS; u++) {
        struct err e = {0};
        REQUIRE_OK(store_add(s, small_slab(m, part, u, u + 1), &e), &e);
    }
}

struct store *small_store(struct mem *m) {
    struct store *s;
    struct err e = {0};
    REQUIRE_OK(store_create(&small, &s, &e), &e);
    add_all(s, m, PACK_HIGH);
    add_all(s, m, PACK_LOW);
    return s;
}

struct ladder *small_ladder(uint64_t full_bytes, uint64_t step_bytes) {
    struct ladder_step steps[SMALL_UNITS * 3];
    struct ladder *l;
    struct err e = {0};
    uint32_t n = 0;
    for (int r = RUNG_FULL; r < RUNG_PAGED; r++)
        for (uint32_t u = 0; u < SMALL_UNITS; u++) {
            bool is_head = u == small.n_layers;
            if (is_head && r == RUNG_SWSC) continue;
            enum rung to = is_head && r == RUNG_HIGH ? RUNG_PAGED : (enum rung)(r + 1);
            steps[n++] = (struct ladder_step){
                .unit = u, .from = (enum rung)r, .to = to, .bytes = step_bytes};
        }
    REQUIRE_OK(ladder_create("test", SMALL_UNITS, full_bytes, steps, n, &l, &e), &e);
    return l;
}
