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
#include "daemon/sense_psi.h"
#include "daemon/sense_text.h"
#include "daemon/sense_vmstat.h"
#include "tests/t.h"
#include "tests/unit/root.h"

#define SOME "some avg10=0.00 avg60=1.25 avg300=0.31 total="
#define FULL "full avg10=0.00 avg60=0.00 avg300=0.00 total="
#define BIG  "18446744073709551615"

/* ---- pressure ---- */

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
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -ENOENT);
    root_put_fifo(rel);
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -ENOTSUP);
    CHECK(strstr(e.msg, "memory is not a regular file"));
    root_put_folder(rel);
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -EISDIR);
    root_put(rel, "");
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -ENODATA);
    root_put_n(rel, SOME "1\n\0" FULL "2\n", strlen(SOME FULL) + 5);
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -ENODATA);
    root_put_n(rel,
               SOME "1\0"
                    "1\n" FULL "2\n",
               strlen(SOME FULL) + 6);
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -EBADMSG);
    char *large = malloc(1 << 20);
    REQUIRE(large);
    memset(large, '7', 1 << 20);
    memcpy(large, "some total=", 11);
    root_put_n(rel, large, 1 << 20);
    free(large);
    CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -EBADMSG);
    CHECK(p.some_us == 11 && p.full_us == 12);
    root_put(rel, SOME "3\n" FULL "4\n");
    REQUIRE_OK(sense_psi_read(root_path(rel), &p, &e), &e);
    CHECK(p.some_us == 3 && p.full_us == 4);
    if (geteuid() != 0) {
        REQUIRE(chmod(root_path(rel), 0) == 0);
        CHECK_EQ(sense_psi_read(root_path(rel), &p, &e), -EACCES);
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
        {"0::/..\n", -EBADMSG, ""},
        {"0::/../x\n", -EBADMSG, ""},
        {"0::/a/../b\n", -EBADMSG, ""},
        {"0::/a/..\n", -EBADMSG, ""},
        {"0::/a\tb\n", -EBADMSG, ""},
        {"0::/a\177\n", -EBADMSG, ""},
        {"0::/a\033[2J\n", -EBADMSG, ""},
    };
    char path[SENSE_CGROUP_MAX_PATH];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        strcpy(path, "-");
        CHECK_EQ(sense_cgroup_parse_path(cases[i].text, strlen(cases[i].text), path, NULL),
                 cases[i].code);
        CHECK_STR(path, cases[i].code == 0 ? cases[i].path : "-");
    }
    strcpy(path, "-");
    CHECK_EQ(sense_cgroup_parse_path("0::/a\0b\n", 8, path, NULL), -EBADMSG);
    char text[SENSE_CGROUP_MAX_PATH + 10] = "0::/";
    memset(text + 4, 'a', sizeof(text) - 4);
    text[3 + SENSE_CGROUP_MAX_PATH] = '\n';
    CHECK_EQ(sense_cgroup_parse_path(text, 4 + SENSE_CGROUP_MAX_PATH, path, NULL), -EBADMSG);
    CHECK_STR(path, "-");
    text[2 + SENSE_CGROUP_MAX_PATH] = '\n';
    CHECK_EQ(sense_cgroup_parse_path(text, 3 + SENSE_CGROUP_MAX_PATH, path, NULL), 0);
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

static uint64_t left_of(const char *root, int expected) {
    struct sense_cgroup_place at = {0};
    struct sense_cgroup c = {.left_bytes = 77};
    struct err e = {0};
    int r = sense_cgroup_find(root, &at, &e);
    if (r == 0) r = sense_cgroup_read(root, &at, &c, &e);
    CHECK_EQ(r, expected);
    CHECK_EQ(e.code, expected);
    return c.left_bytes;
}

static void what_is_over_a_limit_is_told(void) {
    const char *root = root_make();
    struct sense_cgroup_place at = {0};
    struct sense_cgroup c;
    struct err e = {0};
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put("proc/self/cgroup", "0::/a/b\n");
    root_put_cgroup("/a/b", "5000", "2000", "max", 100, 200);
    root_put_cgroup("/a", "9000", "max", "8900", 0, 0);
    REQUIRE_OK(sense_cgroup_find(root, &at, &e), &e);
    REQUIRE_OK(sense_cgroup_read(root, &at, &c, &e), &e);
    CHECK_EQU(c.left_bytes, 0);
    CHECK_EQU(c.over_bytes, 2700); /* 5000 - 300 of cache - 2000 */
    root_put_cgroup("/a/b", "2300", "2000", "max", 100, 200);
    root_put_cgroup("/a", "8000", "max", "8900", 0, 0);
    REQUIRE_OK(sense_cgroup_read(root, &at, &c, &e), &e);
    CHECK_EQU(c.over_bytes, 0);
}

static void the_nearest_limit_counts(void) {
    const char *root = root_make();
    CHECK_EQU(left_of(root, -ENODATA), 77); /* no hierarchy */
    root_put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    CHECK_EQU(left_of(root, -ENOENT), 77); /* no proc/self/cgroup */
    root_put("proc/self/cgroup", "0::/system.slice/ebbd.service\n");
    CHECK_EQU(left_of(root, -ESTALE), 77); /* our folder is not there */

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
    CHECK_EQU(left_of(root, -ENOENT), 77);
    root_put("sys/fs/cgroup/a/memory.current", "1900\n");
    CHECK_EQU(left_of(root, 0), 400);
    root_put("sys/fs/cgroup/a/memory.stat", "inactive_file 1\n");
    CHECK_EQU(left_of(root, -ENODATA), 77);
    root_put("sys/fs/cgroup/a/memory.stat",
             "inactive_file " BIG "\nactive_file 1\nworkingset_refault 0\npgmajfault 0\n");
    CHECK_EQU(left_of(root, -EBADMSG), 77);
    root_put_fifo("sys/fs/cgroup/a/memory.high");
    CHECK_EQU(left_of(root, -ENOTSUP), 77);
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
    struct sense_cgroup_place at;
    struct sense_psi p;
    char path[SENSE_MAX_PATH];
    struct err e = {0};
    REQUIRE_OK(sense_cgroup_find(root, &at, &e), &e);
    CHECK(at.is_hybrid);
    REQUIRE_OK(sense_cgroup_file(root, &at, "memory.pressure", path, &e), &e);
    REQUIRE_OK(sense_psi_read(path, &p, &e), &e);
    CHECK(p.some_us == 3 && p.full_us == 4);
}

static void events_of_the_nearest_level_count(void) {
    const char *root = root_make();
    struct sense_cgroup_place at = {.path = "/a/b"};
    struct sense_cgroup c;
    struct err e = {0};
    root_put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    root_put_cgroup("/a/b", "1", "max", "max", 0, 0);
    root_put_cgroup("/a", "1", "max", "max", 0, 0);
    REQUIRE_OK(sense_cgroup_read(root, &at, &c, &e), &e);
    CHECK(!c.has_events);
    root_put("sys/fs/cgroup/a/memory.events", "high 5\nmax 0\noom 0\noom_kill 0\n");
    REQUIRE_OK(sense_cgroup_read(root, &at, &c, &e), &e);
    CHECK(c.has_events && c.events.high == 5);
    root_put("sys/fs/cgroup/a/b/memory.events", "high 3\nmax 0\noom 0\noom_kill 1\n");
    REQUIRE_OK(sense_cgroup_read(root, &at, &c, &e), &e);
    CHECK(c.has_events && c.events.high == 3 && c.events.oom_kill == 1);
    root_put("sys/fs/cgroup/a/b/memory.events", "high\n");
    CHECK_EQ(sense_cgroup_read(root, &at, &c, &e), -EBADMSG);
    CHECK_STR(e.msg, "memory.events of cgroup /a/b/: high: there is no number");
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
    {"what_is_over_a_limit_is_told", what_is_over_a_limit_is_told},
    {"the_nearest_limit_counts", the_nearest_limit_counts},
    {"bad_cgroup_files_are_unknown", bad_cgroup_files_are_unknown},
    {"accounting_may_be_off", accounting_may_be_off},
    {"events_of_the_nearest_level_count", events_of_the_nearest_level_count},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
