/* The governor's memory of readings and of its own changes: no decision is made here. */
#include "core/gov_internal.h"

enum {
    MIN_INTERVAL_US = 5000, /* a shorter one says little: the totals move in steps */
    MAX_DOUBLED = 16,
    SOON = 4,  /* holds: a shed so soon after growing means that it should not have grown */
    LONG = 16, /* holds without a shed that make it forget one */
};
static const uint64_t HOUR_US = UINT64_C(3600000000);

void gov_take_source(struct gov_source *s, uint64_t own_bytes, uint64_t left_bytes,
                     uint64_t now_us) {
    uint64_t bytes = gov_add(own_bytes, left_bytes);
    s->before_bytes = s->has ? s->last_bytes : bytes;
    s->last_bytes = bytes;
    s->at_us = now_us;
    s->has = true;
}

uint64_t gov_source_high(const struct gov_source *s) {
    return s->has ? MAX(s->last_bytes, s->before_bytes) : UINT64_MAX;
}

uint64_t gov_source_low(const struct gov_source *s) {
    return s->has ? MIN(s->last_bytes, s->before_bytes) : UINT64_MAX;
}

bool gov_source_is_fresh(const struct gov_source *s, uint64_t stale_us, uint64_t now_us) {
    return s->has && gov_sub(now_us, s->at_us) <= stale_us;
}

void gov_skip_rate(struct gov_rate *r, uint64_t total, uint64_t now_us) {
    *r = (struct gov_rate){.total = total, .at_us = now_us, .sum = r->sum, .has = true};
}

void gov_take_rate(struct gov_rate *r, uint64_t total, uint64_t per, uint64_t now_us) {
    /* A total that fell is another one: a file was replaced, or a counter began anew. */
    if (!r->has || total < r->total || now_us < r->at_us) {
        gov_skip_rate(r, total, now_us);
        return;
    }
    uint64_t span_us = now_us - r->at_us;
    if (span_us < MIN_INTERVAL_US) return;
    r->before = r->last;
    r->last = gov_mul(total - r->total, per) / span_us;
    r->sum = gov_add(r->sum, total - r->total);
    r->n = MIN(r->n + 1, 2);
    r->total = total;
    r->at_us = now_us;
}

bool gov_rate_is_high(const struct gov_rate *r, uint64_t edge) {
    return r->n == 2 && r->last >= edge && r->before >= edge;
}

bool gov_rate_was_high(const struct gov_rate *r, uint64_t edge) {
    return r->n > 0 && r->last >= edge;
}

bool gov_rate_is_low(const struct gov_rate *r, uint64_t edge) {
    return r->n == 2 && r->last < edge && r->before < edge;
}

uint64_t gov_patience_us(const struct gov_patience *p, uint64_t hold_us, uint64_t max_us) {
    uint64_t us = gov_mul(hold_us, UINT64_C(1) << p->n_doubled);
    return MIN(us, MAX(hold_us, max_us));
}

void gov_patience_shed(struct gov_patience *p, uint64_t hold_us, uint64_t max_us, uint64_t now_us) {
    uint64_t soon_us = gov_mul(gov_patience_us(p, hold_us, max_us), SOON);
    if (p->has_eased && gov_sub(now_us, p->eased_us) < soon_us && p->n_doubled < MAX_DOUBLED)
        p->n_doubled++;
    p->has_eased = false;
    p->shed_us = now_us;
}

void gov_patience_eased(struct gov_patience *p, uint64_t now_us) {
    p->has_eased = true;
    p->eased_us = now_us;
}

void gov_patience_age(struct gov_patience *p, uint64_t hold_us, uint64_t max_us, uint64_t now_us) {
    uint64_t long_us = gov_mul(gov_patience_us(p, hold_us, max_us), LONG);
    if (p->n_doubled == 0 || !gov_has_passed(p->shed_us, long_us, now_us)) return;
    p->n_doubled--;
    p->shed_us = now_us;
}

void gov_count_change(struct gov_state *st, uint64_t now_us) {
    st->changes_us[st->next_change] = now_us;
    st->next_change = (st->next_change + 1) % GOV_MAX_CHANGES;
    st->n_changes = MIN(st->n_changes + 1, (uint32_t)GOV_MAX_CHANGES);
}

bool gov_may_ease(const struct gov_state *st, const struct gov_settings *set, uint64_t now_us) {
    uint32_t most = MIN(set->changes_per_hour, (uint32_t)GOV_MAX_CHANGES);
    if (most < 2) return false;
    if (st->n_changes < most - 1) return true;
    /* With the n-th last change within the hour, there have been n: two less than the most may be
     * there. */
    uint32_t back = most - 1;
    uint64_t at = st->changes_us[(st->next_change + GOV_MAX_CHANGES - back) % GOV_MAX_CHANGES];
    return gov_has_passed(at, HOUR_US, now_us);
}
