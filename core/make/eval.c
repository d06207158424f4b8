#include "core/make/eval.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/make/divergence.h"
#include "core/make/eval_float.h"
#include "core/make/eval_pack.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/pack.h"
#include "core/pool.h"

/* Windows that go through a float model together: so many that making a layer's floats takes a
 * small part of the time, and not so many that their hidden states take much room. */
enum { GROUP_MIN = 16, GROUP_MAX = 64 };

struct point { /* of one position of the window in work */
    double nll, kl;
    bool is_same;
};

struct sums {
    double nll, kl;
    uint64_t n_same;
};

struct eval {
    struct tools *t; /* borrowed, as are the next three */
    const struct eval_task *task;
    const struct text *text;
    const struct model_hparams *h;
    uint32_t n_vocab, ld;     /* ld: n_vocab rounded up to 8 */
    uint32_t first, n_scores; /* positions first .. first + n_scores - 1 of a window */
    uint32_t group;
    struct eval_pack *pack; /* owned, as is everything below */
    struct eval_float *source;
    struct eval_float **others; /* [n_others] */
    float *x;                   /* [group][window][n_embd], or NULL */
    float *judged;              /* [n_scores][ld] */
    float *truth;               /* [n_scores][ld] log-probabilities of the source, or NULL */
    size_t x_bytes, logits_bytes;
    uint32_t *best;       /* [n_scores]: the source's likeliest words */
    struct point *points; /* [n_scores] */
    struct sums *sums;    /* [n_positions + n_others] */
    double source_nll;
    const uint32_t *ids; /* of the window in work */
};

/* ---- scoring -----------------------------------------------------------------------------------
 */

static uint32_t best_word(const float *p, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = p[i] > p[best] ? i : best;
    return best;
}

static void score_source(void *ud, uint32_t i) {
    struct eval *ev = ud;
    float *q = ev->truth + (size_t)i * ev->ld;
    ev->t->ops.log_softmax(q, ev->n_vocab);
    ev->points[i].nll = -(double)q[ev->ids[ev->first + i + 1]];
    ev->best[i] = best_word(q, ev->n_vocab);
}

static void score_judged(void *ud, uint32_t i) {
    struct eval *ev = ud;
    float *p = ev->judged + (size_t)i * ev->ld;
    ev->t->ops.log_softmax(p, ev->n_vocab);
    struct point *at = &ev->points[i];
    *at = (struct point){.nll = -(double)p[ev->ids[ev->first + i + 1]]};
    if (!ev->source) return;
    at->kl = divergence(ev->truth + (size_t)i * ev->ld, p, ev->n_vocab);
    at->is_same = best_word(p, ev->n_vocab) == ev->best[i];
}

static void add_scores(struct eval *ev, struct sums *sums) {
    pool_run(ev->t->pool, score_judged, ev, ev->n_scores);
    for (uint32_t i = 0; i < ev->n_scores; i++) {
        sums->nll += ev->points[i].nll;
        sums->kl += ev->points[i].kl;
        sums->n_same += ev->points[i].is_same;
    }
}

/* ---- windows -----------------------------------------------------------------------------------
 */

static int add_name(int r, const struct eval *ev, uint32_t other, struct err *e) {
    if (r < 0) err_prefix(e, "%s", ev->task->others[other].name);
    return r;
}

/* All float models over windows at .. at + n - 1. */
static int run_group(struct eval *ev, uint32_t at, uint32_t n, struct err *e) {
    int r = ev->source ? eval_float_run(ev->source, at, n, ev->x, e) : 0;
    for (uint32_t k = 0; r == 0 && k < ev->task->n_others; k++)
        r = add_name(eval_float_run(ev->others[k], at, n, ev->x, e), ev, k, e);
    return r;
}

static int run_source(struct eval *ev, uint32_t in_group, struct err *e) {
    int r = eval_float_logits(ev->source, in_group, ev->truth, ev->ld, e);
    if (r < 0) return r;
    pool_run(ev->t->pool, score_source, ev, ev->n_scores);
    for (uint32_t i = 0; i < ev->n_scores; i++) ev->source_nll += ev->points[i].nll;
    return 0;
}

static int run_window(struct eval *ev, uint32_t window, uint32_t in_group, struct err *e) {
    const struct eval_task *task = ev->task;
    struct sums *sums = ev->sums;
    ev->ids = ev->text->ids + (size_t)window * ev->text->window;
    int r = ev->source ? run_source(ev, in_group, e) : 0;
    /* The window's last token predicts nothing that could be scored. */
    for (uint32_t i = 0; r == 0 && i < task->n_positions; i++) {
        r = eval_pack_run(ev->pack, i, ev->ids, ev->text->window - 1, ev->first, ev->judged, ev->ld,
                          e);
        if (r == 0) add_scores(ev, sums++);
    }
    for (uint32_t k = 0; r == 0 && k < task->n_others; k++) {
        r = add_name(eval_float_logits(ev->others[k], in_group, ev->judged, ev->ld, e), ev, k, e);
        if (r == 0) add_scores(ev, sums++);
    }
    return r;
}

static int run_windows(struct eval *ev, struct err *e) {
    int r = 0;
    for (uint32_t w = 0; r == 0 && w < ev->text->n_windows; w++) {
        if (w % ev->group == 0) r = run_group(ev, w, MIN(ev->group, ev->text->n_windows - w), e);
        if (r == 0) r = run_window(ev, w, w % ev->group, e);
        progress_tell(&ev->t->progress, "evaluating", w + 1, ev->text->n_windows, "windows");
    }
    return r;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static int open_float(struct eval *ev, const struct gguf *g, struct eval_float **ret,
                      struct err *e) {
    return eval_float_create(ev->t, g, ev->h, ev->text, ev->first, ev->n_scores, ev->group, ret, e);
}

static int open_floats(struct eval *ev, struct err *e) {
    const struct eval_task *task = ev->task;
    if (!task->source && task->n_others == 0) return 0;
    ev->group = MIN(MAX(2 * pool_threads(ev->t->pool), (uint32_t)GROUP_MIN), (uint32_t)GROUP_MAX);
    ev->group = MIN(ev->group, ev->text->n_windows);
    ev->x_bytes = (size_t)ev->group * ev->text->window * ev->h->n_embd * sizeof(float);
    ev->x = mem_alloc(ev->t->mem, MEM_PACKER, ev->x_bytes);
    if (!ev->x) return err_set(e, -ENOMEM, "no memory for hidden states");
    int r = 0;
    if (task->source) {
        ev->truth = mem_alloc(ev->t->mem, MEM_PACKER, ev->logits_bytes);
        if (!ev->truth) return err_set(e, -ENOMEM, "no memory for the logits of a window");
        r = open_float(ev, task->source, &ev->source, e);
        if (r < 0) err_prefix(e, "the source");
    }
    for (uint32_t k = 0; r == 0 && k < task->n_others; k++)
        r = add_name(open_float(ev, task->others[k].gguf, &ev->others[k], e), ev, k, e);
    return r;
}

static int init(struct eval *ev, struct err *e) {
    const struct eval_task *task = ev->task;
    ev->logits_bytes = (size_t)ev->n_scores * ev->ld * sizeof(float);
    ev->judged = mem_alloc(ev->t->mem, MEM_PACKER, ev->logits_bytes);
    ev->points = calloc(ev->n_scores, sizeof(*ev->points));
    ev->best = calloc(ev->n_scores, sizeof(*ev->best));
    ev->sums = calloc(task->n_positions + task->n_others, sizeof(*ev->sums));
    ev->others = calloc(MAX(task->n_others, (uint32_t)1), sizeof(*ev->others));
    if (!ev->judged || !ev->points || !ev->best || !ev->sums || !ev->others)
        return err_set(e, -ENOMEM, "no memory for the logits of a window");
    int r = eval_pack_create(ev->t, task->pack, task->ladder, task->positions, task->n_positions,
                             ev->text->window, &ev->pack, e);
    return r == 0 ? open_floats(ev, e) : r;
}

static void fini(struct eval *ev) {
    eval_pack_destroy(ev->pack);
    eval_float_destroy(ev->source);
    for (uint32_t k = 0; ev->others && k < ev->task->n_others; k++)
        eval_float_destroy(ev->others[k]);
    mem_free(ev->t->mem, MEM_PACKER, ev->x, ev->x_bytes);
    mem_free(ev->t->mem, MEM_PACKER, ev->judged, ev->logits_bytes);
    mem_free(ev->t->mem, MEM_PACKER, ev->truth, ev->logits_bytes);
    free(ev->others);
    free(ev->points);
    free(ev->best);
    free(ev->sums);
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

static void fill_scores(const struct eval *ev, struct eval_score *scores) {
    const struct eval_task *task = ev->task;
    double n = (double)ev->text->n_windows * ev->n_scores;
    for (uint32_t i = 0; i < task->n_positions + task->n_others; i++) {
        const struct sums *s = &ev->sums[i];
        uint64_t mats, bytes;
        if (i < task->n_positions) {
            mats = ladder_bytes(task->ladder, task->positions[i]);
            bytes = mats + eval_pack_core_bytes(ev->pack);
        } else {
            mats = eval_float_mat_bytes(ev->others[i - task->n_positions]);
            bytes = eval_float_bytes(ev->others[i - task->n_positions]);
        }
        scores[i] = (struct eval_score){.ppl = exp(s->nll / n),
                                        .kl = s->kl / n,
                                        .top1 = (double)s->n_same / n,
                                        .bits_per_weight = 8.0 * (double)mats /
                                                           (double)n_weights(ev->h),
                                        .bytes = bytes};
    }
}

int eval_run(struct tools *t, const struct eval_task *task, struct eval_score *scores,
             struct eval_result *ret, struct err *e) {
    const struct text *text = task->text;
    ASSERT(text->window >= 2 && text->window <= SOURCE_WINDOW && task->n_positions >= 1);
    for (uint32_t i = 0; i < task->n_positions; i++)
        ASSERT(task->positions[i] <= ladder_n_steps(task->ladder));
    struct eval ev = {.t = t, .task = task, .text = text, .h = pack_hparams(task->pack)};
    ev.n_vocab = ev.h->n_vocab;
    ev.ld = (ev.n_vocab + 7) / 8 * 8;
    ev.first = text->window / 2 - 1;
    ev.n_scores = text->window - 1 - ev.first;
    ev.group = 1;
    int r = init(&ev, e);
    if (r == 0) r = run_windows(&ev, e);
    if (r == 0) {
        double n = (double)text->n_windows * ev.n_scores;
        fill_scores(&ev, scores);
        *ret = (struct eval_result){.source_ppl = exp(ev.source_nll / n),
                                    .n_windows = text->n_windows,
                                    .n_scored = text->n_windows * ev.n_scores};
    }
    fini(&ev);
    return r;
}
