/* A GGUF as a giver of logits: the f32 forward over its de-quantised weights, windows in groups.
 *
 * The source that packs are compared to, and other quantisations of it, whose activations stay
 * floats here: what those lose by quantised activations where they are served is left out. */
#ifndef EBB_CORE_MAKE_EVAL_FLOAT_H
#define EBB_CORE_MAKE_EVAL_FLOAT_H

#include "core/defs.h"

struct err;
struct eval_float;
struct gguf;
struct model_hparams;
struct text;
struct tools;

/* Of each window of `text`, positions first .. first + n_scores - 1 get logits. `group`: windows
 * that go through the layers together. The model must have the sizes `h`, else -EINVAL; -ENOTSUP,
 * -EBADMSG, -ENOMEM or the system's error. All is borrowed for the object's life. */
int eval_float_create(struct tools *t, const struct gguf *g, const struct model_hparams *h,
                      const struct text *text, uint32_t first, uint32_t n_scores, uint32_t group,
                      struct eval_float **ret, struct err *e) MUST_CHECK;
void eval_float_destroy(struct eval_float *ef); /* accepts NULL */

/* Windows at .. at + n - 1 (n <= group) through the layers. `x`: scratch of the caller's,
 * [group][window][n_embd]. 0, -EBADMSG, -ENOMEM or the system's error. */
int eval_float_run(struct eval_float *ef, uint32_t at, uint32_t n, float *x,
                   struct err *e) MUST_CHECK;
/* Logits [n_scores] (distance ld) of the i-th window of the last run. */
int eval_float_logits(struct eval_float *ef, uint32_t i, float *logits, size_t ld,
                      struct err *e) MUST_CHECK;

/* Bytes of the layers' matrices and of the output matrix, as they lie in the file; and of all its
 * tensors. */
uint64_t eval_float_mat_bytes(const struct eval_float *ef);
uint64_t eval_float_bytes(const struct eval_float *ef);

#endif
