/* Thermal zones: which of them count, and how warm each may become. Pure; sense_thermal.h reads
 * them.
 *
 * Zone numbers change between boots and when drivers come late, so a zone is what its type says,
 * and several may have the same one. Types are compared without case: Jetsons have CPU-therm where
 * others have cpu-thermal. */
#ifndef EBB_DAEMON_SENSE_ZONE_H
#define EBB_DAEMON_SENSE_ZONE_H

#include "core/defs.h"

enum {
    SENSE_MAX_TYPE = 32, /* the kernel's limit is 20 */
    /* Below this a trip point is none. Some drivers say 0 for "not set" (x86_pkg_temp, and firmware
     * tables that were never filled in), some ACPI tables 20 C; the lowest real one of a chip is 60
     * (Allwinner H616), and fans, whose points are lower, are not ours. */
    SENSE_LEAST_TRIP_MC = 50000,
};

struct sense_zone {
    char type[SENSE_MAX_TYPE]; /* "cpu-thermal"; "" if it cannot be read */
    uint32_t number;           /* of thermal_zone<number>, now */
    bool is_wanted;            /* by its type */
    const char *why_not;       /* static text: why "auto" leaves it out; NULL: it does not */
    bool has_temp;
    int32_t temp_mc;
    bool has_changed; /* it has had another temperature before, since the start */
    int temp_code;    /* why there is no temperature: negative errno */

    bool has_passive; /* trip points that are believed, the lowest of each kind */
    int32_t passive_mc;
    int32_t passive_last_mc; /* the highest of this one */
    bool has_hot;
    int32_t hot_mc;
    bool has_critical;
    int32_t critical_mc;
    const char *odd_kind; /* static: of the first one that is not believed; NULL: there is none */
    int32_t odd_mc;
};

/* Takes a trip point in: "passive", "hot" and "critical" count, others (a fan's, "active") do not;
 * what is below SENSE_LEAST_TRIP_MC is only noted. */
void sense_zone_add_trip(struct sense_zone *z, const char *kind, int32_t mc);

/* True if `wanted` ("cpu-thermal, gpu-thermal") names the type. Blanks around names do not count,
 * nor does case. */
bool sense_zone_is_listed(const char *wanted, const char *type);
/* Why zones of that type are never the chip's, whatever else it says: "a battery"; NULL if nothing
 * speaks against it. Static. */
const char *sense_zone_why_never(const char *type);
/* True if it is of the processor or the whole chip, by its type. A bare "soc" may also be a
 * battery's state of charge: it needs a trip point that is believed. */
bool sense_zone_is_chip(const struct sense_zone *z);

/* Sets is_wanted and why_not of all. wanted: a list of types, or "auto": the zones of the chip, and
 * where there is none all that nothing speaks against. */
void sense_zone_choose(const char *wanted, struct sense_zone *zones, uint32_t n);

/* Where a trip point is from, best first. */
enum sense_trip_source {
    SENSE_TRIP_SET, /* heat.trip */
    /* The last one: where there are two, the first is where the kernel begins to regulate and the
     * second what it regulates to (60 and 70 C on an Allwinner H616, 75 and 85 on an RK3588 with
     * the vendor's kernel). What it does below is seen by its cooling devices. */
    SENSE_TRIP_PASSIVE,
    SENSE_TRIP_HOT,
    SENSE_TRIP_CRITICAL, /* 10 C below it, and 80 C at most: where others of its kind throttle */
    SENSE_TRIP_DEFAULT,  /* 80 C */
};

struct sense_trip {
    enum sense_trip_source source;
    int32_t mc; /* not to be reached */
};

const char *sense_trip_name(enum sense_trip_source s); /* "set", "passive", ... */
struct sense_trip sense_zone_trip(const struct sense_zone *z);

/* The least distance to a trip point. */
struct sense_headroom {
    bool has;         /* one wanted zone has a temperature */
    int32_t least_mc; /* over these */
    int32_t sure_mc;  /* over those of them that have ever changed; INT32_MAX: there is none */
};
#define SENSE_TRIP_AUTO INT32_MIN
/* set_mc: one trip point for all zones, within SENSE_MIN_MC..SENSE_MAX_MC (sense_thermal.h), or
 * SENSE_TRIP_AUTO. */
struct sense_headroom sense_zone_headroom(const struct sense_zone *zones, uint32_t n,
                                          int32_t set_mc);

#endif
