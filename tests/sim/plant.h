/* The daemon without the daemon: governor and pager on virtual time, in a world that answers to
 * what they do. What the loop thread does in daemon/swap.c is done here, in the same order: a
 * reading each interval (half of one when the last was suspicious), the temperature once a second;
 * the governor; its answer to the pager; the pager's actions, until there is none; and again when a
 * read ends or memory has gone back.
 *
 * The disk reads one part at a time, at a steady rate; bytes that were dropped go back some time
 * after their plan was published, as the step that runs then must end first. Of the time in which
 * tasks wait for memory, everything waits in the half. */
#ifndef EBB_TESTS_SIM_PLANT_H
#define EBB_TESTS_SIM_PLANT_H

#include "core/gov.h"
#include "core/pager.h"
#include "tests/sim/world.h"

struct err;

/* What is seen after each turn of the loop. */
struct plant_moment {
    uint64_t now_us;
    bool is_fresh;   /* the turn began with a reading */
    bool has_worked; /* the pager did something */
    const struct world_sample *world;
    const struct gov_input *in;
    const struct gov_output *out;
    uint32_t position; /* published */
    uint64_t held_bytes, retired_bytes, reading_bytes;
    bool is_cancelled; /* what is being read is not wanted any more */
};
/* The moment is borrowed until it returns. */
typedef void (*plant_fn)(void *ud, const struct plant_moment *m);

struct plant_opts {
    const struct ladder *ladder;    /* borrowed for the run, as all here */
    const struct pager_unit *units; /* [ladder_n_units()] */
    const struct gov_settings *set;
    uint64_t interval_us; /* > 0 */
    int32_t trip_mc;
    int32_t cooling_mc;   /* from here on the kernel slows the clock, until 2 C below; 0 = never */
    uint64_t other_bytes; /* held beside the weights: KV, scratch */
    uint64_t return_us;   /* from a publication until dropped bytes are back */
    uint64_t read_bytes_per_s; /* > 0 */
    uint32_t fails_one_in;     /* such a read fails; 0 = none does */
    plant_fn fn;               /* may be NULL */
    void *ud;
};

/* From time 0 until `span_us`. 0, -ENOMEM, or as pager_create(). */
int plant_run(const struct plant_opts *o, const struct world *w, uint64_t span_us,
              struct err *e) MUST_CHECK;

#endif
