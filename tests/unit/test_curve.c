/* Curves over a ladder's bytes, the orders they are compared with, and their picture: positions
 * spread evenly, areas and shares of known curves, orders that are permutations, ladders of a real
 * pack with the bytes that slabs then hold. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/make/curve.h"
#include "core/make/order.h"
#include "core/make/plot.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/slab.h"
#include "core/store.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

/* ---- curves ------------------------------------------------------------------------------------
 */

enum { STEPS = 12 };

/* A ladder of `n` units, each with one step of the bytes given. */
static struct ladder *make_ladder(const uint64_t *bytes, uint32_t n) {
    struct ladder_step s[STEPS];
    struct ladder *l;
    struct err e = {0};
    uint64_t full = 1000;
    for (uint32_t i = 0; i < n; i++) {
        s[i] = (struct ladder_step){
            .unit = i, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = bytes[i], .cost = 1};
        full += bytes[i];
    }
    REQUIRE_OK(ladder_create("test", n, full, s, n, &l, &e), &e);
    return l;
}

static void even_positions(void) {
    uint64_t ten[10];
    for (int i = 0; i < 10; i++) ten[i] = 100;
    struct ladder *l = make_ladder(ten, 10);
    uint32_t at[32];
    CHECK_EQU(curve_positions(l, 2000, 1000, 11, at), 11);
    for (uint32_t i = 0; i <= 10; i++) CHECK_EQU(at[i], i);
    CHECK_EQU(curve_positions(l, 2000, 1000, 3, at), 3);
    CHECK(at[0] == 0 && at[1] == 5 && at[2] == 10);
    CHECK_EQU(curve_positions(l, 2000, 1000, 32, at), 11); /* not more than there are */
    CHECK_EQU(curve_positions(l, 1800, 1300, 6, at), 6);   /* a section inside */
    CHECK(at[0] == 2 && at[5] == 7);
    CHECK_EQU(curve_positions(l, 2000, 2000, 5, at), 1);
    ladder_destroy(l);

    /* One step is most of it: both its ends, and nothing twice. */
    uint64_t big[3] = {100, 800, 100};
    l = make_ladder(big, 3);
    CHECK_EQU(curve_positions(l, 2000, 1000, 11, at), 4);
    for (uint32_t i = 0; i < 4; i++) CHECK_EQU(at[i], i);
    ladder_destroy(l);

    /* Steps that free nothing change nothing. */
    uint64_t none[4] = {0, 500, 0, 500};
    l = make_ladder(none, 4);
    CHECK_EQU(curve_positions(l, 2000, 1000, 5, at), 3);
    CHECK(at[0] == 0 && at[1] == 2 && at[2] == 4);
    ladder_destroy(l);
}

/* Whatever the ladder: rising, within it, ends included, and each as near as any other position. */
static void random_positions(void) {
    uint64_t seed = t_seed();
    for (int round = 0; round < 300; round++) {
        uint64_t bytes[STEPS];
        uint32_t n = (uint32_t)(t_rand(&seed) % STEPS + 1), at[32];
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = t_rand(&seed) % 4 == 0 ? 0 : t_rand(&seed) % 1000;
        struct ladder *l = make_ladder(bytes, n);
        uint64_t top = ladder_bytes(l, 0), bottom = ladder_bytes(l, n);
        uint32_t points = (uint32_t)(t_rand(&seed) % 31 + 2);
        uint32_t n_found = curve_positions(l, top, bottom, points, at);
        CHECK(n_found >= 1 && n_found <= points);
        CHECK_EQU(ladder_bytes(l, at[0]), top);
        CHECK_EQU(ladder_bytes(l, at[n_found - 1]), bottom);
        for (uint32_t i = 1; i < n_found; i++)
            CHECK(at[i] > at[i - 1] && ladder_bytes(l, at[i]) < ladder_bytes(l, at[i - 1]));
        ladder_destroy(l);
    }
}

static void areas(void) {
    struct curve_point line[] = {{2000, 0.0}, {1000, 1.0}};
    CHECK_NEAR(curve_at(line, 2, 2500), 0.0, 1e-12);
    CHECK_NEAR(curve_at(line, 2, 1250), 0.75, 1e-12);
    CHECK_NEAR(curve_at(line, 2, 0), 1.0, 1e-12);
    CHECK_NEAR(curve_area(line, 2, 2000, 1000), 0.5, 1e-12);
    /* A point on the line changes nothing; one below it does. */
    struct curve_point same[] = {{2000, 0.0}, {1300, 0.7}, {1000, 1.0}};
    CHECK_NEAR(curve_area(same, 3, 2000, 1000), 0.5, 1e-12);
    struct curve_point lower[] = {{2000, 0.0}, {1500, 0.1}, {1000, 1.0}};
    CHECK_NEAR(curve_area(lower, 3, 2000, 1000),
               (0.02 + 0.04 + 0.06 + 0.08 + 0.1 + 0.28 + 0.46 + 0.64 + 0.82) / 9, 1e-12);
    CHECK_NEAR(curve_area(line, 1, 2000, 1000), 0.0, 1e-12);
    CHECK_NEAR(curve_share(0.3, 0.1, 0.1), 1.0, 1e-12);
    CHECK_NEAR(curve_share(0.3, 0.1, 0.3), 0.0, 1e-12);
    CHECK_NEAR(curve_share(0.3, 0.1, 0.4), -0.5, 1e-12);
    CHECK(isnan(curve_share(0.3, 0.3, 0.1)));
    /* Of a mean, the jackknife is the standard error of the mean: here of 1, 2, 3, 4. */
    double without[] = {9.0 / 3, 8.0 / 3, 7.0 / 3, 6.0 / 3};
    CHECK_NEAR(curve_jackknife(without, 4), sqrt(5.0 / 3 / 4), 1e-12);
    CHECK(isnan(curve_jackknife(without, 1)));
}

/* ---- orders ------------------------------------------------------------------------------------
 */

static void check_permutation(const uint32_t *units, uint32_t n) {
    bool seen[64] = {0};
    for (uint32_t i = 0; i < n; i++) {
        REQUIRE(units[i] < n);
        CHECK(!seen[units[i]]);
        seen[units[i]] = true;
    }
}

static void orders(void) {
    uint32_t a[32], b[32];
    for (uint32_t n = 1; n <= 32; n++) {
        order_front(n, a);
        check_permutation(a, n);
        order_back(n, b);
        check_permutation(b, n);
        for (uint32_t i = 0; i + 1 < n; i++) CHECK_EQU(a[i], b[n - 2 - i]);
        CHECK(a[n - 1] == n - 1 && b[n - 1] == n - 1);
        for (uint64_t seed = 0; seed < 20; seed++) {
            order_random(n, seed, a);
            check_permutation(a, n);
            CHECK_EQU(a[n - 1], n - 1);
            order_random(n, seed, b);
            CHECK_MEM(a, b, n * sizeof(*a));
        }
    }
    order_random(31, 1, a);
    order_random(31, 2, b);
    CHECK(memcmp(a, b, 31 * sizeof(*a)) != 0);
    /* Every layer comes first about equally often: 3000 tries, 6 layers, expected 500 +- 20. */
    uint32_t first[6] = {0};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        order_random(7, seed, a);
        first[a[0]]++;
    }
    for (int i = 0; i < 6; i++) CHECK(first[i] > 400 && first[i] < 600);
}

static void prices(void) {
    double loss[] = {3.0, 1.0, NAN, 8.0, 1.0, 0.0};
    uint64_t freed[] = {10, 10, 10, 100, 10, 0};
    uint32_t units[6], want[] = {3, 1, 4, 0, 2, 5};
    order_by_price(6, loss, freed, units);
    CHECK_MEM(units, want, sizeof(want));
}

/* ---- a pack ------------------------------------------------------------------------------------
 */

static struct pack *make_pack(void) {
    static char path[512];
    struct tiny_opts o = tiny_defaults();
    struct err e = {0};
    struct pack *p;
    snprintf(path, sizeof(path), "%s/curve.ebb", t_tmpdir());
    o.n_layers = 5;
    REQUIRE_OK(tiny_pack_write(&o, path, &e), &e);
    REQUIRE_OK(pack_open(path, &p, &e), &e);
    return p;
}

/* Bytes of the slabs that a unit has at a rung, read from the pack. */
static uint64_t slab_bytes(struct mem *m, const struct pack *p, uint32_t unit, enum rung rung) {
    uint64_t before = mem_bytes(m, MEM_SLAB), held;
    struct slab *high = NULL, *low = NULL;
    struct err e = {0};
    REQUIRE_OK(slab_load(m, p, pack_find(p, PACK_HIGH, unit), &high, &e), &e);
    if (rung == RUNG_FULL) REQUIRE_OK(slab_load(m, p, pack_find(p, PACK_LOW, unit), &low, &e), &e);
    held = mem_bytes(m, MEM_SLAB) - before;
    slab_destroy(low);
    slab_destroy(high);
    return held;
}

/* At every position of ladders of every kind: bytes are to the byte those of the slabs held, and
 * come down by each step; a smaller budget never raises a unit. */
static void bytes_are_exact(void) {
    struct pack *p = make_pack();
    struct mem *m;
    struct err e = {0};
    uint32_t n = model_n_units(pack_hparams(p)), units[16];
    uint64_t held[16][2];
    REQUIRE_OK(mem_create(&m), &e);
    for (uint32_t u = 0; u < n; u++)
        for (int r = RUNG_FULL; r <= RUNG_HIGH; r++) {
            held[u][r] = slab_bytes(m, p, u, (enum rung)r);
            CHECK_EQU(held[u][r], pack_unit_bytes(p, u, (enum rung)r));
        }
    for (uint64_t kind = 0; kind < 8; kind++) {
        struct ladder *l;
        double loss[16];
        if (kind == 0)
            order_front(n, units);
        else if (kind == 1)
            order_back(n, units);
        else
            order_random(n, kind, units);
        for (uint32_t u = 0; u < n; u++) loss[u] = u;
        REQUIRE_OK(order_ladder(p, "test", RUNG_FULL, RUNG_HIGH, units, loss, &l, &e), &e);
        CHECK_EQU(ladder_n_steps(l), n);
        for (uint32_t at = 0; at <= n; at++) {
            uint64_t sum = 0;
            for (uint32_t u = 0; u < n; u++) sum += held[u][ladder_rung(l, at, u)];
            CHECK_EQU(ladder_bytes(l, at), sum);
            if (at == n) break;
            CHECK(ladder_bytes(l, at + 1) < ladder_bytes(l, at));
            CHECK_EQU(ladder_step_at(l, at)->unit, units[at]);
            CHECK_NEAR(ladder_step_at(l, at)->cost, loss[units[at]], 0);
        }
        uint64_t top = ladder_bytes(l, 0), seed = t_seed();
        for (int k = 0; k < 200; k++) {
            uint64_t less = t_rand(&seed) % (top + 1),
                     more = less + t_rand(&seed) % (top + 1 - less);
            bool fits;
            uint32_t a = ladder_fit(l, less, &fits), b = ladder_fit(l, more, &fits);
            CHECK(a >= b);
            for (uint32_t u = 0; u < n; u++) CHECK(ladder_rung(l, a, u) >= ladder_rung(l, b, u));
        }
        ladder_destroy(l);
    }
    order_front(n, units);
    struct ladder *l = NULL; /* no unit has the rung: nothing to take */
    REQUIRE_OK(order_ladder(p, "none", RUNG_HIGH, RUNG_SWSC, units, NULL, &l, &e), &e);
    CHECK_EQU(ladder_n_steps(l), n);
    CHECK_EQU(ladder_all_at(l, RUNG_HIGH), n);
    ladder_destroy(l);
    CHECK_EQ(order_ladder(p, "a:b", RUNG_FULL, RUNG_HIGH, units, NULL, &l, &e), -EBADMSG);
    mem_destroy(m);
    pack_close(p);
}

/* ---- pictures ----------------------------------------------------------------------------------
 */

static char *draw(const struct plot *p, int want) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    REQUIRE(f);
    CHECK_EQ(plot_svg(p, f), want);
    REQUIRE(fclose(f) == 0);
    return text;
}

static unsigned count(const char *text, const char *word) {
    unsigned n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void pictures(void) {
    double x[] = {77, 100, 144}, y[] = {0.047, 0.02, 0.003};
    struct plot_line lines[] = {{"a<b>&\"c\"", x, y, 3, false, false},
                                {"faint", x, y, 2, true, false},
                                {"faint too", x, y, 2, true, false},
                                {"one", x, y, 1, false, false}};
    struct plot p = {.title = "bad \xff byte, \x01 control, \xef\xbf\xbf, \xc3\xa9",
                     .x_title = "x",
                     .y_title = "y",
                     .faint_name = "all faint",
                     .lines = lines,
                     .n_lines = 4};
    char *text = draw(&p, 0);
    CHECK(strncmp(text, "<svg xmlns=", 11) == 0);
    CHECK(strcmp(text + strlen(text) - 7, "</svg>\n") == 0);
    CHECK_EQU(count(text, "a&lt;b&gt;&amp;&quot;c&quot;"), 2); /* its line and its entry */
    CHECK_EQU(count(text, ">all faint<"), 1);
    CHECK_EQU(count(text, "bad \xef\xbf\xbd byte,   control, \xef\xbf\xbd, \xc3\xa9"), 2);
    CHECK_EQU(count(text, "<circle"), 4); /* the first line's points and its entry */
    CHECK(!strstr(text, "nan") && !strstr(text, "inf"));
    CHECK(strstr(text, ">0.05<") && strstr(text, ">0.00<")); /* round numbers on the axes */
    CHECK(strstr(text, ">80<") && strstr(text, ">140<"));
    unsigned n_sloped = count(text, "L");
    free(text);
    lines[0].is_stair = true;
    text = draw(&p, 0);
    CHECK_EQU(count(text, "<circle"), 1);      /* its entry alone */
    CHECK_EQU(count(text, "L"), n_sloped - 2); /* across and up instead */
    free(text);

    double same[] = {5, 5, 5}, zero[] = {0, 0, 0}, minus[] = {-1, 0, 2},
           huge[] = {1e-300, 1, 1e300};
    double *axes[] = {same, zero, minus, huge};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) {
            struct plot_line l = {"l", axes[i], axes[k], 3, false, false};
            struct plot one = {
                .title = "", .x_title = "", .y_title = "", .lines = &l, .n_lines = 1};
            text = draw(&one, 0);
            CHECK(!strstr(text, "nan") && !strstr(text, "inf"));
            free(text);
        }
    double bad[] = {1, NAN, 2};
    lines[3] = (struct plot_line){"bad", x, bad, 3, false, false};
    free(draw(&p, -EINVAL));
    lines[3] = (struct plot_line){"bad", bad, x, 3, false, false};
    free(draw(&p, -EINVAL));
    lines[3] = (struct plot_line){"empty", x, y, 0, false, false};
    free(draw(&p, -EINVAL));
    p.n_lines = 0;
    free(draw(&p, -EINVAL));
    p.n_lines = 1;
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        setvbuf(full, NULL, _IONBF, 0);
        CHECK_EQ(plot_svg(&p, full), -EIO);
        fclose(full);
    }
}

static const struct t_case cases[] = {
    {"even_positions", even_positions},
    {"random_positions", random_positions},
    {"areas", areas},
    {"orders", orders},
    {"prices", prices},
    {"bytes_are_exact", bytes_are_exact},
    {"pictures", pictures},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
