/* Shares of one machine: exact cases, and what must hold of any. */
#include "core/share.h"
#include "tests/t.h"

#define MAXU UINT64_MAX

static void known_shares(void) {
    static const struct {
        const char *what;
        uint32_t n;
        struct share_claim all[3];
        uint64_t total, want[3];
    } cases[] = {
        {"equal", 2, {{100, 0, 400}, {100, 0, 400}}, 600, {300, 300}},
        {"by weight", 2, {{100, 0, 900}, {300, 0, 900}}, 600, {150, 450}},
        {"enough for all", 2, {{100, 0, 400}, {100, 0, 300}}, 1000, {400, 300}},
        {"one has enough", 2, {{100, 0, 100}, {100, 0, 900}}, 600, {100, 500}},
        {"and then the next", 3, {{1, 0, 10}, {1, 0, 250}, {1, 0, 900}}, 600, {10, 250, 340}},
        {"the last fills the first",
         3,
         {{1, 0, 250}, {1, 0, 900}, {1, 0, 10}},
         600,
         {250, 340, 10}},
        {"nothing", 2, {{1, 0, 10}, {1, 0, 10}}, 0, {0, 0}},
        {"no weight is the least", 2, {{0, 0, MAXU}, {1, 0, MAXU}}, 10, {5, 5}},
        {"too much is the most", 2, {{MAXU >> 32, 0, MAXU}, {1000, 0, MAXU}}, 10, {5, 5}},
        {"one alone", 1, {{7, 0, MAXU}}, MAXU - 1, {MAXU - 1}},
        {"huge", 2, {{1000, 0, MAXU}, {1000, 0, MAXU}}, MAXU, {MAXU / 2, MAXU / 2}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t got[3] = {0};
        share_split(cases[i].all, cases[i].n, cases[i].total, got);
        for (uint32_t k = 0; k < cases[i].n; k++)
            if (got[k] != cases[i].want[k])
                t_fail(__FILE__, __LINE__, "%s: share %u is %llu", cases[i].what, k,
                       (unsigned long long)got[k]);
    }
}

static void totals_saturate(void) {
    static const struct share_claim all[] = {{1, 5, 9}, {1, 6, 9}, {1, MAXU, 9}};
    CHECK_EQU(share_total(all, 0, 7, 0), 7);
    CHECK_EQU(share_total(all, 2, 7, 0), 18);
    CHECK_EQU(share_total(all, 2, 7, 8), 10); /* less is left than is to be */
    CHECK_EQU(share_total(all, 2, 7, 19), 0);
    CHECK_EQU(share_total(all, 3, 0, 5), MAXU);
    CHECK_EQU(share_total(all, 2, MAXU, 0), MAXU);
}

static uint64_t some_bytes(uint64_t *rng) {
    switch (t_rand(rng) % 8) {
    case 0: return 0;
    case 1: return MAXU - t_rand(rng) % 3;
    case 2: return t_rand(rng);
    default: return t_rand(rng) % 2000;
    }
}

static void any_shares_keep_the_promises(void) {
    uint64_t rng = t_seed();
    for (int k = 0; k < 100000; k++) {
        struct share_claim all[SHARE_MAX];
        uint64_t got[SHARE_MAX], more[SHARE_MAX], sum = 0, most = 0;
        uint32_t n = (uint32_t)(t_rand(&rng) % (SHARE_MAX + 1));
        for (uint32_t i = 0; i < n; i++) {
            all[i] = (struct share_claim){.weight = (uint32_t)(t_rand(&rng) % 1200),
                                          .held_bytes = some_bytes(&rng),
                                          .most_bytes = some_bytes(&rng)};
            most = __builtin_add_overflow(most, all[i].most_bytes, &most) ? MAXU : most;
        }
        uint64_t total = some_bytes(&rng), larger = some_bytes(&rng);
        larger = larger < total ? total : larger;
        share_split(all, n, total, got);
        share_split(all, n, larger, more);
        for (uint32_t i = 0; i < n; i++) {
            REQUIRE(!__builtin_add_overflow(sum, got[i], &sum));
            CHECK(got[i] <= all[i].most_bytes);
            CHECK(more[i] >= got[i]);
            for (uint32_t j = 0; j < n; j++) /* the same claim, the same share */
                if (all[i].weight == all[j].weight && got[i] < got[j])
                    CHECK(got[i] == all[i].most_bytes);
        }
        CHECK(sum <= total);
        /* Nothing is left over while someone could use it, but what the division leaves. */
        if (n > 0) CHECK((total < most ? total : most) - sum < SHARE_MAX);
    }
}

static const struct t_case cases[] = {
    {"known_shares", known_shares},
    {"totals_saturate", totals_saturate},
    {"any_shares_keep_the_promises", any_shares_keep_the_promises},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
