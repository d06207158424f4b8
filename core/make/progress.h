/* How far a long piece of work is: told through a callback, so that methods do not print. */
#ifndef EBB_CORE_MAKE_PROGRESS_H
#define EBB_CORE_MAKE_PROGRESS_H

#include "core/defs.h"

/* `what` ("calibrating"), done of total, and what is counted ("windows"). done == total ends a
 * phase. Called on the caller's thread only. */
typedef void (*progress_fn)(void *ud, const char *what, uint64_t done, uint64_t total,
                            const char *unit);

struct progress {
    progress_fn fn; /* NULL: nobody listens */
    void *ud;
};

static inline void progress_tell(const struct progress *p, const char *what, uint64_t done,
                                 uint64_t total, const char *unit) {
    if (p && p->fn) p->fn(p->ud, what, done, total, unit);
}

#endif
