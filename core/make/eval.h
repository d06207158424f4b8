/* How well a pack speaks: perplexity, and distance to its source, on a text.
 *
 * The pack goes through the daemon's engine, int8 activations and fp16 cache included; the source
 * through the f32 forward. In each window the second half is scored: position i predicts token
 * i + 1 for i from window / 2 - 1 on. Nothing is kept but sums per position, added in order. */
#ifndef EBB_CORE_MAKE_EVAL_H
#define EBB_CORE_MAKE_EVAL_H

#include "core/defs.h"

struct err;
struct gguf;
struct ladder;
struct pack;
struct text;
struct tools;

struct eval_result {
    double ppl;
    double kl;   /* mean KL(source || pack); only with a source, as the next two */
    double top1; /* share of positions whose likeliest word is the source's */
    double source_ppl;
    double bits_per_weight;
    uint64_t bytes; /* resident weights and core vectors at the position */
    uint32_t n_windows, n_scored;
};

/* position: of `l`, one of the pack's ladders. source: NULL, or a GGUF of the same sizes. The ids
 * of `text` are below the model's vocabulary. 0, -EINVAL (another model), -ENOMEM, or what reading
 * gives. */
int eval_run(struct tools *t, const struct pack *p, const struct ladder *l, uint32_t position,
             const struct gguf *source, const struct text *text, struct eval_result *ret,
             struct err *e) MUST_CHECK;

#endif
