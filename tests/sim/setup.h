/* What a simulated run is made of: a ladder with the sizes of its parts, from a pack or made up,
 * and settings by their names in the daemon's file. */
#ifndef EBB_TESTS_SIM_SETUP_H
#define EBB_TESTS_SIM_SETUP_H

#include "config/config.h"
#include "core/gov.h"
#include "core/pager.h"

struct err;
struct pack;

struct setup {
    const struct ladder *ladder; /* borrowed from one of the next two */
    struct ladder *made;         /* owned, or NULL */
    struct pack *pack;           /* owned, or NULL */
    struct pager_unit *units;    /* owned, [ladder_n_units()] */
};

/* A ladder like that of a model of 135 million weights: 30 layers and a head, 144 MB full, 77 MB
 * with high planes alone; then the layers at swsc, then paged. 0 or -ENOMEM. */
int setup_make(struct setup *ret, struct err *e) MUST_CHECK;
/* The ladder `name` of a pack. 0, -EINVAL (it has none), or as pack_open(). */
int setup_open(const char *path, const char *name, struct setup *ret, struct err *e) MUST_CHECK;
void setup_fini(struct setup *s); /* accepts a zeroed one */

/* "memory.hold=10s" into *c: the keys of the sections memory and heat, sense.interval, sense.stale,
 * serve.threads and precision.ladder, which are all that a run goes by. 0 or -EINVAL. */
int setup_set(const char *text, struct config *c, struct err *e) MUST_CHECK;

#endif
