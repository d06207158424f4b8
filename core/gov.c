/* The governor's decision. See gov.h for what it promises; all sums saturate, so no reading,
 * however odd, wraps into plenty. */
#include "core/gov.h"

const char *gov_reason_name(enum gov_reason r) {
    switch (r) {
    case GOV_STEADY: return "steady";
    case GOV_START: return "start";
    case GOV_LIMIT: return "limit";
    case GOV_OPERATOR: return "operator";
    case GOV_MEM_AVAILABLE: return "mem_available";
    case GOV_ROOM: return "room";
    case GOV_MEM_UNKNOWN: return "mem_unknown";
    }
    return "?";
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t sub(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

/* Time that passed; 0 if the caller's clock went back. */
static bool has_passed(uint64_t since_us, uint64_t span_us, uint64_t now_us) {
    return sub(now_us, since_us) >= span_us;
}

static void take_reading(struct gov_state *st, const struct gov_input *in, uint64_t now_us) {
    if (!in->has_mem) return;
    st->last_mem_bytes = add(add(in->weight_bytes, in->other_bytes), in->mem_available_bytes);
    st->last_mem_us = now_us;
    st->has_mem = true;
}

/* The three bounds of this call. */
struct bounds {
    uint64_t limit;  /* the lesser of the two limits */
    uint64_t system; /* what the system leaves us; UINT64_MAX without any reading */
    uint64_t budget; /* the least of all */
    bool is_known;   /* the system's memory is known and fresh */
};

static struct bounds find_bounds(const struct gov_state *st, const struct gov_settings *set,
                                 const struct gov_input *in, uint64_t now_us) {
    struct bounds b;
    b.limit = MIN(set->limit_bytes, in->operator_limit_bytes);
    b.system = st->has_mem ? sub(st->last_mem_bytes, set->reserve_bytes) : UINT64_MAX;
    b.budget = MIN(b.limit, b.system);
    b.is_known = st->has_mem && sub(now_us, st->last_mem_us) <= set->stale_us;
    return b;
}

/* Whether a position's bytes fit, with the margin left of what the system has. */
static bool has_room(const struct bounds *b, const struct gov_settings *set,
                     const struct gov_input *in, const struct ladder *l, uint32_t position) {
    uint64_t need, with_margin;
    if (!b->is_known) return false;
    if (__builtin_add_overflow(ladder_bytes(l, position), in->other_bytes, &need)) return false;
    if (__builtin_add_overflow(need, set->margin_bytes, &with_margin)) return false;
    return need <= b->limit && with_margin <= b->system;
}

static enum gov_reason shed_reason(const struct bounds *b, const struct gov_settings *set,
                                   const struct gov_input *in) {
    if (b->system <= b->limit) return GOV_MEM_AVAILABLE;
    return in->operator_limit_bytes < set->limit_bytes ? GOV_OPERATOR : GOV_LIMIT;
}

/* Where to begin: as high as there is room for. Nothing has been shed yet, so there is nothing to
 * hold back for. */
static uint32_t start_position(const struct bounds *b, const struct gov_settings *set,
                               const struct gov_input *in, const struct ladder *l) {
    uint32_t position = ladder_n_steps(l);
    while (position > 0 && has_room(b, set, in, l, position - 1)) position--;
    return position;
}

/* A step up, or the position as it is. */
static uint32_t grow(struct gov_state *st, const struct bounds *b, const struct gov_settings *set,
                     const struct gov_input *in, const struct ladder *l, uint64_t now_us,
                     enum gov_reason *reason) {
    uint32_t position = in->position;
    if (position == 0 || !has_room(b, set, in, l, position - 1)) {
        st->quiet_since_us = now_us;
        st->is_raised = false;
        st->is_growing = false;
        if (!b->is_known) *reason = GOV_MEM_UNKNOWN;
        return position;
    }
    *reason = st->is_raised ? GOV_OPERATOR : GOV_ROOM;
    /* A step proposed is proposed until it is published: its read takes longer than a call. */
    if (st->is_growing && st->grow_from == position) return position - 1;
    if (!st->is_raised) {
        *reason = GOV_STEADY;
        if (!has_passed(st->quiet_since_us, set->hold_us, now_us)) return position;
        if (!has_passed(st->last_grow_us, set->step_us, now_us)) return position;
    }
    *reason = st->is_raised ? GOV_OPERATOR : GOV_ROOM;
    st->is_growing = true;
    st->grow_from = position;
    st->last_grow_us = now_us;
    return position - 1;
}

struct gov_output gov_step(struct gov_state *st, const struct gov_settings *set,
                           const struct ladder *l, const struct gov_input *in, uint64_t now_us) {
    take_reading(st, in, now_us);
    struct bounds b = find_bounds(st, set, in, now_us);
    struct gov_output out = {
        .budget_bytes = b.budget,
        .weight_budget_bytes = b.budget == UINT64_MAX ? UINT64_MAX : sub(b.budget, in->other_bytes),
        .reason = GOV_STEADY,
    };
    bool fits;
    uint32_t lowest = ladder_fit(l, out.weight_budget_bytes, &fits);
    out.is_over = !fits;

    if (st->has_run && b.limit > st->limit_bytes) st->is_raised = true;
    if (!st->has_run) {
        out.position = start_position(&b, set, in, l);
        out.reason = b.is_known ? GOV_START : GOV_MEM_UNKNOWN;
        st->quiet_since_us = now_us;
        st->last_grow_us = now_us;
    } else if (lowest > in->position) {
        out.position = lowest;
        out.reason = shed_reason(&b, set, in);
        st->quiet_since_us = now_us;
        st->is_raised = false;
        st->is_growing = false;
    } else {
        out.position = grow(st, &b, set, in, l, now_us, &out.reason);
    }
    st->has_run = true;
    st->limit_bytes = b.limit;
    return out;
}
