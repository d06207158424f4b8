/* The pager against a world that completes reads in any order, fails some, and changes its mind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/pager.h"
#include "tests/t.h"

enum { MAX_UNITS = 6, TRACES = 30000 };
enum { HIGH = 1 << PAGER_HIGH, LOW = 1 << PAGER_LOW, SWSC = 1 << PAGER_SWSC };

/* Where each part is, as the actions say. */
enum place { OUT, READING, CANCELLED, ARRIVED, IN };

struct world {
    struct ladder *l;
    struct pager *p;
    uint32_t n_units, n_steps;
    struct pager_unit units[MAX_UNITS];
    enum place at[MAX_UNITS][PAGER_PARTS];
    unsigned published_parts[MAX_UNITS];
    bool is_changed; /* since the last publication */
    uint32_t position;
    uint64_t budget, retired, now_us;
    unsigned max_reads;
};

/* ---- ladders ---- */

static void draw_unit(struct pager_unit *u, uint64_t *rng) {
    u->bytes[PAGER_SWSC] = 1 + t_rand(rng) % 1000;
    u->bytes[PAGER_HIGH] = u->bytes[PAGER_SWSC] + 1 + t_rand(rng) % 500;
    u->bytes[PAGER_LOW] = 1 + t_rand(rng) % 1000;
}

static uint64_t rung_bytes(const struct pager_unit *u, enum rung r) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < PAGER_PARTS; k++)
        if (pager_rung_parts(r) & 1u << k) sum += u->bytes[k];
    return sum;
}

/* Any ladder there can be: units come down in any order, leave rungs out, and stop anywhere. */
static void make_ladder(struct world *w, uint64_t *rng) {
    struct ladder_step steps[MAX_UNITS * (RUNG_COUNT - 1)];
    enum rung now[MAX_UNITS] = {RUNG_FULL};
    uint64_t full = 0;
    w->n_units = (uint32_t)(1 + t_rand(rng) % MAX_UNITS);
    for (uint32_t u = 0; u < w->n_units; u++) {
        draw_unit(&w->units[u], rng);
        full += rung_bytes(&w->units[u], RUNG_FULL);
    }
    uint32_t most = (uint32_t)(t_rand(rng) % (w->n_units * (RUNG_COUNT - 1) + 1));
    for (unsigned tries = 0; w->n_steps < most && tries < 100; tries++) {
        uint32_t u = (uint32_t)(t_rand(rng) % w->n_units);
        if (now[u] == RUNG_PAGED) continue;
        enum rung to = (enum rung)(now[u] + 1 + t_rand(rng) % (unsigned)(RUNG_PAGED - now[u]));
        steps[w->n_steps++] = (struct ladder_step){.unit = u,
                                                   .from = now[u],
                                                   .to = to,
                                                   .bytes = rung_bytes(&w->units[u], now[u]) -
                                                            rung_bytes(&w->units[u], to)};
        now[u] = to;
    }
    struct err e = {0};
    REQUIRE_OK(ladder_create("test", w->n_units, full, steps, w->n_steps, &w->l, &e), &e);
}

/* ---- the world ---- */

static unsigned parts_in(const struct world *w, uint32_t unit) {
    unsigned parts = 0;
    for (unsigned k = 0; k < PAGER_PARTS; k++)
        if (w->at[unit][k] == IN) parts |= 1u << k;
    return parts;
}

static uint64_t bytes_at(const struct world *w, enum place place) {
    uint64_t sum = 0;
    for (uint32_t u = 0; u < w->n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++)
            if (w->at[u][k] == place) sum += w->units[u].bytes[k];
    return sum;
}

static unsigned count_reads(const struct world *w) {
    unsigned n = 0;
    for (uint32_t u = 0; u < w->n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++)
            n += w->at[u][k] == READING || w->at[u][k] == CANCELLED;
    return n;
}

static uint64_t held(const struct world *w) {
    return bytes_at(w, IN) + bytes_at(w, READING) + bytes_at(w, CANCELLED) + bytes_at(w, ARRIVED) +
           w->retired;
}

static unsigned rung_parts(const struct world *w, uint32_t position, uint32_t unit) {
    return pager_rung_parts(ladder_rung(w->l, position, unit));
}

static void check_publication(struct world *w, const struct pager_action *a) {
    CHECK_EQU(a->position_from, w->position);
    CHECK(a->position <= w->n_steps);
    CHECK(a->position > w->position || a->position + 1 >= w->position); /* 2 */
    CHECK(a->position >= pager_target(w->p));
    for (uint32_t u = 0; u < w->n_units; u++) {
        unsigned want = rung_parts(w, a->position, u), have = parts_in(w, u);
        CHECK_EQU(have & ~want, 0);                 /* 3 */
        CHECK((want & ~have) == 0 || want == SWSC); /* 3 */
        w->published_parts[u] = have;
    }
    w->position = a->position;
    w->is_changed = false;
}

static enum place must_be(const struct world *w, const struct pager_action *a, enum place place) {
    REQUIRE(a->unit < w->n_units && (unsigned)a->part < PAGER_PARTS);
    CHECK_EQU(a->bytes, w->units[a->unit].bytes[a->part]);
    CHECK_EQ(w->at[a->unit][a->part], place);
    return place;
}

static void check_read(const struct world *w, const struct pager_action *a) {
    CHECK(held(w) <= w->budget);           /* 1 */
    CHECK(count_reads(w) <= w->max_reads); /* 6 */
    CHECK(!w->is_changed);
    bool is_wanted = rung_parts(w, w->position, a->unit) & 1u << a->part;
    for (uint32_t q = pager_target(w->p); q < w->position; q++)
        is_wanted |= rung_parts(w, q, a->unit) >> a->part & 1;
    CHECK(is_wanted);
}

/* 4: an extent that the published position holds leaves for a lower one, or after its planes have
 * joined the plan, or because they would not fit beside it. */
static void check_giving_way(const struct world *w, const struct pager_action *a) {
    const struct pager_unit *u = &w->units[a->unit];
    bool is_held = rung_parts(w, w->position, a->unit) == SWSC;
    if (!is_held || pager_target(w->p) >= w->position || w->at[a->unit][PAGER_HIGH] == IN) return;
    uint64_t rest = held(w) - w->retired;
    CHECK(rest + u->bytes[PAGER_HIGH] > w->budget || rest + u->bytes[PAGER_LOW] > w->budget);
}

/* Takes one action, checks that it was allowed; false at PAGER_NONE. */
static bool act(struct world *w) {
    struct pager_action a = pager_next(w->p, w->now_us);
    enum place *at = a.verb == PAGER_NONE || a.verb == PAGER_PUBLISH ? NULL
                                                                     : &w->at[a.unit][a.part];
    switch (a.verb) {
    case PAGER_NONE: break;
    case PAGER_DROP:
        must_be(w, &a, IN);
        if (a.part == PAGER_SWSC && !w->is_changed) check_giving_way(w, &a);
        *at = OUT;
        w->retired += a.bytes;
        pager_set_retired(w->p, w->retired);
        w->is_changed = true;
        break;
    case PAGER_ADD:
        must_be(w, &a, ARRIVED);
        CHECK(a.part != PAGER_LOW || w->at[a.unit][PAGER_HIGH] == IN);
        *at = IN;
        w->is_changed = true;
        break;
    case PAGER_PUBLISH: check_publication(w, &a); break;
    case PAGER_DISCARD:
        must_be(w, &a, ARRIVED);
        *at = OUT;
        break;
    case PAGER_READ:
        must_be(w, &a, OUT);
        *at = READING;
        check_read(w, &a);
        break;
    case PAGER_CANCEL:
        must_be(w, &a, READING);
        *at = CANCELLED;
        break;
    }
    CHECK_EQU(pager_position(w->p), w->position);
    CHECK_EQU(pager_reading_bytes(w->p), bytes_at(w, READING) + bytes_at(w, CANCELLED));
    CHECK_EQU(pager_arrived_bytes(w->p), bytes_at(w, ARRIVED));
    CHECK_EQU(pager_held_bytes(w->p), held(w));
    if (a.verb == PAGER_NONE) {
        CHECK(w->position >= pager_target(w->p));
        CHECK(!w->is_changed);
        uint64_t leaving = w->retired + bytes_at(w, CANCELLED); /* 8 */
        CHECK(held(w) - leaving <= MAX(w->budget, ladder_bytes(w->l, w->n_steps)));
        for (uint32_t u = 0; u < w->n_units; u++) {
            CHECK_EQU(parts_in(w, u), pager_parts(w->p, u));
            CHECK_EQU(parts_in(w, u), w->published_parts[u]);
        }
    }
    return a.verb != PAGER_NONE;
}

/* Completes the k-th of the reads under way. */
static void complete(struct world *w, unsigned n, enum pager_end end) {
    for (uint32_t u = 0; u < w->n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++) {
            enum place *at = &w->at[u][k];
            if (*at != READING && *at != CANCELLED) continue;
            if (n-- > 0) continue;
            if (*at == CANCELLED && end == PAGER_READ_FAILED) end = PAGER_READ_CANCELLED;
            bool is_kept = pager_read_done(w->p, u, (enum pager_part)k, end, w->now_us);
            CHECK(end == PAGER_READ_OK || !is_kept);
            *at = is_kept ? ARRIVED : OUT;
            return;
        }
}

static void set_target(struct world *w, uint32_t target, uint64_t budget) {
    w->budget = budget;
    pager_set_target(w->p, target, budget);
    bool is_enough;
    uint32_t lowest = ladder_fit(w->l, budget, &is_enough);
    CHECK_EQU(pager_target(w->p), target > lowest ? target : lowest);
}

static void disturb(struct world *w, uint64_t *rng) {
    unsigned n_reading = count_reads(w);
    uint64_t full = ladder_bytes(w->l, 0);
    w->now_us += t_rand(rng) % 3 ? 1000 : t_rand(rng) % (4 * PAGER_RETRY_US);
    switch (t_rand(rng) % 8) {
    case 0:
        set_target(w, (uint32_t)(t_rand(rng) % (w->n_steps + 1)),
                   t_rand(rng) % 4 ? t_rand(rng) % (full + full / 4) : UINT64_MAX);
        break;
    case 1: /* as the governor does it */
        set_target(w, w->position ? w->position - 1 : 0,
                   ladder_bytes(w->l, w->position ? w->position - 1 : 0) + t_rand(rng) % 50);
        break;
    case 2:
    case 3:
        if (n_reading)
            complete(w, (unsigned)(t_rand(rng) % n_reading),
                     t_rand(rng) % 4 ? PAGER_READ_OK : PAGER_READ_FAILED);
        break;
    case 4:
        w->retired = 0;
        pager_set_retired(w->p, 0);
        break;
    case 5: act(w); break;
    default:
        for (unsigned n = 0; act(w); n++) REQUIRE(n < 1000);
        break;
    }
}

/* Reads succeed, dropped bytes come back, time passes: the target must be reached, with all that
 * it holds, whatever the ladder and however tight the budget. */
static void settle(struct world *w) {
    unsigned n_idle = 0; /* twice, as the pause after a failure passes in between */
    for (unsigned turns = 0; n_idle < 2; turns++) {
        REQUIRE(turns < 1000);
        n_idle++;
        for (unsigned n = 0; act(w); n++) {
            REQUIRE(n < 1000);
            n_idle = 0;
        }
        if (w->retired) {
            w->retired = n_idle = 0;
            pager_set_retired(w->p, 0);
        } else if (count_reads(w)) {
            complete(w, 0, PAGER_READ_OK);
            n_idle = 0;
        }
        w->now_us += PAGER_RETRY_MAX_US;
    }
    CHECK_EQU(w->position, pager_target(w->p));
    CHECK_EQU(pager_reading_bytes(w->p), 0);
    CHECK_EQU(pager_arrived_bytes(w->p), 0);
    if (ladder_bytes(w->l, w->position) > w->budget) return; /* not even the lowest fits */
    CHECK_EQU(held(w), ladder_bytes(w->l, w->position));
    for (uint32_t u = 0; u < w->n_units; u++)
        CHECK_EQU(parts_in(w, u), rung_parts(w, w->position, u));
}

static void random_traces_keep_the_invariants(void) {
    uint64_t rng = t_seed();
    for (int trace = 0; trace < TRACES; trace++) {
        struct world w = {.budget = UINT64_MAX};
        struct err e = {0};
        make_ladder(&w, &rng);
        w.position = (uint32_t)(t_rand(&rng) % (w.n_steps + 1));
        w.max_reads = (unsigned)(1 + t_rand(&rng) % 3);
        for (uint32_t u = 0; u < w.n_units; u++) {
            w.published_parts[u] = rung_parts(&w, w.position, u);
            for (unsigned k = 0; k < PAGER_PARTS; k++)
                w.at[u][k] = w.published_parts[u] & 1u << k ? IN : OUT;
        }
        REQUIRE_OK(pager_create(w.l, w.units, w.position, w.max_reads, &w.p, &e), &e);
        for (unsigned i = (unsigned)(t_rand(&rng) % 80); i > 0; i--) disturb(&w, &rng);
        /* Budgets with no byte to spare are the hard ones. */
        uint32_t target = (uint32_t)(t_rand(&rng) % (w.n_steps + 1));
        set_target(&w, target,
                   t_rand(&rng) % 2 ? ladder_bytes(w.l, target)
                                    : t_rand(&rng) % (2 * ladder_bytes(w.l, 0)));
        settle(&w);
        pager_destroy(w.p);
        ladder_destroy(w.l);
    }
}

/* ---- by hand ---- */

static const struct pager_unit sizes[] = {
    {{60, 20, 40}}, {{60, 30, 40}}, {{60, 10, 40}}, {{60, 50, 40}}};

static struct ladder *make(const struct ladder_step *steps, uint32_t n) {
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", 4, 4 * 60 + 110, steps, n, &l, &e), &e);
    return l;
}

static struct ladder *three_steps(void) {
    static const struct ladder_step steps[] = {
        {.unit = 2, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10},
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 20},
        {.unit = 1, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 30},
    };
    return make(steps, 3);
}

/* Unit 2 goes all the way. */
static struct ladder *deep_steps(void) {
    static const struct ladder_step steps[] = {
        {.unit = 2, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10},
        {.unit = 2, .from = RUNG_HIGH, .to = RUNG_SWSC, .bytes = 20},
        {.unit = 2, .from = RUNG_SWSC, .to = RUNG_PAGED, .bytes = 40},
    };
    return make(steps, 3);
}

static struct pager *start(const struct ladder *l, uint32_t position, unsigned max_reads) {
    struct pager *p;
    struct err e = {0};
    REQUIRE_OK(pager_create(l, sizes, position, max_reads, &p, &e), &e);
    return p;
}

#define EXPECT(p, now, v, u, k)                                                                    \
    do {                                                                                           \
        struct pager_action a_ = pager_next(p, now);                                               \
        CHECK_EQ(a_.verb, v);                                                                      \
        CHECK_EQU(a_.unit, u);                                                                     \
        CHECK_EQ(a_.part, k);                                                                      \
    } while (0)
#define EXPECT_NONE(p, now) CHECK_EQ(pager_next(p, now).verb, PAGER_NONE)

static void expect_publish(struct pager *p, uint32_t from, uint32_t to, uint64_t bytes) {
    struct pager_action a = pager_next(p, 0);
    CHECK_EQ(a.verb, PAGER_PUBLISH);
    CHECK_EQU(a.position_from, from);
    CHECK_EQU(a.position, to);
    CHECK_EQU(a.bytes, bytes);
}

static void going_down_is_one_publication(void) {
    struct ladder *l = three_steps();
    struct pager *p = start(l, 0, 1);
    EXPECT_NONE(p, 0);
    pager_set_target(p, 3, 300);
    EXPECT(p, 0, PAGER_DROP, 0, PAGER_LOW);
    EXPECT(p, 0, PAGER_DROP, 1, PAGER_LOW);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_LOW);
    expect_publish(p, 0, 3, 60);
    EXPECT_NONE(p, 0);
    pager_destroy(p);
    ladder_destroy(l);
}

static void publications_follow_the_ladder(void) {
    struct ladder *l = three_steps();
    struct pager *p = start(l, 3, 2);
    pager_set_target(p, 0, UINT64_MAX);
    EXPECT(p, 0, PAGER_READ, 1, PAGER_LOW); /* the step taken last comes back first */
    EXPECT(p, 0, PAGER_READ, 0, PAGER_LOW);
    EXPECT_NONE(p, 0);                                         /* two reads at most */
    CHECK(pager_read_done(p, 0, PAGER_LOW, PAGER_READ_OK, 0)); /* out of order: must wait */
    EXPECT(p, 0, PAGER_READ, 2, PAGER_LOW);
    EXPECT_NONE(p, 0);
    CHECK(pager_read_done(p, 1, PAGER_LOW, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 1, PAGER_LOW);
    expect_publish(p, 3, 2, 30);
    EXPECT(p, 0, PAGER_ADD, 0, PAGER_LOW);
    expect_publish(p, 2, 1, 20);
    /* The target falls while the last one is on its way: it is not wanted any more. */
    pager_set_target(p, 1, UINT64_MAX);
    EXPECT(p, 0, PAGER_CANCEL, 2, PAGER_LOW);
    EXPECT_NONE(p, 0);
    CHECK(!pager_read_done(p, 2, PAGER_LOW, PAGER_READ_CANCELLED, 0));
    EXPECT_NONE(p, 0);
    /* A cancelled read is no failure: there is no pause. */
    pager_set_target(p, 0, UINT64_MAX);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_LOW);
    pager_destroy(p);
    ladder_destroy(l);
}

static void the_third_rung_is_read_after_the_drop(void) {
    struct ladder *l = deep_steps();
    struct pager *p = start(l, 0, 1);
    pager_set_target(p, 2, 320);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_LOW);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_HIGH);
    expect_publish(p, 0, 2, 70);
    CHECK_EQU(pager_parts(p, 2), 0); /* streamed meanwhile */
    pager_set_retired(p, 70);
    EXPECT_NONE(p, 0); /* no room yet */
    pager_set_retired(p, 0);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_SWSC);
    CHECK(pager_read_done(p, 2, PAGER_SWSC, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_SWSC);
    expect_publish(p, 2, 2, 40);
    CHECK_EQU(pager_parts(p, 2), SWSC);
    pager_set_target(p, 3, 280);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_SWSC);
    expect_publish(p, 2, 3, 40);
    EXPECT_NONE(p, 0);
    pager_set_target(p, 2, UINT64_MAX);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_SWSC);
    CHECK(pager_read_done(p, 2, PAGER_SWSC, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_SWSC);
    expect_publish(p, 3, 2, 40);
    pager_destroy(p);
    ladder_destroy(l);
}

static void planes_first_if_there_is_room(void) {
    struct ladder *l = deep_steps();
    struct pager *p = start(l, 2, 1); /* holds 280 + 40 */
    pager_set_target(p, 1, 380);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_HIGH);
    CHECK(pager_read_done(p, 2, PAGER_HIGH, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_HIGH);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_SWSC);
    expect_publish(p, 2, 1, 60);
    pager_destroy(p);

    /* One byte less, and the extent gives way. */
    p = start(l, 2, 1);
    pager_set_target(p, 1, 379);
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_SWSC);
    expect_publish(p, 2, 2, 0);
    CHECK_EQU(pager_parts(p, 2), 0);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_HIGH);
    EXPECT_NONE(p, 0);
    /* It comes back if the plane does not come. */
    CHECK(!pager_read_done(p, 2, PAGER_HIGH, PAGER_READ_FAILED, 0));
    EXPECT(p, 0, PAGER_READ, 2, PAGER_SWSC);
    CHECK(pager_read_done(p, 2, PAGER_SWSC, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_SWSC);
    expect_publish(p, 2, 2, 40);
    EXPECT_NONE(p, 0);
    EXPECT(p, PAGER_RETRY_US, PAGER_DROP, 2, PAGER_SWSC);
    expect_publish(p, 2, 2, 0);
    EXPECT(p, PAGER_RETRY_US, PAGER_READ, 2, PAGER_HIGH);
    CHECK(pager_read_done(p, 2, PAGER_HIGH, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_HIGH);
    expect_publish(p, 2, 1, 60);
    pager_destroy(p);
    ladder_destroy(l);
}

/* A budget that falls while a step up is under way leaves no room for what it was begun with. */
static void what_does_not_fit_any_more_is_given_up(void) {
    struct ladder *l = deep_steps();
    struct pager *p = start(l, 2, 1); /* holds 280 + 40 */
    pager_set_target(p, 1, 380);
    EXPECT(p, 0, PAGER_READ, 2, PAGER_HIGH);
    pager_set_target(p, 1, 379); /* the plane and the extent that it replaces */
    EXPECT(p, 0, PAGER_DROP, 2, PAGER_SWSC);
    expect_publish(p, 2, 2, 0);
    EXPECT_NONE(p, 0);
    CHECK(pager_read_done(p, 2, PAGER_HIGH, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 2, PAGER_HIGH);
    expect_publish(p, 2, 1, 60);
    pager_destroy(p);
    ladder_destroy(l);

    static const struct ladder_step steps[] = {
        {.unit = 3, .from = RUNG_FULL, .to = RUNG_SWSC, .bytes = 70},
        {.unit = 2, .from = RUNG_FULL, .to = RUNG_SWSC, .bytes = 30},
    };
    for (int i = 0; i < 2; i++) { /* what is ahead of its turn goes first, arrived or not */
        l = make(steps, 2);
        p = start(l, 2, 3); /* holds 250 */
        pager_set_target(p, 0, 390);
        EXPECT(p, 0, PAGER_READ, 2, PAGER_HIGH);
        EXPECT(p, 0, PAGER_READ, 2, PAGER_LOW);
        EXPECT(p, 0, PAGER_READ, 3, PAGER_HIGH);
        EXPECT_NONE(p, 0);
        if (i == 0) CHECK(pager_read_done(p, 3, PAGER_HIGH, PAGER_READ_OK, 0));
        pager_set_target(p, 0, 350);
        EXPECT(p, 0, i == 0 ? PAGER_DISCARD : PAGER_CANCEL, 3, PAGER_HIGH);
        EXPECT_NONE(p, 0);
        pager_destroy(p);
        ladder_destroy(l);
    }
}

static void two_parts_make_one_step(void) {
    static const struct ladder_step steps[] = {
        {.unit = 3, .from = RUNG_FULL, .to = RUNG_SWSC, .bytes = 70},
        {.unit = 3, .from = RUNG_SWSC, .to = RUNG_PAGED, .bytes = 40},
    };
    struct ladder *l = make(steps, 2);
    struct pager *p = start(l, 1, 2);
    pager_set_target(p, 0, UINT64_MAX);
    EXPECT(p, 0, PAGER_READ, 3, PAGER_HIGH);
    EXPECT(p, 0, PAGER_READ, 3, PAGER_LOW);
    CHECK(pager_read_done(p, 3, PAGER_LOW, PAGER_READ_OK, 0));
    EXPECT_NONE(p, 0);
    CHECK(pager_read_done(p, 3, PAGER_HIGH, PAGER_READ_OK, 0));
    EXPECT(p, 0, PAGER_ADD, 3, PAGER_HIGH);
    EXPECT(p, 0, PAGER_ADD, 3, PAGER_LOW);
    EXPECT(p, 0, PAGER_DROP, 3, PAGER_SWSC);
    expect_publish(p, 1, 0, 110);
    pager_destroy(p);
    ladder_destroy(l);
}

static void a_failed_read_waits(void) {
    struct ladder *l = three_steps();
    struct pager *p = start(l, 2, 2);
    uint64_t now = 5;
    pager_set_target(p, 1, UINT64_MAX);
    EXPECT(p, now, PAGER_READ, 0, PAGER_LOW);
    for (uint64_t pause = PAGER_RETRY_US; pause < 4 * PAGER_RETRY_MAX_US; pause *= 2) {
        uint64_t wait = pause < PAGER_RETRY_MAX_US ? pause : PAGER_RETRY_MAX_US;
        CHECK(!pager_read_done(p, 0, PAGER_LOW, PAGER_READ_FAILED, now));
        pager_set_target(p, 0, UINT64_MAX); /* nor is anything read that lies beyond it */
        EXPECT_NONE(p, now + wait - 1);
        now += wait;
        EXPECT(p, now, PAGER_READ, 0, PAGER_LOW);
        EXPECT(p, now, PAGER_READ, 2, PAGER_LOW); /* ahead of its turn */
        CHECK(pager_read_done(p, 2, PAGER_LOW, PAGER_READ_OK, now));
        pager_set_target(p, 1, UINT64_MAX);
        EXPECT(p, now, PAGER_DISCARD, 2, PAGER_LOW);
    }
    CHECK(pager_read_done(p, 0, PAGER_LOW, PAGER_READ_OK, now));
    EXPECT(p, now, PAGER_ADD, 0, PAGER_LOW);
    expect_publish(p, 2, 1, 20);
    /* A success ends the row of failures. */
    pager_set_target(p, 2, UINT64_MAX);
    EXPECT(p, now, PAGER_DROP, 0, PAGER_LOW);
    expect_publish(p, 1, 2, 20);
    pager_set_target(p, 1, UINT64_MAX);
    EXPECT(p, now, PAGER_READ, 0, PAGER_LOW);
    CHECK(!pager_read_done(p, 0, PAGER_LOW, PAGER_READ_FAILED, now));
    EXPECT(p, now + PAGER_RETRY_US, PAGER_READ, 0, PAGER_LOW);
    pager_destroy(p);
    ladder_destroy(l);
}

static void retired_bytes_hold_reads_back(void) {
    struct ladder *l = three_steps();
    struct pager *p = start(l, 3, 1); /* holds 290 */
    pager_set_retired(p, 60);
    pager_set_target(p, 0, 350);
    EXPECT_NONE(p, 0);
    pager_set_retired(p, 0);
    EXPECT(p, 0, PAGER_READ, 1, PAGER_LOW);
    pager_destroy(p);
    ladder_destroy(l);
}

static void bad_arguments_are_refused(void) {
    struct pager_unit other[4];
    struct ladder *l = three_steps();
    struct pager *p = NULL;
    struct err e = {0};
    CHECK_EQ(pager_create(l, sizes, 4, 1, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "position 4: the ladder ends at 3");
    CHECK_EQ(pager_create(l, sizes, 0, 0, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "at least one read must be allowed");
    memcpy(other, sizes, sizeof(other));
    other[1].bytes[PAGER_HIGH]++;
    CHECK_EQ(pager_create(l, other, 0, 1, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "the units' planes are not the ladder's bytes");
    other[1].bytes[PAGER_LOW]--;
    CHECK_EQ(pager_create(l, other, 0, 1, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "ladder step 2 does not free what its rungs differ by");
    CHECK(p == NULL);
    ladder_destroy(l);
    pager_destroy(NULL);
}

static const struct t_case cases[] = {
    {"random_traces_keep_the_invariants", random_traces_keep_the_invariants},
    {"going_down_is_one_publication", going_down_is_one_publication},
    {"publications_follow_the_ladder", publications_follow_the_ladder},
    {"the_third_rung_is_read_after_the_drop", the_third_rung_is_read_after_the_drop},
    {"planes_first_if_there_is_room", planes_first_if_there_is_room},
    {"what_does_not_fit_any_more_is_given_up", what_does_not_fit_any_more_is_given_up},
    {"two_parts_make_one_step", two_parts_make_one_step},
    {"a_failed_read_waits", a_failed_read_waits},
    {"retired_bytes_hold_reads_back", retired_bytes_hold_reads_back},
    {"bad_arguments_are_refused", bad_arguments_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
