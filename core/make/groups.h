/* Groups of 2 or 3 bits, to compare with: what a matrix would be if its high plane had fewer bits.
 *
 * As the planes: groups of 32 with scale and min, D and M a row and 8-bit codes a group, clip
 * search weighted by the inputs' energy, then error feedback (feedback.h). There is no kernel for
 * it and nothing stores it: it is read back and measured. */
#ifndef EBB_CORE_MAKE_GROUPS_H
#define EBB_CORE_MAKE_GROUPS_H

#include "core/defs.h"

struct err;
struct factor_inputs;
struct tools;

/* Average bits a weight of `bits`-bit groups: with 16 bits a group and 32 a row. */
double groups_bits(uint32_t n_in, unsigned bits);

/* As they read: ret[n_out][n_in] for w[n_out][n_in], n_in a multiple of 32. Moments that allow no
 * feedback count as none: inputs all alike and independent. bits: 2 .. 4.
 * 0 or -ENOMEM. */
int groups_read(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in,
                const struct factor_inputs *in, unsigned bits, float *ret,
                struct err *e) MUST_CHECK;

#endif
