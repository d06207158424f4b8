#include "core/make/eval.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"
#include "core/err.h"
#include "core/kv.h"
#include "core/ladder.h"
#include "core/make/fexp.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/slab.h"
#include "core/store.h"

enum { GROUP_MIN = 8, GROUP_MAX = 64 }; /* windows that go through the source together */

/* Layers of the source kept as floats between groups of windows. */
#define KEEP_BYTES ((uint64_t)1 << 30)

struct score { /* of one position */
    double nll, source_nll, kl;
    bool is_same;
};

struct eval {
    struct tools *t; /* borrowed, as are the next four */
    const struct pack *pack;
    const struct ladder *ladder;
    const struct text *text;
    const struct model_hparams *h;
    uint32_t position;
    uint32_t n_vocab, ld;     /* ld: n_vocab rounded up to 8 */
    uint32_t first, n_scores; /* positions first .. first + n_scores - 1 of a window */
    struct slab *core;        /* owned, as is everything below */
    struct slab **slabs;      /* [2 * units] */
    struct plan *plan;
    struct engine *engine;
    struct kv *kv;
    struct source *source; /* NULL: none */
    uint32_t group;        /* windows */
    float *x;              /* [group][window][n_embd] of the source, or NULL */
    float *logits;         /* [n_scores][ld] of the pack */
    float *source_logits;  /* [n_scores][ld], or NULL */
    size_t x_bytes, logits_bytes;
    struct score *scores; /* [n_scores] of the window in work */
    const uint32_t *ids;  /* of the window in work */
};

/* ---- the pack ----------------------------------------------------------------------------------
 */

static int load(struct eval *ev, enum pack_part part, uint32_t unit, struct slab **ret,
                struct err *e) {
    const struct pack_extent *x = pack_find(ev->pack, part, unit);
    ASSERT(x); /* pack_open() has checked that there is one */
    return slab_load(ev->t->mem, ev->pack, x, ret, e);
}

static int load_unit(struct eval *ev, uint32_t unit, struct err *e) {
    enum rung rung = ladder_rung(ev->ladder, ev->position, unit);
    if (rung != RUNG_FULL && rung != RUNG_HIGH)
        return err_set(e, -ENOTSUP, "unit %u at rung %s: cannot be evaluated", unit,
                       rung_name(rung));
    struct slab **high = &ev->slabs[2 * unit], **low = &ev->slabs[2 * unit + 1];
    int r = load(ev, PACK_HIGH, unit, high, e);
    if (r == 0 && rung == RUNG_FULL) r = load(ev, PACK_LOW, unit, low, e);
    if (r < 0) return r;
    struct plan_unit *u = &ev->plan->units[unit];
    u->high = *high;
    u->low = *low;
    return pack_bind_unit(ev->h, unit, (*high)->data, (*high)->bytes, *low ? (*low)->data : NULL,
                          *low ? (*low)->bytes : 0, u->mats, e);
}

static int load_pack(struct eval *ev, struct err *e) {
    uint32_t n = model_n_units(ev->h), window = ev->text->window;
    ev->slabs = calloc(2 * (size_t)n, sizeof(struct slab *));
    ev->plan = calloc(1, sizeof(*ev->plan) + n * sizeof(ev->plan->units[0]));
    if (!ev->slabs || !ev->plan) return err_set(e, -ENOMEM, "no memory for the plan");
    ev->plan->epoch = 1;
    ev->plan->position = ev->position;
    ev->plan->n_units = n;
    int r = load(ev, PACK_CORE, 0, &ev->core, e);
    for (uint32_t u = 0; r == 0 && u < n; u++) {
        r = load_unit(ev, u, e);
        progress_tell(&ev->t->progress, "loading the pack", u + 1, n, "units");
    }
    if (r == 0) r = kv_create(ev->t->mem, ev->h, window, &ev->kv, e);
    struct engine_opts opts = {.max_rows = window, .max_ctx = window};
    if (r == 0)
        r = engine_create(ev->t->mem, ev->t->pool, &ev->t->ops, ev->pack, ev->core->data, &opts,
                          &ev->engine, e);
    return r;
}

/* The window in work through the engine; its last token predicts nothing that could be scored. */
static int run_pack(struct eval *ev, struct err *e) {
    struct engine_row rows[SOURCE_WINDOW];
    uint32_t n = ev->text->window - 1;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct engine_row){
            .kv = ev->kv,
            .pos = i,
            .token = ev->ids[i],
            .logits = i < ev->first ? NULL : ev->logits + (size_t)(i - ev->first) * ev->ld};
    return engine_step(ev->engine, ev->plan, rows, n, e);
}

/* ---- the source --------------------------------------------------------------------------------
 */

static void norm_window(void *ud, uint32_t w) {
    struct eval *ev = ud;
    uint32_t d = ev->h->n_embd;
    for (uint32_t i = ev->first; i < ev->first + ev->n_scores; i++) {
        float *x = ev->x + ((size_t)w * ev->text->window + i) * d;
        ev->t->ops.rmsnorm(x, source_vectors(ev->source)->output_norm, d, ev->h->norm_eps, x);
    }
}

/* Windows first .. first + n through all layers: final hidden states in ev->x. */
static int run_source(struct eval *ev, uint32_t first, uint32_t n, struct err *e) {
    uint32_t window = ev->text->window;
    int r = source_embed(ev->source, ev->text->ids + (size_t)first * window, (size_t)n * window,
                         ev->x, e);
    for (uint32_t l = 0; r == 0 && l < ev->h->n_layers; l++) {
        const struct source_layer *w;
        r = source_load_layer(ev->source, l, &w, e);
        if (r == 0) source_block(ev->source, l, w, ev->x, n, window, NULL, NULL);
    }
    if (r == 0) pool_run(ev->t->pool, norm_window, ev, n);
    return r;
}

/* ---- scoring -----------------------------------------------------------------------------------
 */

static uint32_t best_word(const float *p, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = p[i] > p[best] ? i : best;
    return best;
}

/* sum over the words of exp(s) * (s - p), in eight running sums. */
static double divergence(const float *s, const float *p, uint32_t n) {
    float sum[8] = {0};
    double all = 0.0;
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint32_t j = 0; j < 8; j++) sum[j] += fexp(s[i + j]) * (s[i + j] - p[i + j]);
    for (; i < n; i++) all += (double)(fexp(s[i]) * (s[i] - p[i]));
    for (uint32_t j = 0; j < 8; j++) all += (double)sum[j];
    return all;
}

static void score_position(void *ud, uint32_t i) {
    struct eval *ev = ud;
    float *p = ev->logits + (size_t)i * ev->ld;
    uint32_t next = ev->ids[ev->first + i + 1];
    struct score *s = &ev->scores[i];
    ev->t->ops.log_softmax(p, ev->n_vocab);
    s->nll = -(double)p[next];
    if (!ev->source) return;
    float *q = ev->source_logits + (size_t)i * ev->ld;
    ev->t->ops.log_softmax(q, ev->n_vocab);
    s->source_nll = -(double)q[next];
    s->kl = divergence(q, p, ev->n_vocab);
    s->is_same = best_word(q, ev->n_vocab) == best_word(p, ev->n_vocab);
}

struct sums {
    double nll, source_nll, kl;
    uint64_t n_same;
};

static int run_window(struct eval *ev, uint32_t window, uint32_t in_group, struct sums *sums,
                      struct err *e) {
    ev->ids = ev->text->ids + (size_t)window * ev->text->window;
    int r = run_pack(ev, e);
    if (r == 0 && ev->source) {
        const float *x = ev->x + ((size_t)in_group * ev->text->window + ev->first) * ev->h->n_embd;
        r = source_logits(ev->source, x, ev->n_scores, ev->source_logits, ev->ld, e);
    }
    if (r < 0) return r;
    pool_run(ev->t->pool, score_position, ev, ev->n_scores);
    for (uint32_t i = 0; i < ev->n_scores; i++) {
        sums->nll += ev->scores[i].nll;
        sums->source_nll += ev->scores[i].source_nll;
        sums->kl += ev->scores[i].kl;
        sums->n_same += ev->scores[i].is_same;
    }
    return 0;
}

static int run_windows(struct eval *ev, struct sums *sums, struct err *e) {
    int r = 0;
    for (uint32_t w = 0; r == 0 && w < ev->text->n_windows; w++) {
        if (ev->source && w % ev->group == 0)
            r = run_source(ev, w, MIN(ev->group, ev->text->n_windows - w), e);
        if (r == 0) r = run_window(ev, w, w % ev->group, sums, e);
        progress_tell(&ev->t->progress, "evaluating", w + 1, ev->text->n_windows, "windows");
    }
    return r;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static bool is_same_shape(const struct model_hparams *a, const struct model_hparams *b) {
    return a->n_layers == b->n_layers && a->n_embd == b->n_embd && a->n_ff == b->n_ff &&
           a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads &&
           a->head_dim == b->head_dim && a->n_vocab == b->n_vocab && a->is_tied == b->is_tied;
}

static int open_source(struct eval *ev, const struct gguf *g, struct err *e) {
    int r = source_create(ev->t->mem, ev->t->pool, &ev->t->ops, g, KEEP_BYTES, &ev->source, e);
    if (r < 0) return r;
    if (!is_same_shape(source_hparams(ev->source), ev->h))
        return err_set(e, -EINVAL, "the source is another model: its sizes differ from the pack's");
    uint32_t group = 2 * pool_threads(ev->t->pool);
    ev->group = MIN(MAX(group, (uint32_t)GROUP_MIN), (uint32_t)GROUP_MAX);
    ev->x_bytes = (size_t)ev->group * ev->text->window * ev->h->n_embd * sizeof(float);
    ev->x = mem_alloc(ev->t->mem, MEM_PACKER, ev->x_bytes);
    ev->source_logits = mem_alloc(ev->t->mem, MEM_PACKER, ev->logits_bytes);
    if (!ev->x || !ev->source_logits)
        return err_set(e, -ENOMEM, "no memory for the source's hidden states");
    return 0;
}

static void fini(struct eval *ev) {
    engine_destroy(ev->engine);
    kv_destroy(ev->kv);
    for (uint32_t i = 0; ev->slabs && i < 2 * model_n_units(ev->h); i++) slab_destroy(ev->slabs[i]);
    slab_destroy(ev->core);
    free(ev->slabs);
    free(ev->plan);
    source_destroy(ev->source);
    mem_free(ev->t->mem, MEM_PACKER, ev->x, ev->x_bytes);
    mem_free(ev->t->mem, MEM_PACKER, ev->logits, ev->logits_bytes);
    mem_free(ev->t->mem, MEM_PACKER, ev->source_logits, ev->logits_bytes);
    free(ev->scores);
}

static uint64_t n_weights(const struct model_hparams *h) {
    uint64_t n = (uint64_t)h->n_vocab * h->n_embd;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        n += (uint64_t)n_out * n_in * h->n_layers;
    }
    return n;
}

int eval_run(struct tools *t, const struct pack *p, const struct ladder *l, uint32_t position,
             const struct gguf *source, const struct text *text, struct eval_result *ret,
             struct err *e) {
    ASSERT(text->window >= 2 && text->window <= SOURCE_WINDOW && position <= ladder_n_steps(l));
    struct eval ev = {.t = t,
                      .pack = p,
                      .ladder = l,
                      .text = text,
                      .h = pack_hparams(p),
                      .position = position,
                      .group = 1};
    ev.n_vocab = ev.h->n_vocab;
    ev.ld = (ev.n_vocab + 7) / 8 * 8;
    ev.first = text->window / 2 - 1;
    ev.n_scores = text->window - 1 - ev.first;
    ev.logits_bytes = (size_t)ev.n_scores * ev.ld * sizeof(float);
    ev.logits = mem_alloc(t->mem, MEM_PACKER, ev.logits_bytes);
    ev.scores = calloc(ev.n_scores, sizeof(*ev.scores));
    struct sums sums = {0};
    int r = 0;
    if (!ev.logits || !ev.scores) r = err_set(e, -ENOMEM, "no memory for the logits of a window");
    if (r == 0) r = load_pack(&ev, e);
    if (r == 0 && source) r = open_source(&ev, source, e);
    if (r == 0) r = run_windows(&ev, &sums, e);
    if (r == 0) {
        double n = (double)text->n_windows * ev.n_scores;
        uint64_t bytes = ladder_bytes(l, position);
        *ret = (struct eval_result){.ppl = exp(sums.nll / n),
                                    .kl = sums.kl / n,
                                    .top1 = (double)sums.n_same / n,
                                    .source_ppl = exp(sums.source_nll / n),
                                    .bits_per_weight = 8.0 * (double)bytes /
                                                       (double)n_weights(ev.h),
                                    .bytes = bytes + ev.core->bytes,
                                    .n_windows = text->n_windows,
                                    .n_scored = text->n_windows * ev.n_scores};
    }
    fini(&ev);
    return r;
}
