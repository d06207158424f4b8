/* ladder: the errors one by one, then properties on random ladders. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "tests/t.h"

#define STEP(u, f, t, b, c)                                                                        \
    (struct ladder_step) {                                                                         \
        .unit = (u), .from = (f), .to = (t), .bytes = (b), .cost = (c)                             \
    }

static int make(uint32_t n_units, uint64_t full, const struct ladder_step *s, uint32_t n,
                struct err *e) {
    struct ladder *l = NULL;
    int r = ladder_create("test", n_units, full, s, n, &l, e);
    ladder_destroy(l);
    return r;
}

static void refuses_bad_steps(void) {
    struct err e = {0};
    struct ladder *l;
    struct ladder_step s[8];
    s[0] = STEP(2, RUNG_FULL, RUNG_HIGH, 1, 0);
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    CHECK(strstr(e.msg, "step 0 is of unit 2"));
    s[0] = STEP(0, RUNG_HIGH, RUNG_HIGH, 1, 0);
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    CHECK(strstr(e.msg, "does not go down"));
    s[0] = STEP(0, RUNG_HIGH, RUNG_FULL, 1, 0);
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    s[0] = STEP(0, RUNG_FULL, (enum rung)4, 1, 0);
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    s[0] = STEP(0, (enum rung)255, RUNG_PAGED, 1, 0);
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    s[0] = STEP(0, RUNG_HIGH, RUNG_SWSC, 1, 0); /* starts below full */
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    CHECK(strstr(e.msg, "from high, but it is at full"));
    s[0] = STEP(0, RUNG_FULL, RUNG_HIGH, 1, 0);
    s[1] = STEP(0, RUNG_SWSC, RUNG_PAGED, 1, 0); /* does not continue */
    CHECK_EQ(make(2, 10, s, 2, &e), -EBADMSG);
    s[1] = STEP(0, RUNG_HIGH, RUNG_SWSC, 10, 0);
    CHECK_EQ(make(2, 10, s, 2, &e), -EBADMSG);
    CHECK(strstr(e.msg, "frees 10 bytes of 9"));
    s[1].bytes = UINT64_MAX;
    CHECK_EQ(make(2, 10, s, 2, &e), -EBADMSG);
    s[0].cost = NAN;
    CHECK_EQ(make(2, 10, s, 1, &e), -EBADMSG);
    s[0].cost = INFINITY;
    CHECK_EQ(make(2, 10, s, 1, NULL), -EBADMSG);
    CHECK_EQ(make(2, 10, s, 9, &e), -EBADMSG);
    CHECK(strstr(e.msg, "9 steps for 2 units"));
    CHECK_EQ(make(0, 10, s, UINT32_MAX, &e), -EBADMSG);
    CHECK_EQ(ladder_create("", 1, 1, s, 0, &l, &e), -EBADMSG);
    CHECK_EQ(ladder_create("a.b", 1, 1, s, 0, &l, &e), -EBADMSG);
    CHECK_EQ(ladder_create("0123456789012345678901234567890123", 1, 1, s, 0, &l, &e), -EBADMSG);
    ladder_destroy(NULL);
}

static void names_rungs(void) {
    for (int r = 0; r < RUNG_COUNT; r++) {
        enum rung got;
        const char *s = rung_name((enum rung)r);
        CHECK_EQ(rung_parse(s, strlen(s), &got), 0);
        CHECK_EQ(got, r);
        CHECK_EQ(rung_parse(s, strlen(s) - 1, &got), -EINVAL);
    }
    enum rung got;
    CHECK_EQ(rung_parse("", 0, &got), -EINVAL);
    CHECK_EQ(rung_parse("Full", 4, &got), -EINVAL);
    CHECK_STR(rung_name(RUNG_PAGED), "paged");
}

static void empty_ladder(void) {
    struct ladder *l;
    struct err e = {0};
    bool fits;
    REQUIRE_OK(ladder_create("none", 3, 100, NULL, 0, &l, &e), &e);
    CHECK_EQU(ladder_n_steps(l), 0);
    CHECK_EQU(ladder_bytes(l, 0), 100);
    CHECK_EQU(ladder_fit(l, 99, &fits), 0);
    CHECK(!fits);
    CHECK_EQU(ladder_fit(l, 100, &fits), 0);
    CHECK(fits);
    CHECK_EQU(ladder_all_at(l, RUNG_FULL), 0);
    CHECK_EQU(ladder_all_at(l, RUNG_HIGH), 1);
    ladder_destroy(l);
}

enum { UNITS = 9, MAX_STEPS = UNITS * 3 };

/* A valid random ladder; *ret_full holds its bytes at 0. */
static uint32_t random_steps(uint64_t *seed, struct ladder_step *s, uint64_t *ret_full) {
    enum rung at[UNITS] = {0};
    uint64_t full = t_rand(seed) % 1000;
    uint32_t n = 0;
    for (int tries = 0; tries < 40 && n < MAX_STEPS; tries++) {
        uint32_t u = (uint32_t)(t_rand(seed) % UNITS);
        if (at[u] == RUNG_PAGED) continue;
        enum rung to = (enum rung)(at[u] + 1 + t_rand(seed) % (uint64_t)(RUNG_PAGED - at[u]));
        s[n] = STEP(u, at[u], to, t_rand(seed) % 4 == 0 ? 0 : t_rand(seed) % 1000, (float)n);
        full += s[n++].bytes;
        at[u] = to;
    }
    *ret_full = full;
    return n;
}

static void check_one(const struct ladder *l, const struct ladder_step *s, uint32_t n,
                      uint64_t full) {
    enum rung at[UNITS] = {0};
    uint64_t bytes = full;
    uint32_t all[RUNG_COUNT];
    for (int r = 0; r < RUNG_COUNT; r++) all[r] = n + 1;
    for (uint32_t p = 0; p <= n; p++) {
        CHECK_EQU(ladder_bytes(l, p), bytes);
        enum rung highest = RUNG_PAGED;
        for (uint32_t u = 0; u < UNITS; u++) {
            CHECK_EQ(ladder_rung(l, p, u), at[u]);
            if (at[u] < highest) highest = at[u];
        }
        for (int r = 0; r <= (int)highest; r++)
            if (all[r] > p) all[r] = p;
        if (p == n) break;
        CHECK_MEM(&ladder_step_at(l, p)->unit, &s[p].unit, sizeof(s[p].unit));
        at[s[p].unit] = s[p].to;
        bytes -= s[p].bytes;
    }
    for (int r = 0; r < RUNG_COUNT; r++) CHECK_EQU(ladder_all_at(l, (enum rung)r), all[r]);
}

static void random_ladders_hold(void) {
    uint64_t seed = t_seed();
    for (int round = 0; round < 300; round++) {
        struct ladder_step s[MAX_STEPS];
        struct ladder *l;
        struct err e = {0};
        uint64_t full;
        uint32_t n = random_steps(&seed, s, &full);
        REQUIRE_OK(ladder_create("random", UNITS, full, s, n, &l, &e), &e);
        CHECK_EQU(ladder_n_units(l), UNITS);
        CHECK_STR(ladder_name(l), "random");
        check_one(l, s, n, full);
        for (int k = 0; k < 50; k++) { /* the smallest position that fits */
            uint64_t budget = t_rand(&seed) % (full + 2);
            bool fits;
            uint32_t p = ladder_fit(l, budget, &fits);
            CHECK_EQ(fits, ladder_bytes(l, n) <= budget);
            if (fits) CHECK(ladder_bytes(l, p) <= budget);
            if (!fits) CHECK_EQU(p, n);
            if (p > 0) CHECK(ladder_bytes(l, p - 1) > budget);
        }
        ladder_destroy(l);
    }
}

static const struct t_case cases[] = {
    {"refuses_bad_steps", refuses_bad_steps},
    {"names_rungs", names_rungs},
    {"empty_ladder", empty_ladder},
    {"random_ladders_hold", random_ladders_hold},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
