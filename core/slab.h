/* A slab: the memory one extent was read into, and what is bound to it. Immutable once filled and
 * bound. Accounted as MEM_SLAB, but for the few bytes of `forms`. */
#ifndef EBB_CORE_SLAB_H
#define EBB_CORE_SLAB_H

#include <stdatomic.h>

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
    struct swsc_mat *forms; /* owned; [MODEL_LAYER_MATS] after slab_bind_swsc(), else NULL */
    struct slab *link;      /* the list of slabs that the store will free; NULL elsewhere */
    /* The store: no plan to come will name it. Relaxed: the exchange of plans orders it. */
    _Atomic bool is_retired;
    _Atomic bool is_given_back; /* its bytes are with the system already; relaxed */
};

/* A slab for the extent, which the caller fills before anyone else sees it. 0 or -ENOMEM. Thread:
 * as below. */
int slab_alloc(struct mem *m, const struct pack_extent *x, struct slab **ret,
               struct err *e) MUST_CHECK;
/* Allocates and fills by pack_read_extent(); `x` is one of the pack's. 0, -ENOMEM or that
 * function's errors. Blocks on the disk. Thread: I/O worker, or any before the daemon serves. */
int slab_load(struct mem *m, const struct pack *p, const struct pack_extent *x, struct slab **ret,
              struct err *e) MUST_CHECK;
/* Binds a slab of PACK_SWSC as pack_bind_swsc() does; `books` is the slab of that extent, NULL if
 * there is none, and must outlive it. 0, -EINVAL (another part, no such layer), -EBADMSG or
 * -ENOMEM. Thread: whose the slab is. */
int slab_bind_swsc(struct slab *s, const struct model_hparams *h,
                   const struct swsc_form forms[MODEL_LAYER_MATS], const struct slab *books,
                   struct err *e) MUST_CHECK;
/* Returns the bytes to the system at once, and leaves the addresses to slab_destroy(); a second
 * call does nothing. Returns the bytes of this call. Neither charges nor allocates. Thread: any,
 * once no thread reads the slab any more. */
uint64_t slab_give_back(struct slab *s);
/* Returns what is left of it to the system. Accepts NULL. */
void slab_destroy(struct slab *s);

#endif
