/* Thermal zones: temperatures and the points at which the kernel acts, read from the system and not
 * from a table of boards. Zone numbers change between boots and when drivers come late, so a zone
 * is what its type says, and several may have the same one. */
#ifndef EBB_DAEMON_SENSE_THERMAL_H
#define EBB_DAEMON_SENSE_THERMAL_H

#include "core/defs.h"

struct err;

enum {
    SENSE_MAX_ZONES = 64,  /* watched; what is beyond is counted */
    SENSE_MAX_TYPE = 32,   /* the kernel's limit is 20 */
    SENSE_MIN_MC = -40000, /* what sensors of boards can measure: other values are of */
    SENSE_MAX_MC = 150000, /* a broken one (-32768000, 200000000 are seen) */
    SENSE_MAX_TRIPS = 32,  /* looked at in one zone */
};

struct sense_zone {
    char type[SENSE_MAX_TYPE]; /* "cpu-thermal"; "" if it cannot be read */
    uint32_t number;           /* of thermal_zone<number>, now */
    bool is_wanted;            /* by its type */
    bool has_temp;
    int32_t temp_mc;
    bool has_passive; /* trip points, the lowest of each kind */
    int32_t passive_mc;
    bool has_hot;
    int32_t hot_mc;
    bool has_critical;
    int32_t critical_mc;
    int temp_code; /* why there is no temperature: negative errno */
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

/* True if `wanted` ("cpu-thermal, gpu-thermal") names the type. Blanks around names do not count.
 */
bool sense_thermal_is_listed(const char *wanted, const char *type);
/* True if the type is one of those that "auto" looks for: of the processor or the whole chip. */
bool sense_thermal_is_chip(const char *type);
/* True if a cooling device of that type slows a processor down. */
bool sense_thermal_is_cpu_cooling(const char *type);

/* Reads <root>/sys/class/thermal. wanted: "auto" or a list. "auto" wants the zones of the chip, and
 * all where no type looks like one. If there are more than SENSE_MAX_ZONES, wanted ones stay.
 * 0 (also if single zones cannot be read), -ENODATA (there is no zone), -ENOMEM, -ENAMETOOLONG or
 * the system's errors. Blocks for as long as the drivers do. */
int sense_thermal_read(const char *root, const char *wanted, struct sense_thermal *ret,
                       struct err *e) MUST_CHECK;

#endif
