/* The gate: which form each kind of matrix takes at the rung swsc, by measuring all of them.
 *
 * A few layers, spread over the model in pairs of neighbours, stand for all. For each kind every
 * rival (rival.h) is measured at the same bytes; the winner is the one with the least output error
 * among those that the runtime multiplies, all of which builds can make (third.h), and that keep to
 * the target; if there is none, the kind keeps its default form. The target is one for the average
 * over all kinds: a kind may go a little beyond it as long as the winners together do not.
 *
 * What SWSC's authors do not do and its referees would: whole channels and bare SVDs are measured
 * against plain groups of few bits, on each kind, before anything is chosen. */
#ifndef EBB_CORE_MAKE_GATE_H
#define EBB_CORE_MAKE_GATE_H

#include "core/defs.h"
#include "core/make/rival.h"
#include "core/make/source.h"
#include "core/model.h"
#include "core/pack_write.h"

struct err;
struct gate_sample;
struct text;
struct tools;

#define GATE_TARGET 3.05 /* bits a weight of the layers, all that is stored counted */
#define GATE_SLACK  0.03 /* how far a kind may go beyond it */

enum {
    GATE_LAYERS = 4,     /* sampled, at most */
    GATE_WINDOWS = 6,    /* of the text, at most, that moments are taken from */
    GATE_MAX_ROWS = 192, /* of a matrix that are measured */
    GATE_NONE = RIVAL_COUNT,
};

struct gate_kind {
    struct rival_result rivals[RIVAL_COUNT];
    bool can_win[RIVAL_COUNT];
    uint32_t winner; /* GATE_NONE if nothing can */
    /* How much more error the runner-up leaves, as a share of the winner's; NaN if there is none or
     * the winner leaves nothing. */
    double margin;
};

struct gate {
    double target;
    double bits; /* of the winners, over all kinds; NaN if a kind has none */
    struct gate_kind kinds[MODEL_LAYER_MATS];
};

/* What is known of one layer. */
struct gate_layer {
    const float *mats[MODEL_LAYER_MATS];      /* [n_out][n_in] */
    const float *moments[SOURCE_INPUT_COUNT]; /* [width][width] */
};

/* layers[n]: 2i and 2i + 1 in turn, as struct rival_task wants them. 0 or the errors of
 * rival_run(). The same for any thread count. */
int gate_run(struct tools *t, const struct model_hparams *h, const struct gate_layer *layers,
             uint32_t n, double target, struct gate *ret, struct err *e) MUST_CHECK;

/* The choice alone, from rivals measured; gate_run() ends with it. */
void gate_choose(struct gate *g, const struct model_hparams *h);

/* The winners' forms; kinds without one keep what is in ret[MODEL_LAYER_MATS]. */
void gate_forms(const struct gate *g, struct swsc_form *ret);

/* All of it for a build: a sample of the text, all rivals at GATE_TARGET, and the winners' forms.
 * *ret is the caller's, to be freed by free(); NULL, and forms are as they were, where weights or
 * moments are such that nothing can be compared. 0, -ENOMEM or the errors of gate_sample_create().
 */
int gate_decide(struct tools *t, struct source *s, const struct text *text,
                struct swsc_form forms[MODEL_LAYER_MATS], struct gate **ret,
                struct err *e) MUST_CHECK;

/* The gate as a pack holds it; `in` points into the rest and to the gate's names. */
struct gate_table {
    struct pack_gate_in in;
    const char *names[RIVAL_COUNT];
    float bits[MODEL_LAYER_MATS * RIVAL_COUNT], error[MODEL_LAYER_MATS * RIVAL_COUNT];
    uint8_t can_win[MODEL_LAYER_MATS * RIVAL_COUNT];
    uint32_t winner[MODEL_LAYER_MATS];
    float margin[MODEL_LAYER_MATS];
};
void gate_table(const struct gate *g, struct gate_table *ret);

/* Which layers are sampled: ret[GATE_LAYERS]; returns how many. */
uint32_t gate_layers(uint32_t n_layers, uint32_t *ret);

/* Takes a few windows of the text through the source as far as the last layer sampled, and keeps
 * weights and moments of those: n_layers * (a layer as floats and its moments) of memory. Where
 * that is beyond 1 GiB, one pair of layers is all that is taken. 0, -ENOMEM, or the errors of
 * source_embed() and source_load_layer(). */
int gate_sample_create(struct tools *t, struct source *s, const struct text *text,
                       struct gate_sample **ret, struct err *e) MUST_CHECK;
void gate_sample_destroy(struct gate_sample *g); /* accepts NULL */
/* Borrowed until the sample is destroyed: [*ret_n]. */
const struct gate_layer *gate_sample_layers(const struct gate_sample *g, uint32_t *ret_n);

#endif
