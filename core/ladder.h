/* The ladder: the packer's ordered list of steps, and the position the daemon stands at.
 *
 * A step takes one unit from one rung to a lower one, frees bytes and costs a loss. The position
 * is how many steps have been taken: 0 = everything at its best. It is the whole precision state:
 * the rung of every unit and the bytes resident follow from it. Plans are nested by construction.
 * Immutable after ladder_create(); any thread. */
#ifndef EBB_CORE_LADDER_H
#define EBB_CORE_LADDER_H

#include "core/defs.h"

struct err;

enum rung { RUNG_FULL, RUNG_HIGH, RUNG_SWSC, RUNG_PAGED };
enum { RUNG_COUNT = RUNG_PAGED + 1 };
const char *rung_name(enum rung r); /* "full" ... */
/* The rung with that name; -EINVAL if there is none. */
int rung_parse(const char *s, size_t n, enum rung *ret) MUST_CHECK;

struct ladder_step {
    uint32_t unit;
    enum rung from, to;
    uint64_t bytes; /* freed by the step */
    float cost;     /* loss added, in the unit of the score that made the ladder */
};

struct ladder;

/* Copies the steps. full_bytes: weight bytes resident at position 0. Checks that each unit starts
 * at full, moves one way only and continues where its last step ended, and that the bytes never
 * fall below zero. 0, -EBADMSG or -ENOMEM. */
int ladder_create(const char *name, uint32_t n_units, uint64_t full_bytes,
                  const struct ladder_step *steps, uint32_t n_steps, struct ladder **ret,
                  struct err *e) MUST_CHECK;
void ladder_destroy(struct ladder *l); /* accepts NULL */

const char *ladder_name(const struct ladder *l);
uint32_t ladder_n_units(const struct ladder *l);
uint32_t ladder_n_steps(const struct ladder *l); /* positions are 0 .. n_steps */
const struct ladder_step *ladder_step_at(const struct ladder *l, uint32_t i);

/* Weight bytes resident at a position. */
uint64_t ladder_bytes(const struct ladder *l, uint32_t position);
/* Smallest position whose bytes fit; n_steps if none does (then *ret_fits is false). */
uint32_t ladder_fit(const struct ladder *l, uint64_t bytes, bool *ret_fits);
/* Rung of a unit at a position. */
enum rung ladder_rung(const struct ladder *l, uint32_t position, uint32_t unit);
/* First position at which every unit is at `rung` or below; n_steps + 1 if there is none. */
uint32_t ladder_all_at(const struct ladder *l, enum rung rung);

#endif
