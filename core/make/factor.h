/* A matrix as planes in memory of its own, read at 4 or at 8 bits: a factor of a low-rank pair, a
 * shared basis, or the centroids of whole channels. */
#ifndef EBB_CORE_MAKE_FACTOR_H
#define EBB_CORE_MAKE_FACTOR_H

#include "core/defs.h"
#include "core/make/planes.h"
#include "core/swsc.h"
#include "kernels/planes.h"

struct err;
struct feedback;
struct kern_ops;
struct mem;
struct tools;

struct factor {
    struct mem *mem; /* borrowed */
    uint32_t n_out, n_in;
    uint8_t bits;          /* 4: the high plane, 8: both */
    uint8_t *data;         /* owned */
    size_t bytes;          /* of data */
    struct planes_dst dst; /* the arrays in it, each of the size that kernels/planes.h says; low:
                            NULL at 4 bits */
};

/* What is known of the inputs of a matrix, all borrowed. */
struct factor_inputs {
    const float *moments; /* [n_in][n_in] symmetric; NULL: inputs all alike and independent */
    /* Made from the moments by who quantises often; NULL: it is made each time. */
    const struct feedback *feedback;
};

/* w[n_out][n_in], n_in a multiple of 32. Where the moments allow no error feedback their diagonal
 * alone counts. 0, -ENOTSUP (a weight
 * that is not finite or beyond the planes' reach) or -ENOMEM. */
int factor_quantise(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in, uint8_t bits,
                    const struct factor_inputs *in, struct factor *ret, struct err *e) MUST_CHECK;
void factor_fini(struct factor *f); /* accepts what is all zero */

struct kern_planes factor_planes(const struct factor *f);
/* As it reads: ret[n_out][n_in]. */
void factor_read(const struct factor *f, const struct kern_ops *ops, float *ret);
/* All of a row times `by`, of which what fp16 holds is taken; false, and nothing done, if that is
 * out of its range. */
bool factor_scale_row(struct factor *f, const struct kern_ops *ops, uint32_t row, float by);

/* Where swsc planes lie in an extent (or in a basis), from its start on: copies a factor there, and
 * finds it again; what is found is borrowed and may be ended or not. */
void factor_put(const struct factor *f, uint8_t *extent, const struct swsc_planes_at *at);
struct factor factor_bind(uint8_t *extent, const struct swsc_planes_at *at, uint32_t n_out,
                          uint32_t n_in, uint8_t bits);

#endif
