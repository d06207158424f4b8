/* What a code book is made from: rows of one or several matrices, all their segments; those at the
 * same inputs of a matrix are a group and are weighted by the energies of those inputs. */
#ifndef EBB_CORE_MAKE_SEGSAMPLE_H
#define EBB_CORE_MAKE_SEGSAMPLE_H

#include "core/defs.h"
#include "core/make/codebook.h"

struct err;
struct mem;

struct segsample {
    struct mem *mem;          /* borrowed */
    struct codebook_sample s; /* for codebook_train(), once every row and energy is there */
    float *x, *metric;        /* owned: what `s` points to */
    size_t x_bytes, metric_bytes;
    uint32_t n_in;
};

/* n_rows of each of n_mats matrices of n_in inputs, in segments of `len`. 0 or -ENOMEM. */
int segsample_init(struct segsample *s, struct mem *m, uint32_t len, uint32_t n_mats,
                   uint32_t n_rows, uint32_t n_in, struct err *e) MUST_CHECK;
void segsample_fini(struct segsample *s); /* accepts what is all zero */

/* Row i of a matrix's share, row[n_in], scaled to a mean square of 1. */
void segsample_row(struct segsample *s, uint32_t mat, uint32_t i, const float *row);
/* energy[i * stride] is that of input i, the mean of a matrix counting as 1; NULL: all alike. What
 * is never moved counts a little. */
void segsample_energies(struct segsample *s, uint32_t mat, const float *energy, size_t stride);

#endif
