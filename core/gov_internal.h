/* What the governor's files share: the two readings behind every decision, the patience before
 * something is taken back, and the count of changes. See gov.h. All sums saturate, so no reading,
 * however odd, wraps into plenty. */
#ifndef EBB_CORE_GOV_INTERNAL_H
#define EBB_CORE_GOV_INTERNAL_H

#include "core/gov.h"

/* Of heat, when its zones are gone, or say nothing that can be believed. */
enum { GOV_STAGE_UNKNOWN = 2 };

static inline uint64_t gov_add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline uint64_t gov_sub(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

static inline uint64_t gov_mul(uint64_t a, uint64_t b) {
    uint64_t ret;
    return __builtin_mul_overflow(a, b, &ret) ? UINT64_MAX : ret;
}

/* Time that passed; false if the caller's clock went back. */
static inline bool gov_has_passed(uint64_t since_us, uint64_t span_us, uint64_t now_us) {
    return gov_sub(now_us, since_us) >= span_us;
}

/* gov_readings.c */
void gov_take_source(struct gov_source *s, uint64_t own_bytes, uint64_t left_bytes,
                     uint64_t now_us);
/* What to shed for and what to grow on: the greater and the lesser of the last two readings. */
uint64_t gov_source_high(const struct gov_source *s);
uint64_t gov_source_low(const struct gov_source *s);
bool gov_source_is_fresh(const struct gov_source *s, uint64_t stale_us, uint64_t now_us);
/* `per`: 1000 for permille of a total in us, 1000000 for counts a second. */
void gov_take_rate(struct gov_rate *r, uint64_t total, uint64_t per, uint64_t now_us);
/* The interval that ends here says nothing: the next one begins, and two are needed again. */
void gov_skip_rate(struct gov_rate *r, uint64_t total, uint64_t now_us);
bool gov_rate_is_high(const struct gov_rate *r, uint64_t edge);  /* in both intervals */
bool gov_rate_was_high(const struct gov_rate *r, uint64_t edge); /* in the last one */
bool gov_rate_is_low(const struct gov_rate *r, uint64_t edge);   /* in both */

uint64_t gov_patience_us(const struct gov_patience *p, uint64_t hold_us, uint64_t max_us);
void gov_patience_shed(struct gov_patience *p, uint64_t hold_us, uint64_t max_us, uint64_t now_us);
void gov_patience_eased(struct gov_patience *p, uint64_t now_us);
/* Forgets a doubling after a long time without a shed. */
void gov_patience_age(struct gov_patience *p, uint64_t hold_us, uint64_t max_us, uint64_t now_us);

void gov_count_change(struct gov_state *st, uint64_t now_us);
/* Whether the last hour has place for a change back and for the one that may have to follow. */
bool gov_may_ease(const struct gov_state *st, const struct gov_settings *set, uint64_t now_us);

/* gov_heat.c: the stage after this call's reading; true if it changed. */
bool gov_heat_step(struct gov_state *st, const struct gov_settings *set, const struct gov_input *in,
                   uint64_t now_us);
bool gov_heat_is_suspicious(const struct gov_state *st, const struct gov_settings *set);
/* The position that a stage asks for at least. */
uint32_t gov_heat_position(uint32_t stage, const struct ladder *l);

#endif
