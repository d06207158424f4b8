/* The whole reading: which source is chosen, what is believed, what is told. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/defs.h"
#include "daemon/sense.h"
#include "daemon/sense_rpi.h"
#include "daemon/sense_slow.h"
#include "tests/t.h"
#include "tests/unit/root.h"

enum { SECOND = 1000000, SLOW_US = 1000 };

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static struct sense_reading reading, before; /* large */

static struct sense *create(const char *root, const char *zones) {
    struct sense *s;
    struct err e = {0};
    const struct sense_opts o = {
        .root = root, .zones = zones, .slow_us = SLOW_US, .rescan_us = 1, .faults_us = 1};
    REQUIRE_OK(sense_create(&o, &s, &e), &e);
    REQUIRE(sense_wait(s, 20 * SECOND));
    return s;
}

/* Reads until the thread has seen what was put in place before the call. */
static void read_new(struct sense *s) {
    uint64_t since = now_us();
    do {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        sense_read(s, now_us(), &reading);
    } while (reading.heat_us < since && now_us() < since + 20 * SECOND);
    CHECK(reading.heat_us >= since);
}

static void read_now(struct sense *s) {
    sense_read(s, now_us(), &reading);
}

static void put_pressure(const char *rel, uint64_t some_us, uint64_t full_us) {
    char text[200];
    snprintf(text, sizeof(text),
             "some avg10=0.00 avg60=0.00 avg300=0.00 total=%llu\n"
             "full avg10=0.00 avg60=0.00 avg300=0.00 total=%llu\n",
             (unsigned long long)some_us, (unsigned long long)full_us);
    root_put(rel, text);
}

static void put_vmstat(unsigned refaults, unsigned stalls) {
    char text[200];
    snprintf(text, sizeof(text),
             "workingset_refault_file %u\nallocstall_normal %u\npgmajfault 1\npswpout 2\n",
             refaults, stalls);
    root_put("proc/vmstat", text);
}

static void put_all(void) {
    root_put("proc/meminfo", "MemAvailable: 1024 kB\n");
    put_pressure("proc/pressure/memory", 1000, 100);
    put_vmstat(50, 5);
    root_put("proc/self/stat", "1 (x) R 1 2 3 0 -1 4194304 100 0 42 0 0\n");
    root_put("proc/self/cgroup", "0::/ebb\n");
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put_cgroup("/ebb", "1000", "3000", "max", 0, 0);
    root_put("sys/fs/cgroup/ebb/memory.events", "high 7\nmax 0\noom 1\noom_kill 2\n");
    put_pressure("sys/fs/cgroup/ebb/memory.pressure", 2000, 200);
    root_put_zone(0, "cpu-thermal", "61500");
    root_put_trip(0, 0, "passive", "80000");
    root_put_zone(1, "gpu-thermal", "70000");
    root_put("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n");
    root_put("sys/class/thermal/cooling_device0/cur_state", "1\n");
    root_put("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1500000\n");
    root_put("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "2000000\n");
    root_put("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
}

static void everything_is_read(void) {
    struct sense_status list[SENSE_N_SOURCES];
    const char *root = root_make();
    put_all();
    struct sense *s = create(root, NULL);
    read_now(s);
    CHECK(reading.has_mem && reading.mem_available_bytes == 1 << 20);
    CHECK(reading.has_cgroup && reading.cgroup_left_bytes == 2000);
    CHECK(reading.has_cgroup_events);
    CHECK(reading.cgroup_high_events == 7 && reading.cgroup_oom_events == 3);
    CHECK(reading.has_stall && reading.stall_source == SENSE_STALL_CGROUP);
    CHECK(reading.stall_some_us == 2000 && reading.stall_full_us == 200);
    CHECK(reading.has_refaults && reading.refaults == 50 && reading.alloc_stalls == 5);
    CHECK(reading.swap_outs == 2);
    CHECK(reading.has_own_major_faults && reading.own_major_faults == 42);
    CHECK(reading.has_heat && reading.n_zones == 2 && reading.n_zones_left_out == 0);
    CHECK(reading.zones[0].is_wanted && reading.zones[0].temp_mc == 61500);
    CHECK(reading.zones[0].has_passive && reading.zones[0].passive_mc == 80000);
    CHECK(!reading.zones[1].is_wanted);
    CHECK(reading.has_cooling && reading.is_cooling);
    CHECK(reading.heat_us > 0 && reading.heat_us <= now_us());
    CHECK(reading.has_clock && reading.clock_permille == 750 && reading.n_clocks == 1);
    CHECK(reading.has_throttle && reading.throttle_bits == 0x50005);

    char cgroup[200];
    snprintf(cgroup, sizeof(cgroup), "0 MiB left of 0 MiB (version 2, memory.high of %s)",
             reading.cgroup_at);
    CHECK(strstr(reading.cgroup_at, "/sys/fs/cgroup/ebb"));
    const char *const values[SENSE_N_SOURCES] = {
        [SENSE_MEM] = "1 MiB",
        [SENSE_CGROUP] = cgroup,
        [SENSE_STALL] = "some 0.002 s, full 0.000 s in all (cgroup)",
        [SENSE_REFAULTS] = "50 pages, 5 stalls, 2 swapped out",
        [SENSE_OWN_FAULTS] = "42",
        [SENSE_HEAT] = "61.5 C at cpu-thermal, the hottest of 1",
        [SENSE_COOLING] = "throttling",
        [SENSE_CLOCK] = "75.0 % of the greatest",
        [SENSE_THROTTLE] = "under-voltage now, throttled now",
    };
    sense_list(&reading, list);
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        CHECK_EQ(list[i].state, SENSE_KNOWN);
        CHECK_STR(list[i].value, values[i]);
        CHECK_STR(list[i].why, "");
    }
    reading.throttle_bits = 0;
    reading.cgroup_left_bytes = UINT64_MAX;
    sense_list(&reading, list);
    CHECK_STR(list[SENSE_THROTTLE].value, "none");
    CHECK(strncmp(list[SENSE_CGROUP].value, "no limit (version 2, from ", 26) == 0);
    reading.throttle_bits = UINT32_MAX;
    sense_list(&reading, list);
    CHECK_STR(list[SENSE_THROTTLE].value,
              "under-voltage now, capped now, throttled now, soft limit now");
    CHECK(sense_destroy(s));
}

/* A board without anything: every source is absent, and none is zero in disguise. */
static void nothing_is_absent(void) {
    struct sense_status list[SENSE_N_SOURCES];
    struct sense_change changes[SENSE_MAX_CHANGES];
    struct sense *s = create(root_make(), "cpu-thermal");
    read_now(s);
    CHECK(!reading.has_mem && !reading.has_cgroup && !reading.has_cgroup_events);
    CHECK(!reading.has_stall && reading.stall_source == SENSE_STALL_NONE);
    CHECK(!reading.has_refaults && !reading.has_own_major_faults && !reading.has_heat);
    CHECK(!reading.has_cooling && !reading.has_clock && !reading.has_throttle);
    sense_list(&reading, list);
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        CHECK_EQ(list[i].state, SENSE_ABSENT);
        CHECK_STR(list[i].value, "");
        CHECK(list[i].why[0]);
    }
    CHECK_EQU(sense_changes(NULL, &reading, changes), 0);
    CHECK(sense_destroy(s));
}

static void the_best_source_of_stalls_is_taken(void) {
    const char *root = root_make();
    put_all();
    struct sense *s = create(root, NULL);
    read_now(s);
    CHECK(reading.stall_source == SENSE_STALL_CGROUP && reading.stall_some_us == 2000);
    sense_set_owns_pressure(s, true);
    read_now(s);
    CHECK(reading.has_stall && reading.stall_source == SENSE_STALL_SYSTEM);
    CHECK_EQU(reading.stall_some_us, 1000); /* less than before, but of another source */
    sense_set_owns_pressure(s, false);
    root_put("sys/fs/cgroup/ebb/memory.pressure", "");
    read_now(s);
    CHECK(reading.has_stall && reading.stall_source == SENSE_STALL_SYSTEM);
    root_remove("proc/pressure/memory");
    read_now(s);
    CHECK(!reading.has_stall && reading.stall_source == SENSE_STALL_NONE);
    CHECK_EQ(reading.stall_err.code, -ENOENT);
    CHECK(reading.has_refaults); /* these remain */
    CHECK(sense_destroy(s));
}

/* A total that goes back is unknown once, whichever it is. */
static void totals_that_go_back_are_unknown_once(void) {
    const char *root = root_make();
    put_all();
    struct sense *s = create(root, NULL);
    read_now(s);
    put_pressure("sys/fs/cgroup/ebb/memory.pressure", 2500, 199);
    put_vmstat(60, 4);
    root_put("proc/self/stat", "1 (x) R 1 2 3 0 -1 4194304 100 0 41 0 0\n");
    root_put("sys/fs/cgroup/ebb/memory.events", "high 6\nmax 0\noom 1\noom_kill 2\n");
    read_now(s);
    CHECK(!reading.has_stall && !reading.has_refaults && !reading.has_own_major_faults);
    CHECK(!reading.has_cgroup_events && reading.has_cgroup);
    CHECK_EQ(reading.stall_err.code, -EBADMSG);
    CHECK_EQ(reading.refault_err.code, -EBADMSG);
    CHECK_EQ(reading.cgroup_err.code, -EBADMSG);
    CHECK(strncmp(reading.stall_err.msg, "a total of memory pressure began anew", 37) == 0);
    CHECK(reading.has_mem);
    read_now(s);
    CHECK(reading.has_stall && reading.stall_some_us == 2500 && reading.stall_full_us == 199);
    CHECK(reading.has_refaults && reading.refaults == 60 && reading.alloc_stalls == 4);
    CHECK(reading.has_own_major_faults && reading.own_major_faults == 41);
    CHECK(reading.has_cgroup_events && reading.cgroup_high_events == 6);
    CHECK(sense_destroy(s));
}

/* Beside a known stall vmstat is for people, and read each second alone. */
static void faults_are_read_less_often(void) {
    const char *root = root_make();
    struct sense *s;
    struct err e = {0};
    put_all();
    const struct sense_opts o = {.root = root, .slow_us = SLOW_US, .rescan_us = 1};
    REQUIRE_OK(sense_create(&o, &s, &e), &e);
    uint64_t now = now_us();
    sense_read(s, now, &reading);
    CHECK(reading.has_refaults && reading.refaults == 50 && reading.faults_us == now);
    put_vmstat(60, 6);
    sense_read(s, now + SENSE_FAULTS_US - 1, &reading);
    CHECK(reading.has_refaults && reading.refaults == 50 && reading.faults_us == now);
    CHECK(reading.has_own_major_faults && reading.own_major_faults == 42);
    sense_read(s, now + SENSE_FAULTS_US, &reading);
    CHECK(reading.refaults == 60 && reading.faults_us == now + SENSE_FAULTS_US);
    /* Without it the governor goes by them: each time. */
    root_remove("proc/pressure/memory");
    root_remove("sys/fs/cgroup/ebb/memory.pressure");
    put_vmstat(70, 6);
    sense_read(s, now + SENSE_FAULTS_US + 1, &reading);
    CHECK(!reading.has_stall && reading.refaults == 70);
    put_vmstat(80, 6);
    sense_read(s, now + SENSE_FAULTS_US + 2, &reading);
    CHECK_EQU(reading.refaults, 80);
    CHECK(sense_destroy(s));
}

static void another_cgroup_is_unknown_once(void) {
    const char *root = root_make();
    put_all();
    struct sense *s = create(root, NULL);
    read_now(s);
    root_put_cgroup("/other", "1000", "1500", "max", 0, 0);
    root_put("sys/fs/cgroup/other/memory.events", "high 1000\nmax 0\noom 9\noom_kill 9\n");
    put_pressure("sys/fs/cgroup/other/memory.pressure", 9000000, 9000000);
    root_put("proc/self/cgroup", "0::/other\n");
    read_now(s);
    CHECK(reading.has_cgroup && reading.cgroup_left_bytes == 500); /* no total: it holds at once */
    CHECK(!reading.has_cgroup_events && !reading.has_stall);
    CHECK(strncmp(reading.stall_err.msg, "a total of memory pressure began anew", 37) == 0);
    read_now(s);
    CHECK(reading.has_cgroup_events && reading.cgroup_high_events == 1000);
    CHECK(reading.has_stall && reading.stall_some_us == 9000000);

    /* Also if nothing could be read when we were moved. */
    root_put_cgroup("/third", "x", "1500", "max", 0, 0);
    root_put("sys/fs/cgroup/third/memory.events", "high 9999\nmax 0\noom 99\noom_kill 9\n");
    root_remove("proc/self/cgroup");
    root_remove("proc/pressure/memory");
    read_now(s);
    CHECK(!reading.has_cgroup && !reading.has_stall);
    root_put("proc/self/cgroup", "0::/third\n");
    read_now(s);
    CHECK(!reading.has_cgroup && !reading.has_cgroup_events && !reading.has_stall);
    root_put_cgroup("/third", "1000", "1500", "max", 0, 0);
    put_pressure("sys/fs/cgroup/third/memory.pressure", 19000000, 19000000);
    read_now(s);
    CHECK(reading.has_cgroup && !reading.has_cgroup_events && !reading.has_stall);
    read_now(s);
    CHECK(reading.has_cgroup_events && reading.has_stall);
    CHECK(sense_destroy(s));
}

/* Files that vanish and come back, one line in the log for each way. */
static void changes_are_told_once(void) {
    struct sense_change changes[SENSE_MAX_CHANGES];
    const char *root = root_make();
    put_all();
    root_remove("proc/meminfo");
    put_pressure("proc/pressure/memory", 1, 1);
    struct sense *s = create(root, NULL);
    read_now(s);
    CHECK_EQU(sense_changes(NULL, &reading, changes), 0);
    root_put("proc/meminfo", "MemAvailable: lots\n");
    read_now(s);
    REQUIRE(sense_changes(NULL, &reading, changes) == 1);
    CHECK(!changes[0].is_good && changes[0].source == SENSE_MEM);
    CHECK(strncmp(changes[0].text, "mem_available is unknown: ", 26) == 0);
    CHECK(strstr(changes[0].text, "proc/meminfo: MemAvailable: no number follows"));
    CHECK_EQU(sense_changes(&reading, &reading, changes), 0);

    before = reading;
    root_put("proc/meminfo", "MemAvailable: 2048 kB\n");
    root_remove("proc/vmstat");
    read_now(s);
    REQUIRE(sense_changes(&before, &reading, changes) == 2);
    CHECK(changes[0].is_good);
    CHECK_STR(changes[0].text, "mem_available is known: 2 MiB");
    CHECK(!changes[1].is_good && changes[1].source == SENSE_REFAULTS);
    CHECK(strncmp(changes[1].text, "refaults is absent: ", 20) == 0);
    CHECK(sense_destroy(s));
}

static void zones_that_come_and_go_are_told(void) {
    struct sense_change changes[SENSE_MAX_CHANGES];
    const char *root = root_make();
    put_all();
    root_put_zone(2, "cpu-thermal", "50000");
    root_put_zone(5, "soc-thermal", "50000");
    struct sense *s = create(root, NULL);
    read_new(s);
    CHECK_EQU(reading.n_zones, 4);
    before = reading;

    /* Another number is no news; a lost zone and a broken one are, those not wanted are not. */
    root_remove_zone(2);
    root_put_zone(8, "cpu-thermal", "50000");
    read_new(s);
    CHECK_EQU(reading.n_zones, 4);
    CHECK_EQU(sense_changes(&before, &reading, changes), 0);
    root_remove_zone(8);
    root_remove_zone(1);
    root_put_zone(5, "soc-thermal", "-32768000");
    read_new(s);
    REQUIRE(sense_changes(&before, &reading, changes) == 2);
    CHECK_STR(changes[0].text, "thermal zones cpu-thermal: 1 with a temperature, 2 before");
    CHECK_STR(changes[1].text, "thermal zones soc-thermal: 0 with a temperature, 1 before");
    CHECK(!changes[0].is_good && !changes[1].is_good);
    CHECK(reading.has_heat);

    before = reading;
    root_remove_zone(5);
    root_put_zone(9, "core-new", "1000");
    read_new(s);
    REQUIRE(sense_changes(&before, &reading, changes) == 1);
    CHECK_STR(changes[0].text, "thermal zones core-new: 1 with a temperature, 0 before");
    CHECK(changes[0].is_good);

    /* The last one: heat is unknown, and it is said why. */
    before = reading;
    root_put_zone(9, "core-new", "200000000");
    root_put("sys/class/thermal/thermal_zone0/temp", "x\n");
    read_new(s);
    CHECK(!reading.has_heat && reading.n_zones == 2);
    CHECK_STR(reading.heat_err.msg, "none of 2 thermal zones has a temperature; thermal_zone0 "
                                    "(cpu-thermal) says 'Bad message'");
    REQUIRE(sense_changes(&before, &reading, changes) == 3);
    CHECK_EQ(changes[0].source, SENSE_HEAT);
    CHECK(strncmp(changes[0].text, "heat is unknown: none of 2", 26) == 0);
    CHECK(sense_destroy(s));

    s = create(root, "tj-thermal,gpu-thermal");
    read_new(s);
    CHECK(!reading.has_heat);
    CHECK_STR(reading.heat_err.msg, "none of 2 thermal zones has a type that is wanted");
    CHECK(sense_destroy(s));
}

/* ---- the thread ---- */

static void an_old_answer_is_unknown(void) {
    const char *root = root_make();
    struct sense_change changes[SENSE_MAX_CHANGES];
    struct sense *s;
    struct err e = {0};
    put_all();
    const struct sense_opts o = {.root = root, .slow_us = 3600 * (uint64_t)SECOND};
    REQUIRE_OK(sense_create(&o, &s, &e), &e);
    REQUIRE(sense_wait(s, 20 * SECOND));
    uint64_t now = now_us();
    sense_read(s, now, &reading);
    CHECK(reading.has_heat && reading.has_clock && reading.has_throttle && reading.has_cooling);
    before = reading;
    sense_read(s, now + SENSE_STALE_US + 2 * SECOND, &reading);
    CHECK(!reading.has_heat && !reading.has_clock && !reading.has_throttle && !reading.has_cooling);
    CHECK(reading.n_zones == 0 && reading.n_clocks == 0 && reading.throttle_mask == 0);
    CHECK(reading.has_mem && reading.has_stall); /* these have nothing to do with it */
    CHECK_EQ(reading.heat_err.code, -ETIMEDOUT);
    CHECK_STR(reading.heat_err.msg, "no answer from /sys for 5 s");
    REQUIRE(sense_changes(&before, &reading, changes) == 4);
    for (int i = 0; i < 4; i++) CHECK(!changes[i].is_good);
    CHECK(sense_destroy(s));
}

/* A driver that answers when the test says so. */
struct driver {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_open;
    unsigned n_calls;
};

static void read_driver(void *ud, struct sense_slow_result *ret) {
    struct driver *d = ud;
    pthread_mutex_lock(&d->lock);
    d->n_calls++;
    pthread_cond_broadcast(&d->cond);
    while (!d->is_open) pthread_cond_wait(&d->cond, &d->lock);
    ret->has_throttle = true;
    ret->throttle_bits = d->n_calls;
    pthread_mutex_unlock(&d->lock);
}

static void set_open(struct driver *d, bool is_open) {
    pthread_mutex_lock(&d->lock);
    d->is_open = is_open;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

static void a_blocked_driver_is_left_behind(void) {
    static struct driver d = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    static struct sense_slow_result result;
    struct sense_slow *s;
    struct err e = {0};
    const struct sense_slow_opts o = {
        .root = "/", .zones = "auto", .interval_us = SLOW_US, .read = read_driver, .ud = &d};
    REQUIRE_OK(sense_slow_create(&o, &s, &e), &e);
    CHECK(!sense_slow_wait(s, 10000));
    CHECK(!sense_slow_take(s, &result));
    set_open(&d, true);
    REQUIRE(sense_slow_wait(s, 20 * SECOND));
    REQUIRE(sense_slow_take(s, &result));
    CHECK(result.has_throttle && result.throttle_bits >= 1);
    CHECK(result.begun_us <= result.ended_us && result.ended_us <= now_us());

    /* It hangs in the middle: the newest result stays, and grows old. */
    pthread_mutex_lock(&d.lock);
    d.is_open = false;
    unsigned n = d.n_calls;
    while (d.n_calls == n) pthread_cond_wait(&d.cond, &d.lock);
    pthread_mutex_unlock(&d.lock);
    CHECK(sense_slow_take(s, &result));
    uint64_t ended_us = result.ended_us;
    uint64_t start = now_us();
    CHECK(!sense_slow_destroy(s)); /* left behind, within a bound */
    CHECK(now_us() - start < 10 * SECOND);
    CHECK(ended_us <= start);
    set_open(&d, true); /* it comes back and frees what it used: a leak checker would tell */
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static void a_fifo_holds_nothing_up(void) {
    const char *root = root_make();
    put_all();
    root_put_fifo("sys/class/thermal/thermal_zone0/temp");
    struct sense *s = create(root, NULL);
    read_new(s);
    CHECK(!reading.has_heat && reading.has_clock);
    CHECK(sense_destroy(s));
}

/* That the thread has not answered yet is no news; that it never does is. */
static void the_first_answer_may_be_late(void) {
    struct sense_change changes[SENSE_MAX_CHANGES];
    struct sense_status list[SENSE_N_SOURCES];
    const char *root = root_make();
    put_all();
    struct sense *s = create(root, NULL);
    read_now(s);
    struct sense_reading *good = malloc(sizeof(*good));
    REQUIRE(good);
    *good = before = reading;
    before.has_heat = before.has_cooling = before.has_clock = before.has_throttle = false;
    before.n_zones = 0;
    before.heat_us = 0;
    err_set(&before.heat_err, -EINPROGRESS, "not yet");
    before.clock_err = before.throttle_err = before.heat_err;
    sense_list(&before, list);
    CHECK_EQ(list[SENSE_HEAT].state, SENSE_UNKNOWN);
    CHECK_EQU(sense_changes(NULL, &before, changes), 0);
    CHECK_EQU(sense_changes(&before, good, changes), 4);
    reading = before;
    err_set(&reading.heat_err, -ETIMEDOUT, "too late");
    reading.clock_err = reading.throttle_err = reading.heat_err;
    REQUIRE(sense_changes(&before, &reading, changes) == 4);
    CHECK_STR(changes[0].text, "heat is unknown: too late");
    CHECK_EQU(sense_changes(NULL, &reading, changes), 4);
    free(good);
    CHECK(sense_destroy(s));
}

static void options_are_checked(void) {
    struct sense *s = NULL;
    struct err e = {0};
    char *text = calloc(1, 5000);
    REQUIRE(text);
    memset(text, 'a', 4999);
    const struct sense_opts long_root = {.root = text}, long_zones = {.root = "/", .zones = text};
    CHECK_EQ(sense_create(&long_root, &s, &e), -ENAMETOOLONG);
    CHECK_STR(e.msg, "the root of the sensors is longer than 1023 bytes");
    CHECK_EQ(sense_create(&long_zones, &s, &e), -ENAMETOOLONG);
    CHECK(!s);
    CHECK(sense_destroy(NULL));
    free(text);
}

/* Once all was read, a reading gets by without one new descriptor, in a cgroup or not. */
static void a_reading_opens_nothing(void) {
    struct sense *s;
    struct err e = {0};
    struct rlimit before_limit, none;
    const struct sense_opts o = {.root = "/", .slow_us = 3600 * (uint64_t)SECOND};
    if (access("/proc/meminfo", R_OK) != 0) t_skip("there is no /proc/meminfo here");
    REQUIRE_OK(sense_create(&o, &s, &e), &e);
    REQUIRE(sense_wait(s, 20 * SECOND));
    read_now(s);
    before = reading;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before_limit) == 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    for (int i = 0; i < 3; i++) {
        sense_set_quiet(s, i == 1);
        read_now(s);
        CHECK_EQ(reading.has_mem, before.has_mem);
        CHECK_EQ(reading.has_cgroup, before.has_cgroup);
        CHECK_EQ(reading.has_cgroup_events, before.has_cgroup_events);
        CHECK_EQ(reading.stall_source, before.stall_source);
        CHECK_EQ(reading.has_refaults, before.has_refaults);
        CHECK_EQ(reading.has_own_major_faults, before.has_own_major_faults);
        CHECK_EQU(reading.cgroup_generation, before.cgroup_generation);
    }
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before_limit) == 0);
    CHECK(sense_destroy(s));
}

/* For the guard: the folders from ours to the top, and a number that says when they are others. */
static void the_levels_are_listed(void) {
    static struct sense_level levels[SENSE_MAX_LEVELS];
    const char *root = root_make();
    char folder[700];
    uint32_t first, generation;
    put_all();
    struct sense *s = create(root, NULL);
    CHECK_EQU(sense_levels(s, levels, &first), 0); /* nothing was read yet */
    read_now(s);
    REQUIRE(sense_levels(s, levels, &first) == 2);
    CHECK(first > 0 && levels[0].version == 2 && levels[1].version == 2);
    snprintf(folder, sizeof(folder), "%s/sys/fs/cgroup/ebb", root);
    CHECK_STR(levels[0].folder, folder);
    snprintf(folder, sizeof(folder), "%s/sys/fs/cgroup", root);
    CHECK_STR(levels[1].folder, folder);
    read_now(s);
    sense_levels(s, levels, &generation);
    CHECK_EQU(generation, first);
    root_put_cgroup("/a/b", "1", "max", "max", 0, 0);
    root_put("proc/self/cgroup", "0::/a/b\n");
    sense_set_quiet(s, true);
    read_now(s);
    CHECK(!reading.has_cgroup && reading.is_cgroup_hidden);
    CHECK_EQ(reading.cgroup_err.code, -EAGAIN);
    sense_set_quiet(s, false);
    read_now(s);
    CHECK(reading.has_cgroup && !reading.is_cgroup_hidden);
    CHECK_EQU(sense_levels(s, levels, &generation), 3);
    CHECK(generation != first && reading.cgroup_generation == generation);
    root_remove("proc/self/cgroup");
    read_now(s);
    CHECK(!reading.has_cgroup && !reading.is_cgroup_hidden);
    CHECK_EQU(sense_levels(s, levels, &generation), 0);
    CHECK(sense_destroy(s));
}

static void the_real_system_is_read(void) {
    struct sense_status list[SENSE_N_SOURCES];
    struct sense *s = create("/", NULL);
    read_now(s);
    sense_list(&reading, list);
    if (access("/proc/meminfo", R_OK) == 0) CHECK(reading.has_mem);
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        CHECK((list[i].state == SENSE_KNOWN) == (list[i].value[0] != '\0'));
        CHECK((list[i].state == SENSE_KNOWN) == (list[i].why[0] == '\0'));
    }
    CHECK(sense_destroy(s));
}

static const struct t_case cases[] = {
    {"everything_is_read", everything_is_read},
    {"nothing_is_absent", nothing_is_absent},
    {"the_best_source_of_stalls_is_taken", the_best_source_of_stalls_is_taken},
    {"totals_that_go_back_are_unknown_once", totals_that_go_back_are_unknown_once},
    {"faults_are_read_less_often", faults_are_read_less_often},
    {"another_cgroup_is_unknown_once", another_cgroup_is_unknown_once},
    {"changes_are_told_once", changes_are_told_once},
    {"zones_that_come_and_go_are_told", zones_that_come_and_go_are_told},
    {"an_old_answer_is_unknown", an_old_answer_is_unknown},
    {"a_blocked_driver_is_left_behind", a_blocked_driver_is_left_behind},
    {"a_fifo_holds_nothing_up", a_fifo_holds_nothing_up},
    {"the_first_answer_may_be_late", the_first_answer_may_be_late},
    {"options_are_checked", options_are_checked},
    {"a_reading_opens_nothing", a_reading_opens_nothing},
    {"the_levels_are_listed", the_levels_are_listed},
    {"the_real_system_is_read", the_real_system_is_read},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
