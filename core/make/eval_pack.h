/* A pack as a giver of logits: the daemon's engine, held at several places one after the other.
 *
 * Places, of one ladder or of several, that hold every unit alike are one plan. Units are read once
 * and shared by all plans, so memory is that of every unit at the best rung that any plan holds it
 * at. One engine and one cache serve all. Plans are numbered so that neighbours are alike in as
 * many layers as may be from the first one on; run in that order, each starts from where it leaves
 * the one before. The logits are the same, to the bit, in any order. */
#ifndef EBB_CORE_MAKE_EVAL_PACK_H
#define EBB_CORE_MAKE_EVAL_PACK_H

#include "core/defs.h"

struct err;
struct eval_pack;
struct eval_place;
struct pack;
struct tools;

/* Loads what places[n] need and, as place n if it is not NULL, `reference`; windows have up to
 * `window` tokens. `t` and `p` are borrowed for the object's life. A unit that a place holds paged
 * is computed in its smallest form. 0, -EBADMSG, -ENOMEM or the system's error. */
int eval_pack_create(struct tools *t, const struct pack *p, const struct eval_place *places,
                     uint32_t n, const struct eval_place *reference, uint32_t window,
                     struct eval_pack **ret, struct err *e) MUST_CHECK;
void eval_pack_destroy(struct eval_pack *ep); /* accepts NULL */

/* How many plans the places make, the reference's among them; and which one place i is. */
uint32_t eval_pack_n_plans(const struct eval_pack *ep);
uint32_t eval_pack_plan(const struct eval_pack *ep, uint32_t i);

/* The window that the plans are then run over: ids[n], borrowed until the next one, from an empty
 * cache, of which ids[first] and those after it get logits. */
void eval_pack_begin(struct eval_pack *ep, const uint32_t *ids, uint32_t n, uint32_t first);
/* Logits [n - first] of the plan, at distance ld (n_vocab rounded up to 8). 0, -ENOMEM or the error
 * of reading an embedding row. */
int eval_pack_run(struct eval_pack *ep, uint32_t plan, float *logits, size_t ld,
                  struct err *e) MUST_CHECK;

/* Resident at every position: core vectors and, whether it is used here or not, the books. */
uint64_t eval_pack_core_bytes(const struct eval_pack *ep);

#endif
