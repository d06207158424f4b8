#include "core/bench/measure.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/bench/loaded.h"
#include "core/bench/plain.h"
#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/sample.h"
#include "core/slab.h"

enum { WARM_TOKENS = 4 };

struct measure {
    struct measure_opts o;
    const struct loaded *l; /* borrowed */
    uint32_t n_vocab;
    struct pool *pool; /* owned, as all below */
    struct plain *plain;
    struct engine *en;
    struct kv *kv[MEASURE_MAX_BATCH]; /* [n_batch] */
    float *logits;                    /* [n_batch][stride] */
    size_t stride, logits_bytes;
    struct sampler greedy;
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int create_parts(struct measure *m, struct err *e) {
    const struct model_hparams *h = pack_hparams(m->l->pack);
    struct mem *mem = m->l->mem;
    uint32_t n_ctx = MAX(MAX(m->o.n_prompt, m->o.n_gen), 1u);
    struct engine_opts opts = {.max_rows = MAX(m->o.chunk, m->o.n_batch), .max_ctx = n_ctx};
    int r = pool_create(m->o.n_threads, &m->pool, e);
    if (r == 0) pool_enter(m->pool);
    if (r == 0) r = plain_create(mem, m->pool, m->l->weight_bytes, &m->plain, e);
    if (r == 0)
        r = engine_create(mem, m->pool, m->o.ops, m->l->pack, m->l->core->data, &opts, &m->en, e);
    for (uint32_t i = 0; r == 0 && i < m->o.n_batch; i++)
        r = kv_create(mem, h, KV_Q8, i == 0 ? n_ctx : MAX(m->o.n_gen, 1u), &m->kv[i], e);
    if (r < 0) return r;
    if (!size_mul(m->stride * sizeof(float), m->o.n_batch, &m->logits_bytes) ||
        !(m->logits = mem_alloc(mem, MEM_SCRATCH, m->logits_bytes)))
        return err_set(e, -ENOMEM, "no memory for the logits of %u requests", m->o.n_batch);
    return 0;
}

int measure_create(const struct loaded *l, const struct measure_opts *o, struct measure **ret,
                   struct err *e) {
    struct measure *m = calloc(1, sizeof(*m));
    if (!m) return err_set(e, -ENOMEM, "no memory to measure");
    ASSERT(o->n_batch >= 1 && o->n_batch <= MEASURE_MAX_BATCH);
    m->o = *o;
    m->l = l;
    m->n_vocab = pack_hparams(l->pack)->n_vocab;
    m->stride = ((size_t)m->n_vocab + 7) / 8 * 8;
    sample_init(&m->greedy, &(struct sample_params){.top_p = 1});
    int r = create_parts(m, e);
    if (r < 0) {
        measure_destroy(m);
        return r;
    }
    *ret = m;
    return 0;
}

void measure_destroy(struct measure *m) {
    if (!m) return;
    mem_free(m->l->mem, MEM_SCRATCH, m->logits, m->logits_bytes);
    for (uint32_t i = 0; i < m->o.n_batch; i++) kv_destroy(m->kv[i]);
    engine_destroy(m->en);
    plain_destroy(m->plain);
    pool_destroy(m->pool);
    free(m);
}

unsigned measure_threads(const struct measure *m) {
    return pool_threads(m->pool);
}

/* Any tokens do: what they say does not matter. */
static uint32_t some_token(const struct measure *m, uint32_t i) {
    return (i * 2654435761u >> 7) % m->n_vocab;
}

static int feed_prompt(struct measure *m, uint32_t n, struct err *e) {
    struct engine_row rows[ENGINE_MAX_ROWS];
    for (uint32_t pos = 0; pos < n;) {
        uint32_t n_rows = MIN(n - pos, m->o.chunk);
        for (uint32_t i = 0; i < n_rows; i++, pos++)
            rows[i] = (struct engine_row){m->kv[0], pos, some_token(m, pos),
                                          pos + 1 == n ? m->logits : NULL};
        int r = engine_step(m->en, m->l->plan, rows, n_rows, e);
        if (r < 0) return r;
    }
    return 0;
}

/* n tokens for each of n_streams requests; gaps_s[n] may be NULL. */
static int decode(struct measure *m, uint32_t n_streams, uint32_t n, double *gaps_s,
                  struct err *e) {
    struct engine_row rows[MEASURE_MAX_BATCH];
    for (uint32_t s = 0; s < n_streams; s++)
        rows[s] = (struct engine_row){m->kv[s], 0, some_token(m, s), m->logits + s * m->stride};
    double last = now_s();
    for (uint32_t i = 0; i < n; i++) {
        int r = engine_step(m->en, m->l->plan, rows, n_streams, e);
        if (r < 0) return r;
        for (uint32_t s = 0; s < n_streams; s++) {
            rows[s].token = sample_pick(&m->greedy, rows[s].logits, m->n_vocab);
            rows[s].pos++;
        }
        double now = now_s();
        if (gaps_s) gaps_s[i] = now - last;
        last = now;
    }
    return 0;
}

int measure_warm_up(struct measure *m, struct err *e) {
    uint32_t n = MIN(m->o.n_gen, (uint32_t)WARM_TOKENS);
    int r = feed_prompt(m, m->o.n_prompt, e);
    if (r == 0) r = decode(m, 1, n, NULL, e);
    if (r == 0 && m->o.n_batch > 1) r = decode(m, m->o.n_batch, n, NULL, e);
    return r;
}

int measure_round(struct measure *m, struct measure_round *ret, double *gaps_s, struct err *e) {
    struct measure_round round = {.plain_gbps = plain_run(m->plain)};
    double start = now_s();
    int r = feed_prompt(m, m->o.n_prompt, e);
    if (r < 0) return r;
    if (m->o.n_prompt) round.prefill_tps = m->o.n_prompt / (now_s() - start);
    if (m->o.n_gen) {
        start = now_s();
        r = decode(m, 1, m->o.n_gen, gaps_s, e);
        if (r < 0) return r;
        round.decode_tps = m->o.n_gen / (now_s() - start);
    }
    if (m->o.n_gen && m->o.n_batch > 1) {
        start = now_s();
        r = decode(m, m->o.n_batch, m->o.n_gen, NULL, e);
        if (r < 0) return r;
        round.batch_tps = (double)m->o.n_gen * m->o.n_batch / (now_s() - start);
    }
    *ret = round;
    return 0;
}
