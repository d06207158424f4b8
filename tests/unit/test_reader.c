/* Reads beside the page cache: the bytes are the pack's, damage is seen, and reads can be bounded
 * and cancelled. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "core/pack.h"
#include "core/reader.h"
#include "tests/golden/tiny.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

struct rig {
    char path[512];
    struct pack *pack;
    struct reader *r;
    struct reader_watch watch;
    void *dst; /* of the largest extent */
};

static void rig_init(struct rig *g) {
    struct tiny_opts o = tiny_defaults();
    struct err e = {0};
    *g = (struct rig){0};
    snprintf(g->path, sizeof(g->path), "%s/tiny.ebb", t_tmpdir());
    REQUIRE_OK(tiny_pack_write(&o, g->path, &e), &e);
    REQUIRE_OK(pack_open(g->path, &g->pack, &e), &e);
    REQUIRE_OK(reader_create(g->pack, &g->r, &e), &e);
    uint64_t most = 0;
    for (size_t i = 0; i < pack_n_extents(g->pack); i++)
        most = MAX(most, pack_extent_at(g->pack, i)->bytes);
    g->dst = aligned_alloc(4096, most);
    REQUIRE(g->dst);
}

static void rig_fini(struct rig *g) {
    reader_destroy(g->r);
    pack_close(g->pack);
    free(g->dst);
    unlink(g->path);
}

static const struct pack_extent *extent(const struct rig *g, uint32_t unit) {
    return pack_find(g->pack, PACK_HIGH, unit);
}

static uint64_t n_bytes(const struct rig *g) {
    return atomic_load_explicit(&g->watch.n_bytes, memory_order_relaxed);
}

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void every_extent_is_read(void) {
    struct rig g;
    struct err e = {0};
    uint64_t sum = 0;
    rig_init(&g);
    unlink(g.path); /* the name may go: what was opened stays */
    for (size_t i = 0; i < pack_n_extents(g.pack); i++) {
        const struct pack_extent *x = pack_extent_at(g.pack, i);
        void *want = malloc(x->bytes);
        REQUIRE(want);
        REQUIRE_OK(pack_read_extent(g.pack, x, want, &e), &e);
        REQUIRE_OK(reader_read(g.r, x, false, g.dst, &g.watch, &e), &e);
        CHECK(memcmp(want, g.dst, x->bytes) == 0);
        memset(g.dst, 0, x->bytes);
        REQUIRE_OK(reader_read(g.r, x, true, g.dst, &g.watch, &e), &e);
        CHECK(memcmp(want, g.dst, x->bytes) == 0);
        free(want);
        sum += 2 * x->bytes;
        CHECK_EQU(n_bytes(&g), sum);
    }
    printf("    direct: %s\n", reader_is_direct(g.r) ? "yes" : "no");
    rig_fini(&g);
}

/* As at the start: announced, then read at once into memory that has no pages yet, whose end is no
 * multiple of a piece. */
static void fresh_memory_is_filled(void) {
    struct rig g;
    struct err e = {0};
    rig_init(&g);
    for (size_t i = 0; i < pack_n_extents(g.pack); i++) {
        const struct pack_extent *x = pack_extent_at(g.pack, i);
        uint8_t *dst = mmap(NULL, x->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0);
        REQUIRE(dst != MAP_FAILED);
        pack_announce(g.pack, x);
        REQUIRE_OK(reader_read(g.r, x, true, dst, &g.watch, &e), &e);
        REQUIRE_OK(pack_read_extent(g.pack, x, g.dst, &e), &e);
        CHECK_MEM(dst, g.dst, x->bytes);
        munmap(dst, x->bytes);
    }
    /* An announcement of what is not there is nothing. */
    REQUIRE(truncate(g.path, 1) == 0);
    pack_announce(g.pack, extent(&g, 0));
    CHECK_EQ(reader_read(g.r, extent(&g, 0), true, g.dst, &g.watch, &e), -EBADMSG);
    rig_fini(&g);
}

static void damage_is_seen(void) {
    struct rig g;
    struct err e = {0};
    char text[128];
    rig_init(&g);
    const struct pack_extent *x = extent(&g, 1);
    uint8_t b;
    int fd = open(g.path, O_RDWR);
    REQUIRE(fd >= 0 && pread(fd, &b, 1, (off_t)x->offset + 700) == 1);
    b ^= 16;
    REQUIRE(pwrite(fd, &b, 1, (off_t)x->offset + 700) == 1);
    CHECK_EQ(reader_read(g.r, x, false, g.dst, &g.watch, &e), -EBADMSG);
    snprintf(
        text, sizeof(text),
        "unit.001.high: checksum differs (at byte %llu); the file was changed after it was opened",
        (unsigned long long)x->offset);
    CHECK_STR(e.msg, text);
    b ^= 16;
    REQUIRE(pwrite(fd, &b, 1, (off_t)x->offset + 700) == 1);
    CHECK_EQ(reader_read(g.r, x, false, g.dst, &g.watch, &e), 0);
    REQUIRE(ftruncate(fd, (off_t)(x->offset + x->bytes / 2)) == 0);
    CHECK_EQ(reader_read(g.r, x, false, g.dst, &g.watch, &e), -EBADMSG);
    snprintf(text, sizeof(text), "unit.001.high: the file ends at byte %llu",
             (unsigned long long)(x->offset + x->bytes / 2));
    CHECK_STR(e.msg, text);
    CHECK_EQ(reader_read(g.r, extent(&g, 0), false, g.dst, &g.watch, &e), 0); /* what is left */
    close(fd);
    rig_fini(&g);
}

struct reading {
    struct rig *g;
    uint32_t unit;
    unsigned times;
    struct reader_watch watch;
    int result;
    pthread_t thread;
};

static void *read_many(void *ud) {
    struct reading *x = ud;
    const struct pack_extent *extent_ = extent(x->g, x->unit);
    void *dst = aligned_alloc(4096, extent_->bytes);
    struct err e = {0};
    REQUIRE(dst);
    for (unsigned i = 0; i < x->times && x->result == 0; i++)
        x->result = reader_read(x->g->r, extent_, x->unit == 1, dst, &x->watch, &e);
    free(dst);
    return NULL;
}

static void the_rate_is_kept(void) {
    struct rig g;
    struct reading a = {.unit = 0, .times = 4}, b = {.unit = 1, .times = 4};
    rig_init(&g);
    uint64_t bytes = 4 * (extent(&g, 0)->bytes + extent(&g, 1)->bytes);
    reader_set_rate(g.r, bytes * 4); /* a quarter of a second for both together */
    uint64_t start = now_us();
    a.g = b.g = &g;
    REQUIRE(pthread_create(&a.thread, NULL, read_many, &a) == 0);
    REQUIRE(pthread_create(&b.thread, NULL, read_many, &b) == 0);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    CHECK_EQ(a.result, 0);
    CHECK_EQ(b.result, 0);
    CHECK(now_us() - start >= 240000);
    rig_fini(&g);
}

static void reads_can_be_cancelled(void) {
    struct rig g;
    struct reading a = {.unit = 0, .times = 1};
    struct err e = {0};
    rig_init(&g);
    a.g = &g;
    reader_set_rate(g.r, 1); /* hours */
    REQUIRE(pthread_create(&a.thread, NULL, read_many, &a) == 0);
    atomic_store_explicit(&a.watch.is_cancelled, true, memory_order_relaxed);
    pthread_join(a.thread, NULL);
    CHECK_EQ(a.result, -ECANCELED);
    atomic_store_explicit(&g.watch.is_cancelled, true, memory_order_relaxed);
    CHECK_EQ(reader_read(g.r, extent(&g, 0), false, g.dst, &g.watch, &e), -ECANCELED);
    CHECK_STR(e.msg, "unit.000.high: cancelled");
    CHECK_EQU(n_bytes(&g), 0);
    reader_destroy(NULL);
    rig_fini(&g);
}

static const struct t_case cases[] = {
    {"every_extent_is_read", every_extent_is_read},
    {"fresh_memory_is_filled", fresh_memory_is_filled},
    {"damage_is_seen", damage_is_seen},
    {"the_rate_is_kept", the_rate_is_kept},
    {"reads_can_be_cancelled", reads_can_be_cancelled},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
