/* How many CPUs a cgroup may use by time, from trees of both versions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_quota.h"
#include "tests/t.h"
#include "tests/unit/root.h"

enum { SECOND = 1000000, RESCAN = 10 * SECOND };

static struct sense_when when = {.now_us = SECOND, .rescan_us = RESCAN, .may_open = true};

static void texts_are_parsed(void) {
    static const struct {
        const char *text;
        bool ok;
        uint32_t permille;
    } cases[] = {
        {"max 100000\n", true, SENSE_QUOTA_NONE},
        {"50000 100000\n", true, 500},
        {"100000 100000\n", true, 1000},
        {"100001 100000\n", true, 1001}, /* rounded up: a second thread has work */
        {"250000 100000\n", true, 2500},
        {"1000 1000000\n", true, 1},
        {"18446744073709551 1\n", true, SENSE_QUOTA_NONE - 1},
        {"18446744073709551615 100000\n", false, 0},
        {"0 100000\n", false, 0},
        {"50000 0\n", false, 0},
        {"50000\n", false, 0},
        {"max\n", false, 0},
        {"max 100000", false, 0},
        {"50000 100000", false, 0},
        {"", false, 0},
        {" \n", false, 0},
        {"-1 100000\n", false, 0},
        {"50000  100000\n", false, 0},
        {"maxx 100000\n", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t permille = 77;
        int r = sense_quota_parse(cases[i].text, strlen(cases[i].text), &permille, NULL);
        if (r != (cases[i].ok ? 0 : -EBADMSG) || permille != (cases[i].ok ? cases[i].permille : 77))
            t_fail(__FILE__, __LINE__, "'%s' gives %d, %u", cases[i].text, r, permille);
    }
    uint32_t v = 77;
    CHECK_EQ(sense_quota_parse_v1("-1\n", 3, "100000\n", 7, &v, NULL), 0);
    CHECK_EQU(v, SENSE_QUOTA_NONE);
    CHECK_EQ(sense_quota_parse_v1("150000\n", 7, "100000\n", 7, &v, NULL), 0);
    CHECK_EQU(v, 1500);
    CHECK_EQ(sense_quota_parse_v1("150000\n", 7, "0\n", 2, &v, NULL), -EBADMSG);
    CHECK_EQ(sense_quota_parse_v1("x\n", 2, "100000\n", 7, &v, NULL), -EBADMSG);
    CHECK_EQU(v, 1500);
}

static void threads_are_the_ceiling(void) {
    static const uint32_t cases[][3] = {
        {500, 2, 1},
        {1000, 2, 1},
        {1001, 2, 2},
        {2500, 4, 3},
        {2500, 2, 2},
        {1, 4, 1},
        {0, 4, 1},
        {SENSE_QUOTA_NONE, 4, 4},
        {SENSE_QUOTA_NONE - 1, 4, 4},
        {4000, 0, 1},
        {SENSE_QUOTA_NONE, 0, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK_EQU(sense_quota_threads(cases[i][0], cases[i][1]), cases[i][2]);
}

static void paths_of_version_1_are_found(void) {
    static const struct {
        const char *text, *path; /* NULL: none */
        int code;
    } cases[] = {
        {"11:memory:/a\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/b\n", "/docker/x", 0},
        {"4:cpuacct,cpu:/x\n", "/x", 0},
        {"4:cpu:/x/\n0::/y\n", "/x", 0},
        {"4:cpuset:/x\n3:cpuacct:/y\n0::/z\n", NULL, -ENODATA},
        {"", NULL, -ENODATA},
        {"4:cpu:/../x\n", "/", 0},
        {"4:cpu:x\n", NULL, -EBADMSG},
        {"4:cpu:\n", NULL, -EBADMSG},
        {"4:cpu:/x", NULL, -EBADMSG},
        {"cpu\n:\n::\n", NULL, -ENODATA},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char path[SENSE_QUOTA_MAX_PATH] = "-";
        int r = sense_quota_parse_path_v1(cases[i].text, strlen(cases[i].text), path, NULL);
        CHECK_EQ(r, cases[i].code);
        CHECK_STR(path, cases[i].path ? cases[i].path : "-");
    }
    char longest[700] = "4:cpu:/";
    memset(longest + 7, 'a', 600);
    longest[607] = '\n';
    char path[SENSE_QUOTA_MAX_PATH];
    CHECK_EQ(sense_quota_parse_path_v1(longest, 608, path, NULL), -EBADMSG);
}

/* ---- trees ---- */

static struct sense_quota got;

static int read_again(struct sense_quotas *q) {
    struct err e = {0};
    int r = sense_quota_read(q, &when, &got, &e);
    CHECK_EQ(e.code, r);
    return r;
}

static struct sense_quotas *make(const char *root) {
    struct sense_quotas *q;
    REQUIRE(sense_quota_create(root, "/proc/self/cgroup", &q, NULL) == 0);
    return q;
}

static int read_once(const char *root) {
    struct sense_quotas *q = make(root);
    int r = read_again(q);
    sense_quota_destroy(q);
    return r;
}

static void all_levels_of_version_2_count(void) {
    const char *root = root_make();
    root_put("proc/self/cgroup", "0::/a/b\n");
    CHECK_EQ(read_once(root), -ENODATA);
    root_put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK_EQU(got.permille, SENSE_QUOTA_NONE);
    root_put("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK(got.permille == 1500 && !got.is_v1);
    CHECK_STR(got.at, "/a/b");
    root_put("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK_EQU(got.permille, 500);
    CHECK_STR(got.at, "/a");
    root_put("sys/fs/cgroup/a/b/cpu.max", "what\n");
    CHECK_EQ(read_once(root), -EBADMSG);
}

static void all_levels_of_version_1_count(void) {
    const char *root = root_make();
    root_put("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n1:name=systemd:/s\n");
    root_put("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
    root_put("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK_EQU(got.permille, SENSE_QUOTA_NONE);
    root_put("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "200000\n");
    root_put("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK(got.permille == 2000 && got.is_v1);
    CHECK_STR(got.at, "/docker");
}

/* A container sees its own cgroup at the mount's top, and the host's path in /proc. */
static void a_path_that_is_not_below_the_mount_is_the_top(void) {
    static const char *const selves[] = {"0::/docker/x\n", "0::/../../x\n", "0::/\n",
                                         "4:cpu:/docker/x\n"};
    for (size_t i = 0; i < ARRAY_LEN(selves); i++) {
        const char *root = root_make();
        root_put("proc/self/cgroup", selves[i]);
        root_put("sys/fs/cgroup/cpu.max", "50000 100000\n");
        CHECK_EQ(read_once(root), 0);
        CHECK_EQU(got.permille, 500);
        CHECK_STR(got.at, "/");
    }
    const char *root = root_make();
    root_put("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n");
    root_put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
    root_put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(read_once(root), 0);
    CHECK(got.permille == 500 && got.is_v1);
    root_make();
    CHECK_EQ(read_once(root_path("none")), -ENOENT);
}

static void changes_are_followed(void) {
    const char *root = root_make();
    root_put("proc/self/cgroup", "0::/a\n");
    root_put("sys/fs/cgroup/a/cpu.max", "max 100000\n");
    struct sense_quotas *q = make(root);
    when.may_open = false;
    CHECK_EQ(read_again(q), -EAGAIN);
    when.may_open = true;
    CHECK_EQ(read_again(q), 0);
    CHECK_EQU(got.permille, SENSE_QUOTA_NONE);
    root_put("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    when.now_us += SECOND;
    CHECK_EQ(read_again(q), 0);
    CHECK_EQU(got.permille, 500);
    /* Moved to another cgroup: found within the time of a scan. */
    root_put("sys/fs/cgroup/b/cpu.max", "300000 100000\n");
    root_put("proc/self/cgroup", "0::/b\n");
    when.now_us += RESCAN;
    CHECK_EQ(read_again(q), 0);
    CHECK_EQU(got.permille, 3000);
    CHECK_STR(got.at, "/b");
    root_remove("sys/fs/cgroup/b/cpu.max");
    when.now_us += SECOND;
    CHECK_EQ(read_again(q), -ENODATA);
    sense_quota_destroy(q);
    sense_quota_destroy(NULL);
}

static void a_path_may_be_deep(void) {
    char path[400] = "0::", rel[500];
    const char *root = root_make();
    for (int i = 0; i < 100; i++) strcat(path, "/d");
    snprintf(rel, sizeof(rel), "sys/fs/cgroup%s/cpu.max", path + 3);
    root_put(rel, "1000000 100000\n");
    strcat(path, "\n");
    root_put("proc/self/cgroup", path);
    root_put("sys/fs/cgroup/cpu.max", "50000 100000\n"); /* the top is looked at all the same */
    CHECK_EQ(read_once(root), 0);
    CHECK_EQU(got.permille, 500);
}

static const struct t_case cases[] = {
    {"texts_are_parsed", texts_are_parsed},
    {"threads_are_the_ceiling", threads_are_the_ceiling},
    {"paths_of_version_1_are_found", paths_of_version_1_are_found},
    {"all_levels_of_version_2_count", all_levels_of_version_2_count},
    {"all_levels_of_version_1_count", all_levels_of_version_1_count},
    {"a_path_that_is_not_below_the_mount_is_the_top",
     a_path_that_is_not_below_the_mount_is_the_top},
    {"changes_are_followed", changes_are_followed},
    {"a_path_may_be_deep", a_path_may_be_deep},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
