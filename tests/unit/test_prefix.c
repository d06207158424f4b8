/* prefix: what is found, what goes first, what is counted; against a list that is searched in the
 * plainest way. */
#include <string.h>

#include "core/err.h"
#include "core/kv.h"
#include "core/mem.h"
#include "core/prefix.h"
#include "tests/t.h"

static const struct model_hparams hp = {
    .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8};

static struct mem *m;
static struct prefix *p;
static uint64_t block;

static void begin(unsigned n_blocks) {
    REQUIRE(mem_create(&m) == 0 && prefix_create(&p) == 0);
    block = kv_bytes_for(&hp, KV_Q8, 1);
    prefix_set_limit(p, n_blocks * block);
}

static void end(void) {
    prefix_destroy(p);
    CHECK_EQU(mem_bytes(m, MEM_KV), 0);
    mem_destroy(m);
}

/* Tokens first, first + 1, ... */
static const uint32_t *run(uint32_t first, uint32_t n) {
    static uint32_t ids[1024];
    for (uint32_t i = 0; i < n; i++) ids[i] = first + i;
    return ids;
}

static struct kv *cache(uint32_t n_pos) {
    struct err e = {0};
    struct kv *kv;
    REQUIRE_OK(kv_create(m, &hp, KV_Q8, n_pos, &kv, &e), &e);
    return kv;
}

static void put(uint32_t first, uint32_t n) {
    prefix_put(p, run(first, n), n, cache(n + 500));
}

static uint32_t find(uint32_t first, uint32_t n) {
    uint32_t k = 77;
    const struct kv *kv = prefix_find(p, run(first, n), n, &k);
    CHECK((kv != NULL) == (k > 0));
    if (kv) CHECK(kv_capacity(kv) >= k);
    return k;
}

static void the_longest_is_found(void) {
    uint32_t ids[200], n;
    begin(100);
    CHECK_EQU(find(0, 50), 0);
    put(0, 100);
    put(1000, 30);
    CHECK_EQU(find(0, 50), 50);
    CHECK_EQU(find(0, 300), 100);
    CHECK_EQU(find(1000, 300), 30);
    CHECK_EQU(find(1, 300), 0);
    CHECK_EQU(find(0, PREFIX_MIN - 1), 0);
    CHECK_EQU(find(0, PREFIX_MIN), PREFIX_MIN);
    CHECK_EQU(find(0, 0), 0);
    /* Two that part: each finds its own. */
    memcpy(ids, run(0, 200), sizeof(ids));
    for (uint32_t i = 60; i < 200; i++) ids[i] += 5000;
    prefix_put(p, ids, 200, cache(200));
    CHECK_EQU(prefix_n(p), 3);
    CHECK(prefix_find(p, ids, 200, &n) && n == 200);
    CHECK_EQU(find(0, 200), 100);
    end();
}

static void a_longer_one_takes_the_place(void) {
    begin(100);
    put(0, 100);
    put(0, 130);
    CHECK_EQU(prefix_n(p), 1);
    put(0, 130); /* the same again */
    CHECK_EQU(prefix_n(p), 1);
    put(0, 90); /* a shorter one is one of its own */
    CHECK_EQU(prefix_n(p), 2);
    CHECK_EQU(find(0, 200), 130);
    put(5, 4); /* not worth it */
    CHECK_EQU(prefix_n(p), 2);
    end();
}

/* Kept are only the blocks with tokens in them; the least recently used one goes first. */
static void the_limit_holds(void) {
    begin(4);
    put(0, 64);
    put(1000, 64);
    put(2000, 65);
    CHECK_EQU(mem_bytes(m, MEM_KV), 4 * block);
    CHECK_EQU(prefix_bytes(p), 4 * block);
    CHECK_EQU(find(0, 64), 64); /* used */
    put(3000, 10);
    CHECK_EQU(mem_bytes(m, MEM_KV), 4 * block);
    CHECK_EQU(find(1000, 64), 0);
    CHECK_EQU(find(0, 64), 64);
    CHECK_EQU(find(2000, 64), 64);
    put(4000, 64 * 5); /* too large for itself */
    CHECK_EQU(find(4000, 64), 0);
    CHECK_EQU(prefix_n(p), 3);
    prefix_set_limit(p, 2 * block);
    CHECK_EQU(prefix_n(p), 1);
    CHECK_EQU(find(2000, 65), 65);
    prefix_set_limit(p, 0);
    CHECK_EQU(prefix_n(p), 0);
    put(0, 64);
    CHECK_EQU(prefix_n(p), 0);
    end();
}

/* What a running request shares does not come free. */
static void shedding_frees_what_it_says(void) {
    struct err e = {0};
    struct kv *fork;
    uint32_t n;
    begin(100);
    put(0, 64 * 3);
    put(1000, 64);
    const struct kv *from = prefix_find(p, run(0, 150), 150, &n);
    REQUIRE_OK(kv_fork(m, &hp, 200, from, n, &fork, &e), &e);
    CHECK_EQU(prefix_bytes(p), 2 * block); /* two of the three are shared */
    CHECK_EQU(mem_bytes(m, MEM_KV), 6 * block);
    prefix_shed(p, 1);
    CHECK_EQU(prefix_n(p), 1);
    CHECK_EQU(mem_bytes(m, MEM_KV), 5 * block);
    CHECK_EQU(find(0, 150), 150);
    prefix_shed(p, 100 * block);
    CHECK_EQU(prefix_n(p), 0);
    CHECK_EQU(mem_bytes(m, MEM_KV), 4 * block);
    prefix_shed(p, 1);
    kv_destroy(fork);
    end();
}

static void many_small_ones_are_bounded(void) {
    begin(1000000);
    for (uint32_t i = 0; i < 200; i++) put(i * 1000, 10);
    CHECK_EQU(prefix_n(p), 64);
    CHECK_EQU(find(199 * 1000, 10), 10);
    CHECK_EQU(find(0, 10), 0);
    end();
}

static const struct t_case cases[] = {
    {"the_longest_is_found", the_longest_is_found},
    {"a_longer_one_takes_the_place", a_longer_one_takes_the_place},
    {"the_limit_holds", the_limit_holds},
    {"shedding_frees_what_it_says", shedding_frees_what_it_says},
    {"many_small_ones_are_bounded", many_small_ones_are_bounded},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
