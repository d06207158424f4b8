/* The bound under every plan of a size: never above the best one that trying all of them finds,
 * that never above what a ladder of hull edges gives, and all three the same where an edge ends. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/make/bound.h"
#include "tests/t.h"

enum { UNITS = 5, FORMS = 3 };

struct instance {
    struct bound_form forms[UNITS][FORMS];
    struct bound_unit units[UNITS];
    uint32_t n;
};

/* Forms in any order, losses in any relation to the bytes, equal ones among them. */
static void draw(uint64_t *seed, struct instance *in) {
    in->n = (uint32_t)(t_rand(seed) % UNITS + 1);
    for (uint32_t u = 0; u < in->n; u++) {
        uint32_t n_forms = (uint32_t)(t_rand(seed) % FORMS + 1);
        for (uint32_t i = 0; i < n_forms; i++)
            in->forms[u][i] = (struct bound_form){.bytes = t_rand(seed) % 20,
                                                  .loss = (double)(t_rand(seed) % 30) / 8};
        in->units[u] = (struct bound_unit){in->forms[u], n_forms};
    }
}

/* Least loss of all plans that fit; INFINITY if none does. */
static double best_of_all(const struct instance *in, uint64_t bytes) {
    uint32_t at[UNITS] = {0};
    double best = INFINITY;
    for (;;) {
        uint64_t held = 0;
        double loss = 0;
        for (uint32_t u = 0; u < in->n; u++) {
            held += in->forms[u][at[u]].bytes;
            loss += in->forms[u][at[u]].loss;
        }
        if (held <= bytes && loss < best) best = loss;
        uint32_t u = 0;
        while (u < in->n && ++at[u] == in->units[u].n_forms) at[u++] = 0;
        if (u == in->n) return best;
    }
}

static void below_the_optimum(void) {
    uint64_t seed = t_seed();
    unsigned n_equal = 0, n_open = 0;
    for (int round = 0; round < 400; round++) {
        struct instance in;
        struct err e = {0};
        double last = INFINITY;
        draw(&seed, &in);
        for (uint64_t bytes = 0; bytes <= UNITS * 20; bytes++) {
            struct bound b = {.loss = -1};
            double best = best_of_all(&in, bytes);
            int r = bound_solve(in.units, in.n, bytes, &b, &e);
            CHECK_EQ(r, isfinite(best) ? 0 : -ENOSPC);
            if (r < 0) {
                CHECK(b.min_bytes > bytes && b.loss == -1);
                continue;
            }
            CHECK(b.min_bytes <= bytes && b.price >= 0);
            CHECK(b.loss <= best + 1e-9);
            CHECK(b.loss <= last + 1e-9); /* more room, less loss */
            last = b.loss;
            n_equal += fabs(b.loss - best) < 1e-9;
            n_open += b.loss < best - 1e-9;
        }
    }
    CHECK(n_equal > 1000 && n_open > 1000);
}

/* The Lagrangian says the same: at the price found no plan comes out cheaper than the bound. */
static void is_the_dual(void) {
    uint64_t seed = t_seed() + 1;
    for (int round = 0; round < 400; round++) {
        struct instance in;
        struct err e = {0};
        struct bound b;
        draw(&seed, &in);
        uint64_t bytes = t_rand(&seed) % (UNITS * 20);
        if (bound_solve(in.units, in.n, bytes, &b, &e) < 0) continue;
        double dual = -b.price * (double)bytes;
        for (uint32_t u = 0; u < in.n; u++) {
            double least = INFINITY;
            for (uint32_t i = 0; i < in.units[u].n_forms; i++)
                least = fmin(least, in.forms[u][i].loss + b.price * (double)in.forms[u][i].bytes);
            dual += least;
        }
        CHECK_NEAR(dual, b.loss, 1e-9);
    }
}

/* ---- ladders -----------------------------------------------------------------------------------
 */

/* Units with convex losses full > high > swsc, their edges by price, and paged steps at the end. */
static struct ladder *make_ladder(uint64_t *seed, struct instance *in, uint32_t *n_resident) {
    struct ladder_step s[UNITS * 3];
    double price[UNITS * 3];
    uint32_t n = 0;
    uint64_t full = 0;
    in->n = (uint32_t)(t_rand(seed) % UNITS + 1);
    for (uint32_t u = 0; u < in->n; u++) {
        uint64_t freed[2] = {t_rand(seed) % 8 + 1, t_rand(seed) % 8 + 1},
                 last = t_rand(seed) % 4 + 1;
        double p[2];
        p[0] = (double)(t_rand(seed) % 8);
        p[1] = p[0] + 1 + (double)(t_rand(seed) % 8);
        in->forms[u][0] = (struct bound_form){freed[0] + freed[1] + last, 0};
        in->forms[u][1] = (struct bound_form){freed[1] + last, p[0] * (double)freed[0]};
        in->forms[u][2] = (struct bound_form){last,
                                              p[0] * (double)freed[0] + p[1] * (double)freed[1]};
        in->units[u] = (struct bound_unit){in->forms[u], 3};
        full += in->forms[u][0].bytes;
        for (int i = 0; i < 2; i++) {
            uint32_t at = n++;
            for (; at > 0 && price[at - 1] > p[i]; at--) {
                s[at] = s[at - 1];
                price[at] = price[at - 1];
            }
            price[at] = p[i];
            s[at] = (struct ladder_step){.unit = u,
                                         .from = (enum rung)i,
                                         .to = (enum rung)(i + 1),
                                         .bytes = freed[i],
                                         .cost = (float)(p[i] * (double)freed[i])};
        }
    }
    *n_resident = n;
    for (uint32_t u = 0; u < in->n; u++)
        s[n++] = (struct ladder_step){
            .unit = u, .from = RUNG_SWSC, .to = RUNG_PAGED, .bytes = in->forms[u][2].bytes};
    struct ladder *l;
    struct err e = {0};
    REQUIRE_OK(ladder_create("hull", in->n, full, s, n, &l, &e), &e);
    return l;
}

static double loss_at(const struct ladder *l, uint32_t position) {
    double loss = 0;
    for (uint32_t i = 0; i < position; i++) loss += (double)ladder_step_at(l, i)->cost;
    return loss;
}

/* bound <= optimum <= ladder; all the same at the ladder's own sizes. */
static void between_bound_and_ladder(void) {
    uint64_t seed = t_seed() + 2;
    for (int round = 0; round < 300; round++) {
        struct instance in;
        struct err e = {0};
        struct bound b;
        uint32_t n_resident;
        struct ladder *l = make_ladder(&seed, &in, &n_resident);
        uint64_t least = ladder_bytes(l, n_resident);
        for (uint64_t bytes = least; bytes <= ladder_bytes(l, 0) + 2; bytes++) {
            bool fits;
            uint32_t at = ladder_fit(l, bytes, &fits);
            CHECK(fits && at <= n_resident);
            REQUIRE_OK(bound_of_ladder(l, bytes, &b, &e), &e);
            CHECK_EQU(b.min_bytes, least);
            double best = best_of_all(&in, bytes);
            CHECK(b.loss <= best + 1e-6);
            CHECK(best <= loss_at(l, at) + 1e-6);
            if (ladder_bytes(l, at) == bytes) CHECK_NEAR(b.loss, loss_at(l, at), 1e-6);
        }
        if (least > 0) CHECK_EQ(bound_of_ladder(l, least - 1, &b, &e), -ENOSPC);
        ladder_destroy(l);
    }
}

/* An order that is not by price stays above the bound, and the bound does not depend on it. */
static void any_order(void) {
    struct ladder_step s[] = {
        {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10, .cost = 5},
        {.unit = 1, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 10, .cost = 1},
    };
    struct ladder *l;
    struct err e = {0};
    struct bound b;
    REQUIRE_OK(ladder_create("bad", 2, 100, s, 2, &l, &e), &e);
    REQUIRE_OK(bound_of_ladder(l, 90, &b, &e), &e);
    CHECK_NEAR(b.loss, 1, 1e-9);
    CHECK_NEAR(b.price, 0.1, 1e-9);
    REQUIRE_OK(bound_of_ladder(l, 85, &b, &e), &e);
    CHECK_NEAR(b.loss, 3.5, 1e-9);
    CHECK_NEAR(b.price, 0.5, 1e-9);
    REQUIRE_OK(bound_of_ladder(l, UINT64_MAX, &b, &e), &e);
    CHECK(b.loss == 0 && b.price == 0 && b.min_bytes == 80);
    ladder_destroy(l);
    REQUIRE_OK(ladder_create("none", 2, 100, s, 0, &l, &e), &e);
    CHECK_EQ(bound_of_ladder(l, 99, &b, &e), -ENOSPC);
    REQUIRE_OK(bound_of_ladder(l, 100, &b, &e), &e);
    CHECK(b.loss == 0 && b.price == 0);
    ladder_destroy(l);
    CHECK_EQ(bound_solve(NULL, 0, 0, &b, &e), 0);
}

static const struct t_case cases[] = {
    {"below_the_optimum", below_the_optimum},
    {"is_the_dual", is_the_dual},
    {"between_bound_and_ladder", between_bound_and_ladder},
    {"any_order", any_order},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
