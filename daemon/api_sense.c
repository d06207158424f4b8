/* What the sensors say and what was made of it, in the answers to GET /ebb/status and /metrics.
 * What is unknown is null there, and missing here: never a zero. */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/buf.h"
#include "daemon/json.h"
#include "daemon/metrics.h"
#include "daemon/sense_rpi.h"
#include "daemon/server_internal.h"

/* Celsius or null. */
static void put_celsius(struct buf *b, const char *key, bool has, int32_t mc) {
    if (has)
        buf_printf(b, ",\"%s\":%.1f", key, (double)mc / 1000);
    else
        buf_printf(b, ",\"%s\":null", key);
}

static void put_ratio(struct buf *b, const char *key, bool has, uint32_t permille) {
    if (has)
        buf_printf(b, ",\"%s\":%.3f", key, (double)permille / 1000);
    else
        buf_printf(b, ",\"%s\":null", key);
}

/* The best thing that tells of short memory. */
static const char *source_name(const struct server *s) {
    const struct sense_reading *r = &s->swap.reading;
    if (s->swap.watch) return "watch";
    if (r->has_stall) return sense_stall_name(r->stall_source);
    if (r->has_refaults) return "vmstat";
    return r->has_mem ? "meminfo" : NULL;
}

void api_sense_put_memory(struct buf *b, const struct server *s) {
    const struct server_swap *w = &s->swap;
    const struct sense_reading *r = &w->reading;
    const char *source = source_name(s);
    buf_printf(b, source ? "\"memory\":{\"source\":\"%s\"" : "\"memory\":{\"source\":null", source);
    buf_str(b, ",\"available_bytes\":");
    api_info_put_bytes(b, r->has_mem ? r->mem_available_bytes : UINT64_MAX);
    buf_str(b, ",\"cgroup_left_bytes\":");
    api_info_put_bytes(b, r->has_cgroup ? r->cgroup_left_bytes : UINT64_MAX);
    put_ratio(b, "stall_some_ratio", w->stall.has, w->stall.some_permille);
    put_ratio(b, "stall_full_ratio", w->stall.has, w->stall.full_permille);
    buf_printf(b,
               ",\"reserve_bytes\":%" PRIu64 ",\"limit_bytes\":", s->config.memory_reserve_bytes);
    api_info_put_bytes(b, s->config.memory_limit_bytes);
    buf_str(b, ",\"operator_limit_bytes\":");
    api_info_put_bytes(b, w->operator_limit_bytes);
    buf_str(b, ",\"budget_bytes\":");
    api_info_put_bytes(b, w->out.budget_bytes);
    buf_str(b, ",");
    api_peers_put_share(b, s);
    buf_printf(b, ",\"reason\":\"%s\"}", gov_reason_name(w->out.reason));
}

void api_sense_put_quota(struct buf *b, const struct server *s) {
    const struct server_swap *w = &s->swap;
    if (!w->has_quota || w->quota.permille == SENSE_QUOTA_NONE)
        buf_str(b, "\"cpu_quota\":null,");
    else
        buf_printf(b, "\"cpu_quota\":%.3f,", (double)w->quota.permille / 1000);
}

static void put_zones(struct buf *b, const struct server *s) {
    const struct sense_reading *r = &s->swap.reading;
    bool is_first = true;
    buf_str(b, ",\"thermal\":[");
    for (uint32_t i = 0; i < r->n_zones; i++) {
        const struct sense_zone *z = &r->zones[i];
        buf_str(b, is_first ? "{\"type\":" : ",{\"type\":");
        json_put_cstr(b, z->type);
        buf_printf(b, ",\"zone\":%" PRIu32 ",\"wanted\":%s", z->number,
                   z->is_wanted ? "true" : "false");
        put_celsius(b, "celsius", z->has_temp, z->temp_mc);
        put_celsius(b, "passive_celsius", z->has_passive, z->passive_mc);
        put_celsius(b, "hot_celsius", z->has_hot, z->hot_mc);
        put_celsius(b, "critical_celsius", z->has_critical, z->critical_mc);
        struct sense_trip trip = govern_trip(s, z);
        put_celsius(b, "trip_celsius", true, trip.mc);
        buf_printf(b, ",\"trip_source\":\"%s\",\"changed\":%s}", sense_trip_name(trip.source),
                   z->has_changed ? "true" : "false");
        is_first = false;
    }
    buf_str(b, "]");
}

static const struct {
    uint32_t bit;
    const char *name;
} throttles[] = {
    {SENSE_RPI_UNDER_VOLTAGE, "under_voltage"},
    {SENSE_RPI_CAPPED, "frequency_capped"},
    {SENSE_RPI_THROTTLED, "throttled"},
    {SENSE_RPI_SOFT_LIMIT, "soft_limit"},
};

static void put_heat(struct buf *b, const struct server *s) {
    const struct sense_reading *r = &s->swap.reading;
    static const char *const words[] = {[GOVERN_COOLING_UNKNOWN] = "null",
                                        [GOVERN_NOT_COOLING] = "false",
                                        [GOVERN_COOLING] = "true"};
    int32_t mc = 0;
    bool is_doubtful = false, is_first = true;
    bool has = govern_headroom(s, &mc, &is_doubtful);
    buf_printf(b, ",\"heat\":{\"stage\":%" PRIu32 ",\"stages\":%d", s->swap.out.stage, GOV_STAGES);
    put_celsius(b, "headroom_celsius", has, mc);
    buf_printf(b, ",\"doubtful\":%s,\"cooling\":%s", is_doubtful ? "true" : "false",
               words[govern_cooling(r)]);
    put_ratio(b, "clock_ratio", r->has_clock, r->clock_permille);
    buf_str(b, ",\"throttled\":");
    if (!r->has_throttle) {
        buf_str(b, "null},");
        return;
    }
    buf_str(b, "[");
    for (size_t i = 0; i < ARRAY_LEN(throttles); i++) {
        if (!(r->throttle_bits & throttles[i].bit)) continue;
        buf_printf(b, "%s\"%s\"", is_first ? "" : ",", throttles[i].name);
        is_first = false;
    }
    buf_str(b, "]},");
}

void api_sense_put(struct buf *b, const struct server *s) {
    api_sense_put_memory(b, s);
    buf_str(b, ",");
    api_peers_put(b, s);
    put_zones(b, s);
    put_heat(b, s);
}

void api_sense_put_sources(struct buf *b, const struct server *s) {
    struct sense_status all[SENSE_N_SOURCES];
    sense_list(&s->swap.reading, all);
    buf_str(b, "\"sources\":[");
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        buf_printf(b, "%s{\"name\":\"%s\",\"state\":\"%s\",\"value\":", i ? "," : "", all[i].name,
                   sense_state_name(all[i].state));
        json_put_cstr(b, all[i].value);
        buf_str(b, ",\"why\":");
        json_put_cstr(b, all[i].why);
        buf_str(b, "}");
    }
    buf_str(b, "],");
}

/* ---- metrics ---- */

static void put_family(struct buf *b, const char *name, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void put_known(struct buf *b, const struct server *s) {
    struct sense_status all[SENSE_N_SOURCES];
    sense_list(&s->swap.reading, all);
    put_family(b, "ebb_sensor_known",
               "1 if the source gives a usable value, 0 if it does not or is "
               "missing.");
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++)
        buf_printf(b, "ebb_sensor_known{source=\"%s\"} %d\n", all[i].name,
                   all[i].state == SENSE_KNOWN);
}

static void put_temperatures(struct buf *b, const struct server *s) {
    const struct sense_reading *r = &s->swap.reading;
    if (!r->has_heat) return;
    put_family(b, "ebb_thermal_zone_celsius", "Temperature.");
    for (uint32_t i = 0; i < r->n_zones; i++) {
        char type[2 * SENSE_MAX_TYPE + 8];
        if (!r->zones[i].has_temp) continue;
        metrics_label(r->zones[i].type, type, sizeof(type));
        buf_printf(b, "ebb_thermal_zone_celsius{zone=\"%s\",number=\"%" PRIu32 "\"} %.3f\n", type,
                   r->zones[i].number, (double)r->zones[i].temp_mc / 1000);
    }
}

static void put_throttles(struct buf *b, const struct sense_reading *r) {
    if (!r->has_throttle) return;
    put_family(b, "ebb_throttled", "1 while the firmware says so.");
    for (size_t i = 0; i < ARRAY_LEN(throttles); i++)
        if (r->throttle_mask & throttles[i].bit)
            buf_printf(b, "ebb_throttled{cause=\"%s\"} %d\n", throttles[i].name,
                       (r->throttle_bits & throttles[i].bit) != 0);
}

void api_sense_put_metrics(struct buf *b, const struct server *s) {
    const struct server_swap *w = &s->swap;
    const struct sense_reading *r = &w->reading;
    int32_t headroom_mc = 0;
    bool is_doubtful, has_headroom = govern_headroom(s, &headroom_mc, &is_doubtful);
    enum govern_cooling cooling = govern_cooling(r);
    const struct {
        bool has;
        const char *name, *help;
        double v;
    } gauges[] = {
        {r->has_mem, "ebb_memory_available_bytes", "MemAvailable.", (double)r->mem_available_bytes},
        {r->has_cgroup && r->cgroup_left_bytes != UINT64_MAX, "ebb_cgroup_left_bytes",
         "Before the nearest limit of the own cgroup.", (double)r->cgroup_left_bytes},
        {w->stall.has, "ebb_psi_memory_some_ratio", "Of time in which some task waited for memory.",
         (double)w->stall.some_permille / 1000},
        {w->stall.has, "ebb_psi_memory_full_ratio", "Of time in which all waited.",
         (double)w->stall.full_permille / 1000},
        {has_headroom, "ebb_heat_headroom_celsius", "Least distance of a zone to its trip point.",
         (double)headroom_mc / 1000},
        {true, "ebb_heat_stage", "0 = cool.", w->out.stage},
        {true, "ebb_duty_ratio", "Of time that is spent computing, while there is work.",
         (double)w->out.duty_permille / 1000},
        {true, "ebb_refusing", "1 while new requests get 503 for memory or heat.", w->out.refuses},
        {cooling != GOVERN_COOLING_UNKNOWN, "ebb_cooling",
         "1 while the kernel or a firmware slows a CPU down for heat.", cooling == GOVERN_COOLING},
        {w->has_quota && w->quota.permille != SENSE_QUOTA_NONE, "ebb_cpu_quota",
         "CPUs that the own cgroup may use by time.", (double)w->quota.permille / 1000},
        {r->has_clock, "ebb_cpu_clock_ratio", "Least allowed clock, of the greatest possible one.",
         (double)r->clock_permille / 1000},
    };
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        if (gauges[i].has) metrics_put(b, gauges[i].name, "gauge", gauges[i].help, "", gauges[i].v);
    api_peers_put_metrics(b, s);
    put_known(b, s);
    put_temperatures(b, s);
    put_throttles(b, r);
}
