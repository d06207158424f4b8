/* Thermal zones: temperatures and the points at which the kernel acts, read from the system and not
 * from a table of boards. What they mean is in sense_zone.h.
 *
 * Folders, types, modes and trip points are looked at once in sense_when.rescan_us;
 * in between only temperatures and states of cooling devices are read, by descriptors that are
 * kept. So a zone that comes late, or is switched off, counts as such within that time. One whose
 * temperature has to be opened again is looked at whole: its number may be another zone's by
 * now. */
#ifndef EBB_DAEMON_SENSE_THERMAL_H
#define EBB_DAEMON_SENSE_THERMAL_H

#include "core/defs.h"
#include "daemon/sense_zone.h"

struct err;
struct sense_when;

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

/* What is kept between two readings. One thread at a time. */
struct sense_zones;

/* wanted: "auto" or a list (sense_zone.h). Both strings are borrowed until the end. 0 or -ENOMEM.
 * Reads nothing yet. */
int sense_thermal_create(const char *root, const char *wanted, struct sense_zones **ret,
                         struct err *e) MUST_CHECK;
void sense_thermal_destroy(struct sense_zones *z); /* accepts NULL */

/* Reads <root>/sys/class/thermal. If there are more than SENSE_MAX_ZONES, wanted ones stay.
 * 0 (also if single zones cannot be read), -ENODATA (there is no zone), -EAGAIN (nothing is known
 * yet, and nothing may be opened now), -ENAMETOOLONG or the system's errors. Blocks for as long as
 * the drivers do. */
int sense_thermal_read(struct sense_zones *z, const struct sense_when *w, struct sense_thermal *ret,
                       struct err *e) MUST_CHECK;

#endif
