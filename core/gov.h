/* The governor: readings in, budget out. A pure function: no clock, no I/O, integers only.
 *
 * Now: budget = the least of the configured limit, the operator's limit (`ebb limit`) and what the
 * system has left (own bytes + MemAvailable - reserve). Shed at once, as far as needed; grow one
 * step at a time after a quiet hold, with room for the step plus a margin. Heat, pressure and duty
 * join later in the same function.
 *
 * Unknown readings never count as plenty. A reading is kept as own bytes + MemAvailable, a sum that
 * our own shedding and growing does not change; it stays the ceiling until a newer one comes, and
 * once it is older than stale_us nothing grows. Without any reading since the start the lowest
 * position is taken. */
#ifndef EBB_CORE_GOV_H
#define EBB_CORE_GOV_H

#include "core/defs.h"
#include "core/ladder.h"

struct gov_settings {
    uint64_t limit_bytes;   /* configured; UINT64_MAX = none */
    uint64_t reserve_bytes; /* of MemAvailable left to others */
    uint64_t margin_bytes;  /* of the system's memory: extra room wanted before a step up. The two
                             * limits do not move by themselves and need none */
    uint64_t hold_us;       /* quiet time before the first step up */
    uint64_t step_us;       /* between two steps up */
    uint64_t stale_us;      /* a reading older than this is unknown */
};

struct gov_input {
    uint64_t mem_available_bytes;  /* valid if has_mem */
    bool has_mem;                  /* read just now, together with the bytes held below */
    uint64_t operator_limit_bytes; /* UINT64_MAX = auto */
    uint64_t weight_bytes;         /* held now: slabs in use, being read, not yet returned */
    uint64_t other_bytes;          /* KV, scratch, core: held now */
    uint32_t position;             /* published now */
};

/* Zero it to start. Written by gov_step() alone. */
struct gov_state {
    uint64_t last_mem_bytes; /* own bytes + MemAvailable at the last good reading */
    uint64_t last_mem_us;
    uint64_t quiet_since_us; /* since when there has been room for a step and no shedding */
    uint64_t last_grow_us;
    uint64_t limit_bytes; /* the lesser of the two limits in the last call */
    bool has_run;
    bool has_mem;    /* there has been a good reading */
    bool is_raised;  /* a limit was raised and the growth it allows is under way */
    bool is_growing; /* a step up from `grow_from` was proposed and is not published yet */
    uint32_t grow_from;
};

enum gov_reason {
    GOV_STEADY,
    GOV_START,
    GOV_LIMIT,         /* shed: the configured limit */
    GOV_OPERATOR,      /* shed: the operator's limit; or grown because a limit was raised */
    GOV_MEM_AVAILABLE, /* shed: the system's memory */
    GOV_ROOM,          /* grown */
    GOV_MEM_UNKNOWN,   /* nothing grows, as the system's memory is not known */
};
const char *gov_reason_name(enum gov_reason r); /* "steady", "mem_available", ... */

struct gov_output {
    uint64_t budget_bytes;        /* for everything; UINT64_MAX = no bound is known */
    uint64_t weight_budget_bytes; /* budget less other_bytes, 0 if none is left */
    uint32_t position;            /* the target now: at most one step above input.position, but
                                   * the first call's answer is where to start, wherever that is */
    bool is_over;                 /* even the lowest position does not fit */
    enum gov_reason reason;       /* what set the position */
};

/* A limit raised or lowered, by the operator or a reload, acts at once in both directions: up step
 * by step, but without hold and pause. Position falls as far as needed in one call. */
struct gov_output gov_step(struct gov_state *st, const struct gov_settings *set,
                           const struct ladder *l, const struct gov_input *in, uint64_t now_us);

#endif
