/* Whole channels: SWSC as published (arXiv 2501.08631). The rows of a matrix fall into k clusters,
 * and a row is its label's centroid times a gain of its own; a low-rank pair on what that leaves is
 * lowrank.h's.
 *
 * Distances are weighted by the inputs' energy E[x^2], as a weight's error costs what goes through
 * it. With gains, rows that point the same way share a centroid whatever their size: for row v and
 * centroid c the best gain is <v, c> / <c, c>, never negative, and what stays is |v|^2 - <v, c>^2 /
 * |c|^2. Start: k-means++ (Arthur & Vassilvitskii 2007) with a fixed seed; then Lloyd's rounds, in
 * which a cluster that lost all its rows starts anew at the row that is served worst. The centroids
 * are planes; the gains are fitted last, to the centroids as they read.
 * The same input gives the same result, whatever the thread count. */
#ifndef EBB_CORE_MAKE_CHANNELS_H
#define EBB_CORE_MAKE_CHANNELS_H

#include "core/defs.h"
#include "core/make/factor.h"

struct err;
struct tools;

struct channels {
    uint32_t n_out, n_in, k;
    struct factor c;  /* [k][n_in] */
    uint16_t *gains;  /* owned: fp16 of each row, [n_out rounded up to 8], not negative */
    uint16_t *labels; /* owned: each below k, likewise; padding is 0 in both */
};

struct channels_opts {
    uint32_t k;      /* 1 .. min(n_out, SWSC_MAX_CHANNELS) */
    uint8_t bits;    /* of the centroids: 4 or 8 */
    unsigned rounds; /* of Lloyd's, at most; it ends when no label changes */
};

/* w[n_out][n_in]; without moments distances are plain, as published. 0, -EDOM (not
 * finite), -ENOTSUP (beyond what planes hold) or -ENOMEM. */
int channels_fit(struct tools *t, const float *w, uint32_t n_out, uint32_t n_in,
                 const struct factor_inputs *in, const struct channels_opts *o,
                 struct channels *ret, struct err *e) MUST_CHECK;
void channels_fini(struct channels *c); /* accepts what is all zero */

/* As it reads: ret[n_out][n_in]. 0 or -ENOMEM. */
int channels_read(struct tools *t, const struct channels *c, float *ret, struct err *e) MUST_CHECK;

/* Average bits as the paper counts them: centroids of `centroid_bits` a number, labels of ceil(log2
 * k) bits and a pair of `factor_bits` a number; for what it takes as stored, see core/swsc.h. */
double channels_average_bits(uint32_t n_out, uint32_t n_in, uint32_t k, double centroid_bits,
                             uint32_t rank, double factor_bits);

#endif
