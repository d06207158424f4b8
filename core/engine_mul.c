/* Matrix products split over the pool by row tiles.
 *
 * Every output belongs to one chunk, and its sum is one kernel call's, so the split changes no
 * bit. What follows a product and needs only the rows of a chunk is done by the chunk, while the
 * rows are in its cache: that is one fork-join less, and nothing is left for one thread alone. */
#include "core/engine_internal.h"
#include "core/pool.h"

enum {
    /* A chunk is at least a few microseconds of work, so that handing it out (about 0.1 us) does
     * not show, and small enough that the last one does not keep the others waiting. */
    CHUNKS_PER_THREAD = 8,
    CHUNK_MAX_BYTES = 128 * 1024,
    SILU_TILES = PLANE_GROUP / PLANE_ROWS, /* so that a chunk owns whole groups of acts_ff */
    REST_WIDTH = 512,                      /* a multiple of the group */
};

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

static void multiply(const struct engine_mul *job, uint32_t mat, uint32_t rt0, uint32_t rt1) {
    const struct kern_ops *ops = job->en->ops;
    const struct kern_planes *w = job->mats[mat].w;
    float *y = job->mats[mat].y, *fine = job->mats[mat].fine;
    size_t ldy = job->mats[mat].ldy, padded = (size_t)planes_row_tiles(w->n_out) * PLANE_ROWS;
    kern_mul_fn *fn = job->n_tok == 1 ? (w->low ? ops->gemv_full : ops->gemv_high)
                                      : (w->low ? ops->gemm_full : ops->gemm_high);
    fn(w, &job->acts->q, job->n_tok, y, ldy, rt0, rt1);
    if (!fine) return;
    fn(w, &job->acts->rest, job->n_tok, fine, padded, rt0, rt1);
    for (uint32_t t = 0; t < job->n_tok; t++)
        for (uint32_t i = rt0 * PLANE_ROWS; i < rt1 * PLANE_ROWS; i++)
            y[t * ldy + i] += fine[t * padded + i];
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

static void mul_chunk(void *ud, uint32_t chunk) {
    const struct engine_mul *job = ud;
    uint32_t rt0 = chunk * job->chunk_tiles;
    uint32_t rt1 = MIN(rt0 + job->chunk_tiles, job->n_tiles);
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
    /* The tiles of all matrices are numbered through; a chunk may lie across a border. */
    uint32_t first = 0;
    for (uint32_t m = 0; m < job->n_mats; m++) {
        uint32_t end = first + planes_row_tiles(job->mats[m].w->n_out);
        uint32_t a = MAX(rt0, first), b = MIN(rt1, end);
        if (a < b) multiply(job, m, a - first, b - first);
        first = end;
    }
}

static uint32_t tile_bytes(const struct kern_planes *w) {
    uint32_t codes = w->low ? 2 * PLANE_TILE_BYTES : PLANE_TILE_BYTES;
    return w->n_in / PLANE_GROUP * (codes + PLANE_SCALE_BYTES) + PLANE_ROW_BYTES;
}

void engine_mul_run(struct engine_mul *job) {
    uint32_t n_threads = pool_threads(job->en->pool);
    float *fine = job->en->fine;
    for (uint32_t m = 0; fine && m < job->n_mats; m++) {
        job->mats[m].fine = fine;
        fine += (size_t)job->n_tok * planes_row_tiles(job->mats[m].w->n_out) * PLANE_ROWS;
    }
    if (job->then == ENGINE_THEN_NOTHING) {
        job->n_tiles = 0;
        for (uint32_t m = 0; m < job->n_mats; m++)
            job->n_tiles += planes_row_tiles(job->mats[m].w->n_out);
    } else {
        job->n_tiles = planes_row_tiles(job->mats[0].w->n_out);
    }
    uint32_t n = job->n_tiles;
    if (n_threads > 1) {
        n = MAX(n / (n_threads * CHUNKS_PER_THREAD), 1u);
        n = MIN(n, MAX(CHUNK_MAX_BYTES / tile_bytes(job->mats[0].w), 1u));
    }
    if (job->then == ENGINE_THEN_SILU) n = (n + SILU_TILES - 1) / SILU_TILES * SILU_TILES;
    job->chunk_tiles = n;
    pool_run(job->en->pool, mul_chunk, job, (job->n_tiles + n - 1) / n);
}
