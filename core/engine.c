/* The engine's memory and the checks of a step; the forward pass itself is in engine_step.c. */
#include "core/engine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/engine_internal.h"
#include "core/err.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/spans.h"

enum { SCRATCH_ALIGN = 64 };

/* Lays arrays out one after the other. The first pass, with base NULL, finds the size only. */
struct carve {
    uint8_t *base;
    size_t used;
    bool is_too_big;
};

static void *carve(struct carve *c, size_t n, size_t m, size_t elem) {
    size_t bytes, used;
    if (!size_mul(n, m, &bytes) || !size_mul(bytes, elem, &bytes) ||
        !size_align(bytes, SCRATCH_ALIGN, &bytes) || !size_add(c->used, bytes, &used)) {
        c->is_too_big = true;
        return NULL;
    }
    void *p = c->base ? c->base + c->used : NULL;
    c->used = used;
    return p;
}

static void carve_kern_acts(struct carve *c, size_t rows, size_t n_in, struct kern_acts *ret) {
    size_t groups = n_in / PLANE_GROUP;
    ret->q = carve(c, rows, n_in, sizeof(*ret->q));
    ret->scale = carve(c, rows, groups, sizeof(*ret->scale));
    ret->qsum = carve(c, rows, groups, sizeof(*ret->qsum));
    ret->psum = carve(c, rows, groups, sizeof(*ret->psum));
}

static void carve_acts(struct engine *en, struct carve *c, size_t n_in, struct engine_acts *ret) {
    carve_kern_acts(c, en->max_rows, n_in, &ret->q);
    if (en->fine_rows) carve_kern_acts(c, en->max_rows, n_in, &ret->rest);
}

static size_t padded(size_t n) {
    return (n + PLANE_ROWS - 1) / PLANE_ROWS * PLANE_ROWS;
}

/* Room for what one engine_mul needs beside its result: of a layer, or of the head. */
static void carve_mul(struct engine *en, struct carve *c) {
    size_t layer, head = 0;
    struct engine_widths w = engine_mul_widths(en->hp, en->forms, en->fine_rows > 0);
    if (!size_mul(en->max_rows, w.side, &layer) ||
        !size_mul(en->fine_rows, padded(en->hp->n_vocab), &head)) {
        c->is_too_big = true;
        return;
    }
    if (MAX(layer, head) > 0) en->side = carve(c, MAX(layer, head), 1, sizeof(float));
    if (w.mid > 0) en->mid = carve(c, en->max_rows, w.mid, sizeof(float));
    if (w.rank > 0) carve_acts(en, c, w.rank, &en->mid_acts);
}

static void carve_all(struct engine *en, struct carve *c) {
    const struct model_hparams *h = en->hp;
    size_t r = en->max_rows;
    en->inv_freq = carve(c, h->rope_dim / 2, 1, sizeof(*en->inv_freq));
    en->rope = carve(c, r, h->rope_dim, sizeof(float));
    en->x = carve(c, r, h->n_embd, sizeof(float));
    en->norm = carve(c, r, h->n_embd, sizeof(float));
    en->q = carve(c, r, en->q_width, sizeof(float));
    en->k = carve(c, r, en->kv_width, sizeof(float));
    en->v = carve(c, r, en->kv_width, sizeof(float));
    en->att = carve(c, r, en->q_width, sizeof(float));
    en->gate = carve(c, r, h->n_ff, sizeof(float));
    en->up = carve(c, r, h->n_ff, sizeof(float));
    en->out = carve(c, r, h->n_embd, sizeof(float));
    en->scores = carve(c, (size_t)pool_threads(en->pool) * KERN_ATTN_QUERIES, en->max_ctx,
                       sizeof(float));
    carve_acts(en, c, MAX(h->n_embd, en->q_width), &en->acts);
    carve_acts(en, c, h->n_ff, &en->acts_ff);
    carve_mul(en, c);
    en->head_rows = carve(c, r, 1, sizeof(*en->head_rows));
    en->spans = carve(c, pool_threads(en->pool), 1, sizeof(*en->spans));
}

int engine_create(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                  const struct pack *pack, const float *core, const struct engine_opts *opts,
                  struct engine **ret, struct err *e) {
    if (opts->max_rows == 0 || opts->max_rows > ENGINE_MAX_ROWS)
        return err_set(e, -EINVAL, "%u rows a step: must be 1 to %d", opts->max_rows,
                       ENGINE_MAX_ROWS);
    if (opts->max_ctx == 0 || opts->max_ctx > MODEL_MAX_CTX)
        return err_set(e, -EINVAL, "a context of %u positions: must be 1 to %d", opts->max_ctx,
                       MODEL_MAX_CTX);
    struct engine *en = malloc(sizeof(*en));
    if (!en) return err_set(e, -ENOMEM, "no memory for the engine");
    const struct model_hparams *h = pack_hparams(pack);
    *en = (struct engine){
        .mem = m,
        .pool = pool,
        .ops = ops,
        .pack = pack,
        .pages = opts->pages,
        .hp = h,
        .forms = pack_swsc(pack),
        .max_rows = opts->max_rows,
        /* Rounded up so that each thread's scores begin on a cache line of their own. */
        .max_ctx = (opts->max_ctx + 15) / 16 * 16,
        .fine_rows = MIN(opts->fine_rows, opts->max_rows),
        .q_width = h->n_heads * h->head_dim,
        .kv_width = h->n_kv_heads * h->head_dim,
    };
    model_core_bind(h, core, &en->core);

    struct carve c = {0};
    carve_all(en, &c);
    if (!c.is_too_big) c.base = mem_alloc(m, MEM_SCRATCH, c.used);
    if (!c.base) {
        err_set(e, -ENOMEM, "no memory for the engine's scratch (%zu bytes)", c.used);
        free(en);
        return -ENOMEM;
    }
    en->scratch = c.base;
    en->scratch_bytes = c.used;
    c.used = 0;
    carve_all(en, &c);
    for (uint32_t i = 0; i < h->rope_dim / 2; i++)
        en->inv_freq[i] = pow((double)h->rope_base, -2.0 * (double)i / (double)h->rope_dim) /
                          (double)en->core.rope_freqs[i];
    *ret = en;
    return 0;
}

void engine_destroy(struct engine *en) {
    if (!en) return;
    mem_free(en->mem, MEM_SCRATCH, en->scratch, en->scratch_bytes);
    free(en);
}

uint64_t engine_scratch_bytes(const struct engine *en) {
    return en->scratch_bytes;
}

const struct model_hparams *engine_hparams(const struct engine *en) {
    return en->hp;
}

uint32_t engine_max_rows(const struct engine *en) {
    return en->max_rows;
}

struct mem *engine_mem(const struct engine *en) {
    return en->mem;
}
