/* hull: on small cases against all plans there are; on all cases, that plans are nested, bytes only
 * fall, a smaller budget never raises a unit and ladder.h takes the steps. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/hull.h"
#include "tests/t.h"

enum { MAX_UNITS = 40, MAX_STEPS = MAX_UNITS * (RUNG_COUNT - 1) };

static uint64_t rng;

static uint64_t draw(uint64_t n) {
    return t_rand(&rng) % n;
}

/* Few different values, so that ties and points on one line occur; unless is_strict, also rungs
 * that free nothing. */
static void units_draw(struct hull_unit *u, uint32_t n, bool is_strict, bool with_negative) {
    for (uint32_t i = 0; i < n; i++) {
        u[i] = (struct hull_unit){.rungs = 1, .may_page = draw(3) > 0};
        u[i].bytes[RUNG_FULL] = 60 + 10 * draw(5);
        for (uint32_t r = 1; r < HULL_RUNGS; r++) {
            if (draw(4)) u[i].rungs |= 1u << r;
            u[i].bytes[r] = 10 * (draw(is_strict ? 2 : 3) + (uint64_t)(2 - r) * 2) + 10;
            u[i].loss[r] = u[i].loss[r - 1] + 0.25 * (double)draw(9) - (with_negative ? 0.75 : 0.0);
        }
    }
}

static uint64_t full_bytes(const struct hull_unit *u, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += u[i].bytes[RUNG_FULL];
    return sum;
}

static struct ladder *ladder_of(const struct hull_unit *u, uint32_t n,
                                const struct ladder_step *steps, uint32_t n_steps) {
    struct err e = {0};
    struct ladder *l = NULL;
    REQUIRE_OK(ladder_create("x", n, full_bytes(u, n), steps, n_steps, &l, &e), &e);
    return l;
}

static void check_properties(const struct hull_unit *u, uint32_t n, const struct ladder *l) {
    uint32_t n_steps = ladder_n_steps(l);
    for (uint32_t p = 0; p < n_steps; p++) {
        CHECK(ladder_bytes(l, p + 1) < ladder_bytes(l, p));
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            enum rung r = ladder_rung(l, p + 1, i);
            if (r != RUNG_PAGED) {
                CHECK(u[i].rungs >> r & 1);
                sum += u[i].bytes[r];
            }
        }
        CHECK_EQU(sum, ladder_bytes(l, p + 1));
    }
    enum rung before[MAX_UNITS] = {0};
    for (uint64_t budget = ladder_bytes(l, 0) + 10; budget > 0; budget -= MIN(budget, 5u)) {
        bool fits;
        uint32_t p = ladder_fit(l, budget, &fits);
        CHECK(!fits || ladder_bytes(l, p) <= budget);
        for (uint32_t i = 0; i < n; i++) {
            CHECK(ladder_rung(l, p, i) >= before[i]);
            before[i] = ladder_rung(l, p, i);
        }
    }
}

/* ---- against all plans ---- */

static double plan_loss(const struct hull_unit *u, uint32_t n, const enum rung *at,
                        uint64_t *ret_bytes) {
    double loss = 0;
    *ret_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        loss += u[i].loss[at[i]];
        *ret_bytes += u[i].bytes[at[i]];
    }
    return loss;
}

/* No plan with as many bytes has less loss than the prefix; none with fewer, once bytes cost. */
static void check_best(const struct hull_unit *u, uint32_t n, const struct ladder *l, uint32_t p) {
    enum rung at[MAX_UNITS];
    uint64_t bytes, most;
    for (uint32_t i = 0; i < n; i++) at[i] = ladder_rung(l, p, i);
    double best = plan_loss(u, n, at, &most);
    bool is_priced = p > 0 && ladder_step_at(l, p - 1)->cost >= 0;
    uint32_t n_plans = 1;
    for (uint32_t i = 0; i < n; i++) n_plans *= HULL_RUNGS;
    for (uint32_t k = 0; k < n_plans; k++) {
        bool exists = true;
        for (uint32_t i = 0, x = k; i < n; i++, x /= HULL_RUNGS) {
            at[i] = (enum rung)(x % HULL_RUNGS);
            exists = exists && (u[i].rungs >> at[i] & 1);
        }
        if (!exists) continue;
        double loss = plan_loss(u, n, at, &bytes);
        if (bytes == most || (is_priced && bytes < most)) CHECK(loss >= best - 1e-9);
    }
}

static void every_prefix_is_the_best_of_its_size(void) {
    struct err e = {0};
    rng = t_seed();
    for (int round = 0; round < 300; round++) {
        struct hull_unit u[5];
        struct ladder_step steps[MAX_STEPS];
        uint32_t n = 1 + (uint32_t)draw(5), n_steps;
        units_draw(u, n, true, round % 2);
        REQUIRE_OK(hull_ladder(u, n, false, steps, &n_steps, &e), &e);
        struct ladder *l = ladder_of(u, n, steps, n_steps);
        for (uint32_t p = 0; p <= n_steps; p++) check_best(u, n, l, p);
        ladder_destroy(l);
    }
}

static void plans_are_nested(void) {
    struct err e = {0};
    rng = t_seed() + 1;
    for (int round = 0; round < 200; round++) {
        struct hull_unit u[MAX_UNITS];
        struct ladder_step steps[MAX_STEPS];
        float importance[MAX_UNITS];
        uint32_t n = 1 + (uint32_t)draw(MAX_UNITS), n_steps;
        units_draw(u, n, false, round % 3 == 0);
        for (uint32_t i = 0; i < n; i++) importance[i] = (float)draw(5);
        int r = round % 2 ? hull_ladder(u, n, round % 4 < 2, steps, &n_steps, &e)
                          : hull_ranked(u, n, importance, round % 4 < 2, steps, &n_steps, &e);
        REQUIRE_OK(r, &e);
        CHECK(n_steps <= hull_max_steps(n));
        struct ladder *l = ladder_of(u, n, steps, n_steps);
        check_properties(u, n, l);
        ladder_destroy(l);
    }
}

/* ---- by hand ---- */

static void check_step(const struct ladder_step *s, uint32_t unit, enum rung from, enum rung to,
                       uint64_t bytes, float cost) {
    CHECK_EQU(s->unit, unit);
    CHECK_EQ(s->from, from);
    CHECK_EQ(s->to, to);
    CHECK_EQU(s->bytes, bytes);
    CHECK_NEAR(s->cost, cost, 1e-6);
}

/* Unit 0: prices 0.1 and 0.3. Unit 1: high lies above the line from full to swsc, price 0.2. Unit
 * 2: swsc frees nothing; a loss that falls. Unit 3 as unit 0 without swsc. */
static const struct hull_unit by_hand[4] = {
    {.rungs = 7, .bytes = {100, 60, 30}, .loss = {0, 4, 13}, .may_page = true},
    {.rungs = 7, .bytes = {100, 60, 40}, .loss = {0, 11, 12}, .may_page = true},
    {.rungs = 7, .bytes = {100, 50, 50}, .loss = {0, -1, 3}, .may_page = false},
    {.rungs = 3, .bytes = {100, 60}, .loss = {0, 4}, .may_page = true},
};

static void edges_are_sorted_by_price(void) {
    struct err e = {0};
    struct ladder_step s[12];
    uint32_t n;
    REQUIRE_OK(hull_ladder(by_hand, 4, true, s, &n, &e), &e);
    REQUIRE(n == 8);
    check_step(&s[0], 2, RUNG_FULL, RUNG_HIGH, 50, -1);
    check_step(&s[1], 0, RUNG_FULL, RUNG_HIGH, 40, 4);
    check_step(&s[2], 3, RUNG_FULL, RUNG_HIGH, 40, 4);
    check_step(&s[3], 1, RUNG_FULL, RUNG_SWSC, 60, 12);
    check_step(&s[4], 0, RUNG_HIGH, RUNG_SWSC, 30, 9);
    /* In the order in which they came to their last resident rung: unit 2 may not. */
    check_step(&s[5], 3, RUNG_HIGH, RUNG_PAGED, 60, 0);
    check_step(&s[6], 1, RUNG_SWSC, RUNG_PAGED, 40, 0);
    check_step(&s[7], 0, RUNG_SWSC, RUNG_PAGED, 30, 0);
    REQUIRE_OK(hull_ladder(by_hand, 4, false, s, &n, &e), &e);
    CHECK_EQU(n, 5);
}

static void ranks_go_rung_by_rung(void) {
    static const float importance[4] = {0.5f, 0.25f, 1.0f, 0.25f};
    struct err e = {0};
    struct ladder_step s[12];
    uint32_t n;
    REQUIRE_OK(hull_ranked(by_hand, 4, importance, true, s, &n, &e), &e);
    REQUIRE(n == 9);
    check_step(&s[0], 1, RUNG_FULL, RUNG_HIGH, 40, 0.25f);
    check_step(&s[1], 3, RUNG_FULL, RUNG_HIGH, 40, 0.25f);
    check_step(&s[2], 0, RUNG_FULL, RUNG_HIGH, 40, 0.5f);
    check_step(&s[3], 2, RUNG_FULL, RUNG_HIGH, 50, 1.0f);
    check_step(&s[4], 1, RUNG_HIGH, RUNG_SWSC, 20, 0.25f);
    check_step(&s[5], 0, RUNG_HIGH, RUNG_SWSC, 30, 0.5f);
    check_step(&s[6], 3, RUNG_HIGH, RUNG_PAGED, 60, 0);
    check_step(&s[7], 1, RUNG_SWSC, RUNG_PAGED, 40, 0);
    check_step(&s[8], 0, RUNG_SWSC, RUNG_PAGED, 30, 0);
}

static void a_unit_that_only_pages_goes_first(void) {
    static const struct hull_unit u[2] = {
        {.rungs = 3, .bytes = {10, 5}, .loss = {0, 1}, .may_page = true},
        {.rungs = 1, .bytes = {10}, .may_page = true},
    };
    struct err e = {0};
    struct ladder_step s[6];
    uint32_t n;
    REQUIRE_OK(hull_ladder(u, 2, true, s, &n, &e), &e);
    REQUIRE(n == 3);
    check_step(&s[1], 1, RUNG_FULL, RUNG_PAGED, 10, 0);
    check_step(&s[2], 0, RUNG_HIGH, RUNG_PAGED, 5, 0);
    REQUIRE_OK(hull_ladder(u, 0, true, s, &n, &e), &e);
    CHECK_EQU(n, 0);
}

static void what_was_not_measured_is_refused(void) {
    struct err e = {0};
    struct hull_unit u[2] = {by_hand[0], by_hand[1]};
    float importance[2] = {1.0f, NAN};
    struct ladder_step s[6];
    uint32_t n;
    u[1].loss[RUNG_SWSC] = NAN;
    CHECK_EQ(hull_ladder(u, 2, false, s, &n, &e), -EINVAL);
    CHECK_STR(e.msg, "unit 1: its loss at swsc was not measured");
    CHECK_EQ(hull_ranked(u, 2, importance, false, s, &n, &e), -EINVAL);
    CHECK_STR(e.msg, "unit 1: its importance was not measured");
    u[0].rungs = 6;
    CHECK_EQ(hull_ladder(u, 2, false, s, &n, &e), -EINVAL);
    CHECK_STR(e.msg, "unit 0 has no rung full");
    CHECK_EQ(hull_ranked(u, 2, importance, false, s, &n, &e), -EINVAL);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"every_prefix_is_the_best_of_its_size", every_prefix_is_the_best_of_its_size},
        {"plans_are_nested", plans_are_nested},
        {"edges_are_sorted_by_price", edges_are_sorted_by_price},
        {"ranks_go_rung_by_rung", ranks_go_rung_by_rung},
        {"a_unit_that_only_pages_goes_first", a_unit_that_only_pages_goes_first},
        {"what_was_not_measured_is_refused", what_was_not_measured_is_refused},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
