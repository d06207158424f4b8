/* Second moments against a plain double sum, for any width, and the same for any thread count. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/moments.h"
#include "core/mem.h"
#include "core/pool.h"
#include "tests/t.h"

static void check_width(uint32_t n) {
    enum { ROWS = 50 };
    struct mem *mem;
    struct pool *pool[2];
    struct moments *s[2];
    struct err e = {0};
    float *x = malloc(ROWS * n * sizeof(*x));
    uint64_t seed = t_seed() + n;
    REQUIRE(x && mem_create(&mem) == 0);
    for (size_t i = 0; i < ROWS * n; i++) x[i] = (float)((int64_t)t_rand(&seed) >> 40) / (1 << 20);
    for (unsigned k = 0; k < 2; k++) {
        REQUIRE_OK(pool_create(k + 1, &pool[k], &e), &e);
        REQUIRE_OK(moments_create(mem, n, &s[k], &e), &e);
        for (unsigned round = 0; round < 2; round++) { /* a reset leaves nothing behind */
            moments_reset(s[k]);
            moments_add(s[k], pool[k], x, 20);
            moments_add(s[k], pool[k], x + 20 * n, ROWS - 20);
        }
    }
    const float *a = moments_mean(s[0]), *b = moments_mean(s[1]);
    CHECK_MEM(a, b, (size_t)n * n * sizeof(*a));
    for (uint32_t i = 0; i < n; i += 7)
        for (uint32_t j = 0; j < n; j += 5) {
            double sum = 0.0;
            for (uint32_t r = 0; r < ROWS; r++) sum += (double)x[r * n + i] * (double)x[r * n + j];
            CHECK_NEAR((double)a[i * n + j], sum / ROWS, 1e-3);
            CHECK(a[i * n + j] == a[j * n + i]);
        }
    for (unsigned k = 0; k < 2; k++) {
        moments_destroy(s[k]);
        pool_destroy(pool[k]);
    }
    CHECK_EQU(mem_bytes(mem, MEM_PACKER), 0);
    mem_destroy(mem);
    free(x);
}

static void equal_a_plain_sum(void) {
    gemm_init();
    check_width(32);
    check_width(128);
    check_width(352);
}

static void fail_without_memory(void) {
    struct mem *mem;
    struct moments *s;
    struct err e = {0};
    REQUIRE(mem_create(&mem) == 0);
    mem_fail_at(mem, 1, false);
    CHECK(moments_create(mem, 64, &s, &e) < 0);
    mem_destroy(mem);
}

static const struct t_case cases[] = {
    {"equal_a_plain_sum", equal_a_plain_sum},
    {"fail_without_memory", fail_without_memory},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
