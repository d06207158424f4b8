/* How well a pack speaks: perplexity, and distance to its source, on a text.
 *
 * The pack goes through the daemon's engine, int8 activations and fp16 cache included; the source,
 * and other quantised forms of it to compare with, through the f32 forward, which favours the
 * latter a little. In each window the second half is scored: position i predicts token i + 1 for i
 * from window / 2 - 1 on. The source's predictions are made once for all that are judged by them.
 * Nothing is kept but sums per position, added in order. */
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

struct eval_task { /* all borrowed */
    const struct pack *pack;
    const struct ladder *ladder; /* one of the pack's */
    const uint32_t *positions;   /* of it, in any order: [n_positions], at least one */
    uint32_t n_positions;
    const struct eval_other *others; /* [n_others] */
    uint32_t n_others;
    const struct gguf *source; /* NULL, or a GGUF of the same sizes */
    const struct text *text;   /* ids below the model's vocabulary */
};

struct eval_score {
    double ppl;
    double kl;   /* mean KL(source || judged); only with a source, as the next */
    double top1; /* share of positions whose likeliest word is the source's */
    /* Over the matrices that multiply: of a pack with their directories and padding, of another
     * file as they lie there, an untied embedding not counted. */
    double bits_per_weight;
    uint64_t bytes; /* of a pack: resident weights and core vectors; of another file: all tensors */
};

struct eval_result {
    double source_ppl; /* only with a source */
    uint32_t n_windows, n_scored;
};

/* scores[n_positions + n_others]: the positions', then the others'. 0, -EINVAL (another model),
 * -ENOTSUP, -ENOMEM, or what reading gives. */
int eval_run(struct tools *t, const struct eval_task *task, struct eval_score *scores,
             struct eval_result *ret, struct err *e) MUST_CHECK;

#endif
