/* kv: sizes, layout, accounting, failures. */
#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "core/kv.h"
#include "core/mem.h"
#include "tests/t.h"

static const struct model_hparams hp = {
    .n_layers = 3, .n_heads = 6, .n_kv_heads = 2, .head_dim = 8};

static void layers_do_not_overlap(void) {
    struct mem *m;
    struct kv *kv;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    REQUIRE_OK(kv_create(m, &hp, 65, &kv, &e), &e);
    CHECK_EQU(kv_capacity(kv), 128);
    CHECK_EQU(kv_bytes(kv), kv_bytes_for(&hp, 65));
    CHECK_EQU(kv_bytes(kv), kv_bytes_for(&hp, 128));
    CHECK_EQU(mem_bytes(m, MEM_KV), kv_bytes(kv));
    size_t side = 128 * 16;
    for (uint32_t l = 0; l < 3; l++) {
        for (size_t i = 0; i < side; i++) {
            CHECK_EQ(kv_keys(kv, l)[i], 0);
            kv_keys(kv, l)[i] = (uint16_t)(2 * l + 1);
            kv_values(kv, l)[i] = (uint16_t)(2 * l + 2);
        }
    }
    for (uint32_t l = 0; l < 3; l++) {
        CHECK_EQ(kv_keys(kv, l)[0], 2 * l + 1);
        CHECK_EQ(kv_keys(kv, l)[side - 1], 2 * l + 1);
        CHECK_EQ(kv_values(kv, l)[0], 2 * l + 2);
        CHECK_EQ(kv_values(kv, l)[side - 1], 2 * l + 2);
    }
    kv_destroy(kv);
    kv_destroy(NULL);
    CHECK_EQU(mem_bytes(m, MEM_KV), 0);
    mem_destroy(m);
}

static void bad_sizes_and_no_memory(void) {
    struct mem *m;
    struct kv *kv = NULL;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    CHECK_EQ(kv_create(m, &hp, 0, &kv, &e), -EINVAL);
    CHECK_EQ(kv_create(m, &hp, MODEL_MAX_CTX + 1, &kv, &e), -EINVAL);
    mem_fail_at(m, 1, false);
    CHECK_EQ(kv_create(m, &hp, 100, &kv, &e), -ENOMEM);
    CHECK(strstr(e.msg, "128 positions"));
    CHECK(kv == NULL);
    mem_destroy(m);
}

static const struct t_case cases[] = {
    {"layers_do_not_overlap", layers_do_not_overlap},
    {"bad_sizes_and_no_memory", bad_sizes_and_no_memory},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
