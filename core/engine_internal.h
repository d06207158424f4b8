/* What engine.c (memory, checks), engine_step.c (the forward pass) and engine_mul.c (matrix
 * products over the pool) share. Nobody else includes it. */
#ifndef EBB_CORE_ENGINE_INTERNAL_H
#define EBB_CORE_ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "core/defs.h"
#include "core/engine.h"
#include "core/model.h"
#include "core/store.h"
#include "core/swsc.h"
#include "kernels/kernels.h"

/* Activations in int8; `rest`: what they lose, likewise, or zeroed (engine_opts.fine_rows is 0). */
struct engine_acts {
    struct kern_acts q, rest;
};

/* R = max_rows; the arrays hold the rows of the step in force, tightly packed. */
struct engine {
    struct mem *mem; /* borrowed, as are pool .. hp */
    struct pool *pool;
    const struct kern_ops *ops;
    const struct pack *pack;
    struct pages *pages; /* NULL: no unit may be paged */
    const struct model_hparams *hp;
    const struct swsc_form *forms; /* NULL: the pack has no rung swsc */
    struct model_core core;
    uint32_t max_rows;
    uint32_t max_ctx;
    uint32_t fine_rows;
    uint32_t q_width;  /* n_heads * head_dim */
    uint32_t kv_width; /* n_kv_heads * head_dim */

    void *scratch; /* owned: one block that holds everything below */
    uint64_t scratch_bytes;
    double *inv_freq;            /* [rope_dim / 2] radians per position */
    float *rope;                 /* [R][rope_dim] cos, sin pairs of each row's position */
    float *x;                    /* [R][n_embd] the residual stream */
    float *norm;                 /* [R][n_embd] */
    float *q;                    /* [R][q_width] */
    float *k, *v;                /* [R][kv_width] */
    float *att;                  /* [R][q_width] */
    float *gate, *up;            /* [R][n_ff] */
    float *out;                  /* [R][n_embd] product that is then added to x */
    float *scores;               /* [threads][KERN_ATTN_QUERIES][max_ctx] */
    struct engine_acts acts;     /* [R][max(n_embd, q_width)] */
    struct engine_acts acts_ff;  /* [R][n_ff] */
    float *side;                 /* what one engine_mul adds to its products; NULL: it never does */
    float *mid;                  /* of the forms of one engine_mul: C x and B x */
    struct engine_acts mid_acts; /* B x, quantised */
    uint32_t *head_rows;         /* [R] rows that want logits */
    struct span *spans;          /* [threads] of one engine_mul's blocks */

    /* The step in force, written by the caller of pool_run() only. */
    const struct plan *plan;
    const struct plan_unit *unit; /* whose weights are being used */
    const struct engine_row *rows;
    uint32_t n_rows;
    uint32_t n_head_rows;
    uint32_t layer;
    bool is_spared;             /* the step is not broken off (engine_spare()) */
    _Atomic uint32_t next_item; /* attention: the next item to be taken; relaxed, because the pool
                                   orders everything else */
};

/* A newer plan gives memory back and waits: what is left of the step is left out, and no value that
 * comes from there is used. Once true it stays so until the step ends. Thread: any in a step. */
static inline bool engine_is_broken(const struct engine *en) {
    const _Atomic uint64_t *urgent = en->plan->urgent;
    return urgent && !en->is_spared &&
           atomic_load_explicit(urgent, memory_order_relaxed) > en->plan->epoch;
}

/* What a block of a product does with the rows it has just written. */
enum engine_then {
    ENGINE_THEN_NOTHING,
    ENGINE_THEN_ADD,  /* add them to x */
    ENGINE_THEN_SILU, /* mats 0 and 1 are gate and up: activate and quantise into acts_ff */
};

/* One matrix of a product: y = W x, W as planes or in its form of the rung swsc. */
struct engine_mat {
    const struct kern_planes *w;
    const struct swsc_mat *form; /* if w is NULL */
    float *y;
    size_t ldy;                   /* at least its rows, padded to tiles */
    const struct engine_acts *to; /* NULL, or [n_tok][n_out]: y is quantised into it; w only */
    /* Set by engine_mul_run(), rows padded to tiles where nothing else is said: */
    float *side;               /* [n_tok][n_out] products that are then added to y; or NULL */
    float *t;                  /* [n_tok][k] C x */
    float *r;                  /* [n_tok][rank] B x */
    struct engine_acts r_acts; /* [n_tok][rank] */
};

enum { ENGINE_MUL_MATS = 6 }; /* C and B of q, k and v */

/* y = w * acts of each matrix, for n_tok rows. */
struct engine_mul {
    struct engine *en;
    const struct engine_acts *acts;
    uint32_t n_tok;
    enum engine_then then;
    uint32_t n_mats;
    struct engine_mat mats[ENGINE_MUL_MATS];
    uint32_t n_tiles;     /* row tiles that are handed out: of all mats, or of the gate */
    uint32_t block_tiles; /* set by engine_mul_run() */
    uint32_t n_lanes;     /* likewise; <= the pool's threads */
};

/* All matrices in one pool run; before it, if some are in a form that needs it, all their C x and
 * B x in another. */
void engine_mul_run(struct engine_mul *job);

/* Floats a row that engine_mul_run() needs at most, with the forms of a pack or NULL. */
struct engine_widths {
    size_t side, mid;
    size_t rank; /* of mid_acts */
};
struct engine_widths engine_mul_widths(const struct model_hparams *h, const struct swsc_form *forms,
                                       bool is_fine);

/* Columns [i, ...) of row t of a batch of activations that is n_in wide. i: multiple of 32. */
struct engine_acts engine_acts_at(const struct engine_acts *a, uint32_t n_in, uint32_t t,
                                  uint32_t i);
/* Quantises x[n] into there. n: multiple of 32. */
void engine_quant(const struct engine *en, const struct engine_acts *a, uint32_t n_in, uint32_t t,
                  uint32_t i, const float *x, uint32_t n);

#endif
