/* Zones, clocks and the Raspberry Pi's firmware, from fake trees as broken as real ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/sense_cpufreq.h"
#include "daemon/sense_rpi.h"
#include "daemon/sense_thermal.h"
#include "tests/t.h"
#include "tests/unit/root.h"

static void temperatures_are_in_range_or_unknown(void) {
    static const struct {
        const char *text;
        bool ok;
        int32_t mc;
    } cases[] = {
        {"45000\n", true, 45000},
        {"0\n", true, 0},
        {"-1\n", true, -1},
        {"-40000\n", true, -40000},
        {"150000\n", true, 150000},
        {"-40001\n", false, 0},
        {"150001\n", false, 0},
        {"200000000\n", false, 0},
        {"-32768000\n", false, 0},
        {"18446744073709551616\n", false, 0},
        {"4294967297\n", false, 0}, /* 1 in 32 bits */
        {"", false, 0},
        {"\n", false, 0},
        {"45000", false, 0},
        {"45.0\n", false, 0},
        {"hot\n", false, 0},
        {"45000 \n", false, 0},
        {"45000\n\n", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t mc = 77;
        struct err e = {0};
        int r = sense_thermal_parse_mc(cases[i].text, strlen(cases[i].text), &mc, &e);
        CHECK_EQ(r, cases[i].ok ? 0 : -EBADMSG);
        CHECK_EQ(e.code, r);
        CHECK_EQ(mc, cases[i].ok ? cases[i].mc : 77);
    }
    int32_t mc = 77;
    CHECK_EQ(sense_thermal_parse_mc("45\0000\n", 6, &mc, NULL), -EBADMSG);
    CHECK_EQ(mc, 77);
}

static void types_of_cooling(void) {
    CHECK(sense_thermal_is_cpu_cooling("cpufreq-cpu0"));
    CHECK(sense_thermal_is_cpu_cooling("thermal-cpufreq-0"));
    CHECK(sense_thermal_is_cpu_cooling("Processor"));
    CHECK(!sense_thermal_is_cpu_cooling("pwm-fan"));
}

enum { SECOND = 1000000, RESCAN = 10 * SECOND };

static struct sense_when when = {.now_us = SECOND, .rescan_us = RESCAN, .may_open = true};
static struct sense_thermal thermal; /* large */

/* A reading of one that goes on. */
static int read_zones(struct sense_zones *z) {
    struct err e = {0};
    int r = sense_thermal_read(z, &when, &thermal, &e);
    CHECK_EQ(e.code, r);
    return r;
}

/* A first reading. */
static int read_thermal(const char *root, const char *wanted) {
    struct sense_zones *z;
    REQUIRE(sense_thermal_create(root, wanted, &z, NULL) == 0);
    int r = read_zones(z);
    sense_thermal_destroy(z);
    return r;
}

static const struct sense_zone *zone_of(const char *type) {
    for (uint32_t i = 0; i < thermal.n_zones; i++)
        if (strcmp(thermal.zones[i].type, type) == 0) return &thermal.zones[i];
    t_fail(__FILE__, __LINE__, "no zone %s", type);
    t_stop();
}

/* A Rock 5: trips of several kinds, and the lowest of each counts. */
static void a_board_is_read(void) {
    const char *root = root_make();
    CHECK_EQ(read_thermal(root, "auto"), -ENOENT);
    root_put("sys/class/thermal/power/x", "");
    CHECK_EQ(read_thermal(root, "auto"), -ENODATA);
    root_put_zone(0, "package-thermal", "48000");
    root_put_trip(0, 0, "active", "40000");
    root_put_trip(0, 1, "passive", "85000");
    root_put_trip(0, 2, "passive", "75000");
    root_put_trip(0, 3, "hot", "105000");
    root_put_trip(0, 4, "critical", "115000");
    root_put_trip(0, 6, "passive", "60000"); /* after a gap: none of the zone's */
    root_put_zone(1, "gpu-thermal", "-5000");
    root_put_zone(10, "bigcore0-thermal", "51000");
    root_put_trip(10, 0, "passive", "-274000"); /* not a trip that can be reached */
    root_put_zone(2, "npu-thermal", "47000");
    root_put("sys/class/thermal/thermal_zone2/mode", "disabled\n");
    root_put("sys/class/thermal/thermal_zone1/mode", "enabled\n");
    root_put("sys/class/thermal/thermal_zone03/type", "x\n");
    root_put("sys/class/thermal/thermal_zonex/type", "x\n");
    root_put("sys/class/thermal/thermal_zone/type", "x\n");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK_EQU(thermal.n_zones, 3);
    CHECK_EQU(thermal.n_left_out, 0);
    const struct sense_zone *z = &thermal.zones[0];
    CHECK_STR(z->type, "package-thermal");
    CHECK(z->number == 0 && z->is_wanted && z->has_temp && z->temp_mc == 48000);
    CHECK(z->has_passive && z->passive_mc == 75000);
    CHECK(z->has_hot && z->hot_mc == 105000);
    CHECK(z->has_critical && z->critical_mc == 115000);
    z = zone_of("gpu-thermal");
    CHECK(!z->is_wanted && z->has_temp && z->temp_mc == -5000 && !z->has_passive && !z->has_hot);
    z = &thermal.zones[2];
    CHECK(z->number == 10 && z->is_wanted && !z->has_passive);
    CHECK(!thermal.has_cooling);
    CHECK_EQ(read_thermal(root, "gpu-thermal"), 0);
    CHECK(zone_of("gpu-thermal")->is_wanted && !zone_of("package-thermal")->is_wanted);
}

static void all_zones_count_where_none_looks_like_a_chip(void) {
    const char *root = root_make();
    root_put_zone(0, "thermal-a", "1000");
    root_put_zone(1, "thermal-b", "2000");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK(thermal.zones[0].is_wanted && thermal.zones[1].is_wanted);
    CHECK_EQ(read_thermal(root, "other"), 0);
    CHECK(!thermal.zones[0].is_wanted && !thermal.zones[1].is_wanted);
}

/* A zone that cannot be read has no temperature, above all not zero, and does not hide others. */
static void broken_zones_are_unknown(void) {
    static const char *const bad[] = {
        "", "-32768000", "200000000", "text", "1 2", "-40001", "99999999999999999999999"};
    const char *root = root_make();
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) root_put_zone(i, "cpu", bad[i]);
    unsigned n = ARRAY_LEN(bad);
    root_put_zone(n, "cpu", "1");
    root_put_fifo("sys/class/thermal/thermal_zone7/temp");
    root_put_zone(8, "cpu", "1");
    root_put_folder("sys/class/thermal/thermal_zone8/temp");
    root_put_zone(9, "cpu", "1");
    root_remove("sys/class/thermal/thermal_zone9/temp");
    root_put_zone(10, "cpu", "1");
    root_put_n("sys/class/thermal/thermal_zone10/temp", "4\0\n", 3);
    root_put_zone(11, "cpu", "1");
    char *large = malloc(1 << 20);
    REQUIRE(large);
    memset(large, '4', 1 << 20);
    root_put_n("sys/class/thermal/thermal_zone11/temp", large, 1 << 20);
    root_put_zone(12, "cpu", "1");
    root_put_n("sys/class/thermal/thermal_zone12/type", large, 1 << 20);
    free(large);
    root_put_zone(13, "cpu", "1");
    root_put("sys/class/thermal/thermal_zone13/type", "a\033[2Jb\n");
    root_put_zone(14, "cpu", "42000");
    root_put_fifo("sys/class/thermal/thermal_zone14/mode");
    root_put_fifo("sys/class/thermal/thermal_zone14/trip_point_0_type");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK_EQU(thermal.n_zones, 15);
    for (unsigned i = 0; i < 12; i++) {
        CHECK(!thermal.zones[i].has_temp);
        CHECK(thermal.zones[i].temp_code < 0);
        CHECK(thermal.zones[i].is_wanted);
    }
    CHECK_STR(thermal.zones[12].type, "");
    CHECK(!thermal.zones[12].is_wanted);
    CHECK_STR(thermal.zones[13].type, "");
    CHECK(thermal.zones[14].has_temp && thermal.zones[14].temp_mc == 42000);
    CHECK_EQ(thermal.zones[9].temp_code, -ENOENT);
    CHECK_EQ(thermal.zones[7].temp_code, -ENOTSUP);
}

static void a_zone_may_come_back_under_another_number(void) {
    const char *root = root_make();
    root_put_zone(3, "cpu-thermal", "61000");
    root_put_zone(4, "gpu-thermal", "50000");
    CHECK_EQ(read_thermal(root, "cpu-thermal"), 0);
    CHECK_EQU(zone_of("cpu-thermal")->number, 3);
    root_remove_zone(3);
    CHECK_EQ(read_thermal(root, "cpu-thermal"), 0);
    CHECK_EQU(thermal.n_zones, 1);
    root_put_zone(9, "cpu-thermal", "62000");
    root_put_zone(3, "gpu-thermal", "40000");
    CHECK_EQ(read_thermal(root, "cpu-thermal"), 0);
    CHECK_EQU(thermal.n_zones, 3);
    CHECK(zone_of("cpu-thermal")->number == 9 && zone_of("cpu-thermal")->temp_mc == 62000);
    /* A folder that is there while its files are being taken away. */
    root_remove("sys/class/thermal/thermal_zone9/type");
    CHECK_EQ(read_thermal(root, "cpu-thermal"), 0);
    CHECK_EQU(thermal.n_zones, 2);
}

static void two_hundred_zones_are_bounded(void) {
    const char *root = root_make();
    for (unsigned i = 0; i < 200; i++)
        root_put_zone(i, i == 150 || i == 199 ? "cpu-thermal" : "other", "45000");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK_EQU(thermal.n_zones, SENSE_MAX_ZONES);
    CHECK_EQU(thermal.n_left_out, 200 - SENSE_MAX_ZONES);
    /* The wanted ones are watched, wherever they are. */
    CHECK_EQU(thermal.zones[SENSE_MAX_ZONES - 2].number, 150);
    CHECK_EQU(thermal.zones[SENSE_MAX_ZONES - 1].number, 199);
    for (uint32_t i = 0; i < SENSE_MAX_ZONES - 2; i++) CHECK_EQU(thermal.zones[i].number, i);
    CHECK_EQ(read_thermal(root, "other"), 0);
    CHECK_EQU(thermal.zones[SENSE_MAX_ZONES - 1].number, SENSE_MAX_ZONES - 1);
}

static void cooling_tells_of_throttling(void) {
    const char *root = root_make();
    root_put_zone(0, "cpu-thermal", "80000");
    root_put("sys/class/thermal/cooling_device0/type", "pwm-fan\n");
    root_put("sys/class/thermal/cooling_device0/cur_state", "3\n");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK(!thermal.has_cooling && !thermal.is_cooling);
    root_put("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0\n");
    root_put("sys/class/thermal/cooling_device1/cur_state", "x\n");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK(!thermal.has_cooling);
    root_put("sys/class/thermal/cooling_device1/cur_state", "0\n");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK(thermal.has_cooling && !thermal.is_cooling);
    root_put("sys/class/thermal/cooling_device2/type", "thermal-cpufreq-1\n");
    root_put("sys/class/thermal/cooling_device2/cur_state", "2\n");
    CHECK_EQ(read_thermal(root, "auto"), 0);
    CHECK(thermal.has_cooling && thermal.is_cooling);
}

/* ---- what is kept ---- */

/* Writes into the file that is there, as a driver does. */
static void write_in_place(const char *rel, const char *text) {
    int fd = open(root_path(rel), O_WRONLY | O_TRUNC);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* That may be open at all, so that one more cannot be: what opens nothing does not notice. */
static rlim_t forbid_opening(void) {
    struct rlimit l;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &l) == 0);
    rlim_t was = l.rlim_cur;
    l.rlim_cur = 0;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &l) == 0);
    REQUIRE(open("/", O_RDONLY) < 0);
    return was;
}

static void allow_opening(rlim_t n) {
    struct rlimit l;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &l) == 0);
    l.rlim_cur = n;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &l) == 0);
}

static void between_two_scans_nothing_is_opened(void) {
    struct sense_zones *z;
    struct sense_clocks *c;
    struct sense_rpi rpi;
    struct sense_cpufreq f;
    uint32_t bits, mask;
    const char *root = root_make();
    root_put_zone(0, "cpu-thermal", "50000");
    root_put_trip(0, 0, "passive", "80000");
    root_put_zone(1, "gpu-thermal", "40000");
    root_put("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n");
    root_put("sys/class/thermal/cooling_device0/cur_state", "0\n");
    root_put("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000\n");
    root_put("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1000\n");
    root_put("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n");
    REQUIRE(sense_thermal_create(root, "auto", &z, NULL) == 0);
    REQUIRE(sense_cpufreq_create(root, &c, NULL) == 0);
    sense_rpi_init(&rpi);
    CHECK_EQ(read_zones(z), 0);
    CHECK_EQ(sense_cpufreq_read(c, &when, &f, NULL), 0);
    CHECK_EQ(sense_rpi_read(&rpi, root, &when, &bits, &mask, NULL), 0);
    write_in_place("sys/class/thermal/thermal_zone0/temp", "61000\n");
    write_in_place("sys/class/thermal/cooling_device0/cur_state", "1\n");
    write_in_place("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "500\n");
    write_in_place("sys/devices/platform/soc/soc:firmware/get_throttled", "8\n");
    write_in_place("sys/class/thermal/thermal_zone0/trip_point_0_temp", "70000\n");
    rlim_t was = forbid_opening();
    for (int i = 0; i < 9; i++) {
        when.now_us += SECOND;
        CHECK_EQ(read_zones(z), 0);
        CHECK_EQ(sense_cpufreq_read(c, &when, &f, NULL), 0);
        CHECK_EQ(sense_rpi_read(&rpi, root, &when, &bits, &mask, NULL), 0);
    }
    allow_opening(was);
    CHECK(thermal.n_zones == 2 && thermal.is_cooling && thermal.zones[0].temp_mc == 61000);
    CHECK_EQ(thermal.zones[0].passive_mc, 80000); /* as it was found */
    CHECK_EQU(f.least_permille, 500);
    CHECK_EQU(bits, SENSE_RPI_SOFT_LIMIT);
    /* Then it is looked for, but not above a limit. */
    root_put_zone(2, "soc-thermal", "45000");
    when.now_us += SECOND;
    when.may_open = false;
    was = forbid_opening();
    CHECK_EQ(read_zones(z), 0);
    CHECK_EQ(sense_cpufreq_read(c, &when, &f, NULL), 0);
    CHECK_EQ(sense_rpi_read(&rpi, root, &when, &bits, &mask, NULL), 0);
    allow_opening(was);
    CHECK_EQU(thermal.n_zones, 2);
    when.may_open = true;
    CHECK_EQ(read_zones(z), 0);
    CHECK_EQU(thermal.n_zones, 3);
    CHECK_EQ(thermal.zones[0].passive_mc, 70000);
    CHECK(thermal.zones[0].has_changed && !thermal.zones[1].has_changed);
    sense_thermal_destroy(z);
    sense_cpufreq_destroy(c);
    sense_rpi_close(&rpi);
}

static void above_the_limit_from_the_start_nothing_is_known(void) {
    struct sense_zones *z;
    struct sense_clocks *c;
    struct sense_rpi rpi;
    struct sense_cpufreq f;
    struct err e = {0};
    uint32_t bits, mask;
    const char *root = root_make();
    root_put_zone(0, "cpu-thermal", "50000");
    REQUIRE(sense_thermal_create(root, "auto", &z, NULL) == 0);
    REQUIRE(sense_cpufreq_create(root, &c, NULL) == 0);
    sense_rpi_init(&rpi);
    when.may_open = false;
    CHECK_EQ(read_zones(z), -EAGAIN);
    CHECK_EQ(sense_cpufreq_read(c, &when, &f, &e), -EAGAIN);
    CHECK_EQ(sense_rpi_read(&rpi, root, &when, &bits, &mask, &e), -EAGAIN);
    when.may_open = true;
    CHECK_EQ(read_zones(z), 0);
    sense_thermal_destroy(z);
    sense_cpufreq_destroy(c);
    sense_rpi_close(&rpi);
    sense_thermal_destroy(NULL);
    sense_cpufreq_destroy(NULL);
}

/* A zone that goes is gone at once; its number may be another's when it is read again. */
static void a_kept_zone_is_known_again(void) {
    struct sense_zones *z;
    const char *root = root_make();
    root_put_zone(3, "cpu-thermal", "50000");
    root_put_zone(5, "soc-thermal", "100000");
    REQUIRE(sense_thermal_create(root, "auto", &z, NULL) == 0);
    CHECK_EQ(read_zones(z), 0);
    CHECK(!thermal.zones[0].has_changed && !thermal.zones[1].has_changed);
    root_put_zone(3, "cpu-thermal", "51000");
    when.now_us += SECOND;
    CHECK_EQ(read_zones(z), 0);
    CHECK(thermal.zones[0].has_changed && thermal.zones[0].temp_mc == 51000);
    CHECK(!thermal.zones[1].has_changed);
    /* Back to the first: it has changed all the same, also after a scan. */
    root_put_zone(3, "cpu-thermal", "50000");
    when.now_us += RESCAN;
    CHECK_EQ(read_zones(z), 0);
    CHECK(thermal.zones[0].has_changed && !thermal.zones[1].has_changed);
    /* Another zone under that number has not. */
    root_put_zone(3, "gpu-thermal", "90000");
    when.now_us += SECOND;
    CHECK_EQ(read_zones(z), 0);
    CHECK_STR(thermal.zones[0].type, "gpu-thermal");
    CHECK(!thermal.zones[0].has_changed && !thermal.zones[0].is_wanted);
    root_remove_zone(3);
    when.now_us += SECOND;
    CHECK_EQ(read_zones(z), 0);
    CHECK_EQU(thermal.n_zones, 1);
    CHECK_STR(thermal.zones[0].type, "soc-thermal");
    root_remove_zone(5);
    when.now_us += SECOND;
    CHECK_EQ(read_zones(z), -ENODATA);
    root_put_zone(8, "soc-thermal", "50000"); /* a new one is found by a scan alone */
    CHECK_EQ(read_zones(z), -ENODATA);
    when.now_us += RESCAN;
    CHECK_EQ(read_zones(z), 0);
    CHECK_EQU(thermal.zones[0].number, 8);
    sense_thermal_destroy(z);
}

/* ---- clocks ---- */

static void put_policy(unsigned n, const char *cap, const char *top, const char *cur) {
    char rel[100];
    const char *const names[] = {"scaling_max_freq", "cpuinfo_max_freq", "scaling_cur_freq"};
    const char *const values[] = {cap, top, cur};
    for (size_t i = 0; i < 3; i++) {
        if (!values[i]) continue;
        snprintf(rel, sizeof(rel), "sys/devices/system/cpu/cpufreq/policy%u/%s", n, names[i]);
        root_put(rel, values[i]);
    }
}

/* A first reading. */
static int read_clocks(const char *root, struct sense_cpufreq *ret, struct err *e) {
    struct sense_clocks *c;
    REQUIRE(sense_cpufreq_create(root, &c, NULL) == 0);
    int r = sense_cpufreq_read(c, &when, ret, e);
    sense_cpufreq_destroy(c);
    return r;
}

static void clocks_are_read(void) {
    const char *root = root_make();
    struct sense_cpufreq f = {.least_permille = 77};
    struct err e = {0};
    CHECK_EQ(read_clocks(root, &f, &e), -ENOENT);
    root_put("sys/devices/system/cpu/cpufreq/boost", "1\n");
    CHECK_EQ(read_clocks(root, &f, &e), -ENODATA);
    put_policy(0, "1800000\n", "1800000\n", "600000\n");
    put_policy(4, "1200000\n", "2400000\n", NULL);
    put_policy(6, "2500000\n", "2400000\n", "0\n"); /* boosted */
    REQUIRE_OK(read_clocks(root, &f, &e), &e);
    CHECK_EQU(f.least_permille, 500);
    CHECK_EQU(f.n_clocks, 3);
    CHECK(f.clocks[0].number == 0 && f.clocks[0].has_cur && f.clocks[0].cur_khz == 600000);
    CHECK(f.clocks[1].number == 4 && !f.clocks[1].has_cur && f.clocks[1].top_khz == 2400000);
    CHECK(!f.clocks[2].has_cur);
    /* One that cannot be read does not count; if none can, it is unknown. */
    put_policy(4, "0\n", NULL, NULL);
    REQUIRE_OK(read_clocks(root, &f, &e), &e);
    CHECK_EQU(f.least_permille, 1000);
    CHECK_EQU(f.n_clocks, 2);
    put_policy(0, "lots\n", NULL, NULL);
    put_policy(6, "1", NULL, NULL);
    f.least_permille = 77;
    CHECK_EQ(read_clocks(root, &f, &e), -EBADMSG);
    CHECK(strstr(e.msg, "policy0/scaling_max_freq: what should be a number is not"));
    CHECK_EQU(f.least_permille, 77);
    for (unsigned i = 0; i < 20; i++) put_policy(i, "300\n", i == 19 ? "1000\n" : "300\n", NULL);
    REQUIRE_OK(read_clocks(root, &f, &e), &e);
    CHECK_EQU(f.n_clocks, SENSE_MAX_CLOCKS);
    CHECK_EQU(f.least_permille, 300);
    uint32_t khz = 77;
    CHECK_EQ(sense_cpufreq_parse_khz("4294967296\n", 11, &khz, NULL), -EBADMSG);
    CHECK_EQ(sense_cpufreq_parse_khz("-1\n", 3, &khz, NULL), -EBADMSG);
    CHECK_EQU(khz, 77);
}

/* ---- Raspberry Pi ---- */

static void throttle_bits_are_parsed(void) {
    static const struct {
        const char *text;
        bool ok;
        uint32_t bits;
    } cases[] = {
        {"0\n", true, 0},
        {"50005\n", true, 0x50005},
        {"0x50005\n", true, 0x50005},
        {"0xE0008\n", true, 0xe0008},
        {"ffffffff\n", true, 0xffffffff},
        {"0\n0\n", false, 0},
        {"", false, 0},
        {"\n", false, 0},
        {"0x\n", false, 0},
        {"50005", false, 0},
        {"100000000\n", false, 0},
        {"-1\n", false, 0},
        {"0X5\n", false, 0},
        {"throttled=0x0\n", false, 0},
        {"5 \n", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t bits = 77;
        CHECK_EQ(sense_rpi_parse(cases[i].text, strlen(cases[i].text), &bits, NULL),
                 cases[i].ok ? 0 : -EBADMSG);
        CHECK_EQU(bits, cases[i].ok ? cases[i].bits : 77);
    }
}

static int read_rpi(struct sense_rpi *at, const char *root, uint32_t *ret_bits, uint32_t *ret_mask,
                    struct err *e) {
    return sense_rpi_read(at, root, &when, ret_bits, ret_mask, e);
}

static void the_firmware_is_found_on_each_board(void) {
    static const char *const files[] = {
        "sys/devices/platform/soc:firmware/get_throttled",
        "sys/devices/platform/soc/soc:firmware/get_throttled",
        "sys/devices/platform/axi/soc@107c000000/soc@107c000000:firmware/get_throttled",
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        const char *root = root_make();
        struct sense_rpi at;
        uint32_t bits = 77, mask = 77;
        struct err e = {0};
        sense_rpi_init(&at);
        root_put("sys/devices/platform/soc/get_throttled", "f\n"); /* not the firmware's */
        root_put(files[i], "50005\n");
        REQUIRE_OK(read_rpi(&at, root, &bits, &mask, &e), &e);
        CHECK_EQU(bits, 0x50005);
        CHECK_EQU(mask, SENSE_RPI_NOW | SENSE_RPI_SINCE_BOOT);
        sense_rpi_close(&at);
    }
}

static void the_alarm_is_the_second_choice(void) {
    const char *root = root_make();
    struct sense_rpi at;
    uint32_t bits = 77, mask = 77;
    struct err e = {0};
    sense_rpi_init(&at);
    CHECK_EQ(read_rpi(&at, root, &bits, &mask, &e), -ENODATA);
    CHECK_EQ(e.code, -ENODATA);
    CHECK(bits == 77 && mask == 77);
    root_put("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
    root_put("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n");
    root_put("sys/class/hwmon/hwmon3/name", "rpi_volt\n");
    root_put("sys/class/hwmon/hwmon3/in0_lcrit_alarm", "0\n");
    sense_rpi_close(&at);
    sense_rpi_init(&at);
    REQUIRE_OK(read_rpi(&at, root, &bits, &mask, &e), &e);
    CHECK(bits == 0 && mask == SENSE_RPI_UNDER_VOLTAGE);
    root_put("sys/class/hwmon/hwmon3/in0_lcrit_alarm", "1\n");
    REQUIRE_OK(read_rpi(&at, root, &bits, &mask, &e), &e);
    CHECK(bits == SENSE_RPI_UNDER_VOLTAGE && mask == SENSE_RPI_UNDER_VOLTAGE);
    root_put("sys/class/hwmon/hwmon3/in0_lcrit_alarm", "2\n");
    CHECK_EQ(read_rpi(&at, root, &bits, &mask, &e), -EBADMSG);
    /* The firmware comes late, and is found within half a minute; then its file breaks. */
    root_put("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n");
    when.now_us += 3 * RESCAN - 1;
    CHECK_EQ(read_rpi(&at, root, &bits, &mask, &e), -EBADMSG);
    when.now_us++;
    when.may_open = false;
    CHECK_EQ(read_rpi(&at, root, &bits, &mask, &e), -EBADMSG);
    when.may_open = true;
    REQUIRE_OK(read_rpi(&at, root, &bits, &mask, &e), &e);
    CHECK_EQU(mask, SENSE_RPI_NOW | SENSE_RPI_SINCE_BOOT);
    root_put("sys/class/hwmon/hwmon3/in0_lcrit_alarm", "1\n");
    root_put("sys/devices/platform/soc/soc:firmware/get_throttled", "what\n");
    REQUIRE_OK(read_rpi(&at, root, &bits, &mask, &e), &e);
    CHECK_EQU(mask, SENSE_RPI_UNDER_VOLTAGE);
    sense_rpi_close(&at);
}

/* With under-voltage the firmware slows the processor for the supply's sake. */
static void heat_is_told_from_a_weak_supply(void) {
    static const struct {
        uint32_t bits;
        bool is_hot;
    } cases[] = {
        {0, false},   {0x80008, true},  {0x8, true},      {0x9, true},      {0x2, true},
        {0x4, true},  {0x6, true},      {0x5, false},     {0x50005, false}, {0x3, false},
        {0x1, false}, {0xe0000, false}, {0xf0000, false}, {0xf000f, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (sense_rpi_is_hot(cases[i].bits) != cases[i].is_hot)
            t_fail(__FILE__, __LINE__, "%x", cases[i].bits);
}

/* What a shell reads as a pattern may stand in the root. */
static void the_root_is_no_pattern(void) {
    const char *root = root_make();
    char inner[600];
    struct sense_rpi at;
    uint32_t bits = 77, mask = 77;
    struct err e = {0};
    root_put("a[b]*\\c/sys/devices/platform/soc/soc:firmware/get_throttled", "1\n");
    snprintf(inner, sizeof(inner), "%s/a[b]*\\c", root);
    sense_rpi_init(&at);
    REQUIRE_OK(read_rpi(&at, inner, &bits, &mask, &e), &e);
    CHECK_EQU(bits, 1);
    sense_rpi_close(&at);
}

static const struct t_case cases[] = {
    {"temperatures_are_in_range_or_unknown", temperatures_are_in_range_or_unknown},
    {"types_of_cooling", types_of_cooling},
    {"a_board_is_read", a_board_is_read},
    {"all_zones_count_where_none_looks_like_a_chip", all_zones_count_where_none_looks_like_a_chip},
    {"broken_zones_are_unknown", broken_zones_are_unknown},
    {"a_zone_may_come_back_under_another_number", a_zone_may_come_back_under_another_number},
    {"two_hundred_zones_are_bounded", two_hundred_zones_are_bounded},
    {"cooling_tells_of_throttling", cooling_tells_of_throttling},
    {"between_two_scans_nothing_is_opened", between_two_scans_nothing_is_opened},
    {"above_the_limit_from_the_start_nothing_is_known",
     above_the_limit_from_the_start_nothing_is_known},
    {"a_kept_zone_is_known_again", a_kept_zone_is_known_again},
    {"clocks_are_read", clocks_are_read},
    {"throttle_bits_are_parsed", throttle_bits_are_parsed},
    {"the_firmware_is_found_on_each_board", the_firmware_is_found_on_each_board},
    {"the_alarm_is_the_second_choice", the_alarm_is_the_second_choice},
    {"heat_is_told_from_a_weak_supply", heat_is_told_from_a_weak_supply},
    {"the_root_is_no_pattern", the_root_is_no_pattern},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
