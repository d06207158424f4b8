/* err, bytes, mem: the small things everything else stands on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/mem.h"
#include "tests/t.h"

static void err_keeps_code_and_prefixes(void) {
    struct err e = {0};
    CHECK_EQ(err_set(&e, -EBADMSG, "layer %d: checksum differs", 7), -EBADMSG);
    err_prefix(&e, "pack %s", "a.ebb");
    err_prefix(NULL, "x");
    CHECK_EQ(e.code, -EBADMSG);
    CHECK_STR(e.msg, "pack a.ebb: layer 7: checksum differs");
    CHECK_EQ(err_set(NULL, -EINVAL, "x"), -EINVAL);
}

static void err_cuts_long_messages(void) {
    struct err e = {0};
    char text[400];
    memset(text, 'x', sizeof(text));
    text[399] = '\0';
    err_set(&e, -EINVAL, "%s", text);
    CHECK_EQU(strlen(e.msg), sizeof(e.msg) - 1);
    err_prefix(&e, "head");
    CHECK_EQU(strlen(e.msg), sizeof(e.msg) - 1);
    CHECK_EQ(memcmp(e.msg, "head: xxx", 9), 0);
    err_prefix(&e, "%s", text);
    CHECK(strlen(e.msg) < sizeof(e.msg));
}

static void bytes_reads_little_endian_and_sticks(void) {
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7};
    struct bytes b;
    bytes_init(&b, data, sizeof(data));
    CHECK_EQU(bytes_u32(&b), 0x04030201);
    CHECK_EQU(bytes_left(&b), 3);
    CHECK_EQU(bytes_u32(&b), 0);
    CHECK(b.bad);
    CHECK_EQU(b.bad_at, 4);
    CHECK_EQU(bytes_u8(&b), 0);
    CHECK_EQU(bytes_left(&b), 0);
    CHECK(bytes_span(&b, SIZE_MAX) == NULL);
}

static void mem_counts_and_returns(void) {
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    uint8_t *p = mem_alloc(m, MEM_SLAB, 100000);
    REQUIRE(p);
    CHECK_EQU((uintptr_t)p % 64, 0);
    CHECK_EQ(p[99999], 0);
    CHECK(mem_bytes(m, MEM_SLAB) >= 100000);
    CHECK_EQU(mem_bytes(m, MEM_KV), 0);
    CHECK(mem_alloc(m, MEM_SLAB, 0) == NULL);
    CHECK(mem_alloc(m, MEM_SLAB, SIZE_MAX) == NULL);
    mem_free(m, MEM_SLAB, p, 100000);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    mem_destroy(m);
}

/* Sizes around a huge page: aligned where they are in one, counted as asked for, all returned; and
 * the slack is told beforehand. What is in a block's pages is its own, up to the last byte. */
static void mem_slabs_in_huge_pages(void) {
    const size_t huge = 2 << 20, least = huge - huge / 16, page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t sizes[] = {4096,     least - 4096,        least,    huge - 1,       huge,
                            huge + 1, 2 * huge - 4096 * 9, 5 * huge, 3 * huge + 4096};
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    uint8_t *p[N];
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    bool has_huge = mem_slack(m, huge - 4096) == 4096;
    printf("    huge pages: %s\n", has_huge ? "yes" : "no");
    uint64_t slack = 0, held = 0;
    for (int i = 0; i < N; i++) {
        size_t whole = (sizes[i] + page - 1) / page * page;
        p[i] = mem_alloc(m, MEM_SLAB, sizes[i]);
        REQUIRE(p[i]);
        uint64_t lost = mem_slack(m, sizes[i]);
        CHECK(lost <= huge / 16 && (lost == 0 || (whole + lost) % huge == 0));
        if (has_huge && whole + lost >= huge) CHECK_EQU((uintptr_t)p[i] % huge, 0);
        slack += lost;
        held += whole;
        CHECK_EQU(mem_bytes(m, MEM_SLAB), held);
        CHECK_EQU(mem_bytes(m, MEM_SLACK), slack);
        CHECK(p[i][0] == 0 && p[i][sizes[i] - 1] == 0);
        memset(p[i], i + 1, sizes[i]);
    }
    CHECK_EQU(mem_slack(m, least - 4096), 0);
    CHECK_EQU(mem_slack(m, huge), 0);
    CHECK_EQU(mem_slack(m, UINT64_MAX), 0);
    for (int i = 0; i < N; i++) CHECK(p[i][0] == i + 1 && p[i][sizes[i] - 1] == i + 1);
    for (int i = 0; i < N; i++) mem_free(m, MEM_SLAB, p[i], sizes[i]);
    CHECK_EQU(mem_bytes(m, MEM_SLAB) + mem_bytes(m, MEM_SLACK), 0);
    /* Other kinds may be touched here and there only: they keep to small pages. */
    uint8_t *kv = mem_alloc(m, MEM_KV, huge - 4096);
    CHECK(kv && mem_bytes(m, MEM_KV) <= huge && mem_bytes(m, MEM_SLACK) == 0);
    mem_free(m, MEM_KV, kv, huge - 4096);
    mem_destroy(m);
}

static void mem_fails_on_request(void) {
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    mem_fail_at(m, 2, false);
    void *a = mem_alloc(m, MEM_KV, 10);
    CHECK(a);
    CHECK(mem_alloc(m, MEM_KV, 10) == NULL);
    void *b = mem_alloc(m, MEM_KV, 10);
    CHECK(b);
    mem_fail_at(m, 1, true);
    CHECK(mem_alloc(m, MEM_KV, 10) == NULL);
    CHECK(mem_alloc(m, MEM_KV, 10) == NULL);
    mem_fail_at(m, 0, false);
    mem_free(m, MEM_KV, a, 10);
    mem_free(m, MEM_KV, b, 10);
    mem_destroy(m);
}

static const struct t_case cases[] = {
    {"err_keeps_code_and_prefixes", err_keeps_code_and_prefixes},
    {"err_cuts_long_messages", err_cuts_long_messages},
    {"bytes_reads_little_endian_and_sticks", bytes_reads_little_endian_and_sticks},
    {"mem_counts_and_returns", mem_counts_and_returns},
    {"mem_slabs_in_huge_pages", mem_slabs_in_huge_pages},
    {"mem_fails_on_request", mem_fails_on_request},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
