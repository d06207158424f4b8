/* ranks: by hand, and against properties of Kendall's tau. */
#include <math.h>
#include <string.h>

#include "core/make/ranks.h"
#include "tests/t.h"

static void largest_is_first(void) {
    static const double v[6] = {0.5, 2.0, NAN, 0.5, -1.0, 2.5};
    static const uint32_t want[6] = {3, 2, 0, 4, 5, 1}; /* ties in order of the index */
    uint32_t got[6];
    ranks_of(v, 6, got);
    CHECK_MEM(got, want, sizeof(want));
}

static void tau_by_hand(void) {
    static const double a[4] = {1, 2, 3, 4}, b[4] = {4, 3, 2, 1}, c[4] = {1, 3, 2, 4};
    static const double tied[4] = {1, 1, 2, 3}, flat[4] = {7, 7, 7, 7};
    static const double holes[6] = {1, 2, NAN, 3, 9, 4}, full[6] = {1, 3, 100, 2, NAN, 4};
    CHECK_NEAR(ranks_tau(a, a, 4), 1, 1e-12);
    CHECK_NEAR(ranks_tau(a, b, 4), -1, 1e-12);
    CHECK_NEAR(ranks_tau(a, c, 4), 4.0 / 6, 1e-12); /* one pair of six turned round */
    CHECK_NEAR(ranks_tau(a, tied, 4), 5 / sqrt(6.0 * 5.0), 1e-12);
    CHECK_NEAR(ranks_tau(tied, tied, 4), 1, 1e-12);
    CHECK(isnan(ranks_tau(a, flat, 4)));
    CHECK(isnan(ranks_tau(a, c, 1)));
    CHECK(isnan(ranks_tau(a, c, 0)));
    CHECK_NEAR(ranks_tau(holes, full, 6), 4.0 / 6, 1e-12);
}

static void tau_is_symmetric_and_bounded(void) {
    uint64_t s = t_seed();
    for (int round = 0; round < 100; round++) {
        double a[20], b[20], minus[20];
        for (int i = 0; i < 20; i++) {
            a[i] = (double)(t_rand(&s) % 9);
            b[i] = (double)(t_rand(&s) % 9);
            minus[i] = -b[i];
        }
        double tau = ranks_tau(a, b, 20);
        CHECK(tau >= -1 && tau <= 1);
        CHECK(tau == ranks_tau(b, a, 20));
        CHECK(tau == -ranks_tau(a, minus, 20));
    }
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"largest_is_first", largest_is_first},
        {"tau_by_hand", tau_by_hand},
        {"tau_is_symmetric_and_bounded", tau_is_symmetric_and_bounded},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
