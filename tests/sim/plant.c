#include "tests/sim/plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum {
    HEAT_US = 1000000,     /* between two readings of the temperature */
    COOLED_MC = 2000,      /* below its trip point the kernel gives the clock back */
    COOLED_PERMILLE = 800, /* of the power, while the kernel slows the clock */
    CANCEL_US = 10000,     /* until a read that is not wanted any more has ended */
    MAX_RETURNS = 64,      /* publications whose bytes are on their way back */
    MAX_TURNS = 4096,      /* of govern-and-act at one moment; each publishes, so there are few */
};

struct giving_back {
    uint64_t due_us, bytes;
};

struct plant {
    const struct plant_opts *o;
    const struct world *w;
    struct gov_state gov;
    struct gov_output out;
    struct gov_input in;
    struct world_sample world;
    struct pager *pager; /* owned */
    uint64_t now_us, tick_us, heat_at_us;
    uint64_t sampled_us; /* up to where the totals of stall are counted */
    uint64_t stall_some_us, stall_full_us;
    int64_t temp_uc; /* of the thermal model, in millionths of a degree */
    bool is_cooling; /* the kernel slows the clock */

    bool is_reading, is_cancelled; /* the disk */
    uint32_t read_unit;
    enum pager_part read_part;
    uint64_t read_due_us;
    uint64_t n_reads;

    struct giving_back returns[MAX_RETURNS]; /* in order of time */
    unsigned n_returns;
    uint64_t returning_bytes; /* of those */
    uint64_t dropped_bytes;   /* not published yet */

    /* The pager is a function of these: with the same ones, nothing to do is still nothing. */
    uint32_t seen_position;
    uint64_t seen_budget_bytes;
    bool is_at_rest;
};

/* ---- the world's side ---- */

/* A crude board: its power is the share of time computed, half of it with the cores that compute
 * and half with the bytes that each token moves. */
static void warm(struct plant *p, uint64_t span_us) {
    const struct world_thermal *t = world_thermal(p->w);
    if (!t) return;
    uint64_t full = MAX(ladder_bytes(p->o->ladder, 0), UINT64_C(1));
    uint64_t bytes = ladder_bytes(p->o->ladder, p->in.position);
    int64_t share = (int64_t)(500 * p->out.threads / p->o->set->max_threads +
                              (uint64_t)(500.0 * (double)bytes / (double)full));
    int64_t duty = p->out.duty_permille;
    if (p->is_cooling) share = share * COOLED_PERMILLE / 1000;
    int64_t goal_uc = (int64_t)t->ambient_mc * 1000 + (int64_t)t->rise_mc * share * duty / 1000;
    double part = (double)span_us / (double)t->tau_us;
    p->temp_uc += (int64_t)((double)(goal_uc - p->temp_uc) * (part < 1 ? part : 1));
    p->world.temp_mc = (int32_t)(p->temp_uc / 1000);
}

static void read_world(struct plant *p) {
    uint64_t span_us = p->now_us - p->sampled_us;
    p->sampled_us = p->now_us;
    world_at(p->w, p->now_us, &p->world);
    warm(p, span_us);
    if (p->o->cooling_mc != 0 && p->world.has_temp)
        p->is_cooling = p->world.temp_mc >= p->o->cooling_mc - (p->is_cooling ? COOLED_MC : 0);
    uint64_t some_us = span_us * p->world.stall_permille / 1000;
    p->stall_some_us += some_us;
    p->stall_full_us += some_us / 2;
}

static void put_reading(struct plant *p, uint64_t own_bytes) {
    const struct world_sample *s = &p->world;
    struct gov_input *in = &p->in;
    in->has_mem = s->has_left;
    in->mem_available_bytes = s->left_bytes > own_bytes ? s->left_bytes - own_bytes : 0;
    in->has_stall = s->has_stall;
    in->stall_some_us = p->stall_some_us;
    in->stall_full_us = p->stall_full_us;
    if (p->now_us < p->heat_at_us) return;
    p->heat_at_us = p->now_us + HEAT_US;
    in->has_heat = s->has_temp;
    in->headroom_mc = p->o->trip_mc - s->temp_mc;
}

static void govern(struct plant *p, bool is_fresh) {
    uint64_t weights = p->pager ? pager_held_bytes(p->pager) : 0;
    p->in = (struct gov_input){
        .operator_limit_bytes = UINT64_MAX,
        .cgroup_left_bytes = UINT64_MAX,
        .weight_bytes = weights,
        .other_bytes = p->o->other_bytes,
        .position = p->pager ? pager_position(p->pager) : 0,
        .is_cooling = p->is_cooling,
    };
    if (is_fresh) put_reading(p, weights + p->o->other_bytes);
    p->out = gov_step(&p->gov, p->o->set, p->o->ladder, &p->in, p->now_us);
}

/* ---- the pager's side ---- */

static void set_retired(struct plant *p) {
    pager_set_retired(p->pager, p->dropped_bytes + p->returning_bytes);
}

static void give_back(struct plant *p) {
    if (p->dropped_bytes == 0) return;
    if (p->n_returns == MAX_RETURNS)
        p->n_returns--; /* the last two go back together */
    else
        p->returns[p->n_returns].bytes = 0;
    p->returns[p->n_returns].bytes += p->dropped_bytes;
    p->returns[p->n_returns].due_us = p->now_us + p->o->return_us;
    p->n_returns++;
    p->returning_bytes += p->dropped_bytes;
    p->dropped_bytes = 0;
}

static void start_read(struct plant *p, const struct pager_action *a) {
    ASSERT(!p->is_reading);
    p->is_reading = true;
    p->is_cancelled = false;
    p->read_unit = a->unit;
    p->read_part = a->part;
    double us = (double)a->bytes * 1e6 / (double)p->o->read_bytes_per_s;
    p->read_due_us = p->now_us + 1 + (us < 1e15 ? (uint64_t)us : UINT64_C(1000000000000000));
}

/* As act() of daemon/swap.c: until there is none; true if a plan was published. */
static bool act(struct plant *p, bool *ret_has_worked) {
    bool has_published = false;
    for (;;) {
        struct pager_action a = pager_next(p->pager, p->now_us);
        if (a.verb != PAGER_NONE) *ret_has_worked = true;
        switch (a.verb) {
        case PAGER_NONE: return has_published;
        case PAGER_ADD:
        case PAGER_DISCARD: break;
        case PAGER_DROP: p->dropped_bytes += a.bytes; break;
        case PAGER_PUBLISH:
            give_back(p);
            has_published = true;
            break;
        case PAGER_READ: start_read(p, &a); break;
        case PAGER_CANCEL:
            p->is_cancelled = true;
            p->read_due_us = MIN(p->read_due_us, p->now_us + CANCEL_US);
            break;
        }
        set_retired(p);
    }
}

static bool has_news(const struct plant *p) {
    /* A read that failed is tried again by the clock. */
    return !p->is_at_rest || p->o->fails_one_in || p->out.position != p->seen_position ||
           p->out.weight_budget_bytes != p->seen_budget_bytes;
}

static void tell(struct plant *p, bool is_fresh, bool has_worked) {
    if (!p->o->fn) return;
    const struct plant_moment m = {
        .now_us = p->now_us,
        .is_fresh = is_fresh,
        .has_worked = has_worked,
        .world = &p->world,
        .in = &p->in,
        .out = &p->out,
        .position = pager_position(p->pager),
        .held_bytes = pager_held_bytes(p->pager),
        .retired_bytes = p->dropped_bytes + p->returning_bytes,
        .reading_bytes = pager_reading_bytes(p->pager),
        .is_cancelled = p->is_reading && p->is_cancelled,
    };
    p->o->fn(p->o->ud, &m);
}

/* As swap_step(): after a publication the governor may allow the next step at once. */
static void turn(struct plant *p, bool is_fresh) {
    bool again = true;
    for (unsigned n = 0; again; n++) {
        ASSERT(n < MAX_TURNS);
        bool has_worked = false;
        govern(p, is_fresh);
        again = false;
        if (has_news(p)) {
            p->seen_position = p->out.position;
            p->seen_budget_bytes = p->out.weight_budget_bytes;
            pager_set_target(p->pager, p->out.position, p->out.weight_budget_bytes);
            again = act(p, &has_worked);
            p->is_at_rest = true;
        }
        tell(p, is_fresh, has_worked);
        is_fresh = false;
    }
}

/* ---- time ---- */

static void end_read(struct plant *p) {
    bool has_failed = p->o->fails_one_in && ++p->n_reads % p->o->fails_one_in == 0;
    enum pager_end end = p->is_cancelled ? PAGER_READ_CANCELLED
                         : has_failed    ? PAGER_READ_FAILED
                                         : PAGER_READ_OK;
    p->is_reading = false;
    p->is_at_rest = false;
    /* What is kept lies in the pager's ledger; there are no bytes here. */
    ignore_result(pager_read_done(p->pager, p->read_unit, p->read_part, end, p->now_us));
}

static void end_return(struct plant *p) {
    p->returning_bytes -= p->returns[0].bytes;
    p->n_returns--;
    memmove(p->returns, p->returns + 1, p->n_returns * sizeof(p->returns[0]));
    set_retired(p);
    p->is_at_rest = false;
}

static uint64_t next_us(const struct plant *p) {
    uint64_t at = p->tick_us;
    if (p->is_reading) at = MIN(at, p->read_due_us);
    if (p->n_returns > 0) at = MIN(at, p->returns[0].due_us);
    return at;
}

static void run_until(struct plant *p, uint64_t end_us) {
    uint64_t interval_us = p->o->interval_us;
    while (next_us(p) <= end_us) {
        p->now_us = next_us(p);
        if (p->n_returns > 0 && p->returns[0].due_us == p->now_us) {
            end_return(p);
            turn(p, false);
        } else if (p->is_reading && p->read_due_us == p->now_us) {
            end_read(p);
            turn(p, false);
        } else {
            read_world(p);
            turn(p, true);
            p->tick_us = p->now_us +
                         (p->out.is_suspicious ? MAX(interval_us / 2, UINT64_C(1)) : interval_us);
        }
    }
}

int plant_run(const struct plant_opts *o, const struct world *w, uint64_t span_us, struct err *e) {
    struct plant *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory for a run");
    p->o = o;
    p->w = w;
    const struct world_thermal *t = world_thermal(w);
    if (t) p->temp_uc = (int64_t)t->ambient_mc * 1000;
    /* The first answer is where to load; that takes no time here. */
    p->out = (struct gov_output){.threads = o->set->max_threads, .duty_permille = 1000};
    read_world(p);
    govern(p, /* is_fresh= */ true);
    int r = pager_create(o->ladder, o->units, p->out.position, /* max_reads= */ 1, &p->pager, e);
    if (r == 0) {
        tell(p, /* is_fresh= */ true, /* has_worked= */ false);
        p->tick_us = o->interval_us;
        run_until(p, span_us);
    }
    pager_destroy(p->pager);
    free(p);
    return r;
}
