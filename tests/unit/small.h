/* A model of two small layers and a head, its slabs, and a store that holds all planes: for tests
 * of what happens to slabs, in which nothing is computed. */
#ifndef EBB_TESTS_UNIT_SMALL_H
#define EBB_TESTS_UNIT_SMALL_H

#include "core/model.h"
#include "core/pack.h"
#include "core/store.h"

struct mem;
struct slab;

enum { SMALL_UNITS = 3 };
extern const struct model_hparams small;
/* The rung swsc of it; contents do not matter, so that they are seeds only. small_init() draws
 * them. */
extern struct swsc_form small_forms[MODEL_LAYER_MATS];
void small_init(void);

/* Where the bytes after the directory begin: a slab made here holds one number in all of them. */
uint64_t small_body_at(uint32_t unit);
struct slab *small_slab(struct mem *m, enum pack_part part, uint32_t unit, uint64_t mark);
struct slab *small_swsc(struct mem *m, uint32_t unit, uint64_t seed);
struct slab *small_books(struct mem *m);
/* With every high and low plane added, nothing published. */
struct store *small_store(struct mem *m);
/* One rung at a time, unit after unit (the head has no `swsc`), each step freeing so many bytes. */
struct ladder *small_ladder(uint64_t full_bytes, uint64_t step_bytes);

#endif
