/* What ended requests leave behind: their KV caches with the tokens that they are for, so that a
 * request that begins with the same tokens (a chat's next turn, a common system prompt) computes
 * only what is new.
 *
 * A request that finds a cache forks it (kv.h): whole blocks are shared, so the cache stays for
 * others. The least recently used ones go first. What was computed at one position of the ladder is
 * used at any other, as it is within a request: a reuse may give other tokens than a computation
 * anew would, if the precision has changed since.
 *
 * Thread: loop, while it holds the store's publishing side (store.h), but for prefix_bytes() and
 * prefix_n(); prefix_discard() is for the guard while it has borrowed that. */
#ifndef EBB_CORE_PREFIX_H
#define EBB_CORE_PREFIX_H

#include "core/defs.h"

struct kv;
struct prefix;

/* Least tokens in common that are worth a fork. */
enum { PREFIX_MIN = 8 };

/* 0 or -ENOMEM. Empty, with room for nothing. */
int prefix_create(struct prefix **ret) MUST_CHECK;
void prefix_destroy(struct prefix *p); /* accepts NULL */

/* Bytes of caches that are kept, shared blocks counted for each; drops what is too much. */
void prefix_set_limit(struct prefix *p, uint64_t bytes);

/* Keeps the cache of ids[n], its positions 0 .. n - 1, and takes it over in any case: what cannot
 * be kept is destroyed. Those that hold no more than the beginning of it are dropped. */
void prefix_put(struct prefix *p, const uint32_t *ids, uint32_t n, struct kv *kv);

/* The cache that has the most tokens in common with ids[n] from the first on, and how many; NULL
 * and 0 if that is less than PREFIX_MIN. Borrowed until the next call of another function. */
const struct kv *prefix_find(struct prefix *p, const uint32_t *ids, uint32_t n, uint32_t *ret_n);

/* Keeps the cache that prefix_find() has just returned from prefix_discard(), while it is forked
 * without that side being held; or no longer. */
void prefix_pin(struct prefix *p, bool on);

/* Drops caches until at least `bytes` came free or none is left. */
void prefix_shed(struct prefix *p, uint64_t bytes);

/* Guard: returns the bytes of the least recently used caches to the system until at least `bytes`
 * are back or none is left; returns how many. They are lost, and to be dropped by
 * prefix_drop_discarded() before any other call. Neither charges nor allocates. */
uint64_t prefix_discard(struct prefix *p, uint64_t bytes);
void prefix_drop_discarded(struct prefix *p);

/* Bytes that certainly come free when all are dropped: blocks that nobody else uses. */
uint64_t prefix_bytes(const struct prefix *p);
uint32_t prefix_n(const struct prefix *p);

#endif
