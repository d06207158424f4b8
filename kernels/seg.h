/* How a matrix of shared segments lies in memory, in the pack and for the kernels alike: the form
 * of the rung `swsc` (SWSC, arXiv 2501.08631, cut into segments; the low-rank pair that may go with
 * it is two matrices of planes).
 *
 * A matrix is n_out x n_in, n_in a multiple of 32, in row tiles of 8 rows (the last one padded with
 * rows of gain 0 and index 0). A row is cut into segments of `len` consecutive inputs, 4 or 8; each
 * is the gain of its row times an entry of the book:
 *   w[row][s*len + j] = gain[row] * book[index[row][s]][j]
 *   gain    fp16, 16 bytes a row tile: those of its 8 rows
 *   book    int8, -127..127, [k][len], k = 2^bits entries, 64-byte aligned
 *           (-128 does not occur: not all kernels would give what the definition says)
 *   index   `bits` (8, 10 or 12) each; row tile after row tile, in it segment after segment, in
 *           it the 8 rows: 8 * bits bits = `bits` bytes a segment column, row r at bit r * bits,
 *           least significant bit first. 64-byte aligned, SEG_INDEX_SLACK readable bytes behind
 *           the last one. So one 64-bit load holds the indices of four rows, rows 4..7 beginning
 *           bits / 2 bytes behind rows 0..3, and what was looked up lies as a quad of planes.h. */
#ifndef EBB_KERNELS_SEG_H
#define EBB_KERNELS_SEG_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/planes.h"

enum {
    SEG_GAIN_BYTES = 16,  /* a row tile's gains */
    SEG_INDEX_SLACK = 16, /* kernels load whole registers */
    SEG_MAX_BITS = 12,
};

/* One matrix of segments. All pointers are borrowed. */
struct kern_seg {
    const uint8_t *gains;
    const uint8_t *index;
    const int8_t *book;
    uint32_t n_out; /* rows that exist; row tiles cover them rounded up to 8 */
    uint32_t n_in;  /* multiple of 32 */
    uint8_t len;    /* 4 or 8 */
    uint8_t bits;   /* 8, 10 or 12 */
};

/* Bytes of all indices of a matrix, without the slack. */
static inline size_t seg_index_bytes(uint32_t n_out, uint32_t n_in, uint32_t len, uint32_t bits) {
    return (size_t)planes_row_tiles(n_out) * (n_in / len) * bits;
}

/* Where the 8 indices of a segment column begin. */
static inline size_t seg_column(uint32_t n_in, uint32_t len, uint32_t bits, uint32_t row_tile,
                                uint32_t segment) {
    return ((size_t)row_tile * (n_in / len) + segment) * bits;
}

/* Index of row r (0..7) of a segment column. */
static inline uint32_t seg_get(const uint8_t *column, uint32_t bits, uint32_t r) {
    uint32_t at = r * bits, shift = at % 8;
    uint32_t v = (uint32_t)column[at / 8];
    if (shift + bits > 8) v |= (uint32_t)column[at / 8 + 1] << 8;
    return v >> shift & ((1u << bits) - 1);
}

/* Sets it; the column was zero there. */
static inline void seg_put(uint8_t *column, uint32_t bits, uint32_t r, uint32_t index) {
    uint32_t at = r * bits, shift = at % 8;
    column[at / 8] = (uint8_t)(column[at / 8] | index << shift);
    if (shift + bits > 8) column[at / 8 + 1] = (uint8_t)(column[at / 8 + 1] | index >> (8 - shift));
}

#endif
