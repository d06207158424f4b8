/* The store: which slabs the engine computes with, and how that changes while tokens flow.
 *
 * A plan is an immutable table: for every unit its slabs and the matrices bound to them, with the
 * position it realises and an epoch. The loop thread builds a plan and publishes it; the inference
 * thread adopts the newest one between two steps and from then on only reads it. A slab that no
 * published plan uses any more is freed by the loop once the plan after it has been adopted, so
 * nothing is freed while it can still be read; there is no reference count to race with. Its bytes
 * go back to the system earlier: whoever adopts a plan gives back what the plan before it named and
 * no plan to come will.
 *
 * The guard. Above the memory.high of its cgroup the kernel may put the loop to sleep for seconds,
 * so a third thread sheds then (daemon/guard.h). For that the loop lends it the publishing side:
 *
 *   HELD --store_lend()--> LENT --store_borrow()--> BORROWED --store_hand_back()--> LENT
 *    ^                       |
 *    +---- store_recall() ---+       (waits while BORROWED: microseconds, and nothing charges)
 *
 * Functions marked "publisher" are for the loop while HELD and for the guard while BORROWED. The
 * adopted plan has one user at a time, too: the inference thread from store_enter() to
 * store_leave(), and between them the guard in store_adopt_idle(), so that the bytes come back
 * although that thread sleeps.
 *
 * The room for plans is taken once, in store_create(): publishing never allocates and never fails,
 * so that going down under memory pressure cannot.
 *
 * A unit may have several slabs at a time, as the next form must be there before the last one is
 * dropped. The plan takes the best of them: planes if the high one is there, else the form swsc,
 * else nothing: then the unit is paged, and its weights are whoever's business runs the plan.
 *
 * Invariants (checked by check_state() in store.c):
 *  1 at most one plan is offered, one is being adopted and one is adopted; no other is alive
 *  2 epochs rise by one with every publication
 *  3 a slab is owned by the store from store_add() until store_reap() frees it
 *  4 the adopted plan's slabs are never freed
 *  5 a plan names the slabs that its rungs need and no other
 *  6 a slab is given back only by the adopter of a plan, only if it is retired (in no plan to come)
 *    and the plan adopted before is the last that names it */
#ifndef EBB_CORE_STORE_H
#define EBB_CORE_STORE_H

#include <stdatomic.h>

#include "core/defs.h"
#include "core/ladder.h"
#include "core/model.h"
#include "core/pack.h"
#include "core/swsc.h"
#include "kernels/planes.h"

struct err;
struct slab;
struct store;

struct plan_unit {
    enum rung rung; /* full, high: mats; swsc: forms; paged: neither */
    /* Borrowed from the store while the plan lives; NULL where the rung needs none. */
    struct slab *high, *low, *swsc;
    struct kern_planes mats[MODEL_MAT_COUNT];
    const struct swsc_mat *forms; /* [MODEL_LAYER_MATS], with `swsc` */
};

struct plan {
    uint64_t epoch;    /* from 1 */
    uint32_t position; /* of the ladder in force */
    uint32_t n_units;
    /* Epoch of a plan for which a step is worth breaking off; NULL: there is none to come. Borrowed
     * from the store. */
    const _Atomic uint64_t *urgent;
    struct plan_unit units[]; /* [n_units] */
};

/* Thread: loop. `h` is borrowed for the store's life. 0 or -ENOMEM. */
int store_create(const struct model_hparams *h, struct store **ret, struct err *e) MUST_CHECK;
/* Thread: loop, after the inference thread is joined. Frees every plan and slab. Accepts NULL. */
void store_destroy(struct store *s);

/* Thread: loop, before the first slab of PACK_SWSC. The forms of the pack and the slab of its books
 * (NULL if it has none), borrowed for the store's life. */
void store_set_swsc(struct store *s, const struct swsc_form forms[MODEL_LAYER_MATS],
                    const struct slab *books);
/* Thread: loop. Puts a filled slab (PACK_HIGH, PACK_LOW or PACK_SWSC) in the unit's place for its
 * part (which must be empty) of the next plan; a unit's high slab comes before its low one. Takes
 * ownership on success. 0, -EBADMSG (its directory does not fit the model), -ENOMEM or -EINVAL
 * (place taken, no such unit, no high slab yet, no forms set). */
int store_add(struct store *s, struct slab *slab, struct err *e) MUST_CHECK;
/* Thread: publisher. Leaves the slab of a part out of the next plan; no-op if it has none. A high
 * slab takes the low one with it. Never allocates. */
void store_drop(struct store *s, uint32_t unit, enum pack_part part);
/* Thread: publisher. Publishes the next plan as `position`. Never allocates. */
void store_publish(struct store *s, uint32_t position);
/* Thread: publisher. Drops what the rungs of `position` do not hold, and publishes. A unit at
 * `swsc` whose extent is not there is streamed. Returns the bytes dropped. Never allocates. */
uint64_t store_shed(struct store *s, const struct ladder *l, uint32_t position);
/* Thread: publisher. Position of the newest published plan. */
uint32_t store_position(const struct store *s);
/* Thread: publisher. The rung of a unit in the next plan. */
enum rung store_next_rung(const struct store *s, uint32_t unit);
/* Thread: loop, HELD or LENT. Frees what no thread can read any more; returns its bytes. */
uint64_t store_reap(struct store *s);
/* Thread: publisher. Bytes of all slabs the store still owns, and of those not dropped. */
uint64_t store_bytes(const struct store *s);
uint64_t store_next_bytes(const struct store *s);
/* Thread: any. Epoch of the newest published and of the newest adopted plan (0: none yet). */
uint64_t store_published_epoch(const struct store *s);
uint64_t store_adopted_epoch(const struct store *s);

/* ---- lending (see above) ---- */

/* Thread: loop. It is HELD after store_create(). */
void store_lend(struct store *s);
/* Thread: loop. False if it was HELD already. */
bool store_recall(struct store *s);
/* Thread: guard. False unless it is LENT. */
bool store_borrow(struct store *s);
void store_hand_back(struct store *s);

/* ---- adopting ---- */

/* Thread: inference. Waits while the guard adopts, as long as the kernel takes to give pages back,
 * and while it halts the steps. */
void store_enter(struct store *s);
void store_leave(struct store *s);
/* Thread: inference, between steps, after store_enter(). The newest plan, NULL before the first.
 * Gives back what no plan needs any more. Never blocks. Borrowed until the next store_adopt() or
 * store_leave(). *ret_changed (may be NULL): it differs from the last. */
const struct plan *store_adopt(struct store *s, bool *ret_changed);
/* Thread: guard. Adopts for an inference thread that has left; false if it has not. */
bool store_adopt_idle(struct store *s);
/* Thread: any. A step under a plan older than `epoch` ends at its next block of rows with -EAGAIN
 * (engine.h). */
void store_urge(struct store *s, uint64_t epoch);
/* Thread: guard. While it is on, store_enter() waits: no step begins, and the guard adopts. */
void store_halt(struct store *s, bool on);
/* Thread: any. Bytes that adopters have given back, in all. */
uint64_t store_given_back(const struct store *s);

#endif
