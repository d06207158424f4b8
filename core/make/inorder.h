/* Layers changed one after the other, each on what the changed ones before it make of a text.
 *
 * Two streams go through the layers side by side: y, the text through the source as it is, and x,
 * through the layers as they have become. The matrices of a layer are changed in the order in which
 * data meet them (q, k, v; out; gate, up; down), each for the inputs x' that it will really get,
 * and it aims (segfit_aim()) at what the source puts out for y: the stage's own outputs or, where
 * they go to the residual stream (out, down), the source's stream, so that a layer mends what those
 * before it spoilt. Half of the way: all of it would follow the calibration text too closely.
 *
 * Tokens count by what they mean to the next norm: for out and down a token is weighted by one over
 * the mean square of its residual stream. Without it the first token, whose stream some models
 * drive a hundred times higher, decides alone.
 *
 * Measured (float prototype, 135M model, segments at 3.03 bits, KL on 128 windows): x alone 0.250;
 * aiming by half at the stage's outputs 0.148, also at the stream 0.137, all the way 0.216; tokens
 * weighted too 0.105 (0.158 without aiming). On fewer windows than 128
 * (and with the book made again, see segfit.h): 96 0.104, 48 0.120. */
#ifndef EBB_CORE_MAKE_INORDER_H
#define EBB_CORE_MAKE_INORDER_H

#include "core/defs.h"
#include "core/make/source.h"

struct err;
struct inorder;
struct mem;
struct segfit;

/* Changes a matrix: aim[n_out][n_in] is what it should best be, ret gets what it becomes, and
 * `fit` knows its inputs, whose moments are moments[n_in][n_in]; NULL: they are never moved and
 * count as alike. 0 or a negative errno, which ends the layer. */
typedef int (*inorder_fit_fn)(void *ud, enum model_mat mat, const struct segfit *fit,
                              const float *moments, const float *aim, float *ret, struct err *e);

/* ids[n_windows][n_rows], n_rows <= SOURCE_WINDOW, all of them used; len: of segments. 0, -ENOMEM
 * or the errors of source_embed(). */
int inorder_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                   uint32_t n_rows, uint32_t len, struct inorder **ret, struct err *e) MUST_CHECK;
void inorder_destroy(struct inorder *o); /* accepts NULL */

/* Takes both streams through the next layer; all in order. 0, -ENOMEM, what fit() gave or the
 * errors of source_load_layer(). */
int inorder_next_layer(struct inorder *o, inorder_fit_fn fit, void *ud, struct err *e) MUST_CHECK;

#endif
