/* What goes when the own cgroup is above its memory.high: the guard's decision, pure.
 *
 * The kernel's number is believed at once and needs no second reading, unlike those that the
 * governor goes by (gov.h): it names the bytes, and as long as it is exceeded every thread that
 * charges memory sleeps. Kept prefixes go first, then steps of the ladder, as few as are enough
 * for what is over and a margin: what the daemon does next charges some memory again. A step counts
 * with what it frees in the end, so the extents that units at `swsc` will need are left room for.
 */
#ifndef EBB_CORE_SHED_H
#define EBB_CORE_SHED_H

#include "core/defs.h"
#include "core/ladder.h"

/* Kept beyond what is over: SHED_MARGIN_BYTES and a sixteenth. One reply with its log lines, socket
 * buffers and the kernel's own per-CPU stock (64 pages each) take less than 1 MiB. */
enum { SHED_MARGIN_BYTES = 2 << 20, SHED_MARGIN_PART = 16 };

struct shed_choice {
    uint64_t kept_bytes; /* of kept prefixes to be given back; may be more than there are */
    uint32_t position;   /* not above the one there is */
    bool is_enough;      /* false: this is all there is */
};

/* `kept_bytes` of prefixes are there, the ladder stands at `position` (<= its steps), and
 * over_bytes > 0 are to go. */
struct shed_choice shed_choose(const struct ladder *l, uint32_t position, uint64_t kept_bytes,
                               uint64_t over_bytes);

#endif
