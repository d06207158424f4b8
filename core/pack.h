/* The .ebb pack: one model in units x rungs, each part a checksummed extent.
 *
 * A pack is a valid GGUF v3 file with general.alignment 16384. Each extent is one I8 tensor whose
 * size is a multiple of 16384 (zero padded), in this order: "core", ["embd"], then for each unit
 * "unit.007.high", "unit.007.low", ..., "unit.head.high", "unit.head.low". Nothing lies between
 * or after them. Metadata: the source's general.*, architecture and tokenizer.* keys, and:
 *   ebb.version u32               1; another one is refused by name
 *   ebb.packer str                version of the program that wrote it
 *   ebb.units u32                 n_layers + 1
 *   ebb.source.sha256 str, ebb.source.name str
 *   ebb.calibration str           text hash and options, one line
 *   ebb.method str                how the codes were found: "feedback", or "fast" (clip search
 * only) ebb.fallback [u32]            per unit, bit m for matrix m (enum model_mat): clip search
 * only, as its inputs allowed no feedback; absent: none ebb.extents.xxh3 [u64]        XXH3-64 of
 * each tensor's bytes (padding included), tensor order ebb.importance.<score> [f32]  per unit
 * (lsaq, ...); higher = matters more ebb.distortion.<rung>.kl, .jaccard [f32]  per unit, where
 * measured ebb.distortion.<rung>.error [f32]  per unit: E|(w - q) x|^2 / E|w x|^2 of its matrices
 * on the calibration text, full and high ebb.ladders [str]             names; for each:
 * ebb.ladder.<name>.unit [u32], .from [u8], .to [u8] (enum rung), .bytes [u64], .cost [f32] ebb.pad
 * [u8]                  zeros that make the header end where the data begins ebb.header.xxh3 u64
 * last key: XXH3-64 of bytes 0 .. data section with these 8 bytes 0 So every byte of the file is
 * under a checksum.
 *
 * An extent of planes begins with a directory: 8 bytes "EBBPLANE", u32 n_mats, u32 0, then per
 * matrix 64 bytes: u32 mat (enum model_mat), u32 n_out, u32 n_in, u32 0, u64 offset of rows,
 * groups, codes (from the start of the extent, multiples of 64; rows and groups 0 in a low extent),
 * zeros to 64. The arrays are those of kernels/planes.h. "core" is the floats of model.h.
 * "embd" (untied models only, never resident) is one record a row: n_embd fp16, then u64 XXH3-64
 * of them. Read with pread() only; the checksum is verified on every load. */
#ifndef EBB_CORE_PACK_H
#define EBB_CORE_PACK_H

#include "core/defs.h"
#include "core/ladder.h"
#include "core/model.h"
#include "kernels/planes.h"

struct err;
struct gguf;
struct pack;

enum {
    PACK_VERSION = 1,
    PACK_ALIGN = 16384,
    PACK_ARRAY_ALIGN = 64,
    PACK_DIR_BYTES = 16,
    PACK_DIR_ENTRY_BYTES = 64
};

enum pack_part { PACK_CORE, PACK_EMBD, PACK_HIGH, PACK_LOW };

struct pack_extent {
    enum pack_part part;
    uint32_t unit;   /* of PACK_HIGH and PACK_LOW, else 0 */
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
/* NULL if the pack has none (embd of a tied model). `unit` counts for HIGH and LOW only. */
const struct pack_extent *pack_find(const struct pack *p, enum pack_part part, uint32_t unit);
/* Resident bytes of a unit at a rung (full: high + low extents). A ladder's bytes are the sum over
 * the units: the core extent, always resident, is not among them. */
uint64_t pack_unit_bytes(const struct pack *p, uint32_t unit, enum rung rung);

/* An ebb.importance or ebb.distortion number of a unit; NaN if it was not measured. */
double pack_score(const struct pack *p, const char *key, uint32_t unit);
/* The matrices of a unit that ebb.fallback names: bit m for matrix m. */
uint32_t pack_fallback(const struct pack *p, uint32_t unit);

size_t pack_n_ladders(const struct pack *p);
const struct ladder *pack_ladder_at(const struct pack *p, size_t i);
const struct ladder *pack_ladder(const struct pack *p, const char *name); /* NULL if absent */

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

/* Bytes of the core and embd extents before padding, and of any extent as stored. */
uint64_t pack_core_bytes(const struct model_hparams *h);
uint64_t pack_embd_bytes(const struct model_hparams *h);
uint64_t pack_extent_bytes(const struct model_hparams *h, enum pack_part part, uint32_t unit);
/* "core", "embd", "unit.007.high", ... into buf, which holds at least 24 bytes; returns buf. */
const char *pack_extent_name(const struct model_hparams *h, enum pack_part part, uint32_t unit,
                             char *buf, size_t n);
/* One record of the embd extent: n_embd fp16 values, their checksum; ret holds
 * 2 * n_embd + 8 bytes. */
void pack_embd_record(const struct model_hparams *h, const uint16_t *row, uint8_t *ret);

#endif
