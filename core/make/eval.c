#include "core/make/eval.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/make/divergence.h"
#include "core/make/eval_float.h"
#include "core/make/eval_pack.h"
#include "core/make/importance.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/make/topk.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/pack.h"
#include "core/pool.h"

/* Windows that go through a float model together: so many that making a layer's floats takes a
 * small part of the time, and not so many that their hidden states take much room. */
enum { GROUP_MIN = 16, GROUP_MAX = 64 };

struct point { /* of one position of the window in work */
    double nll, kl, jaccard;
    bool is_same;
};

struct sums {
    double nll, kl, jaccard;
    double kl_parts[EVAL_PARTS];
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
    float *truth; /* [n_scores][ld] log-probabilities of the source or reference, or NULL */
    size_t x_bytes, logits_bytes;
    struct topk *best;    /* [n_scores]: the likeliest words by `truth` */
    struct point *points; /* [n_scores] */
    struct sums *sums;    /* [plans of `pack` + n_others]; the reference may be one more */
    double source_nll;
    const uint32_t *ids; /* of the window in work */
};

/* ---- scoring -----------------------------------------------------------------------------------
 */

static uint32_t top_k(const struct eval *ev) {
    return MIN(ev->n_vocab, (uint32_t)EVAL_TOP_K);
}

static void score_truth(void *ud, uint32_t i) {
    struct eval *ev = ud;
    float *q = ev->truth + (size_t)i * ev->ld;
    ev->t->ops.log_softmax(q, ev->n_vocab);
    ev->points[i].nll = -(double)q[ev->ids[ev->first + i + 1]];
    topk_of(&ev->best[i], top_k(ev), q, ev->n_vocab);
}

static void score_judged(void *ud, uint32_t i) {
    struct eval *ev = ud;
    float *p = ev->judged + (size_t)i * ev->ld;
    ev->t->ops.log_softmax(p, ev->n_vocab);
    struct point *at = &ev->points[i];
    *at = (struct point){.nll = -(double)p[ev->ids[ev->first + i + 1]]};
    if (!ev->truth) return;
    struct topk best;
    topk_of(&best, top_k(ev), p, ev->n_vocab);
    at->kl = divergence(ev->truth + (size_t)i * ev->ld, p, ev->n_vocab);
    at->jaccard = (double)importance_jaccard_loss(best.id, ev->best[i].id, top_k(ev));
    at->is_same = best.id[0] == ev->best[i].id[0];
}

static void add_scores(struct eval *ev, uint32_t window, struct sums *sums) {
    double kl = 0.0;
    pool_run(ev->t->pool, score_judged, ev, ev->n_scores);
    for (uint32_t i = 0; i < ev->n_scores; i++) {
        sums->nll += ev->points[i].nll;
        sums->kl += ev->points[i].kl;
        sums->jaccard += ev->points[i].jaccard;
        sums->n_same += ev->points[i].is_same;
        kl += ev->points[i].kl;
    }
    sums->kl_parts[window % EVAL_PARTS] += kl;
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

/* The predictions that the others are judged by. */
static int run_truth(struct eval *ev, uint32_t in_group, struct err *e) {
    int r = ev->source ? eval_float_logits(ev->source, in_group, ev->truth, ev->ld, e)
                       : eval_pack_run(ev->pack, eval_pack_plan(ev->pack, ev->task->n_places),
                                       ev->truth, ev->ld, e);
    if (r < 0) return r;
    pool_run(ev->t->pool, score_truth, ev, ev->n_scores);
    for (uint32_t i = 0; i < ev->n_scores; i++) ev->source_nll += ev->points[i].nll;
    return 0;
}

static int run_window(struct eval *ev, uint32_t window, uint32_t in_group, struct err *e) {
    const struct eval_task *task = ev->task;
    struct sums *sums = ev->sums;
    ev->ids = ev->text->ids + (size_t)window * ev->text->window;
    /* The window's last token predicts nothing that could be scored. */
    eval_pack_begin(ev->pack, ev->ids, ev->text->window - 1, ev->first);
    int r = ev->truth ? run_truth(ev, in_group, e) : 0;
    uint32_t n_plans = eval_pack_n_plans(ev->pack), n = n_plans + task->n_others;
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        if (i < n_plans)
            r = eval_pack_run(ev->pack, i, ev->judged, ev->ld, e);
        else
            r = add_name(
                eval_float_logits(ev->others[i - n_plans], in_group, ev->judged, ev->ld, e), ev,
                i - n_plans, e);
        if (r == 0) add_scores(ev, window, sums++);
        progress_tell(&ev->t->progress, "evaluating", (uint64_t)window * n + i + 1,
                      (uint64_t)ev->text->n_windows * n, "runs of a window");
    }
    return r;
}

static int run_windows(struct eval *ev, struct err *e) {
    int r = 0;
    for (uint32_t w = 0; r == 0 && w < ev->text->n_windows; w++) {
        if (w % ev->group == 0) r = run_group(ev, w, MIN(ev->group, ev->text->n_windows - w), e);
        if (r == 0) r = run_window(ev, w, w % ev->group, e);
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
    ev->sums = calloc((size_t)task->n_places + 1 + task->n_others, sizeof(*ev->sums));
    ev->others = calloc(MAX(task->n_others, (uint32_t)1), sizeof(*ev->others));
    bool has_truth = task->source || task->reference;
    if (has_truth) ev->truth = mem_alloc(ev->t->mem, MEM_PACKER, ev->logits_bytes);
    if (!ev->judged || !ev->points || !ev->best || !ev->sums || !ev->others ||
        (has_truth && !ev->truth))
        return err_set(e, -ENOMEM, "no memory for the logits of a window");
    int r = eval_pack_create(ev->t, task->pack, task->places, task->n_places, task->reference,
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

static uint64_t n_layer_weights(const struct model_hparams *h) {
    uint64_t n = 0;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        n += (uint64_t)n_out * n_in * h->n_layers;
    }
    return n;
}

/* What is resident at a place of the pack. */
static void place_bytes(const struct eval *ev, const struct eval_place *at,
                        struct eval_score *ret) {
    const struct pack *p = ev->task->pack;
    const struct pack_extent *books = pack_find(p, PACK_BOOKS, 0);
    uint32_t n_layers = ev->h->n_layers;
    uint64_t all = ladder_bytes(at->ladder, at->position);
    uint64_t layers = all -
                      pack_unit_bytes(p, n_layers, ladder_rung(at->ladder, at->position, n_layers));
    double n = (double)n_layer_weights(ev->h), n_head = (double)ev->h->n_vocab * ev->h->n_embd;
    bool has_form = false;
    ret->bytes = all + eval_pack_core_bytes(ev->pack);
    for (uint32_t u = 0; u < n_layers; u++)
        has_form |= ladder_rung(at->ladder, at->position, u) == RUNG_SWSC;
    double shared = has_form && books ? (double)books->bytes : 0.0;
    ret->bits_per_weight = 8.0 * ((double)all + shared) / (n + n_head);
    ret->layer_bits_per_weight = 8.0 * ((double)layers + shared) / n;
}

static void fill_scores(const struct eval *ev, struct eval_score *scores) {
    const struct eval_task *task = ev->task;
    double n = (double)ev->text->n_windows * ev->n_scores;
    double n_weights = (double)n_layer_weights(ev->h) + (double)ev->h->n_vocab * ev->h->n_embd;
    for (uint32_t i = 0; i < task->n_places + task->n_others; i++) {
        const struct sums *s;
        struct eval_score score = {0};
        if (i < task->n_places) {
            s = &ev->sums[eval_pack_plan(ev->pack, i)];
            place_bytes(ev, &task->places[i], &score);
        } else {
            uint32_t other = i - task->n_places;
            s = &ev->sums[eval_pack_n_plans(ev->pack) + other];
            score.bytes = eval_float_bytes(ev->others[other]);
            score.bits_per_weight = 8.0 * (double)eval_float_mat_bytes(ev->others[other]) /
                                    n_weights;
            score.layer_bits_per_weight = (double)NAN;
        }
        score.ppl = exp(s->nll / n);
        score.kl = s->kl / n;
        score.top1 = (double)s->n_same / n;
        score.jaccard = s->jaccard / n;
        for (uint32_t k = 0; k < EVAL_PARTS; k++) score.kl_parts[k] = s->kl_parts[k] / n;
        scores[i] = score;
    }
}

int eval_run(struct tools *t, const struct eval_task *task, struct eval_score *scores,
             struct eval_result *ret, struct err *e) {
    const struct text *text = task->text;
    ASSERT(text->window >= 2 && text->window <= SOURCE_WINDOW && task->n_places >= 1);
    ASSERT(!task->source || !task->reference);
    for (uint32_t i = 0; i < task->n_places; i++)
        ASSERT(task->places[i].position <= ladder_n_steps(task->places[i].ladder));
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
