/* Importance of the layers, as LSAQ (arXiv 2412.18135) measures it.
 *
 * A layer matters if it changes which words the model is thinking of. With E the output matrix and
 * h_l, h_(l+1) the residual stream before and after layer l at the last token of a text, without a
 * norm: T = the k = 30 words with the largest (E h), J_l = |T_l & T_(l+1)| / |T_l | T_(l+1)|, and
 * the importance is 1 - J_l averaged over the texts; our texts are the calibration windows. The
 * paper reads the words' spelling where we compare their ids, and its code projects with the input
 * embedding, the same thing for the tied models it is meant for.
 *
 * The head is not scored by the paper. It gets 1, the top of the scale: its error reaches every
 * word directly and, where it is tied, the embedding of every token as well, so it is lowered last.
 */
#ifndef EBB_CORE_MAKE_IMPORTANCE_H
#define EBB_CORE_MAKE_IMPORTANCE_H

#include "core/defs.h"

struct calib;
struct err;
struct mem;
struct progress;
struct source;

enum { IMPORTANCE_TOP_K = 30 }; /* at most TOPK_MAX */

/* Collects the top sets of all boundaries while the rows of the output matrix pass by in order,
 * so that the matrix need not be in memory as floats. */
struct importance;
int importance_create(struct mem *m, struct source *s, const struct calib *c,
                      struct importance **ret, struct err *e) MUST_CHECK;
void importance_destroy(struct importance *im); /* accepts NULL */
/* The next n_rows rows of the output matrix, [n_rows][n_embd]. 0 or -ENOMEM. */
int importance_head_rows(struct importance *im, const float *rows, uint32_t n_rows,
                         struct err *e) MUST_CHECK;
/* After the last row: score per unit, [n_layers + 1]. */
void importance_lsaq(const struct importance *im, float *ret);

/* 1 - Jaccard overlap of two sets of n different ids. */
float importance_jaccard_loss(const uint32_t *a, const uint32_t *b, uint32_t n);

#endif
