/* Pressure, cgroup and vmstat: exact, or unknown and never zero. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/sense_cgroup.h"
#include "daemon/sense_file.h"
#include "daemon/sense_psi.h"
#include "daemon/sense_text.h"
#include "daemon/sense_tree.h"
#include "daemon/sense_vmstat.h"
#include "tests/t.h"
#include "tests/unit/root.h"

#define SOME "some avg10=0.00 avg60=1.25 avg300=0.31 total="
#define FULL "full avg10=0.00 avg60=0.00 avg300=0.00 total="
#define BIG  "18446744073709551615"

/* ---- pressure ---- */

static const struct sense_when when = {.now_us = 1, .may_open = true}; /* rescans each time */

/* With a descriptor of its own. */
static int read_psi(const char *path, struct sense_psi *ret, struct err *e) {
    struct sense_file f;
    sense_file_init(&f);
    int r = sense_psi_read(&f, path, &when, ret, e);
    sense_file_close(&f);
    return r;
}

struct bad {
    const char *text;
    int code;
    const char *message;
};

static const struct bad bad_psi[] = {
    {"", -ENODATA, "there is no line some"},
    {SOME "1\n", -ENODATA, "there is no line full"},
    {FULL "1\n", -ENODATA, "there is no line some"},
    {SOME "1\n" FULL "2", -EBADMSG, "the line full is cut"},
    {SOME "1\nfull", -EBADMSG, "the line full is cut"},
    {SOME "1\nfull\n", -EBADMSG, "the line full does not end in total=<number>"},
    {SOME "\n" FULL "2\n", -EBADMSG, "the line some: there is no number"},
    {SOME "-1\n" FULL "2\n", -EBADMSG, "the line some: what should be a number is not"},
    {SOME "1 \n" FULL "2\n", -EBADMSG, "the line some: what should be a number is not"},
    {SOME "1\r\n" FULL "2\n", -EBADMSG, "the line some: what should be a number is not"},
    {SOME "18446744073709551616\n" FULL "2\n", -EBADMSG,
     "the line some: the number does not fit 64 bits"},
    {"some avg10=0.00 mytotal=5\n" FULL "2\n", -EBADMSG,
     "the line some does not end in total=<number>"},
    {"some total=5 avg10=0.00\n" FULL "2\n", -EBADMSG,
     "the line some does not end in total=<number>"},
    {"sometotal=5\n" FULL "2\n", -EBADMSG, "the line some does not end in total=<number>"},
};

static void good_pressure_is_read(void) {
    struct sense_psi p;
    struct err e = {0};
    REQUIRE_OK(sense_psi_parse(SOME "123456\n" FULL "789\n", strlen(SOME FULL) + 11, &p, &e), &e);
    CHECK_EQU(p.some_us, 123456);
    CHECK_EQU(p.full_us, 789);
    static const char *const texts[] = {
        FULL BIG "\n" SOME "0\n",               /* in any order */
        "some total=0\nfull total=" BIG "\n",   /* fewer fields */
        "\n" SOME "0\n\n" FULL BIG "\nother\n", /* more lines */
        "some new=1 total=0\n" FULL BIG "\n",   /* more fields */
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        REQUIRE_OK(sense_psi_parse(texts[i], strlen(texts[i]), &p, &e), &e);
        CHECK_EQU(p.some_us, 0);
        CHECK_EQU(p.full_us, UINT64_MAX);
    }
}

static void bad_pressure_is_unknown(void) {
    for (size_t i = 0; i < ARRAY_LEN(bad_psi); i++) {
        struct sense_psi p = {.some_us = 11, .full_us = 12};
        struct err e = {0};
        CHECK_EQ(sense_psi_parse(bad_psi[i].text, strlen(bad_psi[i].text), &p, &e),
                 bad_psi[i].code);
        CHECK_STR(e.msg, bad_psi[i].message);
        CHECK(p.some_us == 11 && p.full_us == 12);
    }
    /* Every cut is unknown. */
    static const char text[] = SOME "123\n" FULL "456\n";
    for (size_t n = 0; n + 1 < sizeof(text); n++) {
        struct sense_psi p;
        CHECK_EQ(sense_psi_parse(text, n, &p, NULL) == 0, n == sizeof(text) - 1);
    }
}

/* ---- what is wrong with files of any kind ---- */

static void odd_files_are_errors(void) {
    struct sense_psi p = {.some_us = 11, .full_us = 12};
    struct err e = {0};
    static const char rel[] = "proc/pressure/memory";
    root_make();
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -ENOENT);
    root_put_fifo(rel);
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -ENOTSUP);
    CHECK(strstr(e.msg, "memory is not a regular file"));
    root_put_folder(rel);
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -EISDIR);
    root_put(rel, "");
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -ENODATA);
    root_put_n(rel, SOME "1\n\0" FULL "2\n", strlen(SOME FULL) + 5);
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -ENODATA);
    root_put_n(rel,
               SOME "1\0"
                    "1\n" FULL "2\n",
               strlen(SOME FULL) + 6);
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -EBADMSG);
    char *large = malloc(1 << 20);
    REQUIRE(large);
    memset(large, '7', 1 << 20);
    memcpy(large, "some total=", 11);
    root_put_n(rel, large, 1 << 20);
    free(large);
    CHECK_EQ(read_psi(root_path(rel), &p, &e), -EBADMSG);
    CHECK(p.some_us == 11 && p.full_us == 12);
    root_put(rel, SOME "3\n" FULL "4\n");
    REQUIRE_OK(read_psi(root_path(rel), &p, &e), &e);
    CHECK(p.some_us == 3 && p.full_us == 4);
    if (geteuid() != 0) {
        REQUIRE(chmod(root_path(rel), 0) == 0);
        CHECK_EQ(read_psi(root_path(rel), &p, &e), -EACCES);
    }
}

static void numbers_are_exact(void) {
    static const struct {
        const char *text;
        int code;
        int64_t value;
    } cases[] = {
        {"0\n", 0, 0},
        {"-0\n", 0, 0},
        {"-40000\n", 0, -40000},
        {"9223372036854775807\n", 0, INT64_MAX},
        {"-9223372036854775807\n", 0, -INT64_MAX},
        {"9223372036854775808\n", -EBADMSG, 0},
        {"-9223372036854775808\n", -EBADMSG, 0}, /* one value less than could be */
        {"99999999999999999999\n", -EBADMSG, 0},
        {"", -EBADMSG, 0},
        {"\n", -EBADMSG, 0},
        {"-\n", -EBADMSG, 0},
        {"-", -EBADMSG, 0},
        {"5", -EBADMSG, 0}, /* may be cut */
        {"--5\n", -EBADMSG, 0},
        {"+5\n", -EBADMSG, 0},
        {" 5\n", -EBADMSG, 0},
        {"5 \n", -EBADMSG, 0},
        {"5\n\n", -EBADMSG, 0},
        {"5\n6\n", -EBADMSG, 0},
        {"0x5\n", -EBADMSG, 0},
        {"5.0\n", -EBADMSG, 0},
        {"five\n", -EBADMSG, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 77;
        CHECK_EQ(sense_text_signed(cases[i].text, strlen(cases[i].text), &v, NULL), cases[i].code);
        CHECK_EQ(v, cases[i].code == 0 ? cases[i].value : 77);
    }
    int64_t v = 77;
    CHECK_EQ(sense_text_signed("5\0\n", 3, &v, NULL), -EBADMSG);
    CHECK_EQ(v, 77);
}

static void a_long_path_is_refused(void) {
    char path[SENSE_MAX_PATH];
    char *root = calloc(1, 5000);
    REQUIRE(root);
    memset(root, 'a', 4999);
    CHECK_EQ(sense_text_path(path, NULL, root, "/x"), -ENAMETOOLONG);
    root[SENSE_MAX_PATH - 3] = '\0';
    CHECK_EQ(sense_text_path(path, NULL, root, "/x"), 0);
    CHECK_EQU(strlen(path), SENSE_MAX_PATH - 1);
    CHECK_EQ(sense_text_path(path, NULL, root, "/xy"), -ENAMETOOLONG);
    CHECK_EQ(sense_text_path(path, NULL, "/", "/x"), 0);
    CHECK_STR(path, "/x");
    free(root);
}

/* ---- vmstat ---- */

#define VMSTAT                                                                                     \
    "nr_free_pages 1\nworkingset_refault_anon 3\nworkingset_refault_file 117027\npswpin 8\n"       \
    "pswpout 9\nallocstall_dma 1\nallocstall_normal 20\nallocstall_movable 300\npgmajfault 1005\n"

static void vmstat_is_read(void) {
    struct sense_vmstat v;
    struct err e = {0};
    REQUIRE_OK(sense_vmstat_parse(VMSTAT, strlen(VMSTAT), &v, &e), &e);
    CHECK_EQU(v.refaults, 117027);
    CHECK_EQU(v.major_faults, 1005);
    CHECK_EQU(v.alloc_stalls, 321);
    CHECK_EQU(v.swap_outs, 9);
    /* Older names, and no swap. */
    static const char old[] = "workingset_refault 4\nallocstall 5\npgmajfault 6\n";
    REQUIRE_OK(sense_vmstat_parse(old, strlen(old), &v, &e), &e);
    CHECK_EQU(v.refaults, 4);
    CHECK_EQU(v.major_faults, 6);
    CHECK_EQU(v.alloc_stalls, 5);
    CHECK_EQU(v.swap_outs, 0);
    CHECK_EQ(e.code, 0);
}

static void bad_vmstat_is_unknown(void) {
    static const struct bad cases[] = {
        {"", -ENODATA, "there is no line workingset_refault_file"},
        {"allocstall 5\npgmajfault 6\n", -ENODATA, "there is no line workingset_refault_file"},
        {"workingset_refault 4\npgmajfault 6\n", -ENODATA, "there is no line allocstall"},
        {"workingset_refault 4\nallocstall 5\n", -ENODATA, "there is no line pgmajfault"},
        {"workingset_refault 4\nallocstall 5\npgmajfault 6", -EBADMSG,
         "the line pgmajfault is cut"},
        {"workingset_refault_file -4\nallocstall 5\npgmajfault 6\n", -EBADMSG,
         "workingset_refault_file: what should be a number is not"},
        {"workingset_refault_file 4\nallocstall_dma\npgmajfault 6\n", -EBADMSG,
         "allocstall: there is no number"},
        {"workingset_refault 4\nallocstall_dma " BIG "\nallocstall_x 1\npgmajfault 6\n", -EBADMSG,
         "allocstall: the sum does not fit 64 bits"},
        {"workingset_refault 4\nallocstall 1\npgmajfault 6\npswpout x\n", -EBADMSG,
         "pswpout: what should be a number is not"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sense_vmstat v = {.refaults = 1234};
        struct err e = {0};
        CHECK_EQ(sense_vmstat_parse(cases[i].text, strlen(cases[i].text), &v, &e), cases[i].code);
        CHECK_STR(e.msg, cases[i].message);
        CHECK_EQU(v.refaults, 1234);
    }
    for (size_t n = 0; n < strlen(VMSTAT); n++) {
        struct sense_vmstat v;
        CHECK(sense_vmstat_parse(VMSTAT, n, &v, NULL) < 0);
    }
}

#define STAT_TAIL " 0 0 0 20 0 1 0 58732 3133440 411\n"

static void own_faults_are_read(void) {
    static const char *const good[] = {
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0 42 0" STAT_TAIL,
        "6856 (a (b) \n 12 ) R 1 2 3 0 -1 4194304 100 0 42 0" STAT_TAIL,
        "6856 () R 1 2 3 0 -1 4194304 100 0 42 0" STAT_TAIL,
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t v = 77;
        struct err e = {0};
        REQUIRE_OK(sense_vmstat_parse_self(good[i], strlen(good[i]), &v, &e), &e);
        CHECK_EQU(v, 42);
    }
    static const char *const bad[] = {
        "",
        "\n",
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0 42 0 0", /* cut */
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0\n",
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0 42\n", /* the last one: nothing may follow */
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0 -42 0" STAT_TAIL,
        "6856 (cat) R 1 2 3 0 -1 4194304 100 0  42 0" STAT_TAIL,
        "6856 (cat)\n",
        "6856 (cat)R 1 2 3 0 -1 4194304 100 0 42 0" STAT_TAIL,
        "6856 cat R 1 2 3 0 -1 4194304 100 0 42 0" STAT_TAIL,
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t v = 77;
        CHECK_EQ(sense_vmstat_parse_self(bad[i], strlen(bad[i]), &v, NULL), -EBADMSG);
        CHECK_EQU(v, 77);
    }
}

/* ---- cgroups ---- */

static void cgroup_paths_are_checked(void) {
    static const struct {
        const char *text;
        int code;
        const char *path;
    } cases[] = {
        {"0::/\n", 0, "/"},
        {"0::/system.slice/ebbd.service\n", 0, "/system.slice/ebbd.service"},
        {"9:name=systemd:/x\n0::/a b/..c/d..\n", 0, "/a b/..c/d.."},
        {"0::/a/\n", 0, "/a"},
        {"0:://\n", 0, "/"},
        {"", -ENODATA, ""},
        {"4:memory:/x\n", -ENODATA, ""},
        {"0::/a", -EBADMSG, ""},
        {"0::\n", -EBADMSG, ""},
        {"0::a\n", -EBADMSG, ""},
        {"0::/..\n", 0, "/"}, /* outside of what can be seen */
        {"0::/../../x/y\n", 0, "/"},
        {"0::/../x/../y\n", -EBADMSG, ""},
        {"0::/..x\n", 0, "/..x"},
        {"0::/../\033\n", -EBADMSG, ""},
        {"0::/a/../b\n", -EBADMSG, ""},
        {"0::/a/..\n", -EBADMSG, ""},
        {"0::/a\tb\n", -EBADMSG, ""},
        {"0::/a\177\n", -EBADMSG, ""},
        {"0::/a\033[2J\n", -EBADMSG, ""},
    };
    char path[SENSE_CGROUP_MAX_PATH];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        strcpy(path, "-");
        bool is_outside = false;
        CHECK_EQ(
            sense_cgroup_parse_path(cases[i].text, strlen(cases[i].text), path, &is_outside, NULL),
            cases[i].code);
        CHECK_STR(path, cases[i].code == 0 ? cases[i].path : "-");
        CHECK_EQ(is_outside, cases[i].code == 0 && strncmp(cases[i].text, "0::/..", 6) == 0 &&
                                 cases[i].text[6] != 'x');
    }
    bool is_outside;
    strcpy(path, "-");
    CHECK_EQ(sense_cgroup_parse_path("0::/a\0b\n", 8, path, &is_outside, NULL), -EBADMSG);
    char text[SENSE_CGROUP_MAX_PATH + 10] = "0::/";
    memset(text + 4, 'a', sizeof(text) - 4);
    text[3 + SENSE_CGROUP_MAX_PATH] = '\n';
    CHECK_EQ(sense_cgroup_parse_path(text, 4 + SENSE_CGROUP_MAX_PATH, path, &is_outside, NULL),
             -EBADMSG);
    CHECK_STR(path, "-");
    text[2 + SENSE_CGROUP_MAX_PATH] = '\n';
    CHECK_EQ(sense_cgroup_parse_path(text, 3 + SENSE_CGROUP_MAX_PATH, path, &is_outside, NULL), 0);
    CHECK_EQU(strlen(path), SENSE_CGROUP_MAX_PATH - 1);
}

static void cgroup_files_are_parsed(void) {
    uint64_t v = 77;
    CHECK_EQ(sense_cgroup_parse_limit("max\n", 4, &v, NULL), 0);
    CHECK_EQU(v, UINT64_MAX);
    CHECK_EQ(sense_cgroup_parse_limit("1048576\n", 8, &v, NULL), 0);
    CHECK_EQU(v, 1048576);
    CHECK_EQ(sense_cgroup_parse_limit("max", 3, &v, NULL), -EBADMSG);
    CHECK_EQ(sense_cgroup_parse_limit("maximum\n", 8, &v, NULL), -EBADMSG);
    CHECK_EQ(sense_cgroup_parse_limit("-1\n", 3, &v, NULL), -EBADMSG);
    CHECK_EQU(v, 1048576);

    struct sense_cgroup_events ev = {0};
    struct err e = {0};
    static const char events[] = "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n";
    REQUIRE_OK(sense_cgroup_parse_events(events, strlen(events), &ev, &e), &e);
    CHECK(ev.high == 2 && ev.max == 3 && ev.oom == 4 && ev.oom_kill == 5);
    CHECK_EQ(sense_cgroup_parse_events("high 1\nmax 1\noom 1\n", 19, &ev, &e), -ENODATA);
    CHECK_STR(e.msg, "there is no line oom_kill");
    CHECK_EQU(ev.high, 2);

    struct sense_cgroup_stat st = {0};
    static const char stat[] =
        "active_file 2\ninactive_file 1\nworkingset_refault 3\npgmajfault 4\n";
    REQUIRE_OK(sense_cgroup_parse_stat(stat, strlen(stat), &st, &e), &e);
    CHECK(st.inactive_file == 1 && st.active_file == 2 && st.refaults == 3 && st.major_faults == 4);
    CHECK_EQ(sense_cgroup_parse_stat(stat, strlen(stat) - 1, &st, &e), -EBADMSG);
}

/* ---- the cgroups that we lie in ---- */

static struct sense_tree tree; /* large */

static int read_tree(struct sense_tree_reading *ret, struct err *e) {
    int r = sense_tree_look(&tree, &when, e);
    return r < 0 ? r : sense_tree_read(&tree, &when, ret, e);
}

static uint64_t left_of(const char *root, int expected) {
    struct sense_tree_reading c = {.least = {.left_bytes = 77}};
    struct err e = {0};
    sense_tree_init(&tree, root);
    int r = read_tree(&c, &e);
    sense_tree_fini(&tree);
    CHECK_EQ(r, expected);
    CHECK_EQ(e.code, expected);
    return c.least.left_bytes;
}

static void what_is_over_a_limit_is_known(void) {
    struct sense_tree_reading c;
    struct err e = {0};
    sense_tree_init(&tree, root_make());
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "5000", "2000", "max", 100, 200);
    root_put_cgroup("/a", "9000", "max", "8900", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(c.least.left_bytes, 0);
    CHECK_EQU(c.least.over_bytes, 2700); /* 5000 - 300 of cache - 2000 */
    CHECK(c.least.is_high && c.level == 0 && c.version == 2 && !c.is_fallback);
    root_put_cgroup("/a/b", "2300", "2000", "max", 100, 200);
    root_put_cgroup("/a", "8000", "max", "8900", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(c.least.over_bytes, 0);
    root_put_cgroup("/a", "8000", "max", "7900", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(!c.least.is_high && c.level == 1 && c.least.over_bytes == 100);
    CHECK(c.least.used_bytes == 8000 && c.least.limit_bytes == 7900);
    sense_tree_fini(&tree);
}

static void the_nearest_limit_counts(void) {
    const char *root = root_make();
    CHECK_EQU(left_of(root, -ENOENT), 77); /* no proc/self/cgroup */
    root_put("proc/self/cgroup", "0::/system.slice/ebbd.service\n");
    CHECK_EQU(left_of(root, -ENODATA), 77); /* no hierarchy */
    root_put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    CHECK_EQU(left_of(root, -ESTALE), 77); /* our folder is not there, nor a limit above it */

    root_put_cgroup("/system.slice/ebbd.service", "1000", "max", "max", 100, 200);
    CHECK_EQU(left_of(root, 0), UINT64_MAX); /* no limit, and that is known */
    root_put_cgroup("/system.slice/ebbd.service", "1000", "2000", "max", 100, 200);
    CHECK_EQU(left_of(root, 0), 2000 - 700);
    root_put_cgroup("/system.slice/ebbd.service", "1000", "2000", "1500", 100, 200);
    CHECK_EQU(left_of(root, 0), 1500 - 700);
    root_put_cgroup("/system.slice", "5000", "max", "5100", 0, 300);
    CHECK_EQU(left_of(root, 0), 5100 - 4700); /* the one above is nearer */
    root_put_cgroup("/system.slice", "5000", "4000", "max", 0, 300);
    CHECK_EQU(left_of(root, 0), 0); /* over it */
    root_put_cgroup("/system.slice", "100", "4000", "max", 80, 300);
    root_put_cgroup("/system.slice/ebbd.service", "1000", "max", "max", 0, 0);
    CHECK_EQU(left_of(root, 0), 4000); /* more cache than there was a moment ago */
}

static void bad_cgroup_files_are_unknown(void) {
    const char *root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "1000", "2000", "max", 100, 200);
    CHECK_EQU(left_of(root, 0), 1300);
    root_put("sys/fs/cgroup/a/b/memory.max", "lots\n");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put("sys/fs/cgroup/a/b/memory.max", "max\n");
    root_put_cgroup("/a", "1000", "2000", "max", 100, 200);
    root_put("sys/fs/cgroup/a/memory.current", "");
    CHECK_EQU(left_of(root, -EBADMSG), 77); /* a limit above with unknown use is not "none" */
    root_remove("sys/fs/cgroup/a/memory.current");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put("sys/fs/cgroup/a/memory.current", "1900\n");
    CHECK_EQU(left_of(root, 0), 400);
    root_put("sys/fs/cgroup/a/memory.stat", "inactive_file 1\n");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put("sys/fs/cgroup/a/memory.stat",
             "inactive_file " BIG "\nactive_file 1\nworkingset_refault 0\npgmajfault 0\n");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put_fifo("sys/fs/cgroup/a/memory.high");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
}

/* Levels without accounting are passed over; without any, or on a hybrid system, it is unknown. */
static void accounting_may_be_off(void) {
    const char *root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "cpuset memory pids\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put("sys/fs/cgroup/a/b/cgroup.procs", "1\n");
    CHECK_EQU(left_of(root, 0), UINT64_MAX);
    root_put_cgroup("/a", "1000", "max", "1500", 0, 0);
    CHECK_EQU(left_of(root, 0), 500);
    root_put("proc/self/cgroup", "0::/\n");
    CHECK_EQU(left_of(root, 0), UINT64_MAX); /* the root has no limits */
    root_put_cgroup("", "1000", "1100", "max", 0, 0);
    CHECK_EQU(left_of(root, 0), 100); /* in a namespace it may */

    root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "cpuset mymemory memory2 pids\n");
    root_put("proc/self/cgroup", "0::/\n");
    CHECK_EQU(left_of(root, -ENODATA), 77);

    root = root_make();
    root_put("sys/fs/cgroup/unified/cgroup.controllers", "\n");
    root_put("proc/self/cgroup", "4:memory:/x\n0::/x\n");
    root_put("sys/fs/cgroup/unified/x/memory.pressure", SOME "3\n" FULL "4\n");
    CHECK_EQU(left_of(root, -ENODATA), 77);
    struct sense_psi p;
    struct err e = {0};
    sense_tree_init(&tree, root);
    REQUIRE_OK(sense_tree_look(&tree, &when, &e), &e);
    CHECK(tree.at.has_v2 && tree.at.v2.is_hybrid);
    REQUIRE_OK(sense_tree_read_pressure(&tree, &when, &p, &e), &e);
    CHECK(p.some_us == 3 && p.full_us == 4);
    sense_tree_fini(&tree);
}

static void events_of_the_nearest_level_count(void) {
    struct sense_tree_reading c;
    struct err e = {0};
    sense_tree_init(&tree, root_make());
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "1", "max", "max", 0, 0);
    root_put_cgroup("/a", "1", "max", "max", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(!c.has_events);
    root_put("sys/fs/cgroup/a/memory.events", "high 5\nmax 0\noom 0\noom_kill 0\n");
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(c.has_events && c.events.high == 5);
    root_put("sys/fs/cgroup/a/b/memory.events", "high 3\nmax 0\noom 0\noom_kill 1\n");
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(c.has_events && c.events.high == 3 && c.events.oom_kill == 1);
    root_put("sys/fs/cgroup/a/b/memory.events", "high\n");
    CHECK_EQ(read_tree(&c, &e), -EBADMSG);
    CHECK_STR(e.msg, "cgroup /a/b/: memory.events: high: there is no number");
    sense_tree_fini(&tree);
}

/* A container whose namespace is not that of its mount: what is nearest above counts. */
static void a_path_that_is_not_below_the_mount(void) {
    struct sense_tree_reading c;
    struct err e = {0};
    const char *root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    root_put("proc/self/cgroup", "0::/docker/x\n");
    CHECK_EQU(left_of(root, -ESTALE), 77); /* nowhere a limit to be seen: not "none" */
    root_put_cgroup("", "24117248", "max", "25165824", 0, 0);
    CHECK_EQU(left_of(root, 0), 25165824 - 24117248);
    root_put_cgroup("/docker", "100", "max", "400", 0, 0);
    CHECK_EQU(left_of(root, 0), 300);
    root_put("proc/self/cgroup", "0::/../../x\n");
    CHECK_EQU(left_of(root, 0), 25165824 - 24117248);

    /* Once ours is there it is taken, at the next look. */
    root_put("proc/self/cgroup", "0::/docker/x\n");
    sense_tree_init(&tree, root);
    REQUIRE_OK(read_tree(&c, &e), &e);
    uint32_t generation = tree.generation;
    CHECK(c.is_fallback && c.level == 0 && c.least.left_bytes == 300);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(tree.generation, generation);
    root_put_cgroup("/docker/x", "100", "200", "max", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(!c.is_fallback && c.least.left_bytes == 100);
    CHECK_EQU(tree.generation, generation + 1);
    sense_tree_fini(&tree);
}

/* Where a part of the hierarchy is mounted, or more of it than our namespace. */
static void the_top_of_the_mount_counts(void) {
    static const struct {
        const char *self, *top, *path;
        bool is_outside;
    } cases[] = {
        {"0::/docker/x\n", "/docker/x", "/", false},
        {"0::/docker/x/sub/a\n", "/docker/x", "/sub/a", false},
        {"0::/docker/xy\n", "/docker/x", "/", true},
        {"0::/docker\n", "/docker/x", "/", true},
        {"0::/\n", "/../..", "/", true}, /* the host's mount: where we are in it is not known */
        {"0::/sub\n", "/..", "/", true},
        {"0::/../x\n", "/..", "/x", false},
        {"0::/../../x\n", "/..", "/", true},
        {"0::/..\n", "/..", "/", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char path[SENSE_CGROUP_MAX_PATH] = "-";
        bool is_outside = !cases[i].is_outside;
        CHECK_EQ(sense_cgroup_parse_below(2, cases[i].self, strlen(cases[i].self), cases[i].top,
                                          path, &is_outside, NULL),
                 0);
        CHECK_STR(path, cases[i].path);
        CHECK_EQ(is_outside, cases[i].is_outside);
    }

#define MOUNT(top, point, type) "31 25 0:27 " top " " point " rw,nosuid shared:4 - " type " x rw\n"
    static const char text[] = MOUNT("/", "/", "ext4") MOUNT("/a", "/sys/fs/cgroup", "tmpfs")
        MOUNT("/b", "/sys/fs/cgroup/memory", "cgroup") "31 25 0:27 /c /sys/fs/cgroup\n" MOUNT(
            "/d", "/sys/fs/cgroup", "cgroup2") MOUNT("/..", "/sys/fs/cgroup", "cgroup2");
    char top[SENSE_CGROUP_MAX_PATH] = "-";
    struct err e = {0};
    REQUIRE_OK(sense_cgroup_parse_top(text, strlen(text), "/sys/fs/cgroup", top, &e), &e);
    CHECK_STR(top, "/.."); /* the last one covers the others */
    REQUIRE_OK(sense_cgroup_parse_top(text, strlen(text) - 1, "/sys/fs/cgroup", top, &e), &e);
    CHECK_STR(top, "/d"); /* a line that is cut says nothing */
    REQUIRE_OK(sense_cgroup_parse_top(text, strlen(text), "/sys/fs/cgroup/memory", top, &e), &e);
    CHECK_STR(top, "/b");
    CHECK_EQ(sense_cgroup_parse_top(text, strlen(text), "/sys", top, NULL), -ENODATA);
    CHECK_EQ(sense_cgroup_parse_top("", 0, "/sys", top, NULL), -ENODATA);
    static const char bad[] = MOUNT("x", "/sys", "cgroup2");
    CHECK_EQ(sense_cgroup_parse_top(bad, strlen(bad), "/sys", top, NULL), -EBADMSG);
    CHECK_STR(top, "/b");

    const char *root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/docker/x/sub\n");
    root_put("proc/self/mountinfo", MOUNT("/docker/x", "/sys/fs/cgroup", "cgroup2"));
    root_put_cgroup("", "100", "max", "400", 0, 0);
    root_put_cgroup("/sub", "100", "110", "max", 0, 0);
    CHECK_EQU(left_of(root, 0), 10);
    root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/\n");
    CHECK_EQU(left_of(root, 0), UINT64_MAX);
    root_put("proc/self/mountinfo", MOUNT("/../..", "/sys/fs/cgroup", "cgroup2"));
    CHECK_EQU(left_of(root, -ESTALE), 77); /* the host's top has no limits; ours may */
}

static void version_1_is_read(void) {
    static const char *const selves[] = {
        "11:memory:/docker/x\n1:name=systemd:/docker/x\n",
        "12:pids:/q\n4:cpuset,memory:/docker/x\n1:name=memory:/y\n",
        "4:memory:/docker/x\n0::/docker/x\n",
    };
    char rel[100];
    static const char *const folders[] = {"", "/docker", "/docker/x"};
    for (size_t i = 0; i < ARRAY_LEN(selves); i++) {
        const char *root = root_make();
        root_put("proc/self/cgroup", selves[i]);
        CHECK_EQU(left_of(root, -ENODATA), 77);
        for (size_t k = 0; k < ARRAY_LEN(folders); k++) {
            snprintf(rel, sizeof(rel), "sys/fs/cgroup/memory%s/memory.limit_in_bytes", folders[k]);
            root_put(rel, "9223372036854771712\n");
            snprintf(rel, sizeof(rel), "sys/fs/cgroup/memory%s/memory.usage_in_bytes", folders[k]);
            root_put(rel, "20971520\n");
        }
        CHECK_EQU(left_of(root, 0), UINT64_MAX);
        root_put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854710272\n");
        CHECK_EQU(left_of(root, 0), UINT64_MAX); /* none, with pages of 64 KiB */
        root_put("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "25165824\n");
        CHECK_EQU(left_of(root, 0), 4194304);
        root_put("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "20000000\n");
        CHECK_EQU(left_of(root, 0), 0);
        root_put("sys/fs/cgroup/memory/docker/memory.stat",
                 "cache 9\ninactive_file 1\nactive_file 2\n");
        CHECK_EQU(left_of(root, 0), 0);
        root_put("sys/fs/cgroup/memory/docker/memory.stat",
                 "inactive_file 1\nactive_file 2\ntotal_inactive_file 971520\n"
                 "total_active_file 500000\n");
        CHECK_EQU(left_of(root, 0), 500000);
        root_put("sys/fs/cgroup/memory/docker/memory.stat", "total_inactive_file x\n");
        CHECK_EQU(left_of(root, -EBADMSG), 77);
        root_put("sys/fs/cgroup/memory/docker/memory.stat", "cache 1\n");
        CHECK_EQU(left_of(root, -EBADMSG), 77);
    }
    /* Not below the mount, as in a container without a namespace of its own. */
    const char *root = root_make();
    root_put("proc/self/cgroup", "11:memory:/docker/x\n");
    root_put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
    root_put("sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n");
    CHECK_EQU(left_of(root, 0), 600);
    root_remove("sys/fs/cgroup/memory/memory.usage_in_bytes");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK_EQU(left_of(root, -ESTALE), 77); /* none, but whose? */
}

static void paths_of_version_1_are_checked(void) {
    static const struct {
        const char *text;
        int code;
        const char *path;
    } cases[] = {
        {"4:memory:/x\n", 0, "/x"},
        {"5:cpu,cpuacct:/y\n4:memory,hugetlb:/x/\n", 0, "/x"},
        {"4:memory:/../x\n", 0, "/"},
        {"1:name=memory:/x\n", -ENODATA, "-"},
        {"1:name=systemd,memory2:/x\n0::/y\n", -ENODATA, "-"},
        {"", -ENODATA, "-"},
        {"no colon\n4:memory:/a:b\n", 0, "/a:b"},
        {"4:memory\n", -ENODATA, "-"},
        {"4:memory:\n", -EBADMSG, "-"},
        {"4:memory:x\n", -EBADMSG, "-"},
        {"4:memory:/x/../y\n", -EBADMSG, "-"},
        {"4:memory:/x", -EBADMSG, "-"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char path[SENSE_CGROUP_MAX_PATH] = "-";
        bool is_outside;
        CHECK_EQ(sense_cgroup_parse_below(1, cases[i].text, strlen(cases[i].text), "/", path,
                                          &is_outside, NULL),
                 cases[i].code);
        CHECK_STR(path, cases[i].path);
    }
}

/* A limit above a cgroup whose parent hands no memory controller down. */
static void levels_without_a_controller_are_passed_over(void) {
    const char *root = root_make();
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b/c\n");
    root_put("sys/fs/cgroup/a/b/c/cgroup.procs", "1\n");
    root_put_cgroup("/a", "100", "max", "400", 0, 0);
    CHECK_EQU(left_of(root, 0), 300);
}

/* Files of a level that go while we read: unknown once, then what is there by then. */
static void a_cgroup_that_changes_is_looked_at_anew(void) {
    static const char *const names[] = {"high", "max", "current", "stat"};
    struct sense_tree_reading c;
    struct err e = {0};
    char rel[100];
    sense_tree_init(&tree, root_make());
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "100", "150", "max", 0, 0);
    root_put_cgroup("/a", "100", "max", "400", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(c.least.left_bytes, 50);
    uint32_t generation = tree.generation;
    /* The parent takes the controller back. */
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(rel, sizeof(rel), "sys/fs/cgroup/a/b/memory.%s", names[i]);
        root_remove(rel);
    }
    CHECK_EQ(read_tree(&c, &e), -ESTALE);
    CHECK_STR(e.msg, "cgroup /a/b/: its files are not there any more");
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(c.least.left_bytes == 300 && c.level == 1);
    CHECK_EQU(tree.generation, generation + 1);
    /* The cgroup itself is removed. */
    root_remove("sys/fs/cgroup/a/b");
    root_put_cgroup("/a/b", "100", "120", "max", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(c.least.left_bytes, 20);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(rel, sizeof(rel), "sys/fs/cgroup/a/b/memory.%s", names[i]);
        root_remove(rel);
    }
    root_remove("sys/fs/cgroup/a/b");
    CHECK_EQ(read_tree(&c, &e), -ESTALE);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(c.is_fallback && c.least.left_bytes == 300);
    /* We are moved. */
    root_put_cgroup("/d", "100", "110", "max", 0, 0);
    root_put("proc/self/cgroup", "0::/d\n");
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK(!c.is_fallback && c.least.left_bytes == 10);
    sense_tree_fini(&tree);
}

/* From the first reading on all is open: a limit that comes later opens nothing. */
static void above_a_limit_nothing_is_opened(void) {
    struct sense_when quiet = {.now_us = 2, .may_open = false};
    struct sense_tree_reading c;
    struct err e = {0};
    sense_tree_init(&tree, root_make());
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "100", "max", "max", 0, 0);
    root_put_cgroup("/a", "100", "max", "max", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 4; k++) CHECK(sense_file_is_open(&tree.levels[i].files[k]));
    root_put("sys/fs/cgroup/a/b/memory.high", "60\n");
    REQUIRE_OK(sense_tree_look(&tree, &quiet, &e), &e);
    REQUIRE_OK(sense_tree_read(&tree, &quiet, &c, &e), &e);
    CHECK_EQU(c.least.over_bytes, 40);
    root_put("proc/self/cgroup", "0::/a\n");
    CHECK_EQ(sense_tree_look(&tree, &quiet, &e), -EAGAIN);
    root_put("proc/self/cgroup", "0::/a/b\n");
    REQUIRE_OK(sense_tree_look(&tree, &quiet, &e), &e);
    sense_tree_fini(&tree);
}

static void a_deep_place_is_cut(void) {
    char self[200] = "0::", path[200] = "";
    struct sense_tree_reading c;
    struct err e = {0};
    sense_tree_init(&tree, root_make());
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    for (unsigned i = 0; i < SENSE_MAX_LEVELS + 4; i++) strcat(path, "/a");
    strcat(strcat(self, path), "\n");
    root_put("proc/self/cgroup", self);
    root_put_cgroup(path, "100", "150", "max", 0, 0);
    REQUIRE_OK(read_tree(&c, &e), &e);
    CHECK_EQU(tree.n_levels, SENSE_MAX_LEVELS);
    CHECK_EQU(c.least.left_bytes, 50);
    sense_tree_fini(&tree);
}

/* As the guard counts, from texts alone. */
static void texts_are_counted(void) {
    static const char stat[] =
        "active_file 2\ninactive_file 1\nworkingset_refault 3\npgmajfault 4\n";
    struct sense_cgroup_texts t = {.version = 2,
                                   .high = {"20\n", 3},
                                   .max = {"20\n", 3},
                                   .current = {"30\n", 3},
                                   .stat = {stat, sizeof(stat) - 1}};
    struct sense_cgroup_count c = {.used_bytes = 77};
    REQUIRE(sense_cgroup_count(&t, &c, NULL) == 0);
    CHECK(c.limit_bytes == 20 && c.used_bytes == 27 && c.over_bytes == 7 && c.left_bytes == 0);
    CHECK(c.is_high);
    t.high = t.max = (struct sense_cgroup_text){"max\n", 4};
    REQUIRE(sense_cgroup_count(&t, &c, NULL) == 0);
    CHECK(c.limit_bytes == UINT64_MAX && c.used_bytes == 27 && c.over_bytes == 0);
    CHECK(c.left_bytes == UINT64_MAX && !c.is_high);
    t.current = t.stat = (struct sense_cgroup_text){0};
    REQUIRE(sense_cgroup_count(&t, &c, NULL) == 0);
    CHECK(c.used_bytes == 0);
    t.max = (struct sense_cgroup_text){"9\n", 2};
    CHECK_EQ(sense_cgroup_count(&t, &c, NULL), -ENODATA);
    t.high = (struct sense_cgroup_text){0};
    struct err e = {0};
    CHECK_EQ(sense_cgroup_count(&t, &c, &e), -ENODATA);
    CHECK_STR(e.msg, "memory.high: there is no such file");
    CHECK(c.used_bytes == 0);
}

static const struct t_case cases[] = {
    {"good_pressure_is_read", good_pressure_is_read},
    {"bad_pressure_is_unknown", bad_pressure_is_unknown},
    {"odd_files_are_errors", odd_files_are_errors},
    {"numbers_are_exact", numbers_are_exact},
    {"a_long_path_is_refused", a_long_path_is_refused},
    {"vmstat_is_read", vmstat_is_read},
    {"bad_vmstat_is_unknown", bad_vmstat_is_unknown},
    {"own_faults_are_read", own_faults_are_read},
    {"cgroup_paths_are_checked", cgroup_paths_are_checked},
    {"cgroup_files_are_parsed", cgroup_files_are_parsed},
    {"what_is_over_a_limit_is_known", what_is_over_a_limit_is_known},
    {"the_nearest_limit_counts", the_nearest_limit_counts},
    {"bad_cgroup_files_are_unknown", bad_cgroup_files_are_unknown},
    {"accounting_may_be_off", accounting_may_be_off},
    {"events_of_the_nearest_level_count", events_of_the_nearest_level_count},
    {"a_path_that_is_not_below_the_mount", a_path_that_is_not_below_the_mount},
    {"the_top_of_the_mount_counts", the_top_of_the_mount_counts},
    {"version_1_is_read", version_1_is_read},
    {"paths_of_version_1_are_checked", paths_of_version_1_are_checked},
    {"levels_without_a_controller_are_passed_over", levels_without_a_controller_are_passed_over},
    {"a_cgroup_that_changes_is_looked_at_anew", a_cgroup_that_changes_is_looked_at_anew},
    {"above_a_limit_nothing_is_opened", above_a_limit_nothing_is_opened},
    {"a_deep_place_is_cut", a_deep_place_is_cut},
    {"texts_are_counted", texts_are_counted},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
