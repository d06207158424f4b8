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
    bool has_swsc; /* after tiny_source_swsc() */
    struct swsc_form forms[MODEL_LAYER_MATS];
};
void tiny_source_init(struct tiny_source *s, const struct tiny_opts *o);
void tiny_source_fini(struct tiny_source *s);
/* Packs made of it have the rung swsc, with forms of swsc_draw_forms(). */
void tiny_source_swsc(struct tiny_source *s, unsigned variant);

/* The contents of one extent, to be freed, of *ret_n bytes as pack_writer_extent() wants them. */
uint8_t *tiny_pack_extent(const struct tiny_source *s, enum pack_part part, uint32_t unit,
                          uint64_t seed, uint64_t *ret_n);

/* Says that there is the rung swsc, if so, and writes every extent. 0 or the writer's error. */
int tiny_pack_extents(struct pack_writer *w, const struct tiny_source *s, uint64_t seed,
                      struct err *e);
/* The writer's last step, with one score and two ladders: "jaccard" takes the units in order, full
 * to high; "deep" goes on with the layers in order from high to swsc, if there is that rung, then
 * with all units to paged. With that rung there is a gate, too: of two forms each kind took the
 * first, "segments-4-256", but for the last kind, which took none. */
int tiny_pack_finish(struct pack_writer *w, const struct tiny_source *s, struct err *e);

/* All of it. 0 or the writer's error. */
int tiny_pack_write(const struct tiny_opts *o, const char *path, struct err *e);
/* The same with the rung swsc. */
int tiny_pack_write_swsc(const struct tiny_opts *o, unsigned variant, const char *path,
                         struct err *e);

#endif
