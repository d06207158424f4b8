/* The governor's decision on one call's readings. See gov.h for what it promises. */
#include "core/gov_internal.h"

enum {
    PRESS_PAUSE_US = 500000, /* between two sheds for pressure: the first must have its effect */
    PRESS_SHARE = 8,         /* a part in so many of the weights goes for pressure... */
    PRESS_FULL_SHARE = 2,    /* ...or in so few, when everything waited for long: */
    /* So much of the time since a share went, which is 300 ms after a pause. What a share can end
     * has ended by then: its bytes are back 164 ms after a reading, and 302 ms after the stall
     * began, at worst (README, react.py). */
    PRESS_FULL_PERMILLE = 600,
    /* Pages read back a second that were given up before. One program's start makes some hundred;
     * a working set that does not fit makes thousands. */
    REFAULTS_PER_S = 1000,
    CALM_PART = 4, /* calm is below such a part of what is pressure */
};

const char *gov_reason_name(enum gov_reason r) {
    switch (r) {
    case GOV_STEADY: return "steady";
    case GOV_START: return "start";
    case GOV_LIMIT: return "limit";
    case GOV_OPERATOR: return "operator";
    case GOV_MEM_AVAILABLE: return "mem_available";
    case GOV_CGROUP: return "cgroup";
    case GOV_SHARE: return "share";
    case GOV_PRESSURE: return "pressure";
    case GOV_EMERGENCY: return "emergency";
    case GOV_HEAT: return "heat";
    case GOV_ROOM: return "room";
    case GOV_MEM_UNKNOWN: return "mem_unknown";
    case GOV_CALM_UNKNOWN: return "calm_unknown";
    case GOV_RATE: return "rate";
    case GOV_TURN: return "turn";
    }
    return "?";
}

/* ---- what is known ---- */

/* What one call goes by. */
struct view {
    const struct gov_settings *set;
    const struct ladder *l;
    const struct gov_input *in;
    uint64_t now_us;
    uint64_t other;  /* held or wanted beside the weights */
    uint64_t limit;  /* the lesser of the two limits */
    uint64_t system; /* what the system leaves us, what of it is our share (UINT64_MAX = all), and
                      * what the own cgroup leaves us: shed for these */
    uint64_t share;
    uint64_t cgroup;
    uint64_t room; /* the least of them as grown on */
    uint64_t share_room;
    bool is_known; /* the system's memory is known and fresh, and the cgroup's if there is one */
    bool is_pressed;
    bool is_pressed_hard;
    bool is_calm;
    bool is_calm_known;
};

/* An interval that began while the kernel may have been slowing us down is left out. */
static void take_rate(const struct gov_state *st, struct gov_rate *r, uint64_t total, uint64_t per,
                      uint64_t now_us) {
    if (r->has && r->at_us < st->over_until_us)
        gov_skip_rate(r, total, now_us);
    else
        gov_take_rate(r, total, per, now_us);
}

/* Unlike those of the other sources, the first one does not count alone: the share comes and goes
 * with the other daemons. */
static void take_share(struct gov_state *st, uint64_t bytes, uint64_t now_us) {
    bool is_first = !st->share.has && st->has_run;
    st->share.has = st->share.has && bytes > 0;
    if (bytes == 0) return;
    gov_take_source(&st->share, 0, bytes, now_us);
    if (is_first) st->share.before_bytes = UINT64_MAX;
}

static void take_mem(struct gov_state *st, const struct gov_input *in, uint64_t own,
                     uint64_t now_us) {
    st->available_bytes[1] = st->mem.has ? st->available_bytes[0] : in->mem_available_bytes;
    st->available_bytes[0] = in->mem_available_bytes;
    gov_take_source(&st->mem, own, in->mem_available_bytes, now_us);
    take_share(st, in->share_bytes, now_us);
}

static void take_readings(struct gov_state *st, const struct gov_input *in, uint64_t now_us) {
    uint64_t own = gov_add(in->weight_bytes, in->other_bytes);
    if (in->is_over_limit) st->over_until_us = gov_add(now_us, GOV_OVER_US);
    if (in->has_mem) take_mem(st, in, own, now_us);
    if (in->has_cgroup)
        gov_take_source(&st->cgroup, gov_sub(own, in->cgroup_over_bytes), in->cgroup_left_bytes,
                        now_us);
    if (in->has_stall) {
        take_rate(st, &st->some, in->stall_some_us, 1000, now_us);
        take_rate(st, &st->full, in->stall_full_us, 1000, now_us);
    }
    if (in->has_refaults) take_rate(st, &st->refaults, in->refaults, 1000000, now_us);
}

static bool is_rate_fresh(const struct gov_rate *r, const struct view *v) {
    return r->has && gov_sub(v->now_us, r->at_us) <= v->set->stale_us;
}

/* Whether everything waits still, and did for long since a share went last. */
static bool is_full_for_long(const struct gov_state *st, const struct view *v) {
    uint64_t span_us = gov_sub(v->now_us, st->pressed_us);
    uint64_t full_us = gov_sub(st->full.sum, st->pressed_full);
    return st->has_ceiling && span_us > 0 && gov_rate_is_high(&st->full, v->set->stall_permille) &&
           gov_mul(full_us, 1000) / span_us >= PRESS_FULL_PERMILLE;
}

/* Refaults speak only where nothing better does: they are also made by programs that start. */
static void look_at_pressure(const struct gov_state *st, struct view *v) {
    uint64_t edge = v->set->stall_permille;
    v->is_pressed = v->in->n_alarms > 0 && v->now_us >= st->over_until_us;
    if (is_rate_fresh(&st->some, v)) {
        v->is_calm_known = true;
        v->is_pressed_hard = is_full_for_long(st, v);
        v->is_pressed = v->is_pressed || gov_rate_is_high(&st->some, edge);
        v->is_calm = !v->is_pressed && gov_rate_is_low(&st->some, MAX(edge / CALM_PART, 1u));
    } else if (is_rate_fresh(&st->refaults, v)) {
        v->is_calm_known = true;
        v->is_pressed = v->is_pressed || gov_rate_is_high(&st->refaults, REFAULTS_PER_S);
        v->is_calm = !v->is_pressed && gov_rate_is_low(&st->refaults, REFAULTS_PER_S / CALM_PART);
    }
}

static struct view look(const struct gov_state *st, const struct gov_settings *set,
                        const struct ladder *l, const struct gov_input *in, uint64_t now_us) {
    struct view v = {.set = set, .l = l, .in = in, .now_us = now_us};
    v.other = gov_add(in->other_bytes, in->wanted_bytes);
    v.limit = MIN(set->limit_bytes, in->operator_limit_bytes);
    v.system = st->mem.has ? gov_sub(gov_source_high(&st->mem), set->reserve_bytes) : UINT64_MAX;
    v.cgroup = gov_source_high(&st->cgroup);
    v.share = gov_source_high(&st->share);
    v.share_room = gov_source_low(&st->share);
    v.room = MIN(gov_sub(gov_source_low(&st->mem), set->reserve_bytes),
                 MIN(gov_source_low(&st->cgroup), v.share_room));
    v.is_known = gov_source_is_fresh(&st->mem, set->stale_us, now_us) &&
                 (st->cgroup.has ? gov_source_is_fresh(&st->cgroup, set->stale_us, now_us)
                                 : in->cgroup_over_bytes == 0);
    look_at_pressure(st, &v);
    return v;
}

/* Whether a position's bytes fit, with the margin left of what the sources have. Where the system
 * is shared it is half of it: there are at least two to leave the other half. */
static bool has_room(const struct view *v, uint32_t position) {
    uint64_t margin = v->set->margin_bytes, need, with_margin;
    if (v->share_room != UINT64_MAX) margin /= 2;
    if (!v->is_known) return false;
    if (__builtin_add_overflow(ladder_bytes(v->l, position), v->other, &need)) return false;
    if (__builtin_add_overflow(need, margin, &with_margin)) return false;
    return need <= v->limit && with_margin <= v->room;
}

/* ---- down ---- */

/* Holds the budget down to what is left after a share of the weights has gone, but to no less than
 * the last position before paging needs. */
static void press(struct gov_state *st, const struct view *v) {
    uint32_t last = gov_n_resident(v->l), p = v->in->position;
    uint64_t bytes = ladder_bytes(v->l, p);
    uint64_t goal = bytes - bytes / (v->is_pressed_hard ? PRESS_FULL_SHARE : PRESS_SHARE);
    if (p < last) p++;
    while (p < last && ladder_bytes(v->l, p) > goal) p++;
    st->ceiling_bytes = gov_add(ladder_bytes(v->l, p), v->other);
    st->has_ceiling = true;
    st->pressed_us = v->now_us;
    st->pressed_full = st->full.sum;
}

static void step_pressure(struct gov_state *st, const struct view *v) {
    uint64_t hold_us = gov_patience_us(&st->memory, v->set->hold_us, v->set->hold_max_us);
    if (!v->is_calm) st->calm_since_us = v->now_us;
    if (v->is_pressed || v->is_pressed_hard) {
        bool again = st->has_ceiling && !gov_has_passed(st->pressed_us, PRESS_PAUSE_US, v->now_us);
        if (!again) press(st, v);
    } else if (st->has_ceiling && gov_has_passed(st->calm_since_us, hold_us, v->now_us)) {
        st->has_ceiling = false;
    }
}

/* The others fall to their shares as we do to ours. Until they had time for it, their part of a
 * lack is not ours. */
static void step_share(struct gov_state *st, struct view *v) {
    if (v->system >= v->share || v->share == UINT64_MAX) st->enough_us = v->now_us;
    if (v->share == UINT64_MAX) return;
    if (!gov_has_passed(st->enough_us, GOV_SHARE_US, v->now_us)) v->system = UINT64_MAX;
}

/* An emergency ends when the floor is exceeded by the margin for a whole hold. */
static void step_emergency(struct gov_state *st, const struct view *v) {
    uint64_t most = MAX(st->available_bytes[0], st->available_bytes[1]);
    uint64_t least = MIN(st->available_bytes[0], st->available_bytes[1]);
    if (!st->mem.has) return;
    if (most < v->set->emergency_bytes) st->is_emergency = true;
    if (least < gov_add(v->set->emergency_bytes, v->set->margin_bytes) || !v->is_known)
        st->safe_since_us = v->now_us;
    if (v->set->emergency_bytes == 0 ||
        gov_has_passed(st->safe_since_us, v->set->hold_us, v->now_us))
        st->is_emergency = false;
}

/* The bounds of the bytes, and which of them is the least. */
static uint64_t budget_of(const struct gov_state *st, const struct view *v,
                          enum gov_reason *ret_reason) {
    uint64_t budget = v->limit;
    *ret_reason = v->in->operator_limit_bytes < v->set->limit_bytes ? GOV_OPERATOR : GOV_LIMIT;
    const struct {
        uint64_t bytes;
        enum gov_reason reason;
    } others[] = {
        {v->system, GOV_MEM_AVAILABLE},
        {v->share, GOV_SHARE},
        {v->cgroup, GOV_CGROUP},
        {st->has_ceiling ? st->ceiling_bytes : UINT64_MAX, GOV_PRESSURE},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (others[i].bytes > budget || others[i].bytes == UINT64_MAX) continue;
        budget = others[i].bytes;
        *ret_reason = others[i].reason;
    }
    return budget;
}

/* ---- up ---- */

/* Where to begin: as high as there is room for. Nothing has been shed yet, so there is nothing to
 * hold back for. */
static uint32_t start_position(const struct view *v, uint32_t floor) {
    uint32_t position = ladder_n_steps(v->l);
    while (position > floor && has_room(v, position - 1)) position--;
    return position;
}

/* What keeps a step up from being proposed now; GOV_ROOM: nothing. */
static enum gov_reason why_not(const struct gov_state *st, const struct view *v) {
    if (st->is_raised) return GOV_OPERATOR;
    uint64_t hold_us = gov_patience_us(&st->memory, v->set->hold_us, v->set->hold_max_us);
    if (!v->is_calm_known) return GOV_CALM_UNKNOWN;
    if (!gov_has_passed(MAX(st->quiet_since_us, st->calm_since_us), hold_us, v->now_us) ||
        !gov_has_passed(st->last_grow_us, v->set->step_us, v->now_us))
        return GOV_STEADY;
    return gov_may_ease(st, v->set, v->now_us) ? GOV_ROOM : GOV_RATE;
}

/* A step up, or the position as it is. */
static uint32_t grow(struct gov_state *st, const struct view *v, uint32_t floor,
                     enum gov_reason *ret_reason) {
    uint32_t position = v->in->position;
    *ret_reason = GOV_STEADY;
    bool has = position > 0 && has_room(v, position - 1);
    if (!has) st->quiet_since_us = v->now_us;
    if (!has || position <= floor) {
        st->is_raised = false;
        st->is_growing = false;
        if (!v->is_known) *ret_reason = GOV_MEM_UNKNOWN;
        return position;
    }
    /* A step proposed is proposed until it is published: its read takes longer than a call. */
    bool is_proposed = st->is_growing && st->grow_from == position;
    if (is_proposed && (v->is_calm || st->is_raised)) {
        *ret_reason = st->is_raised ? GOV_OPERATOR : GOV_ROOM;
        return position - 1;
    }
    st->is_growing = false;
    *ret_reason = why_not(st, v);
    if (*ret_reason != GOV_ROOM && *ret_reason != GOV_OPERATOR) return position;
    if (v->in->is_other_rising) {
        *ret_reason = GOV_TURN;
        return position;
    }
    st->is_growing = true;
    st->grow_from = position;
    st->last_grow_us = v->now_us;
    if (!st->is_raised) gov_patience_eased(&st->memory, v->now_us);
    return position - 1;
}

/* ---- the answer ---- */

static bool is_suspicious(const struct gov_state *st, const struct view *v) {
    uint64_t newest = MIN(st->mem.has ? gov_sub(st->mem.last_bytes, v->set->reserve_bytes)
                                      : UINT64_MAX,
                          MIN(st->cgroup.has ? st->cgroup.last_bytes : UINT64_MAX,
                              st->share.has ? st->share.last_bytes : UINT64_MAX));
    uint64_t held = gov_add(ladder_bytes(v->l, v->in->position), v->other);
    bool is_short = newest < held || gov_rate_was_high(&st->some, v->set->stall_permille) ||
                    (st->mem.has && st->available_bytes[0] < v->set->emergency_bytes);
    bool can_shed = v->in->position < ladder_n_steps(v->l);
    return (is_short && can_shed) || gov_heat_is_suspicious(st, v->set);
}

static uint32_t level_of(const struct gov_output *out, uint32_t n_steps) {
    if (out->is_over || out->refuses) return 3;
    if (out->stage >= GOV_STAGES / 2 ||
        (out->position > 0 && out->position >= n_steps - out->position))
        return 2;
    return out->stage > 0 || out->position > 0 ? 1 : 0;
}

static void put_pace(struct gov_output *out, const struct gov_state *st,
                     const struct gov_settings *set) {
    const struct gov_stage *stage = &gov_stages[st->stage];
    uint64_t threads = ((uint64_t)set->max_threads * stage->threads_permille + 999) / 1000;
    out->stage = st->stage;
    out->duty_permille = stage->duty_permille;
    out->threads = MAX((uint32_t)threads, 1u);
    out->refuses = st->is_emergency || stage->refuses;
}

/* The lowest position that something asks for, and what that is. */
static uint32_t floor_of(const struct gov_state *st, const struct view *v, struct gov_output *out,
                         enum gov_reason *ret_reason) {
    bool fits;
    out->budget_bytes = budget_of(st, v, ret_reason);
    out->weight_budget_bytes = out->budget_bytes == UINT64_MAX
                                   ? UINT64_MAX
                                   : gov_sub(out->budget_bytes, v->other);
    uint32_t floor = ladder_fit(v->l, out->weight_budget_bytes, &fits);
    uint32_t heat = gov_heat_position(st->stage, v->l);
    out->is_over = !fits;
    if (heat > floor) {
        floor = heat;
        *ret_reason = GOV_HEAT;
    }
    if (st->is_emergency && ladder_n_steps(v->l) > floor) {
        floor = ladder_n_steps(v->l);
        *ret_reason = GOV_EMERGENCY;
    }
    return floor;
}

/* Counts what the governor does by itself. The limits are the operator's will. */
static void count(struct gov_state *st, const struct gov_output *out, uint64_t now_us) {
    bool is_ours = out->reason != GOV_OPERATOR && out->reason != GOV_LIMIT;
    if (out->position != st->target && is_ours) gov_count_change(st, now_us);
    st->target = out->position;
}

static uint32_t shed(struct gov_state *st, const struct view *v, uint32_t floor,
                     enum gov_reason reason) {
    st->quiet_since_us = v->now_us;
    st->is_raised = false;
    st->is_growing = false;
    if (reason != GOV_OPERATOR && reason != GOV_LIMIT && reason != GOV_HEAT)
        gov_patience_shed(&st->memory, v->set->hold_us, v->set->hold_max_us, v->now_us);
    return floor;
}

struct gov_output gov_step(struct gov_state *st, const struct gov_settings *set,
                           const struct ladder *l, const struct gov_input *in, uint64_t now_us) {
    take_readings(st, in, now_us);
    struct view v = look(st, set, l, in, now_us);
    struct gov_output out = {0};
    enum gov_reason why;

    gov_patience_age(&st->memory, set->hold_us, set->hold_max_us, now_us);
    /* A change of its own, and one that a rise in the same call has to reckon with. */
    if (gov_heat_step(st, set, in, now_us)) gov_count_change(st, now_us);
    step_share(st, &v);
    step_pressure(st, &v);
    step_emergency(st, &v);
    uint32_t floor = floor_of(st, &v, &out, &why);
    if (st->has_run && v.limit > st->limit_bytes) st->is_raised = true;
    if (!st->has_run) {
        out.position = start_position(&v, floor);
        out.reason = v.is_known ? GOV_START : GOV_MEM_UNKNOWN;
        st->quiet_since_us = st->last_grow_us = st->calm_since_us = now_us;
        st->target = out.position;
    } else if (floor > in->position) {
        out.position = shed(st, &v, floor, why);
        out.reason = why;
    } else {
        out.position = grow(st, &v, floor, &out.reason);
    }
    put_pace(&out, st, set);
    count(st, &out, now_us);
    out.level = level_of(&out, ladder_n_steps(l));
    out.is_suspicious = is_suspicious(st, &v);
    st->has_run = true;
    st->limit_bytes = v.limit;
    return out;
}
