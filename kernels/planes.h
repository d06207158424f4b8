/* How the two planes of a matrix lie in memory, in the pack and for the kernels alike.
 *
 * A matrix is n_out x n_in (row = output), n_in a multiple of 32. Rows are taken in row tiles of
 * 8 (the last one padded with zero rows), inputs in groups of 32; row tile x group = one tile.
 *   per row:            fp16 scale D and fp16 min M
 *   per row and group:  u8 codes sc and mn; group scale s = D*sc, offset = -M*mn
 *   per weight:         high code t (0..15), low code l (0..15)
 *   high reading:  w4 = s*t - M*mn
 *   full reading:  w8 = (s/8)*(8*t + l - 8) - M*mn
 * Four arrays, each 64-byte aligned, row tile after row tile:
 *   rows    32 bytes a row tile: D of its 8 rows, then M of its 8 rows
 *   groups  16 bytes a tile:     sc of its 8 rows, then mn of its 8 rows
 *   high   128 bytes a tile:     4-bit codes t
 *   low    128 bytes a tile:     4-bit codes l
 * Order of the codes in a tile: a quad is 8 rows x 4 consecutive inputs, 32 codes, code [r][i] at
 * r*4 + i. A tile has 8 quads; byte b of vector v (v = 0..3, 32 bytes each) holds quad v in its
 * low nibble and quad v + 4 in its high nibble. So after unpacking, one 32-byte register meets
 * one broadcast of 4 activations (AVX2/VNNI), and 16 bytes are 4 rows for sdot. */
#ifndef EBB_KERNELS_PLANES_H
#define EBB_KERNELS_PLANES_H

#include <stddef.h>
#include <stdint.h>

enum {
    PLANE_ROWS = 8,         /* rows of a row tile */
    PLANE_GROUP = 32,       /* inputs of a group */
    PLANE_ROW_BYTES = 32,   /* a row tile's D and M */
    PLANE_SCALE_BYTES = 16, /* a tile's sc and mn */
    PLANE_TILE_BYTES = 128, /* a tile's codes in one plane */
    PLANE_ACT_MAX = 121,    /* activations are -121..121: 2*135*121 < 2^15 */
};

/* One matrix held as planes. All pointers are borrowed from the slabs that hold the extents. */
struct kern_planes {
    const uint8_t *rows;
    const uint8_t *groups;
    const uint8_t *high;
    const uint8_t *low; /* NULL: the low plane is not resident, read at 4 bits */
    uint32_t n_out;     /* rows that exist; row tiles cover them rounded up to 8 */
    uint32_t n_in;      /* multiple of 32 */
};

static inline uint32_t planes_row_tiles(uint32_t n_out) {
    return n_out / PLANE_ROWS + (n_out % PLANE_ROWS != 0);
}

/* Where code (row r of the tile, input i of the group) lies: byte index and nibble shift. */
static inline uint32_t planes_code_byte(uint32_t r, uint32_t i) {
    return (i / 4 % 4) * 32 + r * 4 + i % 4;
}

static inline uint32_t planes_code_shift(uint32_t i) {
    return i / 16 * 4;
}

#endif
