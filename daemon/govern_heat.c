/* What the governor takes of heat and of the CPUs: how far the zones are from their trip points,
 * whether something throttles, how many threads may run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/pool.h"
#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/sense_rpi.h"
#include "daemon/server_internal.h"

static int32_t set_trip_mc(const struct server *s) {
    uint64_t mc = s->config.heat_trip_mc;
    return mc == CONFIG_AUTO ? SENSE_TRIP_AUTO : (int32_t)mc;
}

struct sense_trip govern_trip(const struct server *s, const struct sense_zone *z) {
    int32_t mc = set_trip_mc(s);
    return mc == SENSE_TRIP_AUTO ? sense_zone_trip(z) : (struct sense_trip){SENSE_TRIP_SET, mc};
}

static bool find_headroom(const struct server *s, struct sense_headroom *ret) {
    const struct sense_reading *r = &s->swap.reading;
    *ret = sense_zone_headroom(r->zones, r->n_zones, set_trip_mc(s));
    return ret->has && r->has_heat;
}

bool govern_headroom(const struct server *s, int32_t *ret_mc, bool *ret_is_doubtful) {
    struct gov_settings set;
    struct sense_headroom h;
    if (!find_headroom(s, &h)) return false;
    govern_settings(s, &set);
    *ret_is_doubtful = h.least_mc < h.sure_mc && h.sure_mc >= gov_doubtful_mc(&set);
    *ret_mc = *ret_is_doubtful ? h.least_mc : h.sure_mc;
    return true;
}

void govern_put_heat(struct server *s, struct gov_input *in) {
    struct server_swap *w = &s->swap;
    /* A reading of the zones counts once, whoever asks how often. */
    in->has_heat = w->reading.heat_us != w->heat_seen_us &&
                   govern_headroom(s, &in->headroom_mc, &in->is_heat_doubtful);
    w->heat_seen_us = w->reading.heat_us;
}

enum govern_cooling govern_cooling(const struct sense_reading *r) {
    bool has_firmware = r->has_throttle && (r->throttle_mask & SENSE_RPI_SOFT_LIMIT);
    if (r->has_cooling && r->is_cooling) return GOVERN_COOLING;
    if (has_firmware && sense_rpi_is_hot(r->throttle_bits)) return GOVERN_COOLING;
    return r->has_cooling || has_firmware ? GOVERN_NOT_COOLING : GOVERN_COOLING_UNKNOWN;
}

void govern_tell_stage(struct server *s, uint32_t from) {
    const struct gov_output *now = &s->swap.out;
    char text[112] = "temperature unknown", celsius[24] = "null", json[160];
    int32_t mc;
    bool is_doubtful;
    if (govern_headroom(s, &mc, &is_doubtful)) {
        snprintf(text, sizeof(text), "%.1f C %s the trip point%s", (double)abs(mc) / 1000,
                 mc < 0 ? "above" : "below",
                 is_doubtful ? ", by a zone that has never changed" : "");
        snprintf(celsius, sizeof(celsius), "%.1f", (double)mc / 1000);
    }
    log_event(s->log, LOG_INFO,
              "heat stage %u -> %u: %s%s, computing %u %% of the time on %u threads", from,
              now->stage, text,
              govern_cooling(&s->swap.reading) == GOVERN_COOLING ? ", the clock is throttled" : "",
              now->duty_permille / 10, now->threads);
    snprintf(json, sizeof(json),
             "{\"from\":%u,\"to\":%u,\"headroom_celsius\":%s,\"duty\":%u,\"threads\":%u}", from,
             now->stage, celsius, now->duty_permille / 10, now->threads);
    events_send(s->events, s->config.serve_buffer_bytes, "heat", json);
}

/* One that cannot be read now stays what it was; where there is none any more, there is none. */
void govern_note_quota(struct server *s, const struct sense_reading *now) {
    struct server_swap *w = &s->swap;
    struct sense_quota before = w->quota, none = {.permille = SENSE_QUOTA_NONE};
    if (!w->has_quota) before = none;
    if (now->has_quota)
        w->quota = now->quota;
    else if (now->quota_err.code == -ENODATA || !w->has_quota)
        w->quota = none;
    w->has_quota = true;
    if (w->quota.permille == before.permille) return;
    uint32_t n = s->model.pool ? pool_threads(s->model.pool) : 1;
    if (w->quota.permille == SENSE_QUOTA_NONE)
        log_event(s->log, LOG_INFO, "the cgroup may use all CPUs again: %u threads", n);
    else
        log_event(s->log, LOG_INFO,
                  "the cgroup %s may use %.2f CPUs (%s): at most %u of %u threads compute",
                  w->quota.at, (double)w->quota.permille / 1000,
                  w->quota.is_v1 ? "cpu.cfs_quota_us" : "cpu.max",
                  sense_quota_threads(w->quota.permille, n), n);
}
