#include "daemon/govern_set.h"

#include "config/config.h"

void govern_set_make(const struct config *c, uint32_t max_threads, struct gov_settings *ret) {
    bool is_auto = c->memory_emergency_bytes == CONFIG_AUTO_BYTES;
    *ret = (struct gov_settings){
        .limit_bytes = c->memory_limit_bytes,
        .reserve_bytes = c->memory_reserve_bytes,
        .margin_bytes = c->memory_margin_bytes,
        .emergency_bytes = is_auto ? c->memory_reserve_bytes / 4 : c->memory_emergency_bytes,
        .hold_us = c->memory_hold_us,
        .hold_max_us = c->memory_hold_max_us,
        .step_us = c->memory_step_us,
        /* Between two readings nothing is unknown. The zones' come once a second, and the schema
         * allows no less than two of those. */
        .stale_us = MAX(c->sense_stale_us, 2 * c->sense_interval_us),
        .changes_per_hour = c->memory_changes,
        .stall_permille = c->memory_stall_percent * 10,
        .is_heat_on = c->heat_is_enabled,
        .heat_margin_mc = (int32_t)c->heat_margin_mc,
        .heat_hysteresis_mc = (int32_t)c->heat_hysteresis_mc,
        .heat_hold_us = c->heat_hold_us,
        .max_threads = max_threads,
    };
}
