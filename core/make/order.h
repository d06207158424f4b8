/* Orders that a ladder is compared with: every unit from one rung to the next, in an order that
 * does not come from the pack.
 *
 * The plain ones (front, back, random) order the layers and keep the head for last, as it weighs as
 * much as many layers and everybody knows to spare it; what is compared is what is known about the
 * layers. Pure; any thread. */
#ifndef EBB_CORE_MAKE_ORDER_H
#define EBB_CORE_MAKE_ORDER_H

#include "core/defs.h"
#include "core/ladder.h"

struct err;
struct pack;

/* Each fills units[n_units] with a permutation of 0 .. n_units - 1, of which the last is the head.
 */
void order_front(uint32_t n_units, uint32_t *units); /* from the first layer to the last */
void order_back(uint32_t n_units, uint32_t *units);
/* The same for a seed everywhere; each order of the layers about as likely as any other. */
void order_random(uint32_t n_units, uint64_t seed, uint32_t *units);
/* Least loss[u] per byte freed first, equal ones in order of their number, those that free nothing
 * or whose loss is NaN last. The head goes where its own loss puts it. */
void order_by_price(uint32_t n_units, const double *loss, const uint64_t *freed, uint32_t *units);

/* Bytes that the unit frees between two rungs; 0 if it lacks the lower one. */
uint64_t order_freed(const struct pack *p, uint32_t unit, enum rung from, enum rung to);

/* The ladder that takes units[] in this order from `from` to `to`, whatever lies above `from`
 * having been taken before, rung by rung; units that lack the lower rung are left out. loss[u]:
 * what unit u's step costs, or NULL: nothing. 0 or what ladder_create() gives; the ladder is the
 * caller's. */
int order_ladder(const struct pack *p, const char *name, enum rung from, enum rung to,
                 const uint32_t *units, const double *loss, struct ladder **ret,
                 struct err *e) MUST_CHECK;

#endif
