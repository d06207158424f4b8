/* The governor: readings in, budget out. A pure function: no clock, no I/O, integers only.
 *
 * Now: budget = the least of the configured limit, the operator's limit (`ebb limit`) and what the
 * system has left (own bytes + MemAvailable - reserve). Shed at once; grow one step at a time
 * after a quiet hold, with room for the step plus a margin. Heat, pressure and duty join later in
 * the same function. Unknown readings never count as plenty: the last good value is kept for
 * stale_us, then growth stops. */
#ifndef EBB_CORE_GOV_H
#define EBB_CORE_GOV_H

#include "core/defs.h"
#include "core/ladder.h"

struct gov_settings {
    uint64_t limit_bytes;   /* configured; UINT64_MAX = none */
    uint64_t reserve_bytes; /* of MemAvailable left to others */
    uint64_t margin_bytes;  /* extra room wanted before a step up */
    uint64_t hold_us;       /* quiet time before the first step up */
    uint64_t step_us;       /* between two steps up */
    uint64_t stale_us;      /* a reading older than this is unknown */
};

struct gov_input {
    uint64_t mem_available_bytes; /* valid if has_mem */
    bool has_mem;
    uint64_t operator_limit_bytes; /* UINT64_MAX = auto */
    uint64_t weight_bytes;         /* held now */
    uint64_t other_bytes;          /* KV, scratch, core: held now */
    uint32_t position;             /* published now */
};

/* Zero it to start. Written by gov_step() alone. */
struct gov_state {
    uint64_t last_mem_bytes;
    uint64_t last_mem_us;
    uint64_t last_shed_us;
    uint64_t last_grow_us;
    uint64_t operator_limit_bytes;
    bool has_run;
    bool has_mem;
};

enum gov_reason {
    GOV_STEADY,
    GOV_START,
    GOV_LIMIT,
    GOV_OPERATOR,
    GOV_MEM_AVAILABLE,
    GOV_ROOM,
    GOV_MEM_UNKNOWN
};
const char *gov_reason_name(enum gov_reason r);

struct gov_output {
    uint64_t budget_bytes;        /* for everything */
    uint64_t weight_budget_bytes; /* budget less other_bytes, 0 if none is left */
    uint32_t position;            /* the target now: at most one step above input.position */
    bool is_over;                 /* even the lowest position does not fit */
    enum gov_reason reason;       /* which reading set it */
};

/* An operator's change (limit raised or lowered) acts at once in both directions, step by step but
 * without the hold. Position falls as far as needed in one call. */
struct gov_output gov_step(struct gov_state *st, const struct gov_settings *set,
                           const struct ladder *l, const struct gov_input *in, uint64_t now_us);

#endif
