/* A slab: the memory one extent was read into. Immutable once filled. Accounted as MEM_SLAB. */
#ifndef EBB_CORE_SLAB_H
#define EBB_CORE_SLAB_H

#include "core/defs.h"
#include "core/pack.h"

struct err;
struct mem;

struct slab {
    struct mem *mem; /* borrowed for the slab's life */
    enum pack_part part;
    uint32_t unit;
    void *data; /* owned; extent->bytes */
    uint64_t bytes;
    struct slab *link; /* the list of slabs that the store will free; NULL elsewhere */
};

/* Allocates and fills by pack_read_extent(); `x` is one of the pack's. 0, -ENOMEM or that
 * function's errors. Blocks on the disk. Thread: I/O worker, or any before the daemon serves. */
int slab_load(struct mem *m, const struct pack *p, const struct pack_extent *x, struct slab **ret,
              struct err *e) MUST_CHECK;
/* Returns the bytes to the system at once. Accepts NULL. */
void slab_destroy(struct slab *s);

#endif
