/* spans: every item once, a lane's own in order, what others leave from their ends. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/defs.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/spans.h"
#include "tests/t.h"

enum { MAX_LANES = 5, MAX_ITEMS = 300 };

static void a_lane_takes_its_own_in_order(void) {
    struct span s[3];
    uint32_t item;
    spans_set(s, 3, 10); /* 0..2, 3..5, 6..9 */
    for (uint32_t want = 3; want <= 5; want++) {
        CHECK(spans_take(s, 3, 1, &item));
        CHECK_EQU(item, want);
    }
    CHECK(spans_take(s, 3, 0, &item));
    CHECK_EQU(item, 0);
}

static void what_is_left_goes_from_the_ends(void) {
    static const uint32_t want[] = {3, 4, 5, 9, 8, 7, 6, 2, 1, 0};
    struct span s[3];
    uint32_t item;
    spans_set(s, 3, 10);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        CHECK(spans_take(s, 3, 1, &item));
        CHECK_EQU(item, want[i]);
    }
    for (unsigned lane = 0; lane < 3; lane++) CHECK(!spans_take(s, 3, lane, &item));
}

/* Few items and many lanes, and a lane picked at random each time. */
static void every_item_is_given_once(void) {
    uint64_t rng = t_seed();
    for (int round = 0; round < 2000; round++) {
        struct span s[MAX_LANES];
        bool was_given[MAX_ITEMS] = {false};
        unsigned n = 1 + (unsigned)(t_rand(&rng) % MAX_LANES);
        uint32_t n_items = (uint32_t)(t_rand(&rng) % (round % 2 ? MAX_ITEMS : 8)), item;
        spans_set(s, n, n_items);
        for (uint32_t i = 0; i < n_items; i++) {
            REQUIRE(spans_take(s, n, (unsigned)(t_rand(&rng) % n), &item));
            REQUIRE(item < n_items && !was_given[item]);
            was_given[item] = true;
        }
        for (unsigned lane = 0; lane < n; lane++) CHECK(!spans_take(s, n, lane, &item));
    }
}

struct race {
    struct span s[MAX_LANES];
    _Atomic uint32_t n_given[MAX_ITEMS];
};

static void take_all(void *ud, uint32_t lane) {
    struct race *r = ud;
    uint32_t item;
    while (spans_take(r->s, MAX_LANES, lane, &item))
        atomic_fetch_add_explicit(&r->n_given[item], 1, memory_order_relaxed);
}

static void threads_share_them_out(void) {
    static struct race r;
    struct pool *p;
    struct err e = {0};
    REQUIRE_OK(pool_create(4, &p, &e), &e);
    for (uint32_t round = 1; round <= 2000; round++) {
        spans_set(r.s, MAX_LANES, MAX_ITEMS);
        pool_run(p, take_all, &r, MAX_LANES);
        for (uint32_t i = 0; i < MAX_ITEMS; i++) REQUIRE(r.n_given[i] == round);
    }
    pool_destroy(p);
}

static const struct t_case cases[] = {
    {"a_lane_takes_its_own_in_order", a_lane_takes_its_own_in_order},
    {"what_is_left_goes_from_the_ends", what_is_left_goes_from_the_ends},
    {"every_item_is_given_once", every_item_is_given_once},
    {"threads_share_them_out", threads_share_them_out},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
