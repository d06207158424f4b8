/* `ebb doctor`, heat: each thermal zone that counts, its trip point and where that is from; trip
 * points that are not believed; zones that do not count, and why.
 *
 * The zones are read from here, as any user may. Where the daemon says which of them it goes by, or
 * has a trip point of its settings, that counts. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl_doctor.h"
#include "daemon/ctl_field.h"
#include "daemon/sense.h"

/* A zone and what the daemon, or else "auto", makes of it. */
struct view {
    const struct sense_zone *zone;
    double trip_celsius;
    const char *source; /* "passive", ... */
    bool has_changed;   /* as far as is known */
};

static bool is_same(const cJSON *item, const struct sense_zone *z) {
    double number;
    return ctl_field_number(item, "zone", &number) && number == z->number &&
           strcmp(ctl_field_string(item, "type"), z->type) == 0;
}

/* The daemon's opinion of a zone; NULL if it gives none. */
static const cJSON *find(const struct ctl_doctor *d, const struct sense_zone *z) {
    const cJSON *all = ctl_field(d->status, "thermal"), *item;
    if (!cJSON_IsArray(all)) return NULL;
    cJSON_ArrayForEach(item, all) {
        if (is_same(item, z)) return item;
    }
    return NULL;
}

static struct view look_at(const struct ctl_doctor *d, struct sense_zone *z) {
    const cJSON *theirs = find(d, z), *wanted = ctl_field(theirs, "wanted");
    struct sense_trip trip = sense_zone_trip(z);
    struct view v = {.zone = z,
                     .trip_celsius = (double)trip.mc / 1000,
                     .source = sense_trip_name(trip.source),
                     .has_changed = !cJSON_IsFalse(ctl_field(theirs, "changed"))};
    if (cJSON_IsBool(wanted)) {
        bool is_wanted = cJSON_IsTrue(wanted);
        if (!is_wanted && z->is_wanted) z->why_not = "not in heat.zones";
        z->is_wanted = is_wanted;
    }
    if (ctl_field_number(theirs, "trip_celsius", &v.trip_celsius) &&
        cJSON_IsString(ctl_field(theirs, "trip_source")))
        v.source = ctl_field_string(theirs, "trip_source");
    return v;
}

/* ", slowed from 80.0 C" behind what is in buf. */
static void add_celsius(char *buf, size_t n_buf, const char *what, bool has, int32_t mc) {
    size_t n = strlen(buf);
    if (has) snprintf(buf + n, n_buf - n, "%s%.1f C", what, (double)mc / 1000);
}

static const char *name_of(const struct sense_zone *z) {
    return z->type[0] ? z->type : "(no type)";
}

/* Where a trip point is from, in words; the daemon may have sources that are newer than this. */
static const char *source_text(const char *source) {
    static const struct {
        const char *name, *text;
    } texts[] = {
        {"set", "heat.trip"},
        {"passive", "what the kernel slows it down to"},
        {"hot", "where the kernel calls it hot"},
        {"critical", "10 C below where it is switched off, and 80 C at most"},
        {"default", "as no trip point is known"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(source, texts[i].name) == 0) return texts[i].text;
    return source;
}

static void say_zone(struct ctl_doctor *d, const struct view *v) {
    const struct sense_zone *z = v->zone;
    char text[200] = "";
    bool has_trip = z->has_passive || z->has_hot;
    bool is_hot = z->has_temp && (double)z->temp_mc / 1000 >= v->trip_celsius;
    if (!z->has_temp) strcpy(text, "no temperature now");
    add_celsius(text, sizeof(text), "", z->has_temp, z->temp_mc);
    add_celsius(text, sizeof(text), ", slowed from ", z->has_passive, z->passive_mc);
    add_celsius(text, sizeof(text), ", hot from ", z->has_hot, z->hot_mc);
    add_celsius(text, sizeof(text), ", switched off at ", z->has_critical, z->critical_mc);
    ctl_doctor_say(d, is_hot || !z->has_temp ? CTL_NOTE : CTL_GOOD, "zone",
                   !is_hot    ? "the zone may be switched off; others are used"
                   : has_trip ? "the kernel slows the board down now: a heat sink or a fan"
                              : "it is as warm as it should get: a heat sink or a fan",
                   "%s: %s%s; not to reach %.1f C (%.60s)", name_of(z), text,
                   has_trip || z->has_critical ? "" : ", no trip points", v->trip_celsius,
                   source_text(v->source));
    if (is_hot && !v->has_changed)
        ctl_doctor_say(d, CTL_NOTE, "stuck zone",
                       "it may be a sensor that does not work: it slows the daemon down, but "
                       "alone it lowers no precision and refuses nothing; heat.zones may name "
                       "others",
                       "%s has had no other temperature since the daemon started", name_of(z));
}

static void say_odd_trip(struct ctl_doctor *d, const struct view *v) {
    if (!v->zone->odd_kind) return;
    ctl_doctor_say(
        d, CTL_NOTE, "trip", "nothing to do where that temperature is right; else set heat.trip",
        "%s: a %s trip point of %.1f C is ignored, as those below %.1f C are none; %.1f C "
        "counts instead (%.60s)",
        name_of(v->zone), v->zone->odd_kind, (double)v->zone->odd_mc / 1000,
        (double)SENSE_LEAST_TRIP_MC / 1000, v->trip_celsius, source_text(v->source));
}

/* Those that do not count, in one line. */
static void say_others(struct ctl_doctor *d, const struct sense_reading *r) {
    char text[480] = "";
    unsigned n_more = 0;
    for (uint32_t i = 0; i < r->n_zones; i++) {
        const struct sense_zone *z = &r->zones[i];
        size_t n = strlen(text);
        if (z->is_wanted) continue;
        int len = snprintf(text + n, sizeof(text) - n, "%s%s (%s)", n ? ", " : "", name_of(z),
                           z->why_not ? z->why_not : "not in heat.zones");
        if ((size_t)len < sizeof(text) - n) continue;
        text[n] = '\0';
        n_more++;
    }
    n_more += r->n_zones_left_out;
    if (!text[0]) return;
    if (n_more > 0)
        ctl_doctor_say(d, CTL_GOOD, "other zones", NULL, "not looked at: %s, and %u more", text,
                       n_more);
    else
        ctl_doctor_say(d, CTL_GOOD, "other zones", NULL, "not looked at: %s", text);
}

void ctl_doctor_zones(struct ctl_doctor *d, struct sense_reading *r) {
    for (uint32_t i = 0; i < r->n_zones; i++) {
        struct view v = look_at(d, &r->zones[i]);
        if (!r->zones[i].is_wanted) continue;
        say_zone(d, &v);
        say_odd_trip(d, &v);
    }
    say_others(d, r);
}
