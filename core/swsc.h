/* The form of the rung `swsc`: SWSC (shared weight for similar channel, arXiv 2501.08631) with
 * parameters. A matrix W (n_out x n_in) of a layer is held as
 *   W ~ diag(gain) * C[index] + A * B
 * where C[index] is one of (enum swsc_base)
 *   segments  each row cut into segments of `len` inputs, each of them one of k = 2^bits int8
 *             segments of a book (kernels/seg.h); the book is the matrix's own, or one for the kind
 *             in all layers
 *   channels  each whole row one of k rows of C, as published; C is planes [k][n_in]
 *   none      nothing: the pair alone (whitened SVD, or Basis Sharing)
 * and the low-rank pair A (n_out x rank), B (rank x n_in), if rank > 0, is planes, too; B of the
 * two adjacent layers 2i and 2i + 1 may be one (Basis Sharing). The product is taken in this form,
 * never through dense floats (SWSC section on inference; methods: y_i = gain_i * t[label_i] + (A
 * r)_i with t = C x, r = B x): y = base(x), then y += A * quant(B * x) in float, the base first;
 * quant() is that of all activations (kern_quant_acts_fn).
 *
 * Average bits per weight. SWSC counts, with b_c and b_f the bits of a number of C and of A and B,
 *   bits = (b_c*k*n_in + n_out*ceil(log2 k) + b_f*r*(n_in + n_out)) / (n_in*n_out)
 * Ours adds the gain of each row (16 bits), keeps labels in 16 bits, counts what a kind shares by
 * its share, and pads each array to 64 bytes: swsc_form_bits() is the bytes as they lie.
 *
 * There is one form per kind of matrix (the seven of a layer), the same in all layers; so from the
 * model's sizes and the forms follows where each array lies, in a unit's extent and in `books`, the
 * extent of what layers share. This file is that arithmetic; nothing here reads a weight. */
#ifndef EBB_CORE_SWSC_H
#define EBB_CORE_SWSC_H

#include "core/defs.h"
#include "core/model.h"
#include "kernels/planes.h"
#include "kernels/seg.h"

struct err;

enum {
    SWSC_MAX_CHANNELS = 65536, /* labels are 16 bits */
    SWSC_RANK_STEP = 32,       /* a rank is the n_in of A */
};

enum swsc_base { SWSC_NONE, SWSC_SEGMENTS, SWSC_CHANNELS };
enum { SWSC_BASE_COUNT = SWSC_CHANNELS + 1 };
const char *swsc_base_name(enum swsc_base base); /* "none" ... */

/* Fields that a base or a rank of 0 does not use are 0, so that a form has one spelling. */
struct swsc_form {
    enum swsc_base base;
    uint8_t len;          /* segments: 4 or 8 */
    uint8_t bits;         /* segments: 8, 10 or 12 */
    uint32_t k;           /* segments: 2^bits; channels: 1 .. min(n_out, SWSC_MAX_CHANNELS) */
    bool is_shared;       /* segments: one book for the kind, in `books` */
    uint32_t rank;        /* 0 (not without a base), or a multiple of 32 no longer than it takes */
    uint8_t factor_bits;  /* of C and of A and B: 4 (high plane only) or 8; 0 if there is neither */
    bool is_basis_shared; /* with a rank: B is that of two adjacent layers, in `books` */
};

/* 0, or -EBADMSG: a form that is none of the above, or does not fit its matrix; named in `e`. */
int swsc_check(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
               struct err *e) MUST_CHECK;

/* One matrix bound for multiplication. Everything is borrowed from the slabs of the unit's extent
 * and of `books`. */
struct swsc_mat {
    enum swsc_base base;
    uint32_t n_out, n_in;
    struct kern_seg seg;    /* segments */
    struct kern_planes c;   /* channels: [k][n_in] */
    const uint16_t *gains;  /* channels: fp16 of each row, rows rounded up to 8 */
    const uint16_t *labels; /* channels: row of c for each row, each < k, rounded up likewise */
    uint32_t rank;          /* 0: no pair */
    struct kern_planes a;   /* [n_out][rank] */
    struct kern_planes b;   /* [rank][n_in] */
};

/* Where the arrays of some planes lie: offsets from the start of the extent, multiples of 64. */
struct swsc_planes_at {
    uint64_t rows, groups, high, low; /* low: 0 at 4 bits */
};

/* Where the arrays of a matrix lie in its unit's extent; 0: not there. All padding is zero. */
struct swsc_layout {
    uint32_t n_out, n_in;
    uint64_t gains;  /* 16 bytes a row tile: fp16 of its 8 rows; segments and channels */
    uint64_t book;   /* int8 [k][len]; segments with a book of their own */
    uint64_t index;  /* segments: seg_index_bytes(), then SEG_INDEX_SLACK zeros */
    uint64_t labels; /* channels: u16 of each row, rows rounded up to 8 */
    struct swsc_planes_at c, a, b;
};
/* Where in `books` lies what the layers of a kind share; 0: not there. Base i, i < n_bases, serves
 * layers 2i and 2i + 1 and lies at basis + i * basis_stride; basis_at is relative to that. */
struct swsc_books_layout {
    uint64_t book; /* int8 [k][len] */
    uint64_t basis, basis_stride;
    uint32_t n_bases;
    struct swsc_planes_at basis_at;
};

enum {
    SWSC_ALIGN = 64,
    SWSC_DIR_BYTES = 16,
    SWSC_DIR_ENTRY_BYTES = 192,      /* of a matrix in a unit's extent */
    SWSC_BOOKS_DIR_ENTRY_BYTES = 64, /* of a kind in `books` */
};

/* The layouts, and bytes up to the end of the last array (no file padding). The layout of all
 * layers is the same. `forms` have passed swsc_check(). */
uint64_t swsc_unit_layout(const struct model_hparams *h,
                          const struct swsc_form forms[MODEL_LAYER_MATS],
                          struct swsc_layout ret[MODEL_LAYER_MATS]);
uint64_t swsc_books_layout(const struct model_hparams *h,
                           const struct swsc_form forms[MODEL_LAYER_MATS],
                           struct swsc_books_layout ret[MODEL_LAYER_MATS]);
/* Whether layers share anything, so that there is a `books`. */
bool swsc_has_books(const struct swsc_form forms[MODEL_LAYER_MATS]);

/* Average bits a weight of a matrix takes as stored (directory and file padding apart), what
 * n_layers share by its share. For a form that need not have passed swsc_check() against a model,
 * but is one of the above. */
double swsc_form_bits(const struct swsc_form *f, uint32_t n_out, uint32_t n_in, uint32_t n_layers);

/* Binds planes that lie in an extent (or in a basis) as `at` says. */
struct kern_planes swsc_planes(const void *p, const struct swsc_planes_at *at, uint32_t n_out,
                               uint32_t n_in);

#endif
