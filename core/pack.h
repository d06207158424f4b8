/* The .ebb pack: one model in units x rungs, each part a checksummed extent.
 *
 * A pack is a valid GGUF v3 file with general.alignment 16384. Each extent is one I8 tensor whose
 * size is a multiple of 16384 (zero padded), in this order: "core", ["embd"], ["books"], then for
 * each unit "unit.007.high", "unit.007.low", ["unit.007.swsc"], ..., "unit.head.high",
 * "unit.head.low". Nothing lies between or after them. "embd" is there if the model is untied,
 * "unit.NNN.swsc" of every layer or of none, "books" if the layers' swsc forms share something.
 * Metadata: the source's general.*, architecture and tokenizer.* keys, and:
 *   ebb.version u32               2; another one is refused by name
 *   ebb.packer str                version of the program that wrote it
 *   ebb.units u32                 n_layers + 1
 *   ebb.source.sha256 str, ebb.source.name str
 *   ebb.calibration str           text hash and options, one line
 *   ebb.method str                how the codes were found: "feedback", or "fast" (clip search
 *                                 only)
 *   ebb.fallback [u32]            per unit, bit m for matrix m (enum model_mat): clip search only,
 *                                 as its inputs allowed no feedback; absent: none
 *   ebb.swsc.base [u8]            absent: there is no rung swsc. Else the fields of swsc_form for
 *                                 each of the 7 matrices of a layer, as are .len [u8], .bits [u8],
 *                                 .k [u32], .shared [u8], .rank [u32], .factor_bits [u8],
 *                                 .basis_shared [u8]
 *   ebb.extents.xxh3 [u64]        XXH3-64 of each tensor (padding included), tensor order
 *   ebb.importance.<score> [f32]  per unit (lsaq, jaccard, kl); higher = matters more
 *   ebb.distortion.<rung>.kl, .jaccard, .pairs, .error [f32]
 *                                 per unit, where measured; NaN: the unit has no such rung. The
 *                                 loss of the unit alone at the rung against all full
 *                                 (make/distortion.h); E|(w - q) x|^2 / E|w x|^2 of its matrices
 *                                 on the calibration text
 *   ebb.ladders [str]             names, the default first; for each: ebb.ladder.<name>.unit
 *                                 [u32], .from [u8], .to [u8] (enum rung), .bytes [u64],
 *                                 .cost [f32]
 *   ebb.pad [u8]                  zeros that make the header end where the data begins
 *   ebb.header.xxh3 u64           last key: XXH3-64 of bytes 0 .. data section with these 8
 *                                 bytes 0
 * So every byte of the file is under a checksum.
 *
 * An extent of planes begins with a directory: 8 bytes "EBBPLANE", u32 n_mats, u32 0, then per
 * matrix 64 bytes: u32 mat (enum model_mat), u32 n_out, u32 n_in, u32 0, u64 offset of rows,
 * groups, codes (from the start of the extent, multiples of 64; rows and groups 0 in a low extent),
 * zeros to 64. The arrays are those of kernels/planes.h.
 * An extent swsc likewise: "EBBSHARE", u32 7, u32 0, then per matrix 192 bytes: u32 mat, n_out,
 * n_in, base, len, bits, k, shared, rank, factor_bits, basis_shared, 0, then as u64 the offsets of
 * struct swsc_layout in their order, zeros to 192. "books": "EBBBOOKS", u32 7, u32 0, then per kind
 * 64 bytes: u32 mat, n_bases, u64 book, basis, basis_stride, then groups, high and low of basis_at
 * (its rows are at 0), zeros to 64. The arrays are those of core/swsc.h.
 * "core" is the floats of model.h.
 * "embd" (untied models only, never resident) is one record a row: n_embd fp16, then u64 XXH3-64
 * of them. Read with pread() only; the checksum is verified on every load. */
#ifndef EBB_CORE_PACK_H
#define EBB_CORE_PACK_H

#include "core/defs.h"
#include "core/ladder.h"
#include "core/model.h"
#include "core/swsc.h"
#include "kernels/planes.h"

struct err;
struct gguf;
struct pack;

enum {
    PACK_VERSION = 2,
    PACK_ALIGN = 16384,
    PACK_ARRAY_ALIGN = 64,
    PACK_DIR_BYTES = 16,
    PACK_DIR_ENTRY_BYTES = 64,
    PACK_GATE_MAX = 64, /* forms that a gate compares */
};

enum pack_part { PACK_CORE, PACK_EMBD, PACK_HIGH, PACK_LOW, PACK_BOOKS, PACK_SWSC };

struct pack_extent {
    enum pack_part part;
    uint32_t unit;   /* of PACK_HIGH, PACK_LOW and PACK_SWSC, else 0 */
    uint64_t offset; /* in the file */
    uint64_t bytes;  /* multiple of PACK_ALIGN */
    uint64_t xxh3;
    char name[24];
};

/* Checks header, checksum of the header, geometry, ladders, extents against the file's size.
 * Does not read the extents. 0, -EBADMSG, -ENOTSUP (version), -ENOMEM or the system's error; the
 * message names the section and offset. *ret is owned by the caller; immutable; any thread. */
int pack_open(const char *path, struct pack **ret, struct err *e) MUST_CHECK;
void pack_close(struct pack *p); /* accepts NULL */

const struct gguf *pack_gguf(const struct pack *p); /* borrowed: the metadata, for the tokenizer */
const struct model_hparams *pack_hparams(const struct pack *p);
const char *
pack_model_name(const struct pack *p); /* general.name made safe: [A-Za-z0-9._-]{1,64} */

size_t pack_n_extents(const struct pack *p);
const struct pack_extent *pack_extent_at(const struct pack *p, size_t i);
/* NULL if the pack has none (embd of a tied model, swsc of the head). `unit` counts for HIGH, LOW
 * and SWSC only. */
const struct pack_extent *pack_find(const struct pack *p, enum pack_part part, uint32_t unit);
/* Resident bytes of a unit at a rung (full: high + low extents; swsc: 0 where there is none; paged:
 * 0). A ladder's bytes are the sum over the units: the core and books extents, always resident, are
 * not among them. */
uint64_t pack_unit_bytes(const struct pack *p, uint32_t unit, enum rung rung);
/* False for the swsc of the head and of a pack without, and beyond the last unit or rung. */
bool pack_has_rung(const struct pack *p, uint32_t unit, enum rung rung);
/* The forms of the layers' matrices at the rung swsc, [MODEL_LAYER_MATS], borrowed; NULL if the
 * pack has no such rung. */
const struct swsc_form *pack_swsc(const struct pack *p);
bool pack_has_swsc(const struct pack *p);

/* An ebb.importance or ebb.distortion number of a unit; NaN if it was not measured. */
double pack_score(const struct pack *p, const char *key, uint32_t unit);
/* The matrices of a unit that ebb.fallback names: bit m for matrix m. */
uint32_t pack_fallback(const struct pack *p, uint32_t unit);

/* The gate's table: how many forms were compared for each kind of matrix; 0: there is no table. */
uint32_t pack_gate_n(const struct pack *p);
struct pack_gate_form {
    const char *name; /* borrowed, not NUL-terminated, any bytes */
    size_t name_bytes;
    double bits, error; /* error: NaN if it was not measured */
    bool can_win;
};
/* i < pack_gate_n(); the form of the kind that was taken (pack_gate_n(): none), and its margin to
 * the next; the target in bits a weight, NaN without a table. */
struct pack_gate_form pack_gate_form(const struct pack *p, enum model_mat mat, uint32_t i);
uint32_t pack_gate_winner(const struct pack *p, enum model_mat mat, double *ret_margin);
double pack_gate_target(const struct pack *p);

size_t pack_n_ladders(const struct pack *p);
const struct ladder *pack_ladder_at(const struct pack *p, size_t i);
const struct ladder *pack_ladder(const struct pack *p, const char *name); /* NULL if absent */

/* Lets the disk begin to bring an extent that will be read soon through the page cache, and go on
 * while the reader copies and checks what has come. Advice: it may do nothing. Thread: any. */
void pack_announce(const struct pack *p, const struct pack_extent *x);
/* Takes what was read of the pack out of the page cache, where it would count as ours: the writer
 * of a memory.high below that has to reclaim it first (0.4 s for 150 MiB). Advice. Thread: any. */
void pack_forget(const struct pack *p);
/* Reads a whole extent into dst[x->bytes] and verifies its checksum. 0, -EBADMSG ("unit.007.low:
 * checksum differs"; short file), -ECANCELED is not used, or the system's error. On failure the
 * bytes in dst must not be used. Blocks on the disk. Thread: any. */
int pack_read_extent(const struct pack *p, const struct pack_extent *x, void *dst,
                     struct err *e) MUST_CHECK;

/* One row of an untied token embedding: checked against the row's checksum. Thread: any. */
int pack_read_embd(const struct pack *p, uint32_t row, float *ret, struct err *e) MUST_CHECK;

/* Binds the matrices of a unit to its extents in memory (both checked against the model's shapes
 * and the extents' sizes). `low` may be NULL. ret[] is indexed by enum model_mat (a layer fills
 * MODEL_Q..MODEL_DOWN, the head MODEL_HEAD). 0 or -EBADMSG. */
int pack_bind_unit(const struct model_hparams *h, uint32_t unit, const void *high,
                   uint64_t high_bytes, const void *low, uint64_t low_bytes,
                   struct kern_planes ret[MODEL_MAT_COUNT], struct err *e) MUST_CHECK;

/* Binds a layer's matrices to its swsc extent in memory and to `books`, whose directories must be
 * those of `forms` (checked), byte for byte. Every label is checked to be below k and no entry of a
 * book to be -128, and an index cannot be beyond its book, so that what is bound can be multiplied
 * whatever its other bytes are.
 * `books` is NULL if swsc_has_books() is false. Both are aligned to PACK_ARRAY_ALIGN. 0 or
 * -EBADMSG. */
int pack_bind_swsc(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                   uint32_t layer, const void *books, uint64_t books_bytes, const void *swsc,
                   uint64_t swsc_bytes, struct swsc_mat ret[MODEL_LAYER_MATS],
                   struct err *e) MUST_CHECK;

/* Byte layout of a unit's extents, for writer and binder alike: where each array of `mat` goes.
 * `part` is PACK_HIGH or PACK_LOW. Returns the extent's size (padded to PACK_ALIGN). */
struct pack_mat_layout {
    uint32_t n_out, n_in;
    uint64_t rows, groups, codes; /* offsets; rows = groups = 0 in a low extent */
    uint64_t rows_bytes, groups_bytes, codes_bytes;
};
uint64_t pack_unit_layout(const struct model_hparams *h, uint32_t unit, enum pack_part part,
                          struct pack_mat_layout ret[MODEL_MAT_COUNT]);
/* Writes the directory at the start of a unit's extent in memory (zeroed, of the layout's size);
 * the arrays are the caller's business. */
void pack_unit_dir(const struct model_hparams *h, uint32_t unit, enum pack_part part, void *extent);

/* As above for the extents of swsc_unit_layout() and swsc_books_layout(). */
void pack_swsc_dir(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                   void *extent);
void pack_books_dir(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                    void *extent);
/* Their sizes as stored, padded to PACK_ALIGN; books: 0 if the forms share nothing. */
uint64_t pack_swsc_bytes(const struct model_hparams *h,
                         const struct swsc_form forms[MODEL_LAYER_MATS]);
uint64_t pack_books_bytes(const struct model_hparams *h,
                          const struct swsc_form forms[MODEL_LAYER_MATS]);

/* Bytes of the core and embd extents before padding, and as stored of those that do not depend on
 * forms: CORE, EMBD, HIGH, LOW. */
uint64_t pack_core_bytes(const struct model_hparams *h);
uint64_t pack_embd_bytes(const struct model_hparams *h);
uint64_t pack_extent_bytes(const struct model_hparams *h, enum pack_part part, uint32_t unit);
/* "core", "embd", "unit.007.high", ... into buf, which holds at least 24 bytes; returns buf. */
const char *pack_extent_name(const struct model_hparams *h, enum pack_part part, uint32_t unit,
                             char *buf, size_t n);
/* All extents of a pack in their order, without checksums, offsets from the data section; `forms`
 * is NULL if there is no rung swsc. Returns how many; `ret` may be NULL. */
size_t pack_plan_extents(const struct model_hparams *h, const struct swsc_form *forms,
                         struct pack_extent *ret);
/* Where an extent is among them; SIZE_MAX if it is not. */
size_t pack_extent_index(const struct model_hparams *h, const struct swsc_form *forms,
                         enum pack_part part, uint32_t unit);
/* The forms in a header; *ret_has false if there are none. 0 or -EBADMSG. */
int pack_read_forms(const struct gguf *g, const struct model_hparams *h,
                    struct swsc_form ret[MODEL_LAYER_MATS], bool *ret_has,
                    struct err *e) MUST_CHECK;
/* Whether a header's gate, if it has one, is whole. 0 or -EBADMSG. */
int pack_check_gate(const struct gguf *g, struct err *e) MUST_CHECK;
/* Whether an swsc extent in memory begins with its directory, and its labels and books are in
 * range. 0 or -EBADMSG. Any alignment. */
int pack_check_swsc(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                    uint32_t layer, const void *swsc, uint64_t bytes, struct err *e) MUST_CHECK;
/* Likewise of `books`. */
int pack_check_books(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                     const void *books, uint64_t bytes, struct err *e) MUST_CHECK;
/* One record of the embd extent: n_embd fp16 values, their checksum; ret holds
 * 2 * n_embd + 8 bytes. */
void pack_embd_record(const struct model_hparams *h, const uint16_t *row, uint8_t *ret);

#endif
