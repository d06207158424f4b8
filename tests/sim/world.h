/* What the world does to the machine in a simulated run: the memory that it leaves to us, the time
 * for which programs wait for memory, the temperature. From a CSV file, or from a formula.
 *
 * The memory is what is there for us in all, our own bytes + MemAvailable: a sum that our shedding
 * and growing does not change, so it can be written down before the run. Immutable, pure. */
#ifndef EBB_TESTS_SIM_WORLD_H
#define EBB_TESTS_SIM_WORLD_H

#include "core/defs.h"

struct err;
struct world;

enum { WORLD_MAX_ROWS = 4000000, WORLD_MAX_DAYS = 366 };

/* What there is at one time. */
struct world_sample {
    bool has_left, has_stall, has_temp; /* false: not known */
    uint64_t left_bytes;                /* own bytes + MemAvailable */
    uint32_t stall_permille;            /* of time, some task waits for memory */
    int32_t temp_mc;
};

/* The temperature follows what is computed: with everything at its most it comes to ambient + rise,
 * with the time constant tau. */
struct world_thermal {
    int32_t ambient_mc, rise_mc;
    uint64_t tau_us;
};

/* A file of lines `time_s,left_mib,stall_percent,celsius` under that header; an empty field is
 * unknown; values hold until the next row, and the last row ends the run. Lines that begin with #
 * are left out. `name` stands in messages. 0, -EINVAL ("NAME:LINE: ...") or -ENOMEM. */
int world_parse(const char *name, const char *text, size_t n, struct world **ret,
                struct err *e) MUST_CHECK;
/* "KIND" or "KIND:key=value,...", see world_help(). 0, -EINVAL or -ENOMEM. */
int world_make(const char *spec, struct world **ret, struct err *e) MUST_CHECK;
void world_destroy(struct world *w); /* accepts NULL */

uint64_t world_span_us(const struct world *w); /* how long it is to be run */
void world_at(const struct world *w, uint64_t now_us, struct world_sample *ret);
/* NULL: the temperature is that of world_at(). */
const struct world_thermal *world_thermal(const struct world *w);

/* The kinds, one after the other; NULL behind the last. `ret` receives a line that says what it
 * does and which keys it takes, with their defaults. */
enum { WORLD_MAX_HELP = 512 };
const char *world_help(unsigned i, char ret[WORLD_MAX_HELP]);

#endif
