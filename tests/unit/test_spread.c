/* Medians and quantiles of measurements. */
#include "core/bench/spread.h"
#include "tests/t.h"

static void medians(void) {
    double odd[] = {3, -1, 2}, even[] = {4, 1, 3, 2}, one[] = {7};
    struct spread s = spread_of(odd, 3);
    CHECK(s.median == 2 && s.min == -1 && s.max == 3 && s.n == 3);
    s = spread_of(even, 4);
    CHECK(s.median == 2.5 && s.min == 1 && s.max == 4);
    CHECK(even[0] == 1 && even[3] == 4);
    s = spread_of(one, 1);
    CHECK(s.median == 7 && s.min == 7 && s.max == 7);
    s = spread_of(one, 0);
    CHECK(s.n == 0 && s.median == 0 && s.max == 0);
}

static void quantiles(void) {
    double v[200];
    for (int i = 0; i < 200; i++) v[i] = i + 1;
    CHECK(spread_quantile(v, 200, 0) == 1);
    CHECK(spread_quantile(v, 200, 0.5) == 100);
    CHECK(spread_quantile(v, 200, 0.99) == 198);
    CHECK(spread_quantile(v, 200, 1) == 200);
    CHECK(spread_quantile(v, 1, 0.99) == 1);
    CHECK(spread_quantile(v, 3, 0.34) == 2);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {{"medians", medians}, {"quantiles", quantiles}};
    return t_main(argc, argv, cases, 2);
}
