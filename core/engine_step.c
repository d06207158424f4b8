/* The forward pass of the llama architecture, one visible list of phases.
 *
 * A phase is one pool run. Phases over rows (norm, rotation) do the small per-row work; products
 * are split by row tiles; attention by (row, head). With one row the row phases run on the caller
 * alone, which costs less than handing them out.
 *
 * All keys and values of the step are stored before its attention, because rows of one session see
 * each other. Every value is computed by one thread in one order, whatever the split. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/attend.h"
#include "core/engine_internal.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pages.h"
#include "core/pool.h"
#include "core/store.h"

enum { ROWS_PER_CHUNK = 8 };

/* Runs a phase over the rows of the step; fn gets chunks of ROWS_PER_CHUNK rows. */
static void run_rows(struct engine *en, pool_fn fn, uint32_t n_rows) {
    pool_run(en->pool, fn, en, (n_rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK);
}

static uint32_t rows_end(uint32_t chunk, uint32_t n_rows) {
    return MIN((chunk + 1) * ROWS_PER_CHUNK, n_rows);
}

static int check(const struct engine *en, const struct plan *plan, const struct engine_row *rows,
                 uint32_t n_rows, struct err *e) {
    const struct model_hparams *h = en->hp;
    if (n_rows == 0 || n_rows > en->max_rows)
        return err_set(e, -EINVAL, "a step of %u rows: must be 1 to %u", n_rows, en->max_rows);
    if (plan->n_units != model_n_units(h))
        return err_set(e, -EINVAL, "a plan of %u units for a model of %u", plan->n_units,
                       model_n_units(h));
    for (uint32_t r = 0; r < n_rows; r++) {
        uint32_t limit = MIN(en->max_ctx, kv_capacity(rows[r].kv));
        if (rows[r].pos >= limit)
            return err_set(e, -EINVAL, "position %u is beyond the context of %u", rows[r].pos,
                           limit);
        if (rows[r].token >= h->n_vocab)
            return err_set(e, -EINVAL, "token %u is beyond the vocabulary of %u", rows[r].token,
                           h->n_vocab);
    }
    return 0;
}

/* Units [first, last) of the plan have weights that this engine has the scratch for, or are
 * streamed. */
static int check_units(const struct engine *en, const struct plan *plan, uint32_t first,
                       uint32_t last, bool may_stream, struct err *e) {
    for (uint32_t u = first; u < last; u++) {
        const struct plan_unit *x = &plan->units[u];
        char name[16];
        if (x->rung <= RUNG_HIGH) continue;
        if (x->rung == RUNG_PAGED && may_stream && en->pages) continue;
        if (x->rung == RUNG_SWSC && u < en->hp->n_layers && en->forms && x->forms) continue;
        return err_set(e, -EINVAL, "%s is at rung %s: it has no weights to compute with",
                       model_unit_name(en->hp, u, name, sizeof(name)), rung_name(x->rung));
    }
    return 0;
}

static void rope_row(struct engine *en, uint32_t r) {
    uint32_t dim = en->hp->rope_dim;
    float *rope = en->rope + (size_t)r * dim;
    for (uint32_t i = 0; i < dim / 2; i++) {
        double angle = (double)en->rows[r].pos * en->inv_freq[i];
        rope[2 * i] = (float)cos(angle);
        rope[2 * i + 1] = (float)sin(angle);
    }
}

/* Of a tied model: the embeddings are the head's rows. */
static void embed_row(struct engine *en, uint32_t r) {
    const struct model_hparams *h = en->hp;
    en->ops->row(&en->unit->mats[MODEL_HEAD], en->rows[r].token, en->x + (size_t)r * h->n_embd);
}

/* Phase: the rows' rotations, and their embeddings if those are the head's rows. */
static void start_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++) {
        rope_row(en, r);
        if (en->hp->is_tied) embed_row(en, r);
    }
}

/* Phases of a step in parts. */
static void rope_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++) rope_row(en, r);
}

static void embed_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++)
        embed_row(en, r);
}

static void norm_row(struct engine *en, const float *x, const float *gain, uint32_t row) {
    uint32_t n = en->hp->n_embd;
    float *norm = en->norm + (size_t)row * n;
    en->ops->rmsnorm(x, gain, n, en->hp->norm_eps, norm);
    engine_quant(en, &en->acts, n, row, 0, norm, n);
}

/* Phase: norm before attention, quantised for q, k and v. */
static void norm_attn_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    size_t n = en->hp->n_embd;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++)
        norm_row(en, en->x + r * n, en->core.attn_norm + en->layer * n, r);
}

/* Phase: norm before the feed-forward part, quantised for gate and up. */
static void norm_ffn_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    size_t n = en->hp->n_embd;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++)
        norm_row(en, en->x + r * n, en->core.ffn_norm + en->layer * n, r);
}

/* Phase: final norm of the rows that want logits, closed up. */
static void norm_head_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    size_t n = en->hp->n_embd;
    for (uint32_t i = chunk * ROWS_PER_CHUNK; i < rows_end(chunk, en->n_head_rows); i++)
        norm_row(en, en->x + en->head_rows[i] * n, en->core.output_norm, i);
}

/* Phase: queries and keys rotated, keys and values into the caches. */
static void rotate_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    const struct model_hparams *h = en->hp;
    uint32_t width = en->kv_width;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++) {
        const float *rope = en->rope + (size_t)r * h->rope_dim;
        float *k = en->k + (size_t)r * width;
        en->ops->rope(en->q + (size_t)r * en->q_width, h->n_heads, h->head_dim, h->rope_dim, rope);
        en->ops->rope(k, h->n_kv_heads, h->head_dim, h->rope_dim, rope);
        attend_keep(en->ops, h, en->rows[r].kv, en->layer, en->rows[r].pos, k,
                    en->v + (size_t)r * width);
    }
}

/* A head's output can be quantised on the spot if it is made of whole groups. */
static bool heads_are_groups(const struct engine *en) {
    return en->hp->head_dim % PLANE_GROUP == 0;
}

/* Phase: a chunk is not a share of the work but a lane with scratch of its own, that takes items
 * (runs of a row's heads) until there are none. So a lane that starts late costs nothing. */
static void attend_lane(void *ud, uint32_t lane) {
    struct engine *en = ud;
    const struct model_hparams *h = en->hp;
    float *scores = en->scores + (size_t)lane * KERN_ATTN_QUERIES * en->max_ctx;
    uint32_t n_parts = attend_parts(h);
    while (!engine_is_broken(en)) {
        uint32_t item = atomic_fetch_add_explicit(&en->next_item, 1, memory_order_relaxed);
        if (item >= en->n_rows * n_parts) return;
        uint32_t row = item / n_parts, n_q, head = attend_part(h, item % n_parts, &n_q);
        size_t at = (size_t)row * en->q_width + (size_t)head * h->head_dim;
        attend_heads(en->ops, h, en->rows[row].kv, en->layer, head, n_q, en->rows[row].pos + 1,
                     en->q + at, scores, en->max_ctx, en->att + at);
        if (heads_are_groups(en))
            engine_quant(en, &en->acts, en->q_width, row, head * h->head_dim, en->att + at,
                         n_q * h->head_dim);
    }
}

/* Phase: only for heads that are not made of whole groups. */
static void quant_att_rows(void *ud, uint32_t chunk) {
    struct engine *en = ud;
    for (uint32_t r = chunk * ROWS_PER_CHUNK; r < rows_end(chunk, en->n_rows); r++)
        engine_quant(en, &en->acts, en->q_width, r, 0, en->att + (size_t)r * en->q_width,
                     en->q_width);
}

static void attention(struct engine *en) {
    uint32_t n_items = en->n_rows * attend_parts(en->hp);
    atomic_store_explicit(&en->next_item, 0, memory_order_relaxed);
    pool_run(en->pool, attend_lane, en, MIN(pool_threads(en->pool), n_items));
    if (!heads_are_groups(en)) run_rows(en, quant_att_rows, en->n_rows);
}

/* A layer's matrix in the form that its unit is held in. */
static struct engine_mat mat_of(const struct plan_unit *u, enum model_mat m, float *y, size_t ldy) {
    bool is_form = u->rung == RUNG_SWSC;
    return (struct engine_mat){.w = is_form ? NULL : &u->mats[m],
                               .form = is_form ? &u->forms[m] : NULL,
                               .y = y,
                               .ldy = ldy};
}

/* x += W * acts */
static void multiply_add(struct engine *en, const struct plan_unit *u, enum model_mat m,
                         const struct engine_acts *acts) {
    struct engine_mul job = {
        .en = en,
        .acts = acts,
        .n_tok = en->n_rows,
        .then = ENGINE_THEN_ADD,
        .n_mats = 1,
        .mats = {mat_of(u, m, en->out, en->hp->n_embd)},
    };
    engine_mul_run(&job);
}

/* To be called after whatever may have been broken off and before its values are used. */
static int engine_yield(const struct engine *en, struct err *e) {
    return engine_is_broken(en) ? err_set(e, -EAGAIN, "a newer plan waits") : 0;
}

static int layer(struct engine *en, struct err *e) {
    const struct model_hparams *h = en->hp;
    const struct plan_unit *u = en->unit;

    run_rows(en, norm_attn_rows, en->n_rows);
    struct engine_mul qkv = {
        .en = en,
        .acts = &en->acts,
        .n_tok = en->n_rows,
        .n_mats = 3,
        .mats = {mat_of(u, MODEL_Q, en->q, en->q_width), mat_of(u, MODEL_K, en->k, en->kv_width),
                 mat_of(u, MODEL_V, en->v, en->kv_width)},
    };
    engine_mul_run(&qkv);
    int r = engine_yield(en, e);
    if (r < 0) return r;
    run_rows(en, rotate_rows, en->n_rows);
    attention(en);
    r = engine_yield(en, e);
    if (r < 0) return r;
    multiply_add(en, u, MODEL_OUT, &en->acts);
    r = engine_yield(en, e);
    if (r < 0) return r;

    run_rows(en, norm_ffn_rows, en->n_rows);
    struct engine_mul ffn = {
        .en = en,
        .acts = &en->acts,
        .n_tok = en->n_rows,
        .then = ENGINE_THEN_SILU,
        .n_mats = 2,
        .mats = {mat_of(u, MODEL_GATE, en->gate, h->n_ff), mat_of(u, MODEL_UP, en->up, h->n_ff)},
    };
    engine_mul_run(&ffn);
    r = engine_yield(en, e);
    if (r < 0) return r;
    multiply_add(en, u, MODEL_DOWN, &en->acts_ff);
    return engine_yield(en, e);
}

/* Logits of head rows [i0, i1), whose buffers lie `ld` floats apart. */
static void head_run(struct engine *en, uint32_t i0, uint32_t i1, size_t ld) {
    struct engine_acts acts = engine_acts_at(&en->acts, en->hp->n_embd, i0, 0);
    struct engine_mul job = {
        .en = en,
        .acts = &acts,
        .n_tok = i1 - i0,
        .n_mats = 1,
        .mats = {mat_of(en->unit, MODEL_HEAD, en->rows[en->head_rows[i0]].logits, ld)},
    };
    engine_mul_run(&job);
}

/* Which rows want logits; false if none does. */
static bool find_head_rows(struct engine *en) {
    en->n_head_rows = 0;
    for (uint32_t r = 0; r < en->n_rows; r++)
        if (en->rows[r].logits) en->head_rows[en->n_head_rows++] = r;
    return en->n_head_rows > 0;
}

static void head(struct engine *en) {
    run_rows(en, norm_head_rows, en->n_head_rows);

    /* The longest runs of buffers at equal distance. Distances are taken between addresses: the
     * buffers need not be parts of one array. */
    size_t padded = (size_t)planes_row_tiles(en->hp->n_vocab) * PLANE_ROWS;
    uint32_t i0 = 0;
    while (i0 < en->n_head_rows) {
        uint32_t i1 = i0 + 1;
        size_t ld = padded;
        for (; i1 < en->n_head_rows && i1 - i0 != en->fine_rows; i1++) {
            uintptr_t a = (uintptr_t)en->rows[en->head_rows[i1 - 1]].logits;
            uintptr_t b = (uintptr_t)en->rows[en->head_rows[i1]].logits;
            if (b <= a || (b - a) % sizeof(float) || (b - a) / sizeof(float) < padded) break;
            if (i1 > i0 + 1 && (b - a) / sizeof(float) != ld) break;
            ld = (b - a) / sizeof(float);
        }
        head_run(en, i0, i1, ld);
        i0 = i1;
    }
}

static int read_embeddings(struct engine *en, struct err *e) {
    for (uint32_t r = 0; r < en->n_rows; r++) {
        int err = pack_read_embd(en->pack, en->rows[r].token, en->x + (size_t)r * en->hp->n_embd,
                                 e);
        if (err < 0) return err;
    }
    return 0;
}

/* The weights of a unit into en->unit: the plan's, or streamed ones, which are waited for. */
static int take(struct engine *en, uint32_t unit, struct err *e) {
    en->unit = &en->plan->units[unit];
    return en->unit->rung == RUNG_PAGED ? pages_take(en->pages, unit, &en->unit, e) : 0;
}

static void give(struct engine *en, uint32_t unit) {
    if (en->plan->units[unit].rung == RUNG_PAGED) pages_give(en->pages, unit);
    en->unit = NULL;
}

/* Units [first, last) are run. */
static int begin(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                 uint32_t n_rows, uint32_t first, uint32_t last, bool may_stream, struct err *e) {
    int r = check(en, plan, rows, n_rows, e);
    if (r == 0) r = check_units(en, plan, first, last, may_stream, e);
    if (r < 0) return r;
    mem_forbid("engine step");
    en->plan = plan;
    en->rows = rows;
    en->n_rows = n_rows;
    return 0;
}

static void end(struct engine *en) {
    en->plan = NULL;
    en->unit = NULL;
    en->rows = NULL;
    mem_permit();
}

/* The rows' rotations and embeddings. */
static int start(struct engine *en, struct err *e) {
    uint32_t head_unit = en->hp->n_layers;
    int r = en->hp->is_tied ? take(en, head_unit, e) : read_embeddings(en, e);
    if (r < 0) return r;
    run_rows(en, start_rows, en->n_rows);
    if (en->hp->is_tied) give(en, head_unit);
    return 0;
}

static int run_layer(struct engine *en, struct err *e) {
    int r = engine_yield(en, e);
    if (r == 0) r = take(en, en->layer, e);
    if (r < 0) return r;
    r = layer(en, e);
    give(en, en->layer);
    return r;
}

static int run_head(struct engine *en, struct err *e) {
    if (!find_head_rows(en)) return 0;
    int r = take(en, en->hp->n_layers, e);
    if (r < 0) return r;
    head(en);
    give(en, en->hp->n_layers);
    return engine_yield(en, e);
}

void engine_spare(struct engine *en) {
    en->is_spared = true;
}

int engine_step(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                uint32_t n_rows, struct err *e) {
    int r = begin(en, plan, rows, n_rows, 0, en->hp->n_layers + 1, /* may_stream= */ true, e);
    if (r < 0) return r;
    if (en->pages) pages_begin(en->pages, plan, en->is_spared);
    r = start(en, e);
    for (en->layer = 0; r == 0 && en->layer < en->hp->n_layers; en->layer++) r = run_layer(en, e);
    if (r == 0) r = run_head(en, e);
    en->is_spared = false;
    end(en);
    return r;
}

static size_t x_bytes(const struct engine *en) {
    return (size_t)en->n_rows * en->hp->n_embd * sizeof(float);
}

int engine_embed(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                 uint32_t n_rows, float *x, struct err *e) {
    int r = begin(en, plan, rows, n_rows, en->hp->n_layers,
                  en->hp->n_layers + (en->hp->is_tied ? 1 : 0), /* may_stream= */ false, e);
    if (r < 0) return r;
    en->unit = &plan->units[en->hp->n_layers];
    if (en->hp->is_tied)
        run_rows(en, embed_rows, n_rows);
    else
        r = read_embeddings(en, e);
    if (r == 0) memcpy(x, en->x, x_bytes(en));
    end(en);
    return r;
}

int engine_layers(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                  uint32_t n_rows, uint32_t first, uint32_t last, float *x, struct err *e) {
    ASSERT(first <= last && last <= en->hp->n_layers);
    int r = begin(en, plan, rows, n_rows, first, last, /* may_stream= */ false, e);
    if (r < 0) return r;
    memcpy(en->x, x, x_bytes(en));
    run_rows(en, rope_rows, n_rows);
    for (en->layer = first; en->layer < last && r == 0; en->layer++) r = run_layer(en, e);
    memcpy(x, en->x, x_bytes(en));
    end(en);
    return r;
}

int engine_head(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                uint32_t n_rows, const float *x, struct err *e) {
    int r = begin(en, plan, rows, n_rows, en->hp->n_layers, en->hp->n_layers + 1,
                  /* may_stream= */ false, e);
    if (r < 0) return r;
    memcpy(en->x, x, x_bytes(en));
    r = run_head(en, e);
    end(en);
    return r;
}
