/* Code books: k-means over segments of rows, the shared channels of SWSC (arXiv 2501.08631, section
 * 3) cut to 4 or 8 inputs.
 *
 * A sample is a number of groups; the segments of a group sit at the same inputs and so share a
 * metric: entry c in place of segment x costs |(x - c) R|^2, R the group's own. With R the root of
 * the inputs' energies that is the weighted k-means of the paper's successors; with a block of the
 * inverse moments' factor (segfit.h) it is the very cost that the choice of entries will minimise.
 * Start: k-means++ (Arthur & Vassilvitskii 2007) on a part of the sample; then Lloyd's rounds,
 * each entry moving to the least cost of its segments; an entry that nobody took begins
 * anew at a segment drawn from all. Entries are stored as int8 with one scale for the book.
 * The same sample gives the same book, whatever the thread count. */
#ifndef EBB_CORE_MAKE_CODEBOOK_H
#define EBB_CORE_MAKE_CODEBOOK_H

#include "core/defs.h"

struct err;
struct kern_ops;
struct mem;
struct pool;

enum {
    CODEBOOK_MAX_LEN = 8,
    CODEBOOK_MAX_ENTRIES = 4096,
};

struct codebook {
    uint32_t len, k;
    int8_t *entries; /* owned: [k][len], -127..127 */
    float *columns;  /* owned: [len][k], the same as floats, in steps of `scale` */
    float scale;     /* what a step is for segments of rows scaled to a mean square of 1 */
};

struct codebook_sample {
    uint32_t len; /* 4 or 8 */
    uint32_t n_groups, n_rows;
    const float *x;      /* [n_groups][n_rows][len], borrowed, finite */
    const float *metric; /* [n_groups][len][len] R, row-major; borrowed, finite */
};

/* k: a multiple of 8, at most CODEBOOK_MAX_ENTRIES; the sample may be smaller than the book. 0 or
 * -ENOMEM. */
int codebook_train(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                   const struct codebook_sample *s, uint32_t k, unsigned rounds,
                   struct codebook *ret, struct err *e) MUST_CHECK;
void codebook_fini(struct codebook *b); /* accepts what is all zero */

/* The book in the coordinates of metric R[len][len], for kern_nearest_fn: ret[len + 1][k]. */
void codebook_turn(const struct codebook *b, const float *metric, float *ret);
/* x R for one segment. */
void codebook_turn_segment(const float *x, uint32_t len, const float *metric, float *ret);

#endif
