/* Shares a run of items out among lanes, so that each goes through neighbours in order.
 *
 * Every lane owns a span of consecutive items and takes them from its front; a lane whose span is
 * empty takes from the back of others. Items that lie one after the other in memory so are read by
 * one thread as one stream, and yet a lane that is slow or never starts costs nothing.
 *
 * Thread: any number, after spans_set(); it and the first spans_take() must be ordered by the
 * caller (pool_run() does). */
#ifndef EBB_CORE_SPANS_H
#define EBB_CORE_SPANS_H

#include <stdalign.h>
#include <stdatomic.h>

#include "core/defs.h"

struct span {
    alignas(64) _Atomic uint64_t left; /* items [low half, high half); relaxed: it orders nothing */
};

/* Items 0 .. n_items-1 to n lanes, evenly. n >= 1. */
void spans_set(struct span *s, unsigned n, uint32_t n_items);
/* One item for `lane`; false when all are taken. Each item is given once. */
bool spans_take(struct span *s, unsigned n, unsigned lane, uint32_t *ret);

#endif
