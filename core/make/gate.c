#include "core/make/gate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/make/tools.h"

/* ---- the choice -------------------------------------------------------------------------------
 */

static void choose_kind(struct gate_kind *k, double limit) {
    k->winner = GATE_NONE;
    k->margin = (double)NAN;
    for (uint32_t i = 0; i < RIVAL_COUNT; i++) {
        const struct rival_result *r = &k->rivals[i];
        k->can_win[i] = r->is_form && r->bits <= limit && isfinite(r->error);
        if (!k->can_win[i]) continue;
        if (k->winner == GATE_NONE || r->error < k->rivals[k->winner].error) k->winner = i;
    }
    if (k->winner == GATE_NONE) return;
    double least = k->rivals[k->winner].error, next = INFINITY;
    for (uint32_t i = 0; i < RIVAL_COUNT; i++)
        if (k->can_win[i] && i != k->winner) next = fmin(next, k->rivals[i].error);
    if (least > 0.0 && isfinite(next)) k->margin = next / least - 1.0;
}

static double winners_bits(const struct gate *g, const struct model_hparams *h) {
    double bits = 0.0, weights = 0.0;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        const struct gate_kind *k = &g->kinds[m];
        uint32_t n_out, n_in;
        if (k->winner == GATE_NONE) return (double)NAN;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        bits += k->rivals[k->winner].bits * n_out * n_in;
        weights += (double)n_out * n_in;
    }
    return bits / weights;
}

void gate_choose(struct gate *g, const struct model_hparams *h) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++)
        choose_kind(&g->kinds[m], g->target + GATE_SLACK);
    g->bits = winners_bits(g, h);
    if (!(g->bits > g->target)) return;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) choose_kind(&g->kinds[m], g->target);
    g->bits = winners_bits(g, h);
}

void gate_forms(const struct gate *g, struct swsc_form *ret) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        const struct gate_kind *k = &g->kinds[m];
        if (k->winner != GATE_NONE) ret[m] = k->rivals[k->winner].form;
    }
}

/* ---- measuring ---------------------------------------------------------------------------------
 */

/* All rivals for one kind of matrix. */
static int measure_kind(struct tools *t, struct rival_task *task, uint32_t mat,
                        struct gate_kind *ret, struct err *e) {
    struct rival_kept kept = {0};
    int r = 0;
    task->kept = &kept;
    for (unsigned i = 0; r == 0 && i < RIVAL_COUNT; i++) {
        r = rival_run(t, task, i, &ret->rivals[i], e);
        if (r == 0)
            progress_tell(&t->progress, "comparing forms", mat * RIVAL_COUNT + i + 1,
                          MODEL_LAYER_MATS * RIVAL_COUNT, "forms");
    }
    rival_kept_fini(&kept);
    if (r < 0) err_prefix(e, "%s", model_mat_name((enum model_mat)mat));
    return r;
}

int gate_run(struct tools *t, const struct model_hparams *h, const struct gate_layer *layers,
             uint32_t n, double target, struct gate *ret, struct err *e) {
    ASSERT(n >= 1 && n <= GATE_LAYERS);
    int r = 0;
    ret->target = target;
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        struct rival_mat mats[GATE_LAYERS];
        struct rival_task task = {.n_layers = h->n_layers,
                                  .mats = mats,
                                  .n_mats = n,
                                  .target = target,
                                  .max_rows = GATE_MAX_ROWS};
        model_mat_shape(h, (enum model_mat)m, &task.n_out, &task.n_in);
        enum source_input in = source_input_of((enum model_mat)m);
        for (uint32_t l = 0; l < n; l++)
            mats[l] = (struct rival_mat){layers[l].mats[m], layers[l].moments[in]};
        r = measure_kind(t, &task, m, &ret->kinds[m], e);
    }
    if (r == 0) gate_choose(ret, h);
    return r;
}

/* ---- for a build -------------------------------------------------------------------------------
 */

int gate_decide(struct tools *t, struct source *s, const struct text *text,
                struct swsc_form forms[MODEL_LAYER_MATS], struct gate **ret, struct err *e) {
    struct gate_sample *sample = NULL;
    struct gate *g = calloc(1, sizeof(*g));
    *ret = NULL;
    int r = g ? gate_sample_create(t, s, text, &sample, e)
              : err_set(e, -ENOMEM, "no memory for a gate");
    if (r == 0) {
        uint32_t n;
        const struct gate_layer *layers = gate_sample_layers(sample, &n);
        r = gate_run(t, source_hparams(s), layers, n, GATE_TARGET, g, e);
        /* What is wrong with the weights is for whoever must quantise them to say. */
        if (r == -EDOM || r == -ENOTSUP) {
            free(g);
            g = NULL;
            r = 0;
        }
    }
    gate_sample_destroy(sample);
    if (r < 0) {
        free(g);
        return r;
    }
    if (g) gate_forms(g, forms);
    *ret = g;
    return 0;
}

void gate_table(const struct gate *g, struct gate_table *ret) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        const struct gate_kind *k = &g->kinds[m];
        for (uint32_t i = 0; i < RIVAL_COUNT; i++) {
            ret->names[i] = k->rivals[i].name;
            ret->bits[m * RIVAL_COUNT + i] = (float)k->rivals[i].bits;
            ret->error[m * RIVAL_COUNT + i] = (float)k->rivals[i].error;
            ret->can_win[m * RIVAL_COUNT + i] = k->can_win[i];
        }
        ret->winner[m] = k->winner; /* GATE_NONE is how many there are */
        ret->margin[m] = (float)k->margin;
    }
    ret->in = (struct pack_gate_in){.n = RIVAL_COUNT,
                                    .names = ret->names,
                                    .target = (float)g->target,
                                    .bits = ret->bits,
                                    .error = ret->error,
                                    .can_win = ret->can_win,
                                    .winner = ret->winner,
                                    .margin = ret->margin};
}
