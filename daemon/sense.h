/* One reading of everything the governor looks at. Each source can be unknown by itself, and what
 * is unknown is never zero and never plenty: a value counts only if its has_* flag is set.
 *
 * Files of /proc and of cgroups are read at the call, in a hundred microseconds on a small machine,
 * by descriptors that are kept (sense_file.h): above a limit of our cgroup nothing may be opened.
 * Those of /sys (zones, clocks, firmware) go through drivers that may take long or never answer: a
 * thread of their own reads them once a second, and a reading takes its newest result. A result
 * older than SENSE_STALE_US is unknown.
 *
 * Totals only grow. One that goes back, or that of another cgroup after we were moved, makes that
 * source unknown for one reading; differences may be taken again from the next one on. They may
 * not be taken between two readings of another stall_source. Thread: loop, but where noted. */
#ifndef EBB_DAEMON_SENSE_H
#define EBB_DAEMON_SENSE_H

#include "core/err.h"
#include "daemon/sense_cpufreq.h"
#include "daemon/sense_quota.h"
#include "daemon/sense_text.h"
#include "daemon/sense_thermal.h"
#include "daemon/sense_tree.h"

enum {
    SENSE_STALE_US = 3000000,
    SENSE_RESCAN_US = 10000000,
    SENSE_FAULTS_US = 1000000,
    SENSE_MAX_CHANGES = 24, /* lines of sense_changes() */
    SENSE_MAX_WHY = 256,
};

/* Whose waits are counted, best first. */
enum sense_stall {
    SENSE_STALL_NONE,
    SENSE_STALL_CGROUP, /* memory.pressure of our own cgroup */
    SENSE_STALL_SYSTEM, /* /proc/pressure/memory */
};

struct sense_reading {
    bool has_mem;                 /* the next field is good */
    uint64_t mem_available_bytes; /* MemAvailable */
    struct err mem_err;           /* why it is unknown, if it is; so for each _err */

    bool has_cgroup;
    uint64_t cgroup_left_bytes;  /* before the nearest memory.high or .max; UINT64_MAX = no limit */
    uint64_t cgroup_over_bytes;  /* beyond one of them: memory.high lets that be, and slows us */
    unsigned cgroup_version;     /* 1 or 2 */
    bool is_cgroup_fallback;     /* ours is not below the mount: one above it */
    uint32_t cgroup_generation;  /* another number, another place */
    uint64_t cgroup_limit_bytes; /* the nearest; UINT64_MAX = there is none */
    uint64_t cgroup_used_bytes;  /* of it; without a limit of no meaning */
    bool is_cgroup_limit_high;   /* it is memory.high, which does not kill */
    unsigned cgroup_level;       /* whose it is: 0 = our own, 1 = the one above, ... */
    char cgroup_at[96];     /* its folder (the end of a long one); of our own without a limit */
    bool has_cgroup_events; /* never without has_cgroup; the root cgroup has none */
    uint64_t cgroup_high_events;
    uint64_t cgroup_oom_events; /* kills by the kernel in our cgroup, and allocations it failed */
    struct err cgroup_err;
    bool is_cgroup_hidden; /* memory is accounted by cgroups, and ours tells nothing: not "none" */

    bool has_stall;
    enum sense_stall stall_source; /* NONE without has_stall */
    uint64_t stall_some_us;        /* totals since boot, or since the cgroup was made */
    uint64_t stall_full_us;
    struct err stall_err;

    uint64_t faults_us; /* when the rest was read: each second, or always while no stall is known */
    bool has_refaults;  /* of the whole system */
    uint64_t refaults;  /* file pages that were dropped and read again */
    uint64_t alloc_stalls;
    uint64_t swap_outs; /* pages */
    bool has_own_major_faults;
    uint64_t own_major_faults;
    struct err refault_err; /* of either */

    bool has_heat;             /* at least one wanted zone has a temperature */
    uint32_t n_zones;          /* by rising number; 0 while there is no fresh result */
    uint32_t n_zones_left_out; /* beyond SENSE_MAX_ZONES */
    struct sense_zone zones[SENSE_MAX_ZONES];
    bool has_cooling; /* is_cooling is good */
    bool is_cooling;  /* the kernel slows a CPU down for heat now */
    uint64_t heat_us; /* when the reading of the zones began, CLOCK_MONOTONIC */
    struct err heat_err;

    bool has_clock;
    uint32_t clock_permille; /* least of scaling_max_freq / cpuinfo_max_freq, 0 to 1000 */
    uint32_t n_clocks;       /* entries below; may be fewer than the system has */
    struct sense_clock clocks[SENSE_MAX_CLOCKS];
    struct err clock_err;

    bool has_throttle;      /* Raspberry Pi alone */
    uint32_t throttle_bits; /* SENSE_RPI_*, of sense_rpi.h */
    uint32_t throttle_mask; /* those that the source can tell */
    struct err throttle_err;

    bool has_quota; /* of CPUs, by time */
    struct sense_quota quota;
    struct err quota_err;
};

struct sense;

struct sense_opts {
    const char *root;   /* folder that holds proc/ and sys/; copied */
    const char *zones;  /* types of the zones that matter: "auto", or names with commas between;
                         * copied. NULL = "auto" */
    bool owns_pressure; /* someone has a trigger on our cgroup's memory.pressure: never read it */
    uint64_t slow_us;   /* between two readings of /sys; 0 = one second */
    uint64_t rescan_us; /* what is absent is looked for again after so long; 0 = SENSE_RESCAN_US */
    uint64_t
        faults_us; /* between two readings of vmstat beside a known stall; 0 = SENSE_FAULTS_US */
};

/* Starts the thread. 0, -ENAMETOOLONG (root or zones) or -ENOMEM/-EAGAIN (no memory, no thread).
 * *ret is owned by the caller. Signals stay blocked in the thread. */
int sense_create(const struct sense_opts *o, struct sense **ret, struct err *e) MUST_CHECK;

/* Accepts NULL. False if the thread hangs in a driver: then it is left behind with what it uses,
 * which it frees if it ever comes back. Waits a fifth of a second at most. */
bool sense_destroy(struct sense *s);

/* Waits until /sys has been read once, at most so long; for the start and for `ebb doctor`, not
 * for the loop. False: no answer yet. */
bool sense_wait(struct sense *s, uint64_t timeout_us);

/* now_us: CLOCK_MONOTONIC. Never fails as a whole, and never waits for /sys. */
void sense_read(struct sense *s, uint64_t now_us, struct sense_reading *ret);

/* The trigger on our cgroup's memory.pressure came or went (watch.h). */
void sense_set_owns_pressure(struct sense *s, bool owns);

/* Above a limit of our cgroup: from now on nothing is opened or looked for, until it
 * is set back. What was open goes on to answer. Thread: any. */
void sense_set_quiet(struct sense *s, bool is_quiet);
void sense_set_rescan(struct sense *s, uint64_t rescan_us);

/* One of the cgroups that we lie in. */
struct sense_level {
    unsigned version; /* 1: memory.limit_in_bytes, memory.usage_in_bytes; 2: memory.high, ... */
    char folder[SENSE_MAX_PATH];
};

/* Our own and those above it, as the last reading found them: how many, 0 if that is not known. The
 * number in *ret_generation is another one when they are others. */
unsigned sense_levels(const struct sense *s, struct sense_level ret[SENSE_MAX_LEVELS],
                      uint32_t *ret_generation);

/* ---- telling (sense_list.c): pure, any thread ---- */

/* One for each thing that can be known or not. */
enum sense_source {
    SENSE_MEM,
    SENSE_CGROUP,
    SENSE_STALL,
    SENSE_REFAULTS,
    SENSE_OWN_FAULTS,
    SENSE_HEAT,
    SENSE_COOLING,
    SENSE_CLOCK,
    SENSE_THROTTLE,
};
enum { SENSE_N_SOURCES = SENSE_THROTTLE + 1 };

enum sense_state {
    SENSE_KNOWN,
    SENSE_UNKNOWN, /* it is there, and gives no usable answer */
    SENSE_ABSENT,  /* this system does not have it */
};

struct sense_status {
    const char *name; /* "mem_available", "cgroup", "stall", ...: lower case, stable; static */
    enum sense_state state;
    char value[224];         /* "1234 MiB", for people; "" unless known */
    char why[SENSE_MAX_WHY]; /* "" if known */
};

const char *sense_state_name(enum sense_state s); /* "known", "unknown", "absent" */
const char *sense_stall_name(enum sense_stall s); /* "none", "cgroup", "system" */

/* All sources, by enum sense_source. */
void sense_list(const struct sense_reading *r, struct sense_status ret[SENSE_N_SOURCES]);

struct sense_change {
    bool is_good;                  /* became known: worth LOG_INFO; otherwise LOG_WARN */
    enum sense_source source;      /* SENSE_HEAT for a single zone as well */
    char text[SENSE_MAX_WHY + 64]; /* one line for the log */
};

/* What became known, unknown or absent between two readings: one line a source, and one for each
 * type of wanted zones of which more or fewer have a temperature. before = NULL: what is unknown
 * at the start (not what is absent). Returns how many lines. */
unsigned sense_changes(const struct sense_reading *before, const struct sense_reading *now,
                       struct sense_change ret[SENSE_MAX_CHANGES]);

#endif
