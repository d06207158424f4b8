/* Text that the model writes itself, to calibrate or to judge, so that nothing need be had but it.
 *
 * Sequences are sampled together at temperature 1 by the f32 source (keys and values as fp16),
 * from the tokens that documents begin with, half of them followed by a random word so that the
 * starts differ. An end token does not end a sequence: the next document follows, as in training.
 * The text depends on model, seed and number of windows, not on the thread count. */
#ifndef EBB_CORE_MAKE_SELFTEXT_H
#define EBB_CORE_MAKE_SELFTEXT_H

#include "core/defs.h"

struct err;
struct gguf;
struct text;
struct tok;
struct tools;

enum { SELFTEXT_SEED = 1 };

/* Writes n_windows sequences of `window` (<= SOURCE_WINDOW) tokens. 0, -ENOMEM, or what reading
 * the source gives. */
int selftext_write(struct tools *t, const struct gguf *g, const struct tok *tok, uint32_t n_windows,
                   uint32_t window, uint64_t seed, struct text *ret, struct err *e) MUST_CHECK;

#endif
