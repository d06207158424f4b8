/* The pager's ledger: one state a ladder step, only those of the steps taken matter.
 *
 *   IDLE --pager_next(): READ--> READING --pager_read_done(ok, wanted)--> ARRIVED
 *    ^ ^                          |   |                                   |    |
 *    | +-- read_done(unwanted) ---+   +-- read_done(failed) --> FAILED    |    |
 *    +------------------ pager_next(): DISCARD ---------------------------+    |
 *    +------------------ pager_next(): PUBLISH, position falls to the step ----+
 *   FAILED -> IDLE: pager_set_target() with another target
 *
 * Steps from the position on are not taken (their unit is full) and always IDLE. Step position - 1
 * is the first to be undone, so reads start from there and publications happen there only. */
#include "core/pager.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"

enum step_state { STEP_IDLE, STEP_READING, STEP_ARRIVED, STEP_FAILED };

struct pager {
    const struct ladder *l; /* borrowed */
    uint32_t n_steps;
    unsigned max_reads;
    uint32_t position;
    uint32_t target;
    uint64_t budget_bytes;
    uint64_t retired_bytes;
    uint64_t reading_bytes;
    uint64_t arrived_bytes;
    unsigned n_reading;
    uint8_t *state; /* owned, [n_steps], enum step_state */
};

int pager_create(const struct ladder *l, uint32_t position, unsigned max_reads, struct pager **ret,
                 struct err *e) {
    uint32_t n = ladder_n_steps(l);
    if (position > n) return err_set(e, -EINVAL, "position %u: the ladder ends at %u", position, n);
    if (max_reads == 0) return err_set(e, -EINVAL, "at least one read must be allowed");
    for (uint32_t i = 0; i < n; i++) {
        const struct ladder_step *s = ladder_step_at(l, i);
        if (s->from == RUNG_FULL && s->to == RUNG_HIGH) continue;
        return err_set(e, -ENOTSUP,
                       "ladder step %u goes from %s to %s; only full to high is served", i,
                       rung_name(s->from), rung_name(s->to));
    }
    struct pager *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory for the pager");
    p->state = calloc((size_t)n + 1, sizeof(*p->state)); /* + 1: never a request for 0 bytes */
    if (!p->state) {
        pager_destroy(p);
        return err_set(e, -ENOMEM, "no memory for the pager");
    }
    p->l = l;
    p->n_steps = n;
    p->max_reads = max_reads;
    p->position = position;
    p->target = position;
    p->budget_bytes = UINT64_MAX;
    *ret = p;
    return 0;
}

void pager_destroy(struct pager *p) {
    if (!p) return;
    free(p->state);
    free(p);
}

static uint64_t step_bytes(const struct pager *p, uint32_t step) {
    return ladder_step_at(p->l, step)->bytes;
}

static bool fits(const struct pager *p, uint64_t more) {
    uint64_t held = ladder_bytes(p->l, p->position);
    const uint64_t parts[] = {p->reading_bytes, p->arrived_bytes, p->retired_bytes, more};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (__builtin_add_overflow(held, parts[i], &held)) return false;
    return held <= p->budget_bytes;
}

void pager_set_target(struct pager *p, uint32_t position, uint64_t weight_budget_bytes) {
    bool is_enough;
    uint32_t lowest = ladder_fit(p->l, weight_budget_bytes, &is_enough);
    uint32_t target = MAX(MIN(position, p->n_steps), lowest);
    p->budget_bytes = weight_budget_bytes;
    if (target == p->target) return;
    p->target = target;
    for (uint32_t i = 0; i < p->n_steps; i++)
        if (p->state[i] == STEP_FAILED) p->state[i] = STEP_IDLE;
}

void pager_set_retired(struct pager *p, uint64_t bytes) {
    p->retired_bytes = bytes;
}

static struct pager_action action(const struct pager *p, enum pager_verb verb, uint32_t step) {
    return (struct pager_action){
        .verb = verb,
        .unit = ladder_step_at(p->l, step)->unit,
        .position_from = p->position,
        .position = p->position,
        .bytes = step_bytes(p, step),
    };
}

static struct pager_action drop(struct pager *p) {
    struct pager_action a = {
        .verb = PAGER_DROP,
        .position_from = p->position,
        .position = p->target,
        .bytes = ladder_bytes(p->l, p->position) - ladder_bytes(p->l, p->target),
    };
    p->position = p->target;
    return a;
}

struct pager_action pager_next(struct pager *p) {
    if (p->position < p->target) return drop(p);

    for (uint32_t i = 0; i < p->target; i++) {
        if (p->state[i] != STEP_ARRIVED) continue;
        p->state[i] = STEP_IDLE;
        p->arrived_bytes -= step_bytes(p, i);
        return action(p, PAGER_DISCARD, i);
    }
    if (p->position > p->target && p->state[p->position - 1] == STEP_ARRIVED) {
        struct pager_action a = action(p, PAGER_PUBLISH, p->position - 1);
        p->position--;
        p->state[p->position] = STEP_IDLE;
        p->arrived_bytes -= a.bytes;
        a.position = p->position;
        return a;
    }
    /* In ladder order, and never past a step that failed or does not fit: what lies beyond could
     * not be published. */
    for (uint32_t i = p->position; i-- > p->target && p->n_reading < p->max_reads;) {
        if (p->state[i] == STEP_FAILED) break;
        if (p->state[i] != STEP_IDLE) continue;
        if (!fits(p, step_bytes(p, i))) break;
        p->state[i] = STEP_READING;
        p->reading_bytes += step_bytes(p, i);
        p->n_reading++;
        return action(p, PAGER_READ, i);
    }
    return (struct pager_action){
        .verb = PAGER_NONE, .position_from = p->position, .position = p->position};
}

bool pager_read_done(struct pager *p, uint32_t unit, bool ok) {
    uint32_t i = 0;
    while (i < p->n_steps && ladder_step_at(p->l, i)->unit != unit) i++;
    ASSERT(i < p->n_steps && p->state[i] == STEP_READING);
    p->reading_bytes -= step_bytes(p, i);
    p->n_reading--;
    bool is_wanted = i >= p->target;
    if (ok && is_wanted) {
        p->state[i] = STEP_ARRIVED;
        p->arrived_bytes += step_bytes(p, i);
        return true;
    }
    p->state[i] = ok ? STEP_IDLE : STEP_FAILED;
    return false;
}

uint32_t pager_position(const struct pager *p) {
    return p->position;
}

uint32_t pager_target(const struct pager *p) {
    return p->target;
}

uint64_t pager_reading_bytes(const struct pager *p) {
    return p->reading_bytes;
}

uint64_t pager_arrived_bytes(const struct pager *p) {
    return p->arrived_bytes;
}
