/* Matrix products split over the pool by row tiles.
 *
 * A form of the rung swsc is computed in two runs: first t = C x and r = B x of all matrices that
 * have them, each row of r quantised by the block that made its group; then the rows of y, whose
 * terms are added in one order: the base, then A r. With activations in two vectors (fine_rows)
 * each term is two products, the second of what int8 lost.
 *
 * Every output belongs to one block, and its sum is one kernel call's, so the split changes no
 * bit. What follows a product and needs only the rows of a block is done with the block, while the
 * rows are in its cache: that is one fork-join less, and nothing is left for one thread alone. */
#include "core/engine_internal.h"
#include "core/pool.h"
#include "core/spans.h"

enum {
    /* A block is at least a few microseconds of work, so that taking it does not show, and small
     * enough that the last one does not keep the others waiting. Each thread goes through its
     * blocks as they lie in memory (spans.h): handed out in turn, each waits anew for its first
     * lines, and decode makes 0.93 times the tokens/s, four requests 0.80 (high) and 0.78 times
     * (full), prompts 0.84 and 0.95 times (2 threads, Zen 4). Two and eight blocks gave no more. */
    BLOCKS_PER_THREAD = 4,
    BLOCK_MAX_BYTES = 128 * 1024,
    GROUP_TILES = PLANE_GROUP / PLANE_ROWS, /* a block that quantises owns whole groups */
    REST_WIDTH = 512,                       /* a multiple of the group */
};

static uint32_t row_tiles(const struct engine_mat *x) {
    return planes_row_tiles(x->w ? x->w->n_out : x->form->n_out);
}

static size_t padded_rows(const struct engine_mat *x) {
    return (size_t)row_tiles(x) * PLANE_ROWS;
}

static struct kern_acts acts_at(const struct kern_acts *a, size_t at) {
    return (struct kern_acts){
        .q = a->q + at,
        .scale = a->scale + at / PLANE_GROUP,
        .qsum = a->qsum + at / PLANE_GROUP,
        .psum = a->psum + at / PLANE_GROUP,
    };
}

struct engine_acts engine_acts_at(const struct engine_acts *a, uint32_t n_in, uint32_t t,
                                  uint32_t i) {
    size_t at = (size_t)t * n_in + i;
    struct engine_acts ret = {.q = acts_at(&a->q, at)};
    if (a->rest.q) ret.rest = acts_at(&a->rest, at);
    return ret;
}

/* What int8 loses of x[n], in int8. */
static void quant_rest(const struct engine *en, const struct engine_acts *to, const float *x,
                       uint32_t n) {
    float rest[REST_WIDTH];
    for (uint32_t i = 0; i < n; i += REST_WIDTH) {
        uint32_t w = MIN(n - i, (uint32_t)REST_WIDTH);
        for (uint32_t k = 0; k < w; k++)
            rest[k] = x[i + k] - to->q.scale[(i + k) / PLANE_GROUP] * (float)to->q.q[i + k];
        struct kern_acts at = acts_at(&to->rest, i);
        en->ops->quant_acts(rest, w, w, 1, &at);
    }
}

void engine_quant(const struct engine *en, const struct engine_acts *a, uint32_t n_in, uint32_t t,
                  uint32_t i, const float *x, uint32_t n) {
    struct engine_acts to = engine_acts_at(a, n_in, t, i);
    en->ops->quant_acts(x, n, n, 1, &to.q);
    if (to.rest.q) quant_rest(en, &to, x, n);
}

static void add_side(const struct engine_mul *job, const struct engine_mat *x, size_t ld,
                     uint32_t rt0, uint32_t rt1) {
    for (uint32_t t = 0; t < job->n_tok; t++)
        for (uint32_t i = rt0 * PLANE_ROWS; i < rt1 * PLANE_ROWS; i++)
            x->y[t * x->ldy + i] += x->side[t * ld + i];
}

/* One of the two is NULL. */
static void multiply_acts(const struct engine_mul *job, const struct kern_planes *w,
                          const struct kern_seg *seg, const struct kern_acts *acts, float *y,
                          size_t ldy, uint32_t rt0, uint32_t rt1) {
    const struct kern_ops *ops = job->en->ops;
    bool is_one = job->n_tok == 1;
    if (seg) {
        (is_one ? ops->gemv_seg : ops->gemm_seg)(seg, acts, job->n_tok, y, ldy, rt0, rt1);
        return;
    }
    kern_mul_fn *fn = is_one ? (w->low ? ops->gemv_full : ops->gemv_high)
                             : (w->low ? ops->gemm_full : ops->gemm_high);
    fn(w, acts, job->n_tok, y, ldy, rt0, rt1);
}

/* Rows of y: set to the product, or it is added to what is there. */
static void multiply_term(const struct engine_mul *job, const struct engine_mat *x,
                          const struct kern_planes *w, const struct kern_seg *seg,
                          const struct engine_acts *acts, bool is_added, uint32_t rt0,
                          uint32_t rt1) {
    size_t ld = padded_rows(x);
    if (is_added) {
        multiply_acts(job, w, seg, &acts->q, x->side, ld, rt0, rt1);
        add_side(job, x, ld, rt0, rt1);
    } else {
        multiply_acts(job, w, seg, &acts->q, x->y, x->ldy, rt0, rt1);
    }
    if (!acts->rest.q) return;
    multiply_acts(job, w, seg, &acts->rest, x->side, ld, rt0, rt1);
    add_side(job, x, ld, rt0, rt1);
}

static void gather(const struct engine_mul *job, const struct engine_mat *x, uint32_t rt0,
                   uint32_t rt1) {
    const struct swsc_mat *f = x->form;
    size_t ldt = (size_t)planes_row_tiles(f->c.n_out) * PLANE_ROWS;
    uint32_t i0 = rt0 * PLANE_ROWS, n = (rt1 - rt0) * PLANE_ROWS;
    for (uint32_t t = 0; t < job->n_tok; t++)
        job->en->ops->gather(f->gains + i0, f->labels + i0, x->t + t * ldt, n,
                             x->y + t * x->ldy + i0);
}

static void multiply(const struct engine_mul *job, uint32_t mat, uint32_t rt0, uint32_t rt1) {
    const struct engine_mat *x = &job->mats[mat];
    const struct swsc_mat *f = x->form;
    if (x->w) {
        multiply_term(job, x, x->w, NULL, job->acts, /* is_added= */ false, rt0, rt1);
        return;
    }
    if (f->base == SWSC_SEGMENTS)
        multiply_term(job, x, NULL, &f->seg, job->acts, /* is_added= */ false, rt0, rt1);
    else if (f->base == SWSC_CHANNELS)
        gather(job, x, rt0, rt1);
    if (f->rank > 0) multiply_term(job, x, &f->a, NULL, &x->r_acts, f->base != SWSC_NONE, rt0, rt1);
}

/* What has just been written of y, for the next product. */
static void quantise(const struct engine_mul *job, const struct engine_mat *x, uint32_t rt0,
                     uint32_t rt1) {
    uint32_t i0 = rt0 * PLANE_ROWS, n = (rt1 - rt0) * PLANE_ROWS;
    for (uint32_t t = 0; t < job->n_tok; t++)
        engine_quant(job->en, x->to, x->w->n_out, t, i0, x->y + t * x->ldy + i0, n);
}

static void add_to_x(const struct engine_mul *job, uint32_t rt0, uint32_t rt1) {
    size_t ld = job->mats[0].ldy;
    for (uint32_t t = 0; t < job->n_tok; t++) {
        float *x = job->en->x + t * ld;
        const float *y = job->mats[0].y + t * ld;
        for (uint32_t i = rt0 * PLANE_ROWS; i < rt1 * PLANE_ROWS; i++) x[i] += y[i];
    }
}

static void activate(const struct engine_mul *job, uint32_t rt0, uint32_t rt1) {
    const struct engine *en = job->en;
    uint32_t n_ff = en->hp->n_ff;
    uint32_t i0 = rt0 * PLANE_ROWS, n = (rt1 - rt0) * PLANE_ROWS;
    for (uint32_t t = 0; t < job->n_tok; t++) {
        float *gate = en->gate + (size_t)t * n_ff + i0;
        en->ops->silu_mul(gate, en->up + (size_t)t * n_ff + i0, n, gate);
        engine_quant(en, &en->acts_ff, n_ff, t, i0, gate, n);
    }
}

static void mul_block(const struct engine_mul *job, uint32_t block) {
    uint32_t rt0 = block * job->block_tiles;
    uint32_t rt1 = MIN(rt0 + job->block_tiles, job->n_tiles);
    switch (job->then) {
    case ENGINE_THEN_SILU:
        multiply(job, 0, rt0, rt1);
        multiply(job, 1, rt0, rt1);
        activate(job, rt0, rt1);
        return;
    case ENGINE_THEN_ADD:
        multiply(job, 0, rt0, rt1);
        add_to_x(job, rt0, rt1);
        return;
    case ENGINE_THEN_NOTHING: break;
    }
    /* The tiles of all matrices are numbered through; a block may lie across a border. */
    uint32_t first = 0;
    for (uint32_t m = 0; m < job->n_mats; m++) {
        uint32_t end = first + row_tiles(&job->mats[m]);
        uint32_t a = MAX(rt0, first), b = MIN(rt1, end);
        if (a < b) multiply(job, m, a - first, b - first);
        if (a < b && job->mats[m].to) quantise(job, &job->mats[m], a - first, b - first);
        first = end;
    }
}

static void mul_lane(void *ud, uint32_t lane) {
    const struct engine_mul *job = ud;
    uint32_t block;
    while (!engine_is_broken(job->en) && spans_take(job->en->spans, job->n_lanes, lane, &block))
        mul_block(job, block);
}

static uint32_t planes_tile_bytes(const struct kern_planes *w) {
    uint32_t codes = w->low ? 2 * PLANE_TILE_BYTES : PLANE_TILE_BYTES;
    return w->n_in / PLANE_GROUP * (codes + PLANE_SCALE_BYTES) + PLANE_ROW_BYTES;
}

static uint32_t tile_bytes(const struct engine_mat *x) {
    const struct swsc_mat *f = x->form;
    if (x->w) return planes_tile_bytes(x->w);
    uint32_t bytes = SEG_GAIN_BYTES;
    if (f->base == SWSC_SEGMENTS) bytes += f->n_in / f->seg.len * f->seg.bits;
    if (f->rank > 0) bytes += planes_tile_bytes(&f->a);
    return bytes;
}

static void run(struct engine_mul *job) {
    uint32_t n_threads = pool_active(job->en->pool);
    bool has_groups = job->then == ENGINE_THEN_SILU;
    job->n_tiles = 0;
    for (uint32_t m = 0; m < job->n_mats; m++) {
        has_groups = has_groups || job->mats[m].to;
        if (m == 0 || job->then == ENGINE_THEN_NOTHING) job->n_tiles += row_tiles(&job->mats[m]);
    }
    uint32_t n = job->n_tiles;
    if (n_threads > 1) {
        n = MAX((n + n_threads * BLOCKS_PER_THREAD - 1) / (n_threads * BLOCKS_PER_THREAD), 1u);
        n = MIN(n, MAX(BLOCK_MAX_BYTES / tile_bytes(&job->mats[0]), 1u));
    }
    if (has_groups) n = (n + GROUP_TILES - 1) / GROUP_TILES * GROUP_TILES;
    job->block_tiles = n;
    uint32_t n_blocks = (job->n_tiles + n - 1) / n;
    job->n_lanes = MIN(n_threads, n_blocks);
    spans_set(job->en->spans, job->n_lanes, n_blocks);
    pool_run(job->en->pool, mul_lane, job, job->n_lanes);
}

static void place_side(struct engine_mul *job) {
    float *side = job->en->side;
    for (uint32_t m = 0; m < job->n_mats; m++) {
        struct engine_mat *x = &job->mats[m];
        bool has_two = !x->w && x->form->rank > 0 && x->form->base != SWSC_NONE;
        if (!has_two && job->en->fine_rows == 0) continue;
        x->side = side;
        side += job->n_tok * padded_rows(x);
    }
}

/* B x of all matrices, then C x: ranks are whole groups, so each r begins with a group. */
static void run_inner(struct engine_mul *job) {
    struct engine_mul inner = {.en = job->en, .acts = job->acts, .n_tok = job->n_tok};
    float *mid = job->en->mid;
    size_t at = 0; /* in mid_acts */
    for (uint32_t m = 0; m < job->n_mats; m++) {
        struct engine_mat *x = &job->mats[m];
        if (x->w || x->form->rank == 0) continue;
        uint32_t rank = x->form->rank;
        x->r = mid;
        x->r_acts = engine_acts_at(&job->en->mid_acts, 0, 0, (uint32_t)at);
        inner.mats[inner.n_mats++] = (struct engine_mat){
            .w = &x->form->b, .y = x->r, .ldy = rank, .to = &x->r_acts};
        mid += (size_t)job->n_tok * rank;
        at += (size_t)job->n_tok * rank;
    }
    for (uint32_t m = 0; m < job->n_mats; m++) {
        struct engine_mat *x = &job->mats[m];
        if (x->w || x->form->base != SWSC_CHANNELS) continue;
        size_t ldt = (size_t)planes_row_tiles(x->form->c.n_out) * PLANE_ROWS;
        x->t = mid;
        inner.mats[inner.n_mats++] = (struct engine_mat){.w = &x->form->c, .y = x->t, .ldy = ldt};
        mid += job->n_tok * ldt;
    }
    if (inner.n_mats == 0) return;
    place_side(&inner);
    run(&inner);
}

void engine_mul_run(struct engine_mul *job) {
    run_inner(job);
    place_side(job);
    run(job);
}

struct engine_widths engine_mul_widths(const struct model_hparams *h, const struct swsc_form *forms,
                                       bool is_fine) {
    /* The matrices that are multiplied together. */
    static const uint8_t group_of[MODEL_LAYER_MATS] = {0, 0, 0, 1, 2, 2, 3};
    struct engine_widths w[4] = {{0}}, ret = {0};
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        struct engine_widths *x = &w[group_of[m]];
        uint32_t n_out, n_in, rank = forms ? forms[m].rank : 0;
        enum swsc_base base = forms ? forms[m].base : SWSC_NONE;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        if (is_fine || (rank > 0 && base != SWSC_NONE))
            x->side += (size_t)planes_row_tiles(n_out) * PLANE_ROWS;
        x->rank += rank;
        x->mid += rank;
        if (base == SWSC_CHANNELS) x->mid += (size_t)planes_row_tiles(forms[m].k) * PLANE_ROWS;
    }
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        /* The inner products have rests, too. */
        ret.side = MAX(ret.side, is_fine ? MAX(w[i].side, w[i].mid) : w[i].side);
        ret.mid = MAX(ret.mid, w[i].mid);
        ret.rank = MAX(ret.rank, w[i].rank);
    }
    return ret;
}
