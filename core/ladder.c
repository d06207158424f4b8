/* Positions and rungs from a list of steps. Built once: bytes at every position, and for every unit
 * and rung the first position at which the unit has come down to it, so that each question is a
 * look-up or a binary search. */
#include "core/ladder.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { MAX_NAME = 32 };

struct ladder {
    char name[MAX_NAME + 1];
    uint32_t n_units, n_steps;
    struct ladder_step *steps;
    uint64_t *bytes;                 /* [n_steps + 1], never rising */
    uint32_t (*reached)[RUNG_COUNT]; /* [n_units]: position from which on; UINT32_MAX = never */
};

/* Names become parts of metadata keys. */
static bool name_ok(const char *s) {
    size_t n = strlen(s);
    if (n == 0 || n > MAX_NAME) return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static enum rung rung_at(const struct ladder *l, uint32_t unit, uint32_t position) {
    int r = RUNG_PAGED;
    while (r > RUNG_FULL && l->reached[unit][r] > position) r--;
    return (enum rung)r;
}

/* Takes step i, the steps before it being taken. */
static int take(struct ladder *l, uint32_t i, struct err *e) {
    const struct ladder_step *s = &l->steps[i];
    if (s->unit >= l->n_units)
        return err_set(e, -EBADMSG,
                       "ladder %s: step %" PRIu32 " is of unit %" PRIu32 ", there are %" PRIu32,
                       l->name, i, s->unit, l->n_units);
    if ((unsigned)s->from >= RUNG_COUNT || (unsigned)s->to >= RUNG_COUNT || s->to <= s->from)
        return err_set(e, -EBADMSG, "ladder %s: step %" PRIu32 " does not go down", l->name, i);
    enum rung now = rung_at(l, s->unit, i);
    if (s->from != now)
        return err_set(e, -EBADMSG,
                       "ladder %s: step %" PRIu32 " takes unit %" PRIu32
                       " from %s, but it is at %s",
                       l->name, i, s->unit, rung_name(s->from), rung_name(now));
    if (s->bytes > l->bytes[i])
        return err_set(e, -EBADMSG,
                       "ladder %s: step %" PRIu32 " frees %" PRIu64 " bytes of %" PRIu64, l->name,
                       i, s->bytes, l->bytes[i]);
    if (!isfinite(s->cost))
        return err_set(e, -EBADMSG, "ladder %s: the cost of step %" PRIu32 " is not a number",
                       l->name, i);
    for (int r = (int)now + 1; r <= (int)s->to; r++) l->reached[s->unit][r] = i + 1;
    l->bytes[i + 1] = l->bytes[i] - s->bytes;
    return 0;
}

static int allocate(struct ladder *l, const struct ladder_step *steps) {
    /* One entry more, so that an empty ladder is no special case. n_steps <= 3 * n_units. */
    l->steps = calloc((size_t)l->n_steps + 1, sizeof(*l->steps));
    l->bytes = calloc((size_t)l->n_steps + 1, sizeof(*l->bytes));
    l->reached = calloc((size_t)l->n_units + 1, sizeof(*l->reached));
    if (!l->steps || !l->bytes || !l->reached) return -ENOMEM;
    if (l->n_steps > 0) memcpy(l->steps, steps, l->n_steps * sizeof(*steps));
    for (uint32_t u = 0; u < l->n_units; u++)
        for (int r = RUNG_FULL + 1; r < RUNG_COUNT; r++) l->reached[u][r] = UINT32_MAX;
    return 0;
}

int ladder_create(const char *name, uint32_t n_units, uint64_t full_bytes,
                  const struct ladder_step *steps, uint32_t n_steps, struct ladder **ret,
                  struct err *e) {
    if (!name_ok(name))
        return err_set(e, -EBADMSG, "a ladder's name must be 1 to %d of a-z 0-9 _ -", MAX_NAME);
    if (n_steps / (RUNG_COUNT - 1) > n_units)
        return err_set(e, -EBADMSG, "ladder %s: %" PRIu32 " steps for %" PRIu32 " units", name,
                       n_steps, n_units);
    struct ladder *l = calloc(1, sizeof(*l));
    if (!l) return err_set(e, -ENOMEM, "ladder %s: no memory", name);
    strcpy(l->name, name);
    l->n_units = n_units;
    l->n_steps = n_steps;
    int r = allocate(l, steps);
    if (r < 0) {
        r = err_set(e, r, "ladder %s: no memory for %" PRIu32 " steps", name, n_steps);
        goto out;
    }
    l->bytes[0] = full_bytes;
    for (uint32_t i = 0; i < n_steps; i++)
        if ((r = take(l, i, e)) < 0) goto out;
    *ret = l;
    l = NULL;
out:
    ladder_destroy(l);
    return r;
}

void ladder_destroy(struct ladder *l) {
    if (!l) return;
    free(l->steps);
    free(l->bytes);
    free(l->reached);
    free(l);
}

const char *ladder_name(const struct ladder *l) {
    return l->name;
}

uint32_t ladder_n_units(const struct ladder *l) {
    return l->n_units;
}

uint32_t ladder_n_steps(const struct ladder *l) {
    return l->n_steps;
}

const struct ladder_step *ladder_step_at(const struct ladder *l, uint32_t i) {
    ASSERT(i < l->n_steps);
    return &l->steps[i];
}

uint64_t ladder_bytes(const struct ladder *l, uint32_t position) {
    ASSERT(position <= l->n_steps);
    return l->bytes[position];
}

uint32_t ladder_fit(const struct ladder *l, uint64_t bytes, bool *ret_fits) {
    uint32_t lo = 0, hi = l->n_steps;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (l->bytes[mid] <= bytes)
            hi = mid;
        else
            lo = mid + 1;
    }
    *ret_fits = l->bytes[lo] <= bytes;
    return lo;
}

enum rung ladder_rung(const struct ladder *l, uint32_t position, uint32_t unit) {
    ASSERT(position <= l->n_steps && unit < l->n_units);
    return rung_at(l, unit, position);
}

uint32_t ladder_all_at(const struct ladder *l, enum rung rung) {
    uint32_t position = 0;
    for (uint32_t u = 0; u < l->n_units; u++) position = MAX(position, l->reached[u][rung]);
    return position == UINT32_MAX ? l->n_steps + 1 : position;
}
