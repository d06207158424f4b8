/* A pack as a giver of logits: the daemon's engine, held at several positions at once.
 *
 * Units that two positions hold alike share their slabs, so memory is the larger of them. One
 * engine and one cache serve all, which are run one after the other. */
#ifndef EBB_CORE_MAKE_EVAL_PACK_H
#define EBB_CORE_MAKE_EVAL_PACK_H

#include "core/defs.h"

struct err;
struct eval_pack;
struct ladder;
struct pack;
struct tools;

/* Loads what positions[n] of `l`, one of the pack's ladders, need; windows have up to `window`
 * tokens. All but `positions` is borrowed for the object's life. 0, -ENOTSUP (a rung that holds no
 * planes), -EBADMSG, -ENOMEM or the system's error. */
int eval_pack_create(struct tools *t, const struct pack *p, const struct ladder *l,
                     const uint32_t *positions, uint32_t n, uint32_t window, struct eval_pack **ret,
                     struct err *e) MUST_CHECK;
void eval_pack_destroy(struct eval_pack *ep); /* accepts NULL */

/* ids[n] from an empty cache at the i-th of the positions: the logits of ids[first] and those after
 * it, at distance ld (n_vocab rounded up to 8). 0 or the error of reading an embedding row. */
int eval_pack_run(struct eval_pack *ep, uint32_t i, const uint32_t *ids, uint32_t n, uint32_t first,
                  float *logits, size_t ld, struct err *e) MUST_CHECK;

uint64_t eval_pack_core_bytes(const struct eval_pack *ep); /* resident at every position */

#endif
