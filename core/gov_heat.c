/* Heat into stages. Pauses and fewer threads come before precision, as they can be taken back at
 * once and cost no quality; precision comes before refusal. See gov.h. */
#include "core/gov_internal.h"

/* Throttling is believed after two readings, which come once a second. */
enum { COOLING_US = 2000000 };

/* The edges are shares of the margin, 8 C by default, so the stages are 2 C apart: a board that
 * settles in one of them has found the speed that its cooling can bear. */
const struct gov_stage gov_stages[GOV_STAGES] = {
    {0, 1000, 1000, 0, false},
    {1000, 850, 1000, 0, false},
    {750, 700, 1000, 0, false},
    {500, 700, 750, 0, false},
    {250, 600, 500, 0, false},
    {0, 500, 500, 500, false}, /* the trip point: the kernel begins to slow the clock */
    {-250, 350, 500, 1000, false},
    {-500, 200, 500, 1000, true},
};

static int64_t edge_mc(uint32_t stage, const struct gov_settings *set) {
    return (int64_t)gov_stages[stage].edge_permille * set->heat_margin_mc / 1000;
}

/* The stage that a headroom asks for. */
static uint32_t stage_of(int32_t headroom_mc, const struct gov_settings *set) {
    uint32_t stage = 0;
    while (stage + 1 < GOV_STAGES && headroom_mc < edge_mc(stage + 1, set)) stage++;
    return stage;
}

int32_t gov_doubtful_mc(const struct gov_settings *set) {
    /* Stage 2 at most: no step of the ladder, which would be for good, and no refusal. A sensor
     * that is stuck costs 30 % of the speed until someone reads what the doctor says. */
    return (int32_t)edge_mc(GOV_STAGE_UNKNOWN + 1, set);
}

static void take_heat(struct gov_state *st, const struct gov_settings *set,
                      const struct gov_input *in, uint64_t now_us) {
    /* The first one has nothing beside it: alone it must not shed. */
    st->headroom_mc[1] = st->has_heat ? st->headroom_mc[0] : INT32_MAX;
    st->headroom_mc[0] = in->headroom_mc;
    st->is_heat_doubtful = in->is_heat_doubtful;
    if (in->is_heat_doubtful) st->headroom_mc[0] = MAX(in->headroom_mc, gov_doubtful_mc(set));
    st->heat_us = now_us;
    st->has_heat = true;
}

static void take_cooling(struct gov_state *st, const struct gov_input *in, uint64_t now_us) {
    if (in->is_cooling && !st->is_cooling) st->cooling_since_us = now_us;
    st->is_cooling = in->is_cooling;
}

/* The stage that the kernel's own throttling asks for. It says that a trip point is reached, so
 * zones with some headroom left are wrong by that much, and pauses begin one margin sooner. With
 * more headroom than two margins it is no heat of ours: a soft limit far below (the Raspberry Pi
 * 3B+ has one at 60 C), a cap on power. Nor does it go further than the first stage: what the
 * kernel slows is slowed already, and slower clocks cost less energy a token than pauses. */
static uint32_t cooling_stage(const struct gov_state *st, const struct gov_settings *set,
                              uint64_t now_us) {
    if (!st->is_cooling || !gov_has_passed(st->cooling_since_us, COOLING_US, now_us)) return 0;
    if (!st->has_heat || st->is_heat_doubtful) return GOV_STAGE_UNKNOWN;
    int32_t headroom_mc = MAX(st->headroom_mc[0], st->headroom_mc[1]);
    return headroom_mc < 2 * (int64_t)set->heat_margin_mc ? 1 : 0;
}

static uint32_t wanted_stage(const struct gov_state *st, const struct gov_settings *set,
                             uint64_t now_us) {
    uint32_t cooling = cooling_stage(st, set, now_us);
    if (!st->has_heat) return cooling;
    return MAX(cooling, stage_of(MAX(st->headroom_mc[0], st->headroom_mc[1]), set));
}

/* Whether the last two readings and the kernel agree that a stage is more than is needed. */
static bool is_cool(const struct gov_state *st, const struct gov_settings *set) {
    int32_t least = MIN(st->headroom_mc[0], st->headroom_mc[1]);
    if (st->is_cooling) return false;
    return !st->has_heat || least >= edge_mc(st->stage, set) + set->heat_hysteresis_mc;
}

static bool enter(struct gov_state *st, const struct gov_settings *set, uint32_t stage,
                  uint64_t now_us) {
    st->stage = stage;
    st->cool_since_us = now_us;
    gov_patience_shed(&st->heat, set->heat_hold_us, set->hold_max_us, now_us);
    return true;
}

bool gov_heat_step(struct gov_state *st, const struct gov_settings *set, const struct gov_input *in,
                   uint64_t now_us) {
    if (!set->is_heat_on) {
        bool was_hot = st->stage > 0;
        st->stage = 0;
        st->has_heat = st->is_cooling = false;
        return was_hot;
    }
    if (in->has_heat) take_heat(st, set, in, now_us);
    take_cooling(st, in, now_us);
    if (st->has_heat && gov_sub(now_us, st->heat_us) > set->stale_us) {
        st->cool_since_us = now_us;
        return st->stage < GOV_STAGE_UNKNOWN && enter(st, set, GOV_STAGE_UNKNOWN, now_us);
    }
    gov_patience_age(&st->heat, set->heat_hold_us, set->hold_max_us, now_us);
    uint32_t want = wanted_stage(st, set, now_us);
    if (want > st->stage) return enter(st, set, want, now_us);
    if (st->stage == 0) return false;
    if (!is_cool(st, set)) {
        st->cool_since_us = now_us;
        return false;
    }
    uint64_t hold_us = gov_patience_us(&st->heat, set->heat_hold_us, set->hold_max_us);
    if (!gov_has_passed(st->cool_since_us, hold_us, now_us)) return false;
    if (!gov_may_ease(st, set, now_us)) return false;
    st->stage--;
    st->cool_since_us = now_us;
    gov_patience_eased(&st->heat, now_us);
    return true;
}

bool gov_heat_is_suspicious(const struct gov_state *st, const struct gov_settings *set) {
    return set->is_heat_on && st->has_heat && stage_of(st->headroom_mc[0], set) > st->stage;
}

uint32_t gov_n_resident(const struct ladder *l) {
    uint32_t n = ladder_n_steps(l), i = 0;
    while (i < n && ladder_step_at(l, i)->to != RUNG_PAGED) i++;
    return i;
}

uint32_t gov_heat_position(uint32_t stage, const struct ladder *l) {
    uint32_t permille = gov_stages[stage].ladder_permille;
    if (permille == 0) return 0;
    uint32_t last = gov_n_resident(l), p = 0;
    uint64_t full = ladder_bytes(l, 0), all = full - ladder_bytes(l, last);
    while (p < last && gov_mul(full - ladder_bytes(l, p), 1000) < gov_mul(all, permille)) p++;
    return p;
}
