/* What the guard gives up for so many bytes above a limit. */
#include "core/err.h"
#include "core/shed.h"
#include "tests/t.h"

enum { N_STEPS = 6 };
static const uint64_t MIB = 1 << 20;

static struct ladder *make(uint64_t step_bytes) {
    struct ladder_step steps[N_STEPS];
    struct ladder *l;
    struct err e = {0};
    for (uint32_t i = 0; i < N_STEPS; i++)
        steps[i] = (struct ladder_step){.unit = i / 2,
                                        .from = i % 2 ? RUNG_HIGH : RUNG_FULL,
                                        .to = i % 2 ? RUNG_SWSC : RUNG_HIGH,
                                        .bytes = step_bytes};
    REQUIRE_OK(ladder_create("t", N_STEPS / 2, N_STEPS * step_bytes, steps, N_STEPS, &l, &e), &e);
    return l;
}

static void what_goes(void) {
    /* A margin of 2 MiB and a sixteenth is added to what is over. */
    static const struct {
        uint64_t over, kept; /* MiB */
        uint32_t from;
        uint64_t want_kept; /* MiB */
        uint32_t want;
        bool is_enough;
    } all[] = {
        {1, 0, 0, 0, 1, true},    /* 3.06 of 10 */
        {16, 0, 0, 0, 2, true},   /* 19 */
        {16, 0, 1, 0, 3, true},   /* from where it stands */
        {16, 19, 0, 19, 0, true}, /* prefixes are enough */
        {16, 40, 0, 19, 0, true}, /* and no more of them than needed */
        {16, 18, 0, 18, 1, true}, /* not quite */
        {32, 0, 2, 0, 6, true},   /* 36 of the 40 left */
        {40, 0, 2, 0, 6, false},  /* 44.5 */
        {40, 5, 2, 5, 6, true},   /* with prefixes it is */
        {1, 0, 6, 0, 6, false},   /* nothing is left */
        {1 << 20, 1, 0, 1, 6, false},
    };
    struct ladder *l = make(10 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct shed_choice c = shed_choose(l, all[i].from, all[i].kept * MIB, all[i].over * MIB);
        if (c.position != all[i].want || c.kept_bytes != all[i].want_kept * MIB ||
            c.is_enough != all[i].is_enough)
            t_fail(__FILE__, __LINE__, "row %zu: position %u, kept %llu, enough %d", i, c.position,
                   (unsigned long long)c.kept_bytes, c.is_enough);
    }
    ladder_destroy(l);
}

static void any_number_is_safe(void) {
    uint64_t rng = t_seed();
    struct ladder *l = make(10 * MIB);
    for (int i = 0; i < 100000; i++) {
        uint32_t from = (uint32_t)(t_rand(&rng) % (N_STEPS + 1));
        uint64_t kept = t_rand(&rng) >> (t_rand(&rng) % 64);
        uint64_t over = (t_rand(&rng) >> (t_rand(&rng) % 64)) | 1;
        struct shed_choice c = shed_choose(l, from, kept, over);
        struct shed_choice more = shed_choose(l, from, kept, over < UINT64_MAX ? over + 1 : over);
        CHECK(c.position >= from && c.position <= N_STEPS && c.kept_bytes <= kept);
        CHECK(more.position >= c.position && more.kept_bytes >= c.kept_bytes);
        uint64_t freed = ladder_bytes(l, from) - ladder_bytes(l, c.position);
        uint64_t given = c.kept_bytes > UINT64_MAX - freed ? UINT64_MAX : freed + c.kept_bytes;
        if (c.is_enough) CHECK(given > over);
        if (!c.is_enough) CHECK(c.position == N_STEPS && c.kept_bytes == kept);
        /* One step less would not do. */
        if (c.position > from) CHECK(c.kept_bytes == kept);
    }
    ladder_destroy(l);
}

static const struct t_case cases[] = {
    {"what_goes", what_goes},
    {"any_number_is_safe", any_number_is_safe},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
