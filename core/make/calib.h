/* Calibration: what the inputs of every matrix look like on a text.
 *
 * All windows go through the source layer by layer. The hidden states of all windows stay in
 * memory (tokens x n_embd floats: 150 MB for 128 windows of 512 and a width of 576), so that each
 * layer is de-quantised once and its weights are at hand when its moments are complete. Kept are
 * the second moments E[x x^T] of each distinct input of the current layer, or only their diagonal,
 * and of every layer boundary the hidden state of each window's last token. Windows go through in
 * batches of fixed size, whose inputs are kept until they are added: sums do not depend on the
 * thread count.
 *
 * The hidden states at a layer boundary are all that later layers depend on: saved and put back,
 * they let an interrupted run go on there. */
#ifndef EBB_CORE_MAKE_CALIB_H
#define EBB_CORE_MAKE_CALIB_H

#include "core/defs.h"
#include "core/make/source.h"

struct calib;
struct err;
struct mem;

/* ids[n_windows][n_rows], n_rows <= SOURCE_WINDOW. is_diagonal: energies only, no moments.
 * 0, -ENOMEM or the errors of source_embed(). */
int calib_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                 uint32_t n_rows, bool is_diagonal, struct calib **ret, struct err *e) MUST_CHECK;
void calib_destroy(struct calib *c); /* accepts NULL */

/* Takes all windows through the next layer; layers in order. *ret: its weights, borrowed until the
 * next call. */
int calib_next_layer(struct calib *c, const struct source_layer **ret, struct err *e) MUST_CHECK;
/* E[x x^T] of an input of the layer just done: [width][width], width = source_input_width(); NULL
 * if only the diagonal is taken. And that: E[x^2], [width]. */
const float *calib_moments(const struct calib *c, enum source_input in);
const float *calib_energy(const struct calib *c, enum source_input in);

/* After the last layer: the output norm. Then the same of the head's input, n_embd wide. */
void calib_finish(struct calib *c);
const float *calib_head_moments(const struct calib *c);
const float *calib_head_energy(const struct calib *c);

/* Residual stream before layer b, or after the last one (b = n_layers, before the output norm),
 * at the last token of each window: [n_windows][n_embd]. */
const float *calib_last_hidden(const struct calib *c, uint32_t boundary);
uint32_t calib_n_windows(const struct calib *c);

/* What is to be saved between two layers, as memory to read from or to fill: the hidden states of
 * all tokens, and of the last ones at all boundaries so far. */
struct calib_part {
    void *data;
    size_t bytes;
};
enum { CALIB_PARTS = 2 };
void calib_parts(struct calib *c, uint32_t n_done, struct calib_part ret[CALIB_PARTS]);
/* The parts for n_done layers were filled: the next layer is n_done. */
void calib_go_on(struct calib *c, uint32_t n_done);

#endif
