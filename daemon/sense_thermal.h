/* Thermal zones: temperatures and the points at which the kernel acts, read from the system and not
 * from a table of boards. What they mean is in sense_zone.h. */
#ifndef EBB_DAEMON_SENSE_THERMAL_H
#define EBB_DAEMON_SENSE_THERMAL_H

#include "core/defs.h"
#include "daemon/sense_zone.h"

struct err;

enum {
    SENSE_MAX_ZONES = 64,  /* watched; what is beyond is counted */
    SENSE_MIN_MC = -40000, /* what sensors of boards can measure: other values are of */
    SENSE_MAX_MC = 150000, /* a broken one (-32768000, 200000000 are seen) */
    SENSE_MAX_TRIPS = 32,  /* looked at in one zone */
};

struct sense_thermal {
    uint32_t n_zones; /* by rising number; disabled ones are not counted at all */
    uint32_t n_left_out;
    struct sense_zone zones[SENSE_MAX_ZONES];
    bool has_cooling; /* a cooling device of a processor could be read */
    bool is_cooling;  /* one of them is at work */
};

/* A temperature's or trip point's file. Pure. 0, or -EBADMSG (no number, or outside
 * SENSE_MIN_MC..SENSE_MAX_MC). */
int sense_thermal_parse_mc(const char *text, size_t n, int32_t *ret_mc, struct err *e) MUST_CHECK;

/* True if a cooling device of that type slows a processor down. */
bool sense_thermal_is_cpu_cooling(const char *type);

/* Reads <root>/sys/class/thermal. wanted: "auto" or a list. "auto" wants the zones of the chip, and
 * all where no type looks like one. If there are more than SENSE_MAX_ZONES, wanted ones stay.
 * 0 (also if single zones cannot be read), -ENODATA (there is no zone), -ENOMEM, -ENAMETOOLONG or
 * the system's errors. Blocks for as long as the drivers do. */
int sense_thermal_read(const char *root, const char *wanted, struct sense_thermal *ret,
                       struct err *e) MUST_CHECK;

#endif
