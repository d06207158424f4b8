/* The pager's ledger: for every unit the parts that are in the next plan, being read, and arrived.
 * A part is in one of these places:
 *
 *   OUT --pager_next(): READ--> READING --pager_read_done(ok, wanted)--> ARRIVED
 *    ^ ^                          |                                      |    |
 *    | +-- pager_read_done(else) -+                                      |    |
 *    +------------------- pager_next(): DISCARD -------------------------+    |
 *    +-- pager_next(): DROP -- IN <------------- pager_next(): ADD -----------+
 *
 * pager_next() takes the first of these that there is: free or cancel what nobody wants; add what
 * the position holds and has arrived; drop what it does not hold; publish what has changed; give up
 * what does not fit any more; read. Going down moves the position at once, going up when all that
 * the step needs has arrived. Step position - 1 is the first to be undone, so reads start from
 * there and the position moves there only. */
#include "core/pager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

struct retry {
    uint64_t at_us;    /* not before; 0 = at once */
    uint64_t pause_us; /* the last pause; 0 = the last read went well */
};

struct unit {
    uint64_t bytes[PAGER_PARTS];
    struct retry retry[PAGER_PARTS];
    uint8_t in, reading, cancelled, arrived; /* bit (1 << part); cancelled: of those being read */
};

struct pager {
    const struct ladder *l; /* borrowed */
    uint32_t n_steps, n_units;
    unsigned max_reads;
    uint32_t published;
    uint32_t position; /* of the next plan */
    uint32_t target;
    bool is_changed;         /* the next plan differs from the one published */
    uint64_t dropped, added; /* bytes since the last publication */
    uint64_t budget_bytes;
    uint64_t retired_bytes;
    uint64_t in_bytes, reading_bytes, arrived_bytes;
    unsigned n_reading;
    struct unit *units; /* owned, [n_units] */
};

unsigned pager_rung_parts(enum rung r) {
    switch (r) {
    case RUNG_FULL: return 1u << PAGER_HIGH | 1u << PAGER_LOW;
    case RUNG_HIGH: return 1u << PAGER_HIGH;
    case RUNG_SWSC: return 1u << PAGER_SWSC;
    case RUNG_PAGED: break;
    }
    return 0;
}

static unsigned parts_at(const struct pager *p, uint32_t position, uint32_t unit) {
    return pager_rung_parts(ladder_rung(p->l, position, unit));
}

static uint64_t bytes_of(const struct unit *u, unsigned parts) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < PAGER_PARTS; k++)
        if (parts & 1u << k) sum += u->bytes[k];
    return sum;
}

/* The ladder's bytes must be those of the parts, or the ledger would drift from what is held. */
static int check_sizes(const struct pager *p, struct err *e) {
    uint64_t sum = 0;
    for (uint32_t u = 0; u < p->n_units; u++)
        sum += bytes_of(&p->units[u], pager_rung_parts(RUNG_FULL));
    if (sum != ladder_bytes(p->l, 0))
        return err_set(e, -EINVAL, "the units' planes are not the ladder's bytes");
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const struct ladder_step *s = ladder_step_at(p->l, i);
        const struct unit *u = &p->units[s->unit];
        uint64_t from = bytes_of(u, pager_rung_parts(s->from));
        uint64_t to = bytes_of(u, pager_rung_parts(s->to));
        if (from < to || from - to != s->bytes)
            return err_set(e, -EINVAL, "ladder step %u does not free what its rungs differ by", i);
    }
    return 0;
}

int pager_create(const struct ladder *l, const struct pager_unit *units, uint32_t position,
                 unsigned max_reads, struct pager **ret, struct err *e) {
    uint32_t n = ladder_n_steps(l);
    if (position > n) return err_set(e, -EINVAL, "position %u: the ladder ends at %u", position, n);
    if (max_reads == 0) return err_set(e, -EINVAL, "at least one read must be allowed");
    struct pager *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory for the pager");
    p->l = l;
    p->n_steps = n;
    p->n_units = ladder_n_units(l);
    p->max_reads = max_reads;
    p->published = p->position = p->target = position;
    p->budget_bytes = UINT64_MAX;
    p->units = calloc((size_t)p->n_units + 1, sizeof(*p->units)); /* + 1: never for 0 bytes */
    if (!p->units) {
        pager_destroy(p);
        return err_set(e, -ENOMEM, "no memory for the pager");
    }
    for (uint32_t u = 0; u < p->n_units; u++) {
        memcpy(p->units[u].bytes, units[u].bytes, sizeof(units[u].bytes));
        p->units[u].in = (uint8_t)parts_at(p, position, u);
        p->in_bytes += bytes_of(&p->units[u], p->units[u].in);
    }
    int r = check_sizes(p, e);
    if (r < 0) {
        pager_destroy(p);
        return r;
    }
    *ret = p;
    return 0;
}

void pager_destroy(struct pager *p) {
    if (!p) return;
    free(p->units);
    free(p);
}

static bool fits(const struct pager *p, uint64_t more) {
    uint64_t held = pager_held_bytes(p);
    return held <= p->budget_bytes && more <= p->budget_bytes - held;
}

void pager_set_target(struct pager *p, uint32_t position, uint64_t weight_budget_bytes) {
    bool is_enough;
    uint32_t lowest = ladder_fit(p->l, weight_budget_bytes, &is_enough);
    p->target = MAX(MIN(position, p->n_steps), lowest);
    p->budget_bytes = weight_budget_bytes;
}

void pager_set_retired(struct pager *p, uint64_t bytes) {
    p->retired_bytes = bytes;
}

static struct pager_action action(const struct pager *p, enum pager_verb verb, uint32_t unit,
                                  unsigned part) {
    return (struct pager_action){
        .verb = verb,
        .unit = unit,
        .part = (enum pager_part)part,
        .position_from = p->published,
        .position = p->published,
        .bytes = p->units[unit].bytes[part],
    };
}

static const struct pager_action nothing = {.verb = PAGER_NONE};

/* ---- moves of one part ---- */

static struct pager_action drop(struct pager *p, uint32_t unit, unsigned part) {
    struct unit *u = &p->units[unit];
    u->in &= (uint8_t) ~(1u << part);
    p->in_bytes -= u->bytes[part];
    p->dropped += u->bytes[part];
    p->is_changed = true;
    return action(p, PAGER_DROP, unit, part);
}

static struct pager_action add(struct pager *p, uint32_t unit, unsigned part) {
    struct unit *u = &p->units[unit];
    u->arrived &= (uint8_t) ~(1u << part);
    u->in |= (uint8_t)(1u << part);
    p->arrived_bytes -= u->bytes[part];
    p->in_bytes += u->bytes[part];
    p->added += u->bytes[part];
    p->is_changed = true;
    return action(p, PAGER_ADD, unit, part);
}

static struct pager_action discard(struct pager *p, uint32_t unit, unsigned part) {
    struct unit *u = &p->units[unit];
    u->arrived &= (uint8_t) ~(1u << part);
    p->arrived_bytes -= u->bytes[part];
    return action(p, PAGER_DISCARD, unit, part);
}

static struct pager_action start_read(struct pager *p, uint32_t unit, unsigned part) {
    struct unit *u = &p->units[unit];
    u->reading |= (uint8_t)(1u << part);
    p->reading_bytes += u->bytes[part];
    p->n_reading++;
    return action(p, PAGER_READ, unit, part);
}

static struct pager_action publish(struct pager *p) {
    struct pager_action a = {
        .verb = PAGER_PUBLISH,
        .position_from = p->published,
        .position = p->position,
        .bytes = p->position > p->published ? p->dropped : p->added,
    };
    p->published = p->position;
    p->is_changed = false;
    p->dropped = p->added = 0;
    return a;
}

/* ---- what is wanted ---- */

/* What the step that takes a unit down left behind, and what undoing it has to bring back. */
static unsigned step_parts(const struct ladder_step *s) {
    return pager_rung_parts(s->from) & ~pager_rung_parts(s->to);
}

/* The next plan lacks the unit's swsc extent, and the way up does not replace it before long. */
static bool wants_fill(const struct pager *p, uint32_t unit, uint64_t now_us) {
    const struct unit *u = &p->units[unit];
    if (!(parts_at(p, p->position, unit) & ~(unsigned)u->in & 1u << PAGER_SWSC)) return false;
    /* A plane that cannot be read for now leaves it at this rung for longer. */
    return ladder_rung(p->l, p->target, unit) == RUNG_SWSC || u->retry[PAGER_HIGH].at_us > now_us ||
           u->retry[PAGER_LOW].at_us > now_us;
}

/* Parts that the position, or the way from it up to the target, is waiting for. */
static unsigned wanted(const struct pager *p, uint32_t unit, uint64_t now_us) {
    unsigned parts = wants_fill(p, unit, now_us) ? 1u << PAGER_SWSC : 0;
    for (uint32_t i = p->target; i < p->position; i++)
        if (ladder_step_at(p->l, i)->unit == unit) parts |= step_parts(ladder_step_at(p->l, i));
    return parts & ~(unsigned)p->units[unit].in;
}

/* ---- the order of things ---- */

/* What the next plan has and its position does not; low planes before the high ones under them. */
static struct pager_action drop_surplus(struct pager *p) {
    static const enum pager_part order[] = {PAGER_LOW, PAGER_HIGH, PAGER_SWSC};
    for (uint32_t u = 0; u < p->n_units; u++) {
        unsigned surplus = p->units[u].in & ~parts_at(p, p->position, u);
        for (size_t k = 0; surplus && k < ARRAY_LEN(order); k++)
            if (surplus & 1u << order[k]) return drop(p, u, order[k]);
    }
    return nothing;
}

static struct pager_action free_unwanted(struct pager *p, uint64_t now_us) {
    for (uint32_t i = 0; i < p->n_units; i++) {
        struct unit *u = &p->units[i];
        if (!u->arrived && !u->reading) continue;
        unsigned want = wanted(p, i, now_us);
        for (unsigned k = 0; k < PAGER_PARTS; k++) {
            if (want & 1u << k) continue;
            if (u->arrived & 1u << k) return discard(p, i, k);
            if (!(u->reading & ~(unsigned)u->cancelled & 1u << k)) continue;
            u->cancelled |= (uint8_t)(1u << k);
            return action(p, PAGER_CANCEL, i, k);
        }
    }
    return nothing;
}

/* What the position holds and has arrived: a swsc extent read late, or planes of the step that
 * undo() has just taken. High planes before the low ones upon them. */
static struct pager_action add_due(struct pager *p) {
    for (uint32_t u = 0; u < p->n_units; u++) {
        unsigned due = p->units[u].arrived ? p->units[u].arrived & parts_at(p, p->position, u) : 0;
        for (unsigned k = 0; due && k < PAGER_PARTS; k++)
            if (due & 1u << k) return add(p, u, k);
    }
    return nothing;
}

/* Takes back the last step if all that it needs has arrived. */
static void undo(struct pager *p) {
    if (p->position <= p->target) return;
    const struct ladder_step *s = ladder_step_at(p->l, p->position - 1);
    const struct unit *u = &p->units[s->unit];
    unsigned need = step_parts(s) & ~(unsigned)u->in;
    if ((u->arrived & need) != need) return;
    p->position--;
    p->is_changed = true;
}

/* Of the steps from the target up to `end`, which is not one of them, the part furthest from its
 * turn that has arrived. */
static struct pager_action discard_ahead(struct pager *p, uint32_t end) {
    for (uint32_t i = p->target; i < end; i++) {
        const struct ladder_step *s = ladder_step_at(p->l, i);
        unsigned ahead = p->units[s->unit].arrived & step_parts(s);
        for (unsigned k = PAGER_PARTS; k-- > 0;)
            if (ahead & 1u << k) return discard(p, s->unit, k);
    }
    return nothing;
}

/* Likewise the one that is being read. */
static struct pager_action cancel_ahead(struct pager *p, uint32_t end) {
    for (uint32_t i = p->target; i < end; i++) {
        const struct ladder_step *s = ladder_step_at(p->l, i);
        struct unit *u = &p->units[s->unit];
        unsigned ahead = u->reading & ~(unsigned)u->cancelled & step_parts(s);
        for (unsigned k = PAGER_PARTS; k-- > 0;) {
            if (!(ahead & 1u << k)) continue;
            u->cancelled |= (uint8_t)(1u << k);
            return action(p, PAGER_CANCEL, s->unit, k);
        }
    }
    return nothing;
}

/* Bytes held that do not go away by themselves. */
static uint64_t staying_bytes(const struct pager *p) {
    uint64_t bytes = p->in_bytes + p->reading_bytes + p->arrived_bytes;
    for (uint32_t u = 0; u < p->n_units; u++)
        if (p->units[u].cancelled) bytes -= bytes_of(&p->units[u], p->units[u].cancelled);
    return bytes;
}

/* The budget may fall below what a step up was begun with: the planes and the extent that they
 * replace, or more that is ahead of its turn. What the target itself needs always fits, so first
 * what is ahead gives way, then the extent, and last what has come or comes for the next step. */
static struct pager_action give_way(struct pager *p) {
    if (p->position <= p->target || pager_held_bytes(p) <= p->budget_bytes ||
        staying_bytes(p) <= p->budget_bytes)
        return nothing;
    const struct ladder_step *s = ladder_step_at(p->l, p->position - 1);
    struct pager_action a = discard_ahead(p, p->position - 1);
    if (a.verb == PAGER_NONE) a = cancel_ahead(p, p->position - 1);
    if (a.verb == PAGER_NONE && p->units[s->unit].in & 1u << PAGER_SWSC)
        a = drop(p, s->unit, PAGER_SWSC);
    if (a.verb == PAGER_NONE) a = discard_ahead(p, p->position);
    if (a.verb == PAGER_NONE) a = cancel_ahead(p, p->position);
    return a;
}

/* Room for the part whose turn it is. Bytes on their way back to the system are waited for. */
static struct pager_action make_room(struct pager *p, uint32_t unit, unsigned part,
                                     uint64_t now_us) {
    uint64_t bytes = p->units[unit].bytes[part];
    uint64_t held = pager_held_bytes(p) - p->retired_bytes;
    if (held <= p->budget_bytes && bytes <= p->budget_bytes - held) return nothing;
    uint32_t end = part == PAGER_SWSC && wants_fill(p, unit, now_us) ? p->position
                                                                     : p->position - 1;
    struct pager_action a = discard_ahead(p, end);
    if (a.verb != PAGER_NONE) return a;
    if (part != PAGER_SWSC && p->units[unit].in & 1u << PAGER_SWSC)
        return drop(p, unit, PAGER_SWSC);
    return nothing;
}

/* Tries to start the read of a part. *ret_may_go_on: what comes after it may be tried, too. */
static struct pager_action try_read(struct pager *p, uint32_t unit, unsigned part, bool is_turn,
                                    uint64_t now_us, bool *ret_may_go_on) {
    struct unit *u = &p->units[unit];
    *ret_may_go_on = true;
    if ((u->in | u->arrived) & 1u << part) return nothing;
    /* A cancelled one is waited for: it may be wanted again. */
    if (u->reading & 1u << part) return nothing;
    *ret_may_go_on = false;
    if (u->retry[part].at_us > now_us || p->n_reading >= p->max_reads) return nothing;
    if (fits(p, u->bytes[part])) return start_read(p, unit, part);
    return is_turn ? make_room(p, unit, part, now_us) : nothing;
}

static struct pager_action read_next(struct pager *p, uint64_t now_us) {
    struct pager_action a;
    bool may_go_on;
    for (uint32_t u = 0; u < p->n_units; u++) {
        if (!wants_fill(p, u, now_us)) continue;
        a = try_read(p, u, PAGER_SWSC, /* is_turn= */ true, now_us, &may_go_on);
        if (a.verb != PAGER_NONE) return a;
    }
    for (uint32_t i = p->position; i-- > p->target;) {
        const struct ladder_step *s = ladder_step_at(p->l, i);
        for (unsigned k = 0; k < PAGER_PARTS; k++) {
            if (!(step_parts(s) & 1u << k)) continue;
            a = try_read(p, s->unit, k, i + 1 == p->position, now_us, &may_go_on);
            if (a.verb != PAGER_NONE || !may_go_on) return a;
        }
    }
    return nothing;
}

struct pager_action pager_next(struct pager *p, uint64_t now_us) {
    if (p->position < p->target) {
        p->position = p->target;
        p->is_changed = true;
    }
    struct pager_action a = p->is_changed ? nothing : free_unwanted(p, now_us);
    if (a.verb == PAGER_NONE && !p->is_changed) undo(p);
    if (a.verb == PAGER_NONE) a = add_due(p);
    if (a.verb == PAGER_NONE) a = drop_surplus(p);
    if (a.verb == PAGER_NONE && p->is_changed) return publish(p);
    if (a.verb == PAGER_NONE) a = give_way(p);
    if (a.verb == PAGER_NONE) a = read_next(p, now_us);
    a.position_from = a.position = p->published;
    return a;
}

bool pager_read_done(struct pager *p, uint32_t unit, enum pager_part part, enum pager_end end,
                     uint64_t now_us) {
    ASSERT(unit < p->n_units);
    struct unit *u = &p->units[unit];
    struct retry *r = &u->retry[part];
    uint8_t bit = (uint8_t)(1u << part);
    ASSERT(u->reading & bit);
    u->reading &= (uint8_t)~bit;
    u->cancelled &= (uint8_t)~bit;
    p->reading_bytes -= u->bytes[part];
    p->n_reading--;
    if (end == PAGER_READ_CANCELLED) return false;
    if (end == PAGER_READ_FAILED) {
        r->pause_us = MIN(r->pause_us ? 2 * r->pause_us : PAGER_RETRY_US,
                          (uint64_t)PAGER_RETRY_MAX_US);
        r->at_us = now_us > UINT64_MAX - r->pause_us ? UINT64_MAX : now_us + r->pause_us;
        return false;
    }
    *r = (struct retry){0};
    if (!(wanted(p, unit, now_us) & bit)) return false;
    u->arrived |= bit;
    p->arrived_bytes += u->bytes[part];
    return true;
}

uint32_t pager_position(const struct pager *p) {
    return p->published;
}

uint32_t pager_target(const struct pager *p) {
    return p->target;
}

uint64_t pager_held_bytes(const struct pager *p) {
    const uint64_t parts[] = {p->reading_bytes, p->arrived_bytes, p->retired_bytes};
    uint64_t held = p->in_bytes;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (__builtin_add_overflow(held, parts[i], &held)) return UINT64_MAX;
    return held;
}

uint64_t pager_reading_bytes(const struct pager *p) {
    return p->reading_bytes;
}

uint64_t pager_arrived_bytes(const struct pager *p) {
    return p->arrived_bytes;
}

unsigned pager_parts(const struct pager *p, uint32_t unit) {
    ASSERT(unit < p->n_units);
    return p->units[unit].in;
}
