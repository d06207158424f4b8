/* A pack of the tiny model's sizes with seeded planes, for tests of what reads packs. The planes
 * are drawn, not quantised: it computes, its two rungs are near each other, but it is not the tiny
 * model. For that run ebb-pack. */
#ifndef EBB_TESTS_GOLDEN_TINY_PACK_H
#define EBB_TESTS_GOLDEN_TINY_PACK_H

#include "core/pack.h"
#include "core/pack_write.h"
#include "tests/golden/tiny.h"

struct err;
struct gguf;

/* The source in memory (closes over `bytes`). */
struct tiny_source {
    uint8_t *bytes; /* owned */
    struct gguf *g; /* owned */
    struct model_hparams h;
};
void tiny_source_init(struct tiny_source *s, const struct tiny_opts *o);
void tiny_source_fini(struct tiny_source *s);

/* The contents of one extent, malloc'd, of *ret_n bytes as pack_writer_extent() wants them. */
uint8_t *tiny_pack_extent(const struct tiny_source *s, enum pack_part part, uint32_t unit,
                          uint64_t seed, uint64_t *ret_n);

/* Writes every extent. 0 or the writer's error. */
int tiny_pack_extents(struct pack_writer *w, const struct tiny_source *s, uint64_t seed,
                      struct err *e);
/* The writer's last step, with one ladder "jaccard" that takes the units in order, full to high,
 * and one score. */
int tiny_pack_finish(struct pack_writer *w, const struct tiny_source *s, struct err *e);

/* All of it. 0 or the writer's error. */
int tiny_pack_write(const struct tiny_opts *o, const char *path, struct err *e);

#endif
