/* Calibration: what the inputs of every matrix look like on a text.
 *
 * All windows go through the source layer by layer. The hidden states of all windows stay in
 * memory (tokens x n_embd floats: 150 MB for 128 windows of 512 and a width of 576), so that each
 * layer is de-quantised once and its weights are at hand when its moments are complete. Kept are
 * the second moments E[x x^T] of each distinct input of the current layer, and of every layer
 * boundary the hidden state of each window's last token. Windows go through in batches of fixed
 * size, whose inputs are kept until they are added: sums do not depend on the thread count. */
#ifndef EBB_CORE_MAKE_CALIB_H
#define EBB_CORE_MAKE_CALIB_H

#include "core/defs.h"
#include "core/make/source.h"

struct calib;
struct err;
struct mem;

/* ids[n_windows][n_rows], n_rows <= SOURCE_WINDOW. 0, -ENOMEM or the errors of source_embed(). */
int calib_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                 uint32_t n_rows, struct calib **ret, struct err *e) MUST_CHECK;
void calib_destroy(struct calib *c); /* accepts NULL */

/* Takes all windows through the next layer; layers in order. *ret: its weights, borrowed until the
 * next call. */
int calib_next_layer(struct calib *c, const struct source_layer **ret, struct err *e) MUST_CHECK;
/* E[x x^T] of an input of the layer just done: [width][width], width = source_input_width(). */
const float *calib_moments(const struct calib *c, enum source_input in);

/* After the last layer: the output norm. Then E[x x^T] of the head's input: [n_embd][n_embd]. */
void calib_finish(struct calib *c);
const float *calib_head_moments(const struct calib *c);

/* Residual stream before layer b, or after the last one (b = n_layers, before the output norm),
 * at the last token of each window: [n_windows][n_embd]. */
const float *calib_last_hidden(const struct calib *c, uint32_t boundary);
uint32_t calib_n_windows(const struct calib *c);

#endif
