/* Writes a pack: temporary name, fsync, rename, fsync of the folder; never a half pack under the
 * final name. The extents are written one at a time in any order (memory stays at one unit), the
 * header last. Byte-identical for the same calls. Thread: one at a time. */
#ifndef EBB_CORE_PACK_WRITE_H
#define EBB_CORE_PACK_WRITE_H

#include "core/defs.h"
#include "core/pack.h"

struct err;
struct gguf;
struct pack_writer;

struct pack_ladder_in {
    const char *name;
    const struct ladder_step *steps;
    uint32_t n_steps;
};

struct pack_score_in {
    const char *key; /* "ebb.importance.lsaq" */
    const float *v;  /* [n_units] */
};

/* The gate's table: forms compared for each kind of matrix. */
struct pack_gate_in {
    uint32_t n;               /* 1 .. PACK_GATE_MAX */
    const char *const *names; /* [n] */
    float target;
    const float *bits, *error; /* [MODEL_LAYER_MATS][n] */
    const uint8_t *can_win;    /* likewise */
    const uint32_t *winner;    /* [MODEL_LAYER_MATS]; n: none */
    const float *margin;       /* [MODEL_LAYER_MATS] */
};

/* What goes into the header; everything is borrowed during pack_writer_finish(). */
struct pack_meta {
    const char *source_sha256; /* 64 hex digits */
    const char *source_name;   /* file name without folder */
    const char *calibration;   /* one line */
    const struct pack_score_in *scores;
    size_t n_scores;
    const struct pack_ladder_in *ladders;
    size_t n_ladders;
    const char *method;              /* "feedback", "fast"; NULL: not told */
    const uint32_t *fallback;        /* [n_units] as pack_fallback(); NULL: none */
    const struct pack_gate_in *gate; /* NULL: nothing was compared */
};

/* Creates `path`.tmp.<pid> (removing stale ones of dead writers) under a lock on it, so that a
 * second packer on the same output is refused with -EBUSY. `src` supplies the metadata to carry
 * over and must outlive the writer. -EINVAL if `path` is a folder or a device. A full disk shows
 * later as -ENOSPC; a limit on file size as -EFBIG, if the program ignores SIGXFSZ. */
int pack_writer_create(const char *path, const struct gguf *src, const struct model_hparams *h,
                       struct pack_writer **ret, struct err *e) MUST_CHECK;
/* As above, but goes on in the file that a dead writer of `path` left. -ENOENT if there is none. */
int pack_writer_resume(const char *path, const struct gguf *src, const struct model_hparams *h,
                       struct pack_writer **ret, struct err *e) MUST_CHECK;
/* The pack has the rung swsc: an extent for each layer, and `books` if the forms share something,
 * which are then to be written as all others are. Once, at any time before the end: extents already
 * written are moved to where they belong now, which reads and writes them once (a kill meanwhile
 * loses them). Who resumes a writer that had said so says it again before keeping anything: then
 * nothing moves. 0, -EINVAL (said before), -EBADMSG (swsc_check()), -ENOMEM or the system's error.
 */
int pack_writer_swsc(struct pack_writer *w, const struct swsc_form forms[MODEL_LAYER_MATS],
                     struct err *e) MUST_CHECK;
/* After pack_writer_resume(): an extent that the dead writer wrote is kept. Reads it. 0, -EBADMSG
 * (it is not what had this checksum) or the system's error. */
int pack_writer_keep(struct pack_writer *w, enum pack_part part, uint32_t unit, uint64_t xxh3,
                     struct err *e) MUST_CHECK;
/* Extents written so far to the disk; then their checksums may be noted, for a later keep. */
int pack_writer_sync(struct pack_writer *w, struct err *e) MUST_CHECK;
uint64_t pack_writer_xxh3(const struct pack_writer *w, enum pack_part part, uint32_t unit);
/* Writes one whole extent (bytes as pack_unit_layout(), pack_swsc_bytes() or pack_books_bytes() or,
 * for CORE and EMBD, the natural size; padding is added). Each extent exactly once. 0, -EINVAL,
 * -EBADMSG (an extent of swsc or books that would not bind) or the system's error. */
int pack_writer_extent(struct pack_writer *w, enum pack_part part, uint32_t unit, const void *data,
                       uint64_t bytes, struct err *e) MUST_CHECK;
/* Opens what is written, for computing with it before its scores and ladders are known: puts a
 * header without those in front of the extents, all of which must have been written. *ret is owned
 * by the caller, to be closed before the writer goes on; the file keeps its temporary name. Errors
 * of pack_writer_finish(); the writer is not used up. */
int pack_writer_preview(struct pack_writer *w, const struct pack_meta *meta, struct pack **ret,
                        struct err *e) MUST_CHECK;
/* Writes the header, fsyncs, renames. The writer is used up either way; destroy it. */
int pack_writer_finish(struct pack_writer *w, const struct pack_meta *meta,
                       struct err *e) MUST_CHECK;
/* Removes the temporary file unless finished. Accepts NULL. */
void pack_writer_destroy(struct pack_writer *w);

#endif
