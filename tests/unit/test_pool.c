/* pool: every chunk once, results visible, sleeping and waking, many jobs in a row. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/defs.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/topology.h"
#include "tests/t.h"

enum { MAX_CHUNKS = 1000 };

struct job {
    uint32_t round;
    uint32_t in[MAX_CHUNKS];
    uint32_t out[MAX_CHUNKS]; /* plain on purpose: TSan checks the pool's ordering with it */
    unsigned delay_us;
};

static void nap_us(unsigned us) {
    struct timespec t = {0, (long)us * 1000};
    nanosleep(&t, NULL);
}

static void add_round(void *ud, uint32_t chunk) {
    struct job *j = ud;
    j->out[chunk] += j->in[chunk] + j->round;
    if (j->delay_us && chunk % 7 == 0) nap_us(j->delay_us);
}

static void run_jobs(unsigned n_threads, unsigned rounds, bool with_naps) {
    struct pool *p;
    struct err e = {0};
    REQUIRE_OK(pool_create(n_threads, &p, &e), &e);
    CHECK_EQU(pool_threads(p), n_threads);
    static struct job j;
    static uint32_t want[MAX_CHUNKS];
    memset(&j, 0, sizeof(j));
    memset(want, 0, sizeof(want));
    uint64_t rng = t_seed();
    for (unsigned r = 0; r < rounds; r++) {
        uint32_t n = (uint32_t)(t_rand(&rng) % (r % 10 == 0 ? MAX_CHUNKS : 12));
        j.round = r;
        for (uint32_t i = 0; i < n; i++) {
            j.in[i] = (uint32_t)t_rand(&rng);
            want[i] += j.in[i] + r;
        }
        /* Long pauses put the workers, slow chunks the caller, to sleep on their futex. */
        j.delay_us = with_naps && r % 16 == 1 ? 300 : 0;
        if (with_naps && r % 16 == 5) nap_us(300);
        pool_run(p, add_round, &j, n);
        CHECK_EQU(pool_runs(p), r + 1);
    }
    CHECK_MEM(j.out, want, sizeof(want));
    pool_destroy(p);
}

static void one_thread_runs_inline(void) {
    run_jobs(1, 50, false);
}

static void each_chunk_runs_once(void) {
    run_jobs(2, 5000, false);
    run_jobs(3, 5000, false);
    run_jobs(8, 1000, false);
}

static void sleepers_are_woken(void) {
    run_jobs(2, 200, true);
    run_jobs(4, 200, true);
}

static void note_thread(void *ud, uint32_t chunk) {
    pthread_t *who = ud;
    who[chunk] = pthread_self();
    nap_us(200);
}

/* Fewer threads may work for a while; every chunk still runs, and with one it is the caller. */
static void threads_rest_and_come_back(void) {
    struct pool *p;
    struct err e = {0};
    REQUIRE_OK(pool_create(4, &p, &e), &e);
    static struct job j;
    static uint32_t want[MAX_CHUNKS];
    memset(&j, 0, sizeof(j));
    memset(want, 0, sizeof(want));
    uint64_t rng = t_seed();
    for (unsigned r = 0; r < 3000; r++) {
        uint32_t n = (uint32_t)(t_rand(&rng) % 40);
        if (r % 5 == 0) pool_set_active(p, (unsigned)(t_rand(&rng) % 6));
        CHECK(pool_active(p) >= 1 && pool_active(p) <= 4);
        j.round = r;
        for (uint32_t i = 0; i < n; i++) want[i] += j.in[i] + r;
        pool_run(p, add_round, &j, n);
    }
    CHECK_MEM(j.out, want, sizeof(want));
    pthread_t who[32];
    pool_set_active(p, 1);
    CHECK_EQU(pool_active(p), 1);
    nap_us(100000); /* those that still took chunks have seen it */
    pool_run(p, note_thread, who, ARRAY_LEN(who));
    for (size_t i = 0; i < ARRAY_LEN(who); i++) CHECK(pthread_equal(who[i], pthread_self()));
    pool_set_active(p, 4);
    bool has_other = false;
    for (int round = 0; round < 100 && !has_other; round++) {
        pool_run(p, note_thread, who, ARRAY_LEN(who));
        for (size_t i = 0; i < ARRAY_LEN(who); i++)
            has_other = has_other || !pthread_equal(who[i], pthread_self());
    }
    CHECK(has_other);
    pool_set_active(p, 2);
    pool_destroy(p); /* some sleep */
}

static void idle_pool_stops_at_once(void) {
    for (unsigned i = 0; i < 20; i++) {
        struct pool *p;
        struct err e = {0};
        REQUIRE_OK(pool_create(1 + i % 5, &p, &e), &e);
        if (i % 2) nap_us(200);
        pool_destroy(p);
    }
    pool_destroy(NULL);
}

static void default_is_one_per_core(void) {
    struct pool *p;
    struct err e = {0};
    struct topology t;
    REQUIRE_OK(pool_create(0, &p, &e), &e);
    if (topology_read("/", &t) == 0) CHECK_EQU(pool_threads(p), MIN(t.n_cores, POOL_MAX_THREADS));
    CHECK(pool_threads(p) >= 1 && pool_threads(p) <= POOL_MAX_THREADS);
    pool_destroy(p);
}

static void write_capacity(const char *root, unsigned cpu, unsigned capacity) {
    char path[512];
    const char *const parts[] = {"sys", "sys/devices", "sys/devices/system",
                                 "sys/devices/system/cpu"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, parts[i]);
        mkdir(path, 0700);
    }
    snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/cpu%u", root, cpu);
    REQUIRE(mkdir(path, 0700) == 0);
    strcat(path, "/cpu_capacity");
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    fprintf(f, "%u\n", capacity);
    REQUIRE(fclose(f) == 0);
}

struct where {
    cpu_set_t cpus;
    _Atomic uint32_t n_wrong;
};

static void look_where(void *ud, uint32_t chunk) {
    struct where *w = ud;
    cpu_set_t mine;
    (void)chunk;
    if (sched_getaffinity(0, sizeof(mine), &mine) != 0 || !CPU_EQUAL(&mine, &w->cpus))
        atomic_fetch_add(&w->n_wrong, 1);
    nap_us(200);
}

/* Runs 64 chunks and counts those that ran on other CPUs than `cpus`. */
static uint32_t n_elsewhere(const char *root, unsigned n_threads, const cpu_set_t *cpus,
                            const char *text) {
    struct pool *p;
    struct err e = {0};
    struct where w = {.cpus = *cpus};
    cpu_set_t before;
    REQUIRE(sched_getaffinity(0, sizeof(before), &before) == 0);
    REQUIRE_OK(pool_create_below(root, n_threads, &p, &e), &e);
    pool_enter(p);
    pool_run(p, look_where, &w, 64);
    CHECK_STR(pool_cpus(p), text);
    pool_destroy(p);
    REQUIRE(sched_setaffinity(0, sizeof(before), &before) == 0);
    return w.n_wrong;
}

/* The highest CPU we have is made the only small one. */
static void threads_keep_to_big_cores(void) {
    cpu_set_t all, big;
    const char *root = t_tmpdir();
    unsigned last = 0;
    REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
    if (CPU_COUNT(&all) < 2) t_skip("one CPU cannot be told from all");
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &all)) last = c;
    big = all;
    CPU_CLR(last, &big);
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &all)) write_capacity(root, c, c == last ? 300 : 1024);
    struct topology t;
    topology_choose(root, &all, &t);
    CHECK(CPU_EQUAL(&t.cpus, &big));
    CHECK_EQU(n_elsewhere(root, 0, &big, t.cpus_text), 0);
    CHECK_EQU(n_elsewhere(root, 1, &big, t.cpus_text), 0);
    /* More threads than big cores: everywhere. */
    CHECK_EQU(n_elsewhere(root, t.n_cores + 1, &all, "all"), 0);
}

static void too_many_threads_are_refused(void) {
    struct pool *p = NULL;
    struct err e = {0};
    CHECK_EQ(pool_create(POOL_MAX_THREADS + 1, &p, &e), -EINVAL);
    CHECK(strstr(e.msg, "65 compute threads"));
    CHECK(p == NULL);
}

static const struct t_case cases[] = {
    {"one_thread_runs_inline", one_thread_runs_inline},
    {"each_chunk_runs_once", each_chunk_runs_once},
    {"sleepers_are_woken", sleepers_are_woken},
    {"threads_rest_and_come_back", threads_rest_and_come_back},
    {"idle_pool_stops_at_once", idle_pool_stops_at_once},
    {"default_is_one_per_core", default_is_one_per_core},
    {"threads_keep_to_big_cores", threads_keep_to_big_cores},
    {"too_many_threads_are_refused", too_many_threads_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
