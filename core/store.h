/* The store: which slabs the engine computes with, and how that changes while tokens flow.
 *
 * A plan is an immutable table: for every unit its slabs and the matrices bound to them, with the
 * position it realises and an epoch. The loop thread builds a plan and publishes it; the inference
 * thread adopts the newest one between two steps and from then on only reads it. A slab that no
 * published plan uses any more is freed by the loop once the plan after it has been adopted, so
 * nothing is freed while it can still be read; there is no reference count to race with.
 *
 * The room for plans is taken once, in store_create(): publishing never allocates, so that going
 * down under memory pressure cannot fail.
 *
 * Invariants (checked by check_state() in store.c):
 *  1 at most one plan is offered, one is being adopted and one is adopted; no other is alive
 *  2 epochs rise by one with every publication
 *  3 a slab is owned by the store from store_add() until store_reap() frees it
 *  4 the adopted plan's slabs are never freed */
#ifndef EBB_CORE_STORE_H
#define EBB_CORE_STORE_H

#include "core/defs.h"
#include "core/model.h"
#include "kernels/planes.h"

struct err;
struct pack;
struct slab;
struct store;

struct plan_unit {
    const struct slab *high; /* borrowed from the store while the plan lives */
    const struct slab *low;  /* NULL: the unit is at `high` */
    struct kern_planes mats[MODEL_MAT_COUNT];
};

struct plan {
    uint64_t epoch;    /* from 1 */
    uint32_t position; /* of the ladder in force */
    uint32_t n_units;
    struct plan_unit units[]; /* [n_units] */
};

/* Thread: loop. `h` is borrowed for the store's life. 0 or -ENOMEM. */
int store_create(const struct model_hparams *h, struct store **ret, struct err *e) MUST_CHECK;
/* Thread: loop, after the inference thread is joined. Frees every plan and slab. Accepts NULL. */
void store_destroy(struct store *s);

/* Thread: loop. Puts a filled slab (PACK_HIGH or PACK_LOW) in the unit's place for its part (which
 * must be empty) of the next plan; a unit's high slab comes before its low one. Takes ownership on
 * success. 0, -EBADMSG (its directory does not fit the model) or -EINVAL (place taken, no such
 * unit, no high slab yet). */
int store_add(struct store *s, struct slab *slab, struct err *e) MUST_CHECK;
/* Thread: loop. Leaves the unit's low plane out of the next plan; no-op if it has none. */
void store_drop_low(struct store *s, uint32_t unit);
/* Thread: loop. Publishes the next plan as `position`. 0, or -EINVAL if a unit has no high slab
 * (then the plan in force stays). */
int store_publish(struct store *s, uint32_t position, struct err *e) MUST_CHECK;
/* Thread: loop. Frees what no thread can read any more; returns the bytes given back. */
uint64_t store_reap(struct store *s);
/* Thread: loop. Bytes of all slabs the store still owns, and of those the next plan uses. */
uint64_t store_bytes(const struct store *s);
uint64_t store_next_bytes(const struct store *s);
/* Thread: loop. Epoch of the newest published and of the newest adopted plan (0: none yet). */
uint64_t store_published_epoch(const struct store *s);
uint64_t store_adopted_epoch(const struct store *s);

/* Thread: inference, between steps. The newest plan, NULL before the first. Never blocks.
 * Borrowed until the next store_adopt(). *ret_changed (may be NULL): it differs from the last. */
const struct plan *store_adopt(struct store *s, bool *ret_changed);

#endif
