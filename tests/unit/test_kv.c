/* kv: sizes, layout, sharing, accounting, failures. */
#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "core/kv.h"
#include "core/mem.h"
#include "tests/t.h"

enum { LAYERS = 3, HEADS = 2, DIM = 8 };
static const struct model_hparams hp = {
    .n_layers = LAYERS, .n_heads = 6, .n_kv_heads = HEADS, .head_dim = DIM};

/* What a cache holds at a position is told by a number: one for each place. */
static uint8_t byte_of(uint32_t seed, uint32_t layer, uint32_t head, uint32_t pos, uint32_t i) {
    return (uint8_t)((seed * 31 + layer * 17 + head * 7 + pos * 3 + i) % 251);
}

/* Bytes of one head at one position. */
static uint32_t row_bytes(const struct kv *kv) {
    return kv_type(kv) == KV_F16 ? 2 * DIM : DIM;
}

static struct kv_side side_of(const struct kv *kv, uint32_t l, uint32_t head, uint32_t pos) {
    return l % 2 ? kv_values(kv, l / 2, head, pos / KV_BLOCK)
                 : kv_keys(kv, l / 2, head, pos / KV_BLOCK);
}

static void put(const struct kv *kv, uint32_t from, uint32_t to, uint32_t seed) {
    for (uint32_t l = 0; l < 2 * LAYERS; l++)
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t p = from; p < to; p++) {
                struct kv_side s = side_of(kv, l, h, p);
                uint32_t at = p % KV_BLOCK, n = row_bytes(kv);
                CHECK((s.scale != NULL) == (kv_type(kv) == KV_Q8));
                if (s.scale) s.scale[at] = (float)(seed + l + 10 * h + 100 * p);
                for (uint32_t i = 0; i < n; i++)
                    ((uint8_t *)s.x)[at * n + i] = byte_of(seed, l, h, p, i);
            }
}

static void check(const struct kv *kv, uint32_t from, uint32_t to, uint32_t seed) {
    uint32_t n_wrong = 0;
    for (uint32_t l = 0; l < 2 * LAYERS; l++)
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t p = from; p < to; p++) {
                struct kv_side s = side_of(kv, l, h, p);
                uint32_t at = p % KV_BLOCK, n = row_bytes(kv);
                if (s.scale) n_wrong += s.scale[at] != (float)(seed + l + 10 * h + 100 * p);
                for (uint32_t i = 0; i < n; i++)
                    n_wrong += ((uint8_t *)s.x)[at * n + i] != byte_of(seed, l, h, p, i);
            }
    CHECK_EQU(n_wrong, 0);
}

static void places_do_not_overlap(void) {
    struct mem *m;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    for (int type = KV_Q8; type <= KV_F16; type++) {
        struct kv *kv;
        REQUIRE_OK(kv_create(m, &hp, (enum kv_type)type, 65, &kv, &e), &e);
        CHECK(kv_type(kv) == (enum kv_type)type);
        CHECK_EQU(kv_capacity(kv), 128);
        CHECK_EQU(kv_bytes(kv), kv_bytes_for(&hp, (enum kv_type)type, 65));
        CHECK_EQU(kv_bytes(kv), kv_bytes_for(&hp, (enum kv_type)type, 128));
        CHECK_EQU(kv_own_bytes(kv), kv_bytes(kv));
        CHECK_EQU(mem_bytes(m, MEM_KV), kv_bytes(kv));
        put(kv, 0, 128, 5);
        check(kv, 0, 128, 5);
        kv_destroy(kv);
    }
    kv_destroy(NULL);
    CHECK_EQU(mem_bytes(m, MEM_KV), 0);
    mem_destroy(m);
}

static void check_fork(struct mem *m, enum kv_type type, uint32_t n_kept, bool is_first_gone) {
    uint64_t block = kv_bytes_for(&hp, type, 1);
    struct err e = {0};
    struct kv *a, *b;
    uint32_t n_shared = n_kept / KV_BLOCK;
    REQUIRE_OK(kv_create(m, &hp, type, 192, &a, &e), &e);
    put(a, 0, 192, 5);
    REQUIRE_OK(kv_fork(m, &hp, 250, a, n_kept, &b, &e), &e);
    CHECK(kv_type(b) == type);
    CHECK_EQU(kv_capacity(b), 256);
    CHECK_EQU(kv_fork_bytes(&hp, type, 250, n_kept), (4 - n_shared) * block);
    CHECK_EQU(mem_bytes(m, MEM_KV), (7 - n_shared) * block);
    CHECK_EQU(kv_own_bytes(b), (4 - n_shared) * block);
    CHECK_EQU(kv_own_bytes(a), (3 - n_shared) * block);
    put(b, n_kept, 256, 9);
    check(a, 0, 192, 5);
    if (is_first_gone) kv_destroy(a);
    check(b, 0, n_kept, 5);
    check(b, n_kept, 256, 9);
    kv_destroy(b);
    if (!is_first_gone) {
        check(a, 0, 192, 5);
        kv_destroy(a);
    }
    CHECK_EQU(mem_bytes(m, MEM_KV), 0);
}

/* Whatever of one cache another one begins with, both hold what they should, and bytes are counted
 * once, until the last user is gone. */
static void a_fork_has_what_it_keeps(void) {
    static const uint32_t kept[] = {0, 1, 63, 64, 65, 128, 150, 192};
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
        for (int i = 0; i < 4; i++) check_fork(m, i % 2 ? KV_F16 : KV_Q8, kept[k], i / 2);
    mem_destroy(m);
}

static void trimming_gives_back(void) {
    struct mem *m;
    struct kv *kv;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    REQUIRE_OK(kv_create(m, &hp, KV_Q8, 300, &kv, &e), &e);
    put(kv, 0, 65, 2);
    kv_trim(kv, 65);
    CHECK_EQU(kv_capacity(kv), 128);
    CHECK_EQU(mem_bytes(m, MEM_KV), kv_bytes_for(&hp, KV_Q8, 65));
    kv_trim(kv, 200); /* never more than it was */
    CHECK_EQU(kv_capacity(kv), 128);
    check(kv, 0, 65, 2);
    kv_destroy(kv);
    mem_destroy(m);
}

static void bad_sizes_and_no_memory(void) {
    struct mem *m;
    struct kv *kv = NULL, *from;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    CHECK_EQ(kv_create(m, &hp, KV_Q8, 0, &kv, &e), -EINVAL);
    CHECK_EQ(kv_create(m, &hp, KV_Q8, MODEL_MAX_CTX + 1, &kv, &e), -EINVAL);
    mem_fail_at(m, 1, false);
    CHECK_EQ(kv_create(m, &hp, KV_Q8, 100, &kv, &e), -ENOMEM);
    CHECK(strstr(e.msg, "100 positions"));
    REQUIRE_OK(kv_create(m, &hp, KV_Q8, 100, &from, &e), &e);
    mem_fail_at(m, 2, false);
    CHECK_EQ(kv_fork(m, &hp, 200, from, 70, &kv, &e), -ENOMEM);
    CHECK(kv == NULL);
    CHECK_EQU(mem_bytes(m, MEM_KV), kv_bytes(from));
    CHECK_EQU(kv_own_bytes(from), kv_bytes(from));
    kv_destroy(from);
    mem_destroy(m);
}

static const struct t_case cases[] = {
    {"places_do_not_overlap", places_do_not_overlap},
    {"a_fork_has_what_it_keeps", a_fork_has_what_it_keeps},
    {"trimming_gives_back", trimming_gives_back},
    {"bad_sizes_and_no_memory", bad_sizes_and_no_memory},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
