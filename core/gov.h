/* The governor: readings in; budget, position, duty and threads out. A pure function: no clock, no
 * I/O, integers only, so a recorded run can be computed again (gov_trace.h, tests/sim).
 *
 * Memory. The budget is the least of the configured limit, the operator's limit (`ebb limit`), what
 * the system has left (own bytes + MemAvailable - reserve) and what the own cgroup has left (own
 * bytes + left). A reading is kept as own bytes + what is left, a sum that our own shedding and
 * growing does not change.
 *   - A single odd reading does nothing: what is shed for is the greater of the last two, what is
 *     grown on the lesser. gov_output.is_suspicious asks for the next reading soon.
 *   - Pressure is time in which tasks waited for memory (PSI), an event of the service manager's
 *     watch, or pages read back that were just given up (refaults). It names no number of bytes:
 *     an eighth of the weights goes, again after a pause while it lasts, and the budget is held
 *     down to what is left then. Half goes where everything waited for most of the pause and
 *     still does: in a cgroup with one busy process every wait is a wait of all (`full`), so that
 *     alone says nothing, but what an eighth has not ended in that time, a second will not end.
 *     It never leads to paging, whose reads would add to it.
 *   - What waits above the own cgroup's limit waits for the kernel, which slows us down: the
 *     cgroup's number alone decides then. Neither pressure nor calm is taken from that time, nor
 *     from GOV_OVER_US after it.
 *   - Where several daemons share the machine, each has a share of what there is for all. What the
 *     system has left then counts as that share, so that they do not all give way for the same
 *     lack; if it still is less after GOV_SHARE_US, it counts as it is.
 *   - An emergency is MemAvailable below a floor: the lowest position, and new work is refused.
 * Up goes one step at a time, when there is room for the step and a margin in every source that is
 * known, and no pressure (two independent signals), both for a whole hold. The hold doubles when
 * what was grown had to be shed soon (back-off). Changes in an hour are counted; a rise waits while
 * the hour has no place for it and for the fall that may follow. A limit raised by the operator or
 * a reload acts at once: it waits for no hold and no place.
 *
 * Heat. Headroom is the least distance of a zone to its trip point. As it shrinks, stages follow
 * each other (gov_stages[]): pauses between steps (duty), fewer threads, then steps of the ladder,
 * as fewer bytes a token are less energy a token, and last no new work. A stage is entered at once
 * on two readings, and left, one at a time, after a hold with headroom beyond its edge by the
 * hysteresis, while the kernel does not throttle. Where the kernel or a firmware slows the clock
 * for heat although the zones leave less than twice the margin, the first stage is taken, as their
 * trip points are then too high; where they say nothing, the stage of zones that are gone. Zones
 * that have never changed say no more than that either, however hot they are.
 *
 * Unknown never counts as plenty: a source that was known and fails stays the ceiling it was, and
 * nothing grows once it is stale; without any reading of memory since the start, or of a cgroup
 * that is there, the lowest position is taken; zones that were known and are gone mean a middle
 * stage. */
#ifndef EBB_CORE_GOV_H
#define EBB_CORE_GOV_H

#include "core/defs.h"
#include "core/ladder.h"

enum { GOV_MAX_CHANGES = 240 }; /* greatest changes_per_hour */
enum { GOV_STAGES = 8 };
enum {
    /* The kernel puts to sleep for up to 2 s at a time, and that sleep goes on below the limit; its
     * trigger on memory.pressure has a window of 2 s as well. */
    GOV_OVER_US = 2500000,
    /* Time for the others to come down to their shares: two readings, and the bytes' way back. */
    GOV_SHARE_US = 1000000,
};

struct gov_settings {
    uint64_t limit_bytes;     /* configured; UINT64_MAX = none */
    uint64_t reserve_bytes;   /* of MemAvailable left to others */
    uint64_t margin_bytes;    /* of what a source has left: extra room wanted before a step up. The
                               * two limits do not move by themselves and need none */
    uint64_t emergency_bytes; /* of MemAvailable: below it is an emergency; 0 = never */
    uint64_t hold_us;         /* quiet time before the first step up */
    uint64_t hold_max_us;     /* what back-off makes of it at most */
    uint64_t step_us;         /* between two steps up */
    uint64_t stale_us;        /* a reading older than this is unknown */
    uint32_t changes_per_hour;
    uint32_t stall_permille; /* of time, some task waited: pressure; calm is a quarter of it */

    bool is_heat_on;
    int32_t heat_margin_mc;     /* headroom at which the first stage is entered, > 0 */
    int32_t heat_hysteresis_mc; /* beyond a stage's edge before it is left */
    uint64_t heat_hold_us;
    uint32_t max_threads; /* >= 1 */
};

/* has_*: read just now, together with the bytes held. Totals only ever grow. */
struct gov_input {
    bool has_mem, has_cgroup, has_stall, has_refaults, has_heat;
    uint64_t mem_available_bytes;
    uint64_t cgroup_left_bytes;    /* UINT64_MAX = no limit */
    uint64_t cgroup_over_bytes;    /* beyond its limit: nothing is left then. Without has_cgroup:
                                    * 0 = there is none, else it is there and cannot be read */
    uint64_t stall_some_us;        /* total */
    uint64_t stall_full_us;        /* total */
    uint64_t refaults;             /* total, pages */
    uint32_t n_alarms;             /* of the service manager's watch since the last call */
    int32_t headroom_mc;           /* least trip - temperature */
    bool is_cooling;               /* the kernel slows the CPUs for heat now */
    bool is_heat_doubtful;         /* only zones that have never changed are that hot */
    bool is_over_limit;            /* the own cgroup was above its limit since the last call */
    uint64_t operator_limit_bytes; /* UINT64_MAX = auto */
    uint64_t share_bytes;          /* of what the system has for all daemons; 0 = there is one */
    bool is_other_rising;          /* another daemon rises, or may have the turn */
    uint64_t weight_bytes;         /* held now: slabs in use, being read, not yet returned */
    uint64_t other_bytes;          /* KV, scratch, core: held now */
    uint64_t wanted_bytes;         /* KV that waits for room: weights give way to it */
    uint32_t position;             /* published now */
};

/* A source of "how many bytes are left", as own bytes + left at the last two readings. */
struct gov_source {
    uint64_t last_bytes, before_bytes;
    uint64_t at_us;
    bool has;
};

/* A total that grows: its rate over the last two intervals between readings, in permille of time
 * or in counts a second. */
struct gov_rate {
    uint64_t total, at_us;
    uint64_t sum; /* of what counted: all intervals but those that were left out */
    uint64_t last, before;
    uint32_t n; /* intervals seen, up to 2 */
    bool has;
};

/* Quiet time wanted before something is taken back, longer after it proved too short. */
struct gov_patience {
    uint32_t n_doubled;
    uint64_t shed_us;  /* the last shed */
    uint64_t eased_us; /* the last step of taking back */
    bool has_eased;
};

/* Zero it to start. Written by gov_step() alone. */
struct gov_state {
    struct gov_source mem, cgroup, share;
    struct gov_rate some, full, refaults;
    struct gov_patience memory, heat;
    uint64_t available_bytes[2]; /* MemAvailable, the last two, newest first */
    uint64_t quiet_since_us;     /* since when there has been room for a step and no shedding */
    uint64_t calm_since_us;      /* since when there has been no pressure */
    uint64_t last_grow_us;
    uint64_t told_us;       /* when something last told whether memory is short */
    uint64_t pressed_us;    /* the last shed for pressure */
    uint64_t pressed_full;  /* full.sum then */
    uint64_t over_until_us; /* what waits before it may wait for the kernel's own brake */
    uint64_t enough_us;     /* when the system last had as much left as the share */
    uint64_t ceiling_bytes; /* of the budget, after pressure; valid if has_ceiling */
    uint64_t limit_bytes;   /* the lesser of the two limits in the last call */
    uint64_t safe_since_us; /* since when the emergency's reason is gone */
    int32_t headroom_mc[2]; /* the last two, newest first */
    uint64_t heat_us;
    uint64_t cool_since_us;
    uint64_t cooling_since_us; /* valid if is_cooling */
    uint32_t stage;
    uint32_t grow_from;
    uint32_t target;
    uint32_t n_changes; /* in changes_us, a ring */
    uint32_t next_change;
    uint64_t changes_us[GOV_MAX_CHANGES];
    bool has_run;
    bool has_heat;
    bool is_heat_doubtful; /* the last reading of it */
    bool is_cooling;       /* in the last call */
    bool has_ceiling;
    bool is_emergency;
    bool is_raised;  /* a limit was raised and the growth it allows is under way */
    bool is_growing; /* a step up from `grow_from` was proposed and is not published yet */
};

enum gov_reason {
    GOV_STEADY,
    GOV_START,
    GOV_LIMIT,         /* shed: the configured limit */
    GOV_OPERATOR,      /* shed: the operator's limit; or grown because a limit was raised */
    GOV_MEM_AVAILABLE, /* shed: the system's memory */
    GOV_CGROUP,        /* shed: the own cgroup's limit */
    GOV_SHARE,         /* shed: the share of what there is for all daemons */
    GOV_PRESSURE,      /* shed: tasks wait for memory */
    GOV_EMERGENCY,     /* shed: next to nothing is left */
    GOV_HEAT,          /* shed: heat */
    GOV_ROOM,          /* grown */
    GOV_MEM_UNKNOWN,   /* nothing grows, as the system's memory is not known */
    GOV_CALM_UNKNOWN,  /* nothing grows, as nothing tells whether memory is short */
    GOV_RATE,          /* nothing grows, as the hour has had its changes */
    GOV_TURN,          /* nothing grows, as it is another daemon's turn: all else allows it */
};
enum { GOV_REASONS = GOV_TURN + 1 };
const char *gov_reason_name(enum gov_reason r); /* "steady", "mem_available", ... */

/* What a stage of heat does. */
struct gov_stage {
    int32_t edge_permille;  /* of the margin: entered when less headroom than this is left */
    uint32_t duty_permille; /* share of time spent computing */
    uint32_t threads_permille;
    uint32_t ladder_permille; /* share of the bytes that the last position before paging frees */
    bool refuses;             /* new work */
};
extern const struct gov_stage gov_stages[GOV_STAGES];

struct gov_output {
    uint64_t budget_bytes;        /* for everything; UINT64_MAX = no bound is known */
    uint64_t weight_budget_bytes; /* budget less what is not weights, 0 if none is left */
    uint32_t position;            /* the target now: at most one step above input.position, but
                                   * the first call's answer is where to start, wherever that is */
    uint32_t duty_permille;       /* share of time to spend computing, 1..1000 */
    uint32_t threads;             /* 1..max_threads */
    uint32_t stage;               /* of heat; 0 = cool */
    uint32_t level;               /* 0 normal, 1 guarded, 2 tight, 3 emergency */
    bool is_over;                 /* even the lowest position does not fit */
    bool refuses;                 /* new work is to be refused: emergency or heat */
    bool is_suspicious;           /* one reading says shed: read again soon */
    enum gov_reason reason;       /* what set the position */
};

/* A limit raised or lowered, by the operator or a reload, acts at once in both directions: up step
 * by step, but without hold and pause. Position falls as far as needed in one call. */
struct gov_output gov_step(struct gov_state *st, const struct gov_settings *set,
                           const struct ladder *l, const struct gov_input *in, uint64_t now_us);

/* What a doubtful headroom counts as at least. If the zones that are sure leave less than that,
 * they are what to go by. */
int32_t gov_doubtful_mc(const struct gov_settings *set);

/* Steps of the ladder before the first that pages. */
uint32_t gov_n_resident(const struct ladder *l);

#endif
