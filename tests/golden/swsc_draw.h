/* Seeded contents for the rung swsc: forms of every kind, and extents that are valid but drawn, not
 * fitted. The matrices have a deviation near 1 / sqrt(n_in), so that activations stay near one. */
#ifndef EBB_TESTS_GOLDEN_SWSC_DRAW_H
#define EBB_TESTS_GOLDEN_SWSC_DRAW_H

#include <stdint.h>

#include "core/swsc.h"

struct kern_ops;

/* Kind m gets the (m + variant)-th of seven forms: segments of 4 with 8 bits and a book of their
 * own; of 8 with 10 bits, shared; channels in 4 bits; segments of 4 with 12 bits, shared, with a
 * pair in 8 bits; a pair alone, its basis shared, in 4 bits; channels and pair in 8 bits, basis
 * shared; segments of 8 with 8 bits and a pair in 4 bits. */
enum { SWSC_DRAW_VARIANTS = MODEL_LAYER_MATS };
void swsc_draw_forms(const struct model_hparams *h, unsigned variant,
                     struct swsc_form ret[MODEL_LAYER_MATS]);

/* A layer's extent and `books` (NULL if there is none), padded as in a pack, aligned to 64, to be
 * freed. */
uint8_t *swsc_draw_unit(const struct model_hparams *h,
                        const struct swsc_form forms[MODEL_LAYER_MATS], uint32_t layer,
                        uint64_t seed, uint64_t *ret_n);
uint8_t *swsc_draw_books(const struct model_hparams *h,
                         const struct swsc_form forms[MODEL_LAYER_MATS], uint64_t seed,
                         uint64_t *ret_n);

/* A row of the base of a bound matrix as floats, ret[n_in]. */
void swsc_draw_base_row(const struct kern_ops *ops, const struct swsc_mat *w, uint32_t row,
                        float *ret);

#endif
