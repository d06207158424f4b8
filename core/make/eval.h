/* How well a pack speaks: perplexity, and distance to its source or to itself at its best, on a
 * text.
 *
 * The pack goes through the daemon's engine, int8 activations and fp16 cache included; the source,
 * and other quantised forms of it to compare with, through the f32 forward, which favours the
 * latter a little. In each window the second half is scored: position i predicts token i + 1 for i
 * from window / 2 - 1 on. The predictions that others are judged by are made once for all of them,
 * and places that hold every unit alike are run once. Nothing is kept but sums per place, added in
 * order; memory is that of the pack at its best, however many places there are. */
#ifndef EBB_CORE_MAKE_EVAL_H
#define EBB_CORE_MAKE_EVAL_H

#include "core/defs.h"

struct err;
struct gguf;
struct ladder;
struct pack;
struct text;
struct tools;

struct eval_other {   /* another GGUF of the source's sizes */
    const char *name; /* put before what is wrong with it */
    const struct gguf *gguf;
};

struct eval_place {              /* how a pack is held */
    const struct ladder *ladder; /* over the pack's units */
    uint32_t position;
};

struct eval_task { /* all borrowed */
    const struct pack *pack;
    const struct eval_place *places; /* in any order: [n_places], at least one */
    uint32_t n_places;
    const struct eval_other *others; /* [n_others] */
    uint32_t n_others;
    /* What all are judged by: a GGUF of the same sizes, or a place of the pack; at most one of them
     * is not NULL. */
    const struct gguf *source;
    const struct eval_place *reference;
    const struct text *text; /* ids below the model's vocabulary */
};

/* Windows fall into this many parts, window w into part w % EVAL_PARTS, so that the spread of a
 * result can be told. */
enum { EVAL_PARTS = 8, EVAL_TOP_K = 30 };

struct eval_score {
    double ppl;
    double kl;   /* mean KL(source || judged); only with a source or reference, as the next four */
    double top1; /* share of positions whose likeliest word is the source's */
    /* 1 - Jaccard overlap of the EVAL_TOP_K likeliest words with the source's, the mean. */
    double jaccard;
    double kl_parts[EVAL_PARTS]; /* what the windows of each part add to kl */
    /* Over the matrices that multiply: of a pack with their directories and padding (and the books
     * if a layer is held in the form swsc), of another file as they lie there, an untied embedding
     * not counted. And the same without the head; NaN of another file. */
    double bits_per_weight, layer_bits_per_weight;
    uint64_t bytes; /* of a pack: resident weights and core vectors; of another file: all tensors */
};

struct eval_result {
    double source_ppl; /* of the source or reference */
    uint32_t n_windows, n_scored;
};

/* scores[n_places + n_others]: the places', then the others'. 0, -EINVAL (another model), -ENOTSUP,
 * -ENOMEM, or what reading gives. */
int eval_run(struct tools *t, const struct eval_task *task, struct eval_score *scores,
             struct eval_result *ret, struct err *e) MUST_CHECK;

#endif
