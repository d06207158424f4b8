/* The guard's thread on files of a fake cgroup. memory.current follows what is held: the guard's
 * wake-up writes it anew. The ladder's bytes are large, the slabs behind it small. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "core/kv.h"
#include "core/mem.h"
#include "core/prefix.h"
#include "core/slab.h"
#include "daemon/guard.h"
#include "tests/t.h"
#include "tests/unit/root.h"
#include "tests/unit/small.h"

static const uint64_t MIB = 1 << 20;
enum { STEP_MIB = 30, BASE_MIB = 100, N_STEPS = 8 };
#define OWN    "sys/fs/cgroup/a/b/"
#define PARENT "sys/fs/cgroup/a/"

struct rig {
    struct mem *mem;
    struct store *store;
    struct ladder *ladder;
    struct prefix *prefix;
    struct guard *guard;
    pthread_mutex_t lock; /* of the files: the guard's wake-up writes them, too */
    bool is_stuck;        /* under it: memory.current stays where it is */
    _Atomic unsigned n_wakes;
    atomic_bool has_entered; /* a step that had to wait */
    char folders[GUARD_MAX_LEVELS][SENSE_MAX_PATH];
};

static void put_bytes(struct rig *r, const char *rel, uint64_t bytes) {
    char text[32];
    snprintf(text, sizeof(text), "%llu\n", (unsigned long long)bytes);
    pthread_mutex_lock(&r->lock);
    root_put(rel, text);
    pthread_mutex_unlock(&r->lock);
}

/* What the weights take at the position that is adopted, and kept prefixes in MiB for each block.
 */
static uint64_t held(const struct rig *r) {
    return BASE_MIB * MIB + ladder_bytes(r->ladder, store_position(r->store)) +
           prefix_bytes(r->prefix);
}

static void wake(void *ud) {
    struct rig *r = ud;
    atomic_fetch_add_explicit(&r->n_wakes, 1, memory_order_relaxed);
    /* Nothing comes back before the plan is adopted. */
    if (store_adopted_epoch(r->store) != store_published_epoch(r->store)) return;
    if (!r->is_stuck) put_bytes(r, OWN "memory.current", held(r));
}

static void rig_init(struct rig *r) {
    struct err e = {0};
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    root_make();
    REQUIRE(mem_create(&r->mem) == 0);
    REQUIRE(prefix_create(&r->prefix) == 0);
    prefix_set_limit(r->prefix, UINT64_MAX);
    r->store = small_store(r->mem);
    r->ladder = small_ladder(N_STEPS * STEP_MIB * MIB, STEP_MIB * MIB);
    store_publish(r->store, 0);
    store_enter(r->store);
    store_adopt(r->store, NULL);
    store_leave(r->store);
    root_put_cgroup("/a", "0", "max", "max", 0, 0);
    root_put_cgroup("/a/b", "0", "max", "max", 0, 0);
    put_bytes(r, OWN "memory.current", held(r));
    snprintf(r->folders[0], SENSE_MAX_PATH, "%s", root_path("sys/fs/cgroup/a/b"));
    snprintf(r->folders[1], SENSE_MAX_PATH, "%s", root_path("sys/fs/cgroup/a"));
    snprintf(r->folders[2], SENSE_MAX_PATH, "%s", root_path("sys/fs/cgroup"));
    const struct guard_opts o = {
        .store = r->store,
        .ladder = r->ladder,
        .prefix = r->prefix,
        .mem = r->mem,
        .wake = wake,
        .ud = r,
    };
    REQUIRE_OK(guard_start(&o, &r->guard, &e), &e);
    REQUIRE_OK(guard_set_levels(r->guard, r->folders, 3, &e), &e);
    store_lend(r->store);
}

static void rig_fini(struct rig *r) {
    store_recall(r->store);
    guard_stop(r->guard);
    prefix_drop_discarded(r->prefix);
    prefix_destroy(r->prefix);
    ladder_destroy(r->ladder);
    store_destroy(r->store);
    mem_destroy(r->mem);
    pthread_mutex_destroy(&r->lock);
}

/* Looks of the thread that began after the call. */
static void await_looks(struct rig *r, unsigned n) {
    uint64_t from = guard_beats(r->guard);
    while (guard_beats(r->guard) < from + n + 1) sched_yield();
}

static uint32_t position(struct rig *r) {
    store_recall(r->store);
    uint32_t p = store_position(r->store);
    store_lend(r->store);
    return p;
}

/* ---- cases ---- */

static void below_it_does_nothing(void) {
    struct rig r;
    struct guard_act a;
    rig_init(&r);
    put_bytes(&r, OWN "memory.high", held(&r)); /* to the byte */
    await_looks(&r, 3);
    CHECK(!guard_is_over(r.guard) && !guard_look(r.guard) && !guard_was_over(r.guard));
    CHECK(!guard_next(r.guard, &a));
    CHECK_EQU(position(&r), 0);
    CHECK_EQU(r.n_wakes, 0);
    rig_fini(&r);
}

/* One look is enough, whoever sleeps: as many steps go as free what is over and the margin. */
static void what_is_over_goes_at_once(void) {
    struct rig r;
    struct guard_act a;
    rig_init(&r);
    uint64_t before = mem_bytes(r.mem, MEM_SLAB), high = held(&r) - 40 * MIB;
    put_bytes(&r, OWN "memory.high", high);
    CHECK(guard_look(r.guard)); /* seen by the loop before the guard is */
    while (position(&r) == 0) sched_yield();
    await_looks(&r, 3);
    CHECK_EQU(position(&r), 2);
    CHECK(!guard_is_over(r.guard));
    CHECK(guard_was_over(r.guard) && !guard_was_over(r.guard));
    CHECK(mem_bytes(r.mem, MEM_SLAB) < before); /* adopted in the place of the sleeping thread */
    CHECK_EQU(before - mem_bytes(r.mem, MEM_SLAB), store_given_back(r.store));
    REQUIRE(guard_next(r.guard, &a));
    CHECK_EQU(a.position_from, 0);
    CHECK_EQU(a.position, 2);
    CHECK_EQU(a.over_bytes, 40 * MIB);
    CHECK_EQU(a.limit_bytes, high);
    CHECK(!guard_next(r.guard, &a));
    rig_fini(&r);
}

/* Page cache can be reclaimed, and is nobody's loss. */
static void page_cache_does_not_count(void) {
    struct rig r;
    rig_init(&r);
    char current[32];
    snprintf(current, sizeof(current), "%llu", (unsigned long long)held(&r));
    pthread_mutex_lock(&r.lock);
    root_put_cgroup("/a/b", current, "max", "max", 15 << 20, 30 << 20);
    pthread_mutex_unlock(&r.lock);
    put_bytes(&r, OWN "memory.high", held(&r) - 45 * MIB);
    await_looks(&r, 3);
    CHECK_EQU(position(&r), 0);
    put_bytes(&r, OWN "memory.high", held(&r) - 46 * MIB);
    while (position(&r) == 0) sched_yield();
    CHECK_EQU(position(&r), 1);
    rig_fini(&r);
}

/* Below memory.max some room is kept, as beyond it the kernel kills. */
static void memory_max_is_not_touched(void) {
    struct rig r;
    struct guard_act a;
    rig_init(&r);
    put_bytes(&r, OWN "memory.max", held(&r) + 8 * MIB);
    await_looks(&r, 3);
    CHECK_EQU(position(&r), 0);
    put_bytes(&r, OWN "memory.max", held(&r) + 7 * MIB);
    while (position(&r) == 0) sched_yield();
    REQUIRE(guard_next(r.guard, &a));
    CHECK_EQU(a.over_bytes, MIB);
    rig_fini(&r);
}

static void a_parents_limit_counts(void) {
    struct rig r;
    struct guard_act a;
    rig_init(&r);
    put_bytes(&r, PARENT "memory.current", held(&r));
    put_bytes(&r, PARENT "memory.high", held(&r) - 10 * MIB);
    while (position(&r) == 0) sched_yield();
    REQUIRE(guard_next(r.guard, &a));
    CHECK_EQU(a.over_bytes, 10 * MIB);
    rig_fini(&r);
}

/* While a step runs nothing is taken from under it; one that takes long is broken off. */
static void a_running_step_keeps_its_weights(void) {
    struct rig r;
    rig_init(&r);
    store_enter(r.store);
    const struct plan *p = store_adopt(r.store, NULL);
    uint64_t before = mem_bytes(r.mem, MEM_SLAB);
    put_bytes(&r, OWN "memory.high", held(&r) - 10 * MIB);
    while (atomic_load(p->urgent) <= p->epoch) sched_yield();
    CHECK_EQU(mem_bytes(r.mem, MEM_SLAB), before);
    CHECK(store_adopt(r.store, NULL)->position == 1);
    CHECK(mem_bytes(r.mem, MEM_SLAB) < before);
    store_leave(r.store);
    rig_fini(&r);
}

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void *enter_next_step(void *ud) {
    struct rig *r = ud;
    store_leave(r->store);
    store_enter(r->store);
    atomic_store(&r->has_entered, true);
    store_leave(r->store);
    return NULL;
}

/* The step that is broken off is followed by another one when the guard is below, or, where that
 * takes too long, after a while. */
static void after_a_broken_step_the_next_one_waits(void) {
    for (int is_too_long = 0; is_too_long < 2; is_too_long++) {
        struct rig r;
        pthread_t inference;
        rig_init(&r);
        store_enter(r.store);
        const struct plan *p = store_adopt(r.store, NULL);
        r.is_stuck = true;
        uint64_t start_us = now_us();
        put_bytes(&r, OWN "memory.high", held(&r) - 10 * MIB);
        while (atomic_load(p->urgent) <= p->epoch) sched_yield();
        CHECK(store_recall(r.store)); /* nothing else is decided */
        REQUIRE(pthread_create(&inference, NULL, enter_next_step, &r) == 0);
        while (store_adopted_epoch(r.store) == p->epoch) sched_yield();
        await_looks(&r, 5);
        bool has_entered = r.has_entered;
        CHECK(!has_entered || now_us() - start_us >= GUARD_HALT_US);
        CHECK(guard_is_over(r.guard));
        if (!is_too_long) put_bytes(&r, OWN "memory.high", 1000 * MIB);
        while (!r.has_entered || guard_is_over(r.guard) != (bool)is_too_long) sched_yield();
        pthread_join(inference, NULL);
        store_lend(r.store);
        rig_fini(&r);
    }
}

static void while_the_loop_publishes_it_waits(void) {
    struct rig r;
    rig_init(&r);
    CHECK(store_recall(r.store));
    put_bytes(&r, OWN "memory.high", held(&r) - 10 * MIB);
    await_looks(&r, 4);
    CHECK(guard_is_over(r.guard));
    CHECK_EQU(store_position(r.store), 0);
    store_lend(r.store);
    while (position(&r) == 0) sched_yield();
    rig_fini(&r);
}

static void kept_prefixes_go_first(void) {
    struct rig r;
    struct err e = {0};
    struct guard_act a;
    struct kv *kv;
    uint32_t ids[200] = {0}, n;
    rig_init(&r);
    store_recall(r.store);
    for (uint32_t i = 0; i < 2; i++) {
        ids[0] = i;
        REQUIRE_OK(kv_create(r.mem, &small, KV_Q8, 200, &kv, &e), &e);
        prefix_put(r.prefix, ids, 200, kv);
    }
    uint64_t kept = prefix_bytes(r.prefix);
    put_bytes(&r, OWN "memory.current", held(&r));
    store_lend(r.store);
    put_bytes(&r, OWN "memory.high", held(&r) - 1);
    while (position(&r) == 0) sched_yield(); /* they are small beside the margin */
    REQUIRE(guard_next(r.guard, &a));
    CHECK_EQU(a.held_kept_bytes, kept);
    CHECK_EQU(a.kept_bytes, kept);
    CHECK_EQU(prefix_bytes(r.prefix), 0);
    store_recall(r.store);
    CHECK_EQU(prefix_n(r.prefix), 2);
    prefix_drop_discarded(r.prefix);
    CHECK_EQU(prefix_n(r.prefix), 0);
    CHECK_EQU(mem_bytes(r.mem, MEM_KV), 0);
    CHECK(!prefix_find(r.prefix, ids, 200, &n));
    store_lend(r.store);
    rig_fini(&r);
}

/* The limit is below all that ebb can give: the lowest position, and then peace. */
static void below_the_floor_it_rests(void) {
    struct rig r;
    rig_init(&r);
    put_bytes(&r, OWN "memory.high", 10 * MIB);
    while (!guard_is_exhausted(r.guard)) sched_yield();
    CHECK_EQU(position(&r), N_STEPS);
    await_looks(&r, 1);
    unsigned n = r.n_wakes;
    await_looks(&r, 5);
    CHECK_EQU(r.n_wakes, n);
    CHECK(guard_is_over(r.guard));
    put_bytes(&r, OWN "memory.high", 1000 * MIB);
    while (guard_is_over(r.guard)) sched_yield();
    CHECK(!guard_is_exhausted(r.guard));
    rig_fini(&r);
}

static void addresses_wait_until_it_is_below(void) {
    struct rig r;
    rig_init(&r);
    void *p = mem_alloc(r.mem, MEM_KV, 1 << 16);
    r.is_stuck = true;
    put_bytes(&r, OWN "memory.high", 10 * MIB);
    while (!guard_is_over(r.guard)) sched_yield();
    mem_free(r.mem, MEM_KV, p, 1 << 16);
    mem_settle(r.mem);
    memset(p, 1, 10); /* still ours: this would be a fault if it were unmapped */
    put_bytes(&r, OWN "memory.high", 1000 * MIB);
    while (guard_is_over(r.guard)) sched_yield();
    mem_settle(r.mem);
    rig_fini(&r);
}

/* The cgroup is removed, and made again somewhere else. */
static void levels_are_set_anew(void) {
    struct rig r;
    struct err e = {0};
    rig_init(&r);
    root_put_cgroup("/c", "0", "max", "max", 0, 0);
    put_bytes(&r, "sys/fs/cgroup/c/memory.current", 500 * MIB);
    put_bytes(&r, OWN "memory.high", 1000 * MIB);
    snprintf(r.folders[0], SENSE_MAX_PATH, "%s", root_path("sys/fs/cgroup/c"));
    for (int i = 0; i < 5; i++) {
        REQUIRE_OK(guard_set_levels(r.guard, r.folders, 1, &e), &e);
        if (i % 2) await_looks(&r, 1);
    }
    await_looks(&r, 2);
    CHECK(!guard_is_over(r.guard));
    put_bytes(&r, "sys/fs/cgroup/c/memory.high", 490 * MIB);
    while (position(&r) == 0) sched_yield();
    rig_fini(&r);
}

static const struct t_case cases[] = {
    {"below_it_does_nothing", below_it_does_nothing},
    {"what_is_over_goes_at_once", what_is_over_goes_at_once},
    {"page_cache_does_not_count", page_cache_does_not_count},
    {"memory_max_is_not_touched", memory_max_is_not_touched},
    {"a_parents_limit_counts", a_parents_limit_counts},
    {"a_running_step_keeps_its_weights", a_running_step_keeps_its_weights},
    {"after_a_broken_step_the_next_one_waits", after_a_broken_step_the_next_one_waits},
    {"while_the_loop_publishes_it_waits", while_the_loop_publishes_it_waits},
    {"kept_prefixes_go_first", kept_prefixes_go_first},
    {"below_the_floor_it_rests", below_the_floor_it_rests},
    {"addresses_wait_until_it_is_below", addresses_wait_until_it_is_below},
    {"levels_are_set_anew", levels_are_set_anew},
};

int main(int argc, char **argv) {
    small_init();
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
