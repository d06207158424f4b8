/* A pack loaded for computing, without a daemon: its weights at one position and the core vectors.
 * For measuring, and for tests. Units on disk have no place here. Thread: one. */
#ifndef EBB_CORE_BENCH_LOADED_H
#define EBB_CORE_BENCH_LOADED_H

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
    const char *rung;          /* where all units are at one, the head apart; else NULL. Static */
    bool is_on_ladder;         /* and then plan->position is where, on the pack's first ladder */
};

/* "full", "high", "swsc" (a head without that form is at high) or a number; what it means is known
 * when the pack is open. */
bool loaded_is_position(const char *s);

/* position: one of these. On failure *ret is closed. 0, -EINVAL (not on the pack's first ladder),
 * -ENOTSUP (no such rung, or units would be on disk) or the errors of pack, slab and store. */
int loaded_open(const char *path, const char *position, struct loaded *ret,
                struct err *e) MUST_CHECK;
void loaded_close(struct loaded *l); /* accepts zeroed */

#endif
