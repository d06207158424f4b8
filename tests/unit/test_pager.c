/* The pager against a world that completes reads in any order, fails some, and changes its mind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/pager.h"
#include "tests/t.h"

enum { MAX_STEPS = 12, BASE_BYTES = 500 };

/* A ladder of n steps over n + 1 units, in a shuffled order of units; unit `n` never moves. */
static struct ladder *make_ladder(uint64_t *rng, uint32_t n) {
    struct ladder_step steps[MAX_STEPS];
    uint64_t full = BASE_BYTES;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)(t_rand(rng) % (i + 1));
        steps[i] = (struct ladder_step){.from = RUNG_FULL, .to = RUNG_HIGH};
        steps[i].unit = steps[at].unit;
        steps[at].unit = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        steps[i].bytes = 1 + t_rand(rng) % 1000;
        full += steps[i].bytes;
    }
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("test", n + 1, full, steps, n, &l, &e), &e);
    return l;
}

enum place { OUT, READING, ARRIVED, IN };

struct world {
    const struct ladder *l;
    struct pager *p;
    uint32_t n;
    uint32_t position;
    uint32_t target; /* as asked for */
    uint64_t budget;
    uint64_t retired;
    unsigned max_reads;
    enum place low[MAX_STEPS]; /* by step */
};

static uint32_t step_of(const struct world *w, uint32_t unit) {
    uint32_t i = 0;
    while (i < w->n && ladder_step_at(w->l, i)->unit != unit) i++;
    REQUIRE(i < w->n);
    return i;
}

static uint64_t bytes_at(const struct world *w, enum place place) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->low[i] == place) sum += ladder_step_at(w->l, i)->bytes;
    return sum;
}

static unsigned count_at(const struct world *w, enum place place) {
    unsigned n = 0;
    for (uint32_t i = 0; i < w->n; i++) n += w->low[i] == place;
    return n;
}

/* Takes one action, checks that it was allowed; false at PAGER_NONE. */
static bool act(struct world *w) {
    struct pager_action a = pager_next(w->p);
    CHECK_EQU(a.position_from, w->position);
    switch (a.verb) {
    case PAGER_NONE: break;
    case PAGER_DROP: {
        CHECK(a.position > w->position && a.position <= w->n);
        uint64_t sum = 0;
        for (uint32_t i = w->position; i < a.position; i++) {
            CHECK_EQ(w->low[i], IN);
            w->low[i] = OUT;
            sum += ladder_step_at(w->l, i)->bytes;
        }
        CHECK_EQU(a.bytes, sum);
        w->retired += sum;
        pager_set_retired(w->p, w->retired);
        w->position = a.position;
        break;
    }
    case PAGER_DISCARD: {
        uint32_t i = step_of(w, a.unit);
        CHECK_EQ(w->low[i], ARRIVED);
        CHECK(i < pager_target(w->p));
        w->low[i] = OUT;
        break;
    }
    case PAGER_READ: {
        uint32_t i = step_of(w, a.unit);
        CHECK_EQ(w->low[i], OUT);
        CHECK(i < w->position && i >= pager_target(w->p));
        CHECK_EQU(a.bytes, ladder_step_at(w->l, i)->bytes);
        w->low[i] = READING;
        /* Invariants 1 and 3. */
        CHECK(BASE_BYTES + bytes_at(w, IN) + bytes_at(w, READING) + bytes_at(w, ARRIVED) +
                  w->retired <=
              w->budget);
        CHECK(count_at(w, READING) <= w->max_reads);
        break;
    }
    case PAGER_PUBLISH: {
        uint32_t i = step_of(w, a.unit);
        CHECK_EQU(i, w->position - 1);
        CHECK_EQU(a.position, i);
        CHECK_EQ(w->low[i], ARRIVED);
        CHECK(a.position >= pager_target(w->p));
        w->low[i] = IN;
        w->position = a.position;
        break;
    }
    }
    /* Invariant 2: what is in is exactly the steps not taken. */
    for (uint32_t i = 0; i < w->n; i++) CHECK_EQ(w->low[i] == IN, i >= w->position);
    CHECK_EQU(pager_position(w->p), w->position);
    CHECK_EQU(pager_reading_bytes(w->p), bytes_at(w, READING));
    CHECK_EQU(pager_arrived_bytes(w->p), bytes_at(w, ARRIVED));
    if (a.verb == PAGER_NONE) CHECK(w->position >= pager_target(w->p));
    return a.verb != PAGER_NONE;
}

/* Completes the k-th of the reads under way. */
static void complete(struct world *w, unsigned k, bool ok) {
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->low[i] != READING || k-- > 0) continue;
        bool is_kept = pager_read_done(w->p, ladder_step_at(w->l, i)->unit, ok);
        CHECK_EQ(is_kept, ok && i >= pager_target(w->p));
        w->low[i] = is_kept ? ARRIVED : OUT;
        return;
    }
}

static void set_target(struct world *w, uint32_t target, uint64_t budget) {
    w->target = target;
    w->budget = budget;
    pager_set_target(w->p, target, budget);
    bool fits;
    uint32_t lowest = ladder_fit(w->l, budget, &fits);
    CHECK_EQU(pager_target(w->p), target > lowest ? target : lowest);
}

static void disturb(struct world *w, uint64_t *rng) {
    unsigned n_reading = count_at(w, READING);
    uint64_t full = ladder_bytes(w->l, 0);
    switch (t_rand(rng) % 6) {
    case 0:
        set_target(w, (uint32_t)(t_rand(rng) % (w->n + 1)),
                   t_rand(rng) % 4 ? t_rand(rng) % (full + full / 4) : UINT64_MAX);
        break;
    case 1:
    case 2:
        if (n_reading) complete(w, (unsigned)(t_rand(rng) % n_reading), t_rand(rng) % 4 != 0);
        break;
    case 3:
        w->retired = 0;
        pager_set_retired(w->p, 0);
        break;
    case 4: act(w); break;
    default:
        while (act(w)) {
        }
        break;
    }
}

/* Reads succeed, dropped bytes come back: the target must be reached. */
static void settle(struct world *w) {
    for (;;) {
        while (act(w)) {
        }
        if (w->retired) {
            w->retired = 0;
            pager_set_retired(w->p, 0);
        } else if (count_at(w, READING)) {
            complete(w, 0, true);
        } else {
            break;
        }
    }
    CHECK_EQU(w->position, pager_target(w->p));
    CHECK_EQU(pager_reading_bytes(w->p), 0);
    CHECK_EQU(pager_arrived_bytes(w->p), 0);
}

static void random_traces_keep_the_invariants(void) {
    uint64_t rng = t_seed();
    for (int trace = 0; trace < 100000; trace++) {
        struct world w = {.n = (uint32_t)(1 + t_rand(&rng) % MAX_STEPS)};
        struct err e = {0};
        struct ladder *l = make_ladder(&rng, w.n);
        w.l = l;
        w.position = w.target = (uint32_t)(t_rand(&rng) % (w.n + 1));
        w.max_reads = (unsigned)(1 + t_rand(&rng) % 3);
        w.budget = UINT64_MAX;
        for (uint32_t i = w.position; i < w.n; i++) w.low[i] = IN;
        REQUIRE_OK(pager_create(l, w.position, w.max_reads, &w.p, &e), &e);
        for (unsigned i = (unsigned)(t_rand(&rng) % 40); i > 0; i--) disturb(&w, &rng);
        /* Another target than the last, so that failed reads are tried again. */
        uint32_t target = (uint32_t)(t_rand(&rng) % (w.n + 1));
        set_target(&w, target ? 0 : w.n, UINT64_MAX);
        set_target(&w, target, t_rand(&rng) % (2 * ladder_bytes(l, 0)));
        settle(&w);
        pager_destroy(w.p);
        ladder_destroy(l);
    }
}

static struct ladder *three_steps(void) {
    static const struct ladder_step steps[] = {
        {.unit = 2, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10},
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 20},
        {.unit = 1, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 30},
    };
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("t", 4, 100, steps, 3, &l, &e), &e);
    return l;
}

static void going_down_is_one_action(void) {
    struct ladder *l = three_steps();
    struct pager *p;
    struct err e = {0};
    REQUIRE_OK(pager_create(l, 0, 1, &p, &e), &e);
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_set_target(p, 3, 40);
    struct pager_action a = pager_next(p);
    CHECK_EQ(a.verb, PAGER_DROP);
    CHECK_EQU(a.position_from, 0);
    CHECK_EQU(a.position, 3);
    CHECK_EQU(a.bytes, 60);
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_destroy(p);
    ladder_destroy(l);
}

static void publications_follow_the_ladder(void) {
    struct ladder *l = three_steps();
    struct pager *p;
    struct err e = {0};
    REQUIRE_OK(pager_create(l, 3, 2, &p, &e), &e);
    pager_set_target(p, 0, UINT64_MAX);
    CHECK_EQU(pager_next(p).unit, 1); /* the step taken last comes back first */
    CHECK_EQU(pager_next(p).unit, 0);
    CHECK_EQ(pager_next(p).verb, PAGER_NONE); /* two reads at most */
    CHECK(pager_read_done(p, 0, true));       /* out of order: must wait */
    struct pager_action a = pager_next(p);
    CHECK_EQ(a.verb, PAGER_READ);
    CHECK_EQU(a.unit, 2);
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    CHECK(pager_read_done(p, 1, true));
    a = pager_next(p);
    CHECK_EQ(a.verb, PAGER_PUBLISH);
    CHECK_EQU(a.unit, 1);
    CHECK_EQU(a.position, 2);
    a = pager_next(p);
    CHECK_EQ(a.verb, PAGER_PUBLISH);
    CHECK_EQU(a.unit, 0);
    CHECK_EQU(a.position, 1);
    /* The target falls while the last one is on its way: it is not wanted any more. */
    pager_set_target(p, 1, UINT64_MAX);
    CHECK(!pager_read_done(p, 2, true));
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_destroy(p);
    ladder_destroy(l);
}

static void a_failed_read_waits_for_another_target(void) {
    struct ladder *l = three_steps();
    struct pager *p;
    struct err e = {0};
    REQUIRE_OK(pager_create(l, 2, 2, &p, &e), &e);
    pager_set_target(p, 1, UINT64_MAX);
    CHECK_EQ(pager_next(p).verb, PAGER_READ);
    CHECK(!pager_read_done(p, 0, false));
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_set_target(p, 1, 1000); /* the same one */
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_set_target(p, 2, UINT64_MAX);
    pager_set_target(p, 1, UINT64_MAX);
    CHECK_EQ(pager_next(p).verb, PAGER_READ);
    /* Nor is anything read that lies beyond it, as it could not be published. */
    pager_set_target(p, 0, UINT64_MAX);
    CHECK(!pager_read_done(p, 0, false));
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_destroy(p);
    ladder_destroy(l);
}

static void retired_bytes_hold_reads_back(void) {
    struct ladder *l = three_steps();
    struct pager *p;
    struct err e = {0};
    REQUIRE_OK(pager_create(l, 0, 1, &p, &e), &e);
    pager_set_target(p, 3, 100);
    CHECK_EQ(pager_next(p).verb, PAGER_DROP);
    pager_set_retired(p, 60);
    pager_set_target(p, 0, 100);
    CHECK_EQ(pager_next(p).verb, PAGER_NONE);
    pager_set_retired(p, 0);
    CHECK_EQ(pager_next(p).verb, PAGER_READ);
    pager_destroy(p);
    ladder_destroy(l);
}

static void bad_arguments_are_refused(void) {
    static const struct ladder_step deep[] = {
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10},
        {.unit = 0, .from = RUNG_HIGH, .to = RUNG_PAGED, .bytes = 10},
    };
    struct ladder *l = three_steps();
    struct pager *p = NULL;
    struct err e = {0};
    CHECK_EQ(pager_create(l, 4, 1, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "position 4: the ladder ends at 3");
    CHECK_EQ(pager_create(l, 0, 0, &p, &e), -EINVAL);
    CHECK_STR(e.msg, "at least one read must be allowed");
    ladder_destroy(l);
    REQUIRE_OK(ladder_create("t", 1, 100, deep, 2, &l, &e), &e);
    CHECK_EQ(pager_create(l, 0, 1, &p, &e), -ENOTSUP);
    CHECK_STR(e.msg, "ladder step 1 goes from high to paged; only full to high is served");
    CHECK(p == NULL);
    ladder_destroy(l);
    pager_destroy(NULL);
}

static const struct t_case cases[] = {
    {"random_traces_keep_the_invariants", random_traces_keep_the_invariants},
    {"going_down_is_one_action", going_down_is_one_action},
    {"publications_follow_the_ladder", publications_follow_the_ladder},
    {"a_failed_read_waits_for_another_target", a_failed_read_waits_for_another_target},
    {"retired_bytes_hold_reads_back", retired_bytes_hold_reads_back},
    {"bad_arguments_are_refused", bad_arguments_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
