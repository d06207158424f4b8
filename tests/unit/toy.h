/* A toy model in memory: random planes, random norms, plans at any precision, and the few
 * functions of pack and tok that engine and batch call, answered from it. So the tests of engine,
 * session and batch need no file and know every weight. Link before core.
 *
 * Weights are scaled so that activations stay near one through the layers. */
#ifndef EBB_TESTS_UNIT_TOY_H
#define EBB_TESTS_UNIT_TOY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/model.h"
#include "core/store.h"

struct pack { /* stands in for the real one */
    struct model_hparams hp;
    const struct swsc_form *forms; /* NULL: no rung swsc */
    uint32_t fail_token;           /* pack_read_embd() fails for it */
    float *embd;                   /* [n_vocab][n_embd] of an untied model */
};

struct toy {
    struct mem *mem;
    struct pack pack;
    float *core;
    struct kern_planes (*mats)[MODEL_MAT_COUNT]; /* [n_units], with low planes */
    struct plan *full;                           /* every unit full, epoch 1, position 0 */
    struct plan *high;                           /* every unit high, epoch 2, position n_units */
    struct plan *mixed; /* every other unit high, epoch 3, position n_units / 2 */
    struct plan *swsc;  /* every layer in its form, the head full, epoch 4 */
    struct plan *rungs; /* layers swsc, full, high in turn, the head high, epoch 5 */
    struct swsc_form forms[MODEL_LAYER_MATS];
    uint8_t **extents;                          /* [n_layers + 1]: the layers', then the books */
    struct swsc_mat (*bound)[MODEL_LAYER_MATS]; /* [n_layers] */
};

enum toy_shape {
    TOY_PLAIN,  /* heads of 32, tied, n_vocab not a multiple of 8 */
    TOY_ODD,    /* heads of 16, so no whole groups; rope over half of them; rope_freqs; untied */
    TOY_SINGLE, /* one KV head, one layer */
};
enum { TOY_SHAPE_COUNT = TOY_SINGLE + 1, TOY_END = 5 /* the end token's id */ };

/* Every toy of one shape and seed is the same. */
void toy_init(struct toy *t, enum toy_shape shape, uint64_t seed);
/* The forms anew, as swsc_draw_forms() says (toy_init() draws variant 0), in the plans too. An
 * engine made before may not have the scratch for them. */
void toy_draw_forms(struct toy *t, unsigned variant);
void toy_fini(struct toy *t);

/* Stands in for the real tokenizer: piece of id is "<id>", and of TOY_END nothing. */
const struct tok *toy_tok(void);

#endif
