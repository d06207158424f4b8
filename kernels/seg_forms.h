/* For kernels that multiply segments: one function for all forms, compiled once for each of the
 * six, and for batches the walk over what was looked up. */
#ifndef EBB_KERNELS_SEG_FORMS_H
#define EBB_KERNELS_SEG_FORMS_H

#include "kernels/inline.h"
#include "kernels/kernels.h"

enum {
    /* At most so many groups are looked up before the tokens of a batch meet them: 6 KiB of
     * weights, beside which a step's activations fit the first-level cache. */
    SEG_CHUNK_GROUPS = 24,
    SEG_TILE_BYTES = PLANE_ROWS * PLANE_GROUP, /* a tile looked up: its 8 quads, int8 */
};

/* A kern_seg_mul_fn with the form as constants. */
typedef void seg_form_fn(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len,
                         unsigned bits);

/* fn is KERN_INLINE, so that each call below becomes code of its own. */
KERN_INLINE void seg_by_form(seg_form_fn *fn, const struct kern_seg *w, const struct kern_acts *x,
                             uint32_t n_tok, float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    if (w->len == 4) {
        if (w->bits == 8)
            fn(w, x, n_tok, y, ldy, rt0, rt1, 4, 8);
        else if (w->bits == 10)
            fn(w, x, n_tok, y, ldy, rt0, rt1, 4, 10);
        else
            fn(w, x, n_tok, y, ldy, rt0, rt1, 4, 12);
    } else {
        if (w->bits == 8)
            fn(w, x, n_tok, y, ldy, rt0, rt1, 8, 8);
        else if (w->bits == 10)
            fn(w, x, n_tok, y, ldy, rt0, rt1, 8, 10);
        else
            fn(w, x, n_tok, y, ldy, rt0, rt1, 8, 12);
    }
}

/* Some groups of a row tile, looked up. */
struct seg_chunk {
    const int8_t *tiles;
    uint32_t g0, n_groups; /* of all n_in / 32 */
    uint32_t n_in;
    const uint8_t *gains; /* SEG_GAIN_BYTES in the last chunk of the row tile, else NULL */
};

/* The chunk times the tokens t, t + 1, ... as many as the function is made for, added to what
 * stands at y (token t's 8 rows; nothing if g0 is 0); at the end times the gains. */
typedef void seg_step_fn(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                         size_t ldy);

struct seg_step {
    uint32_t n_tok; /* tokens it takes at once */
    seg_step_fn *fn;
};

/* The weights of one tile as its quads (SEG_TILE_BYTES), or what the steps make of them. column:
 * the first of the tile's segment columns. */
typedef void seg_look_up_fn(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                            int8_t *ret);

/* A chunk of groups of one row tile is looked up once, then all tokens meet it; between two chunks
 * the float sums wait in y, which does not change a bit of them.
 * steps: by descending n_tok; the last one takes one token. look_up is KERN_INLINE. */
KERN_INLINE void seg_walk(seg_look_up_fn *look_up, const struct seg_step *steps,
                          const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                          float *y, size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len,
                          unsigned bits) {
    _Alignas(64) int8_t tiles[SEG_CHUNK_GROUPS * SEG_TILE_BYTES];
    uint32_t n_groups = w->n_in / PLANE_GROUP;
    uint32_t n_chunks = n_groups / SEG_CHUNK_GROUPS + (n_groups % SEG_CHUNK_GROUPS != 0);
    const uint8_t *column = w->index + seg_column(w->n_in, len, bits, rt0, 0);
    for (uint32_t rt = rt0; rt < rt1; rt++) {
        struct seg_chunk c = {.tiles = tiles, .n_in = w->n_in};
        for (uint32_t left = n_chunks; left > 0; left--, c.g0 += c.n_groups) {
            c.n_groups = (n_groups - c.g0) / left; /* all of nearly one size */
            if (left == 1) c.gains = w->gains + (size_t)rt * SEG_GAIN_BYTES;
            for (uint32_t i = 0; i < c.n_groups; i++, column += PLANE_GROUP / len * bits)
                look_up(column, w->book, len, bits, tiles + i * SEG_TILE_BYTES);
            const struct seg_step *s = steps;
            for (uint32_t t = 0; t < n_tok; t += s->n_tok) {
                while (s->n_tok > n_tok - t) s++;
                s->fn(&c, x, t, y + t * ldy + (size_t)rt * PLANE_ROWS, ldy);
            }
        }
    }
}

/* One index of a half column: row r (0..3) of four. */
KERN_INLINE uint32_t seg_index4(uint64_t half, unsigned bits, unsigned r) {
    return (uint32_t)(half >> r * bits) & ((1u << bits) - 1);
}

#endif
