/* A pack loaded for computing, without a daemon: its weights at one position and the core vectors.
 * For tests and benchmarks. */
#ifndef EBB_TESTS_GOLDEN_LOADED_H
#define EBB_TESTS_GOLDEN_LOADED_H

#include <stdint.h>

#include "core/defs.h"

struct err;
struct mem;
struct pack;
struct plan;
struct slab;
struct store;

struct loaded {
    struct mem *mem; /* all owned; loaded_close() */
    struct pack *pack;
    struct store *store;
    struct slab *core, *books; /* books: NULL if the pack has none */
    const struct plan *plan;   /* adopted */
    uint64_t weight_bytes;     /* resident, and read for one token */
};

/* position: "full", "high", "swsc" (layers; the head at high), or a number on the pack's first
 * ladder. On failure *ret is closed. 0, -EINVAL or the errors of pack, slab and store. */
int loaded_open(const char *path, const char *position, struct loaded *ret,
                struct err *e) MUST_CHECK;
void loaded_close(struct loaded *l); /* accepts zeroed */

#endif
