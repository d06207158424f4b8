/* topology: which CPUs are chosen, from made-up trees of sysfs files; what is missing or absurd
 * leaves everything as if it were not told. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/defs.h"
#include "core/topology.h"
#include "tests/t.h"

/* The files of one CPU; NULL: there is none. */
struct cpu {
    const char *capacity, *siblings, *online;
};

static void put(const char *dir, const char *name, const char *text) {
    char path[1024];
    if (!text) return;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    REQUIRE(fputs(text, f) >= 0);
    REQUIRE(fclose(f) == 0);
}

static void make_dir(const char *root, const char *name) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    REQUIRE(mkdir(path, 0700) == 0);
}

/* A fresh tree below `root`, a buffer of 256. clocks: NULL, or of each CPU. */
static void make_tree(const struct cpu *cpus, const char *const *clocks, unsigned n, char *root) {
    static unsigned n_trees;
    snprintf(root, 256, "%s/t%u", t_tmpdir(), n_trees++);
    REQUIRE(mkdir(root, 0700) == 0);
    make_dir(root, "sys");
    make_dir(root, "sys/devices");
    make_dir(root, "sys/devices/system");
    make_dir(root, "sys/devices/system/cpu");
    for (unsigned c = 0; c < n; c++) {
        char name[128], dir[512];
        snprintf(name, sizeof(name), "sys/devices/system/cpu/cpu%u", c);
        make_dir(root, name);
        snprintf(dir, sizeof(dir), "%s/%s", root, name);
        put(dir, "cpu_capacity", cpus[c].capacity);
        put(dir, "online", cpus[c].online);
        make_dir(dir, "topology");
        put(dir, "topology/thread_siblings_list", cpus[c].siblings);
        make_dir(dir, "cpufreq");
        put(dir, "cpufreq/cpuinfo_max_freq", clocks ? clocks[c] : NULL);
    }
}

static cpu_set_t first_cpus(unsigned n) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned c = 0; c < n; c++) CPU_SET(c, &set);
    return set;
}

/* What is chosen of the first n CPUs, all allowed but those of `not_allowed` (bits). */
static struct topology choose_by(const struct cpu *cpus, const char *const *clocks, unsigned n,
                                 unsigned not_allowed) {
    char root[256];
    struct topology t;
    cpu_set_t allowed = first_cpus(n);
    for (unsigned c = 0; c < n; c++)
        if (not_allowed >> c & 1) CPU_CLR(c, &allowed);
    make_tree(cpus, clocks, n, root);
    topology_choose(root, &allowed, &t);
    return t;
}

static struct topology choose(const struct cpu *cpus, unsigned n, unsigned not_allowed) {
    return choose_by(cpus, NULL, n, not_allowed);
}

#define CHECK_CHOICE(t, text, cores, some)                                                         \
    do {                                                                                           \
        struct topology chosen = (t);                                                              \
        CHECK_STR(chosen.cpus_text, text);                                                         \
        CHECK_EQU(chosen.n_cores, cores);                                                          \
        CHECK_EQU(chosen.leaves_some, some);                                                       \
    } while (0)

static void big_cores_are_chosen(void) {
    /* RK3588: four Cortex-A55, four A76. */
    static const struct cpu rk3588[8] = {
        {"414\n", "0\n", "1\n"},  {"414\n", "1\n", "1\n"},  {"414\n", "2\n", "1\n"},
        {"414\n", "3\n", "1\n"},  {"1024\n", "4\n", "1\n"}, {"1024\n", "5\n", "1\n"},
        {"1008\n", "6\n", "1\n"}, {"1008\n", "7\n", "1\n"},
    };
    CHECK_CHOICE(choose(rk3588, 8, 0), "4-7", 4, true);
    /* Within the mask: the largest that we have counts, not that of the machine. */
    CHECK_CHOICE(choose(rk3588, 8, 0x30), "6-7", 2, true);
    CHECK_CHOICE(choose(rk3588, 8, 0xf0), "0-3", 4, false);
    CHECK_CHOICE(choose(rk3588, 8, 0x7f), "7", 1, false);
    /* Exactly half is big, less is not. */
    static const struct cpu halves[3] = {
        {"512\n", "0\n", NULL}, {"511\n", "1\n", NULL}, {"1024\n", "2\n", NULL}};
    CHECK_CHOICE(choose(halves, 3, 0), "0,2", 2, true);
}

/* 0.8 beside 2.4 GHz is no big core, also where the kernel gives no capacities. */
static void clocks_stand_in_for_capacities(void) {
    static const struct cpu bare[4] = {{0}};
    static const char *const little[2] = {"800000\n", "2400000\n"};
    CHECK_CHOICE(choose_by(bare, little, 2, 0), "1", 1, true);
    CHECK_EQ(choose_by(bare, little, 2, 0).source, TOPOLOGY_MAX_FREQ);
    CHECK_CHOICE(choose_by(bare, little, 2, 0x2), "0", 1, false);
    /* Little ones at three quarters, two bins of one big core; exactly 4/5 is big, less is not. */
    static const char *const bins[4] = {"1800000\n", "2400000\n", "2256000\n", "1920000\n"};
    CHECK_CHOICE(choose_by(bare, bins, 4, 0), "1-3", 3, true);
    /* Capacities count first; if one CPU has none, the clocks count. */
    static const char *const clocks[2] = {"1000000\n", "2000000\n"};
    static const struct cpu all[2] = {{"1024\n", "0\n", NULL}, {"400\n", "1\n", NULL}};
    CHECK_CHOICE(choose_by(all, clocks, 2, 0), "0", 1, true);
    CHECK_EQ(choose_by(all, clocks, 2, 0).source, TOPOLOGY_CAPACITY);
    static const struct cpu half[2] = {{"1024\n", "0\n", NULL}, {NULL, "1\n", NULL}};
    CHECK_CHOICE(choose_by(half, clocks, 2, 0), "1", 1, true);
}

static void absurd_clocks_are_none(void) {
    static const struct cpu bare[2] = {{0}};
    static const char *const absurd[] = {NULL, "", "0\n", "2400000", "100000001\n", "x\n"};
    for (size_t i = 0; i < ARRAY_LEN(absurd); i++) {
        const char *const clocks[2] = {absurd[i], "800000\n"};
        CHECK_CHOICE(choose_by(bare, clocks, 2, 0), "0-1", 2, false);
        CHECK_EQ(choose_by(bare, clocks, 2, 0).source, TOPOLOGY_NONE);
    }
    unsigned khz = 7;
    CHECK_EQ(topology_parse_khz("100000000\n", 10, &khz), 0);
    CHECK_EQU(khz, 100000000);
    CHECK_EQ(topology_parse_khz("1000000000\n", 11, &khz), -EBADMSG);
    CHECK_STR(topology_source_name(TOPOLOGY_CAPACITY), "cpu_capacity");
    CHECK_STR(topology_source_name(TOPOLOGY_MAX_FREQ), "cpuinfo_max_freq");
    CHECK(!topology_source_name(TOPOLOGY_NONE));
}

static void siblings_are_one_core(void) {
    static const struct cpu apart[4] = {
        {NULL, "0,2\n", NULL}, {NULL, "1,3\n", NULL}, {NULL, "0,2\n", NULL}, {NULL, "1,3\n", NULL}};
    CHECK_CHOICE(choose(apart, 4, 0), "0-3", 2, false);
    CHECK_CHOICE(choose(apart, 4, 0x1), "1-3", 2, false); /* 2 without its sibling is a core */
    static const struct cpu beside[4] = {
        {NULL, "0-1\n", NULL}, {NULL, "0-1\n", NULL}, {NULL, "2-3\n", NULL}, {NULL, "2-3\n", NULL}};
    CHECK_CHOICE(choose(beside, 4, 0), "0-3", 2, false);
    CHECK_CHOICE(choose(beside, 4, 0xa), "0,2", 2, false);
    /* Big cores with two threads beside small ones with one. */
    static const struct cpu hybrid[4] = {{"1024\n", "0-1\n", NULL},
                                         {"1024\n", "0-1\n", NULL},
                                         {"400\n", "2\n", NULL},
                                         {"400\n", "3\n", NULL}};
    CHECK_CHOICE(choose(hybrid, 4, 0), "0-1", 1, true);
}

static void nothing_told_is_all(void) {
    static const struct cpu bare[4] = {{0}};
    CHECK_CHOICE(choose(bare, 4, 0), "0-3", 4, false);
    CHECK_CHOICE(choose(bare, 4, 0x2), "0,2-3", 3, false);
    cpu_set_t allowed = first_cpus(3);
    struct topology t;
    topology_choose("/nowhere/at/all", &allowed, &t);
    CHECK_CHOICE(t, "0-2", 3, false);
    CHECK(CPU_EQUAL(&t.cpus, &allowed));
}

static void one_unknown_capacity_is_none(void) {
    static const char *const absurd[] = {
        NULL,      "",      "\n",    "0\n",    "-1\n",   "1024",  "x\n",
        "65537\n", " 10\n", "10 \n", "0x10\n", "10\n\n", "1e3\n", "99999999999999999999\n"};
    for (size_t i = 0; i < ARRAY_LEN(absurd); i++) {
        const struct cpu cpus[3] = {
            {"400\n", "0\n", NULL}, {absurd[i], "1\n", NULL}, {"1024\n", "2\n", NULL}};
        CHECK_CHOICE(choose(cpus, 3, 0), "0-2", 3, false);
        CHECK_CHOICE(choose(cpus, 3, 0x2), "2", 1, true); /* it is not asked where it may not run */
    }
}

static void absurd_siblings_are_none(void) {
    static const char *const absurd[] = {NULL,      "",      "\n",     "1-0\n",    "0-1",
                                         "0,\n",    ",1\n",  "0--1\n", "0-1024\n", "1024\n",
                                         "0-1\n\n", "all\n", "0 1\n",  "-1\n"};
    for (size_t i = 0; i < ARRAY_LEN(absurd); i++) {
        const struct cpu cpus[2] = {{NULL, absurd[i], NULL}, {NULL, absurd[i], NULL}};
        CHECK_CHOICE(choose(cpus, 2, 0), "0-1", 2, false);
    }
    /* Every CPU claims all as its siblings: one core, never none. */
    static const struct cpu claims[3] = {
        {NULL, "0-1023\n", NULL}, {NULL, "0-1023\n", NULL}, {NULL, "0-1023\n", NULL}};
    CHECK_CHOICE(choose(claims, 3, 0), "0-2", 1, false);
    char longest[400];
    memset(longest, '1', sizeof(longest)); /* more than is read */
    longest[sizeof(longest) - 1] = 0;
    const struct cpu too_long[2] = {{longest, longest, longest}, {longest, longest, longest}};
    CHECK_CHOICE(choose(too_long, 2, 0), "0-1", 2, false);
}

static void offline_cpus_are_left_out(void) {
    static const struct cpu cpus[4] = {{"400\n", "0\n", NULL},
                                       {"400\n", "1\n", "1\n"},
                                       {"1024\n", "2\n", "0\n"},
                                       {"1024\n", "3\n", "1\n"}};
    CHECK_CHOICE(choose(cpus, 4, 0), "3", 1, true);
    CHECK_CHOICE(choose(cpus, 4, 0x8), "0-1", 2, false); /* no big one is left */
    /* All of them: we run, so that cannot be. */
    static const struct cpu none[2] = {{NULL, NULL, "0\n"}, {NULL, NULL, "0\n"}};
    CHECK_CHOICE(choose(none, 2, 0), "0-1", 2, false);
}

static void fifos_do_not_block(void) {
    char root[256], path[512];
    static const struct cpu cpus[1] = {{0}};
    struct topology t;
    cpu_set_t allowed = first_cpus(1);
    make_tree(cpus, NULL, 1, root);
    snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/cpu0/cpu_capacity", root);
    REQUIRE(mkfifo(path, 0600) == 0);
    topology_choose(root, &allowed, &t);
    CHECK_CHOICE(t, "0", 1, false);
}

static void long_lists_are_cut(void) {
    cpu_set_t every_other;
    struct topology t;
    CPU_ZERO(&every_other);
    for (unsigned c = 0; c < CPU_SETSIZE; c += 2) CPU_SET(c, &every_other);
    topology_choose("/nowhere", &every_other, &t);
    CHECK_EQU(t.n_cores, CPU_SETSIZE / 2);
    CHECK(strlen(t.cpus_text) < sizeof(t.cpus_text));
    CHECK_STR(t.cpus_text, "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42...");
}

static void parsers(void) {
    unsigned v = 7;
    cpu_set_t set;
    CHECK_EQ(topology_parse_capacity("65536\n", 6, &v), 0);
    CHECK_EQU(v, 65536);
    CHECK_EQ(topology_parse_capacity("65536\n", 5, &v), -EBADMSG);
    CHECK_EQ(topology_parse_list("0,4-7,1023\n", 11, &set), 0);
    CHECK_EQ(CPU_COUNT(&set), 6);
    CHECK(CPU_ISSET(0, &set) && CPU_ISSET(4, &set) && CPU_ISSET(7, &set) && CPU_ISSET(1023, &set));
    CHECK_EQ(topology_parse_list("0,4-7\n", 5, &set), -EBADMSG);
    CHECK_EQ(CPU_COUNT(&set), 6); /* untouched */
}

static void this_machine(void) {
    cpu_set_t mine;
    struct topology t;
    REQUIRE(sched_getaffinity(0, sizeof(mine), &mine) == 0);
    CHECK_EQ(topology_read("/", &t), 0);
    CHECK(t.n_cores >= 1 && t.n_cores <= (unsigned)CPU_COUNT(&mine));
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &t.cpus)) CHECK(CPU_ISSET(c, &mine));
}

static const struct t_case cases[] = {
    {"big_cores_are_chosen", big_cores_are_chosen},
    {"clocks_stand_in_for_capacities", clocks_stand_in_for_capacities},
    {"absurd_clocks_are_none", absurd_clocks_are_none},
    {"siblings_are_one_core", siblings_are_one_core},
    {"nothing_told_is_all", nothing_told_is_all},
    {"one_unknown_capacity_is_none", one_unknown_capacity_is_none},
    {"absurd_siblings_are_none", absurd_siblings_are_none},
    {"offline_cpus_are_left_out", offline_cpus_are_left_out},
    {"fifos_do_not_block", fifos_do_not_block},
    {"long_lists_are_cut", long_lists_are_cut},
    {"parsers", parsers},
    {"this_machine", this_machine},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
