/* MemAvailable: what is good is read exactly, what is not is unknown and never zero. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_meminfo.h"
#include "tests/t.h"

#define HEAD "MemTotal:        8131284 kB\nMemFree:          123456 kB\n"
#define TAIL "Buffers:           10000 kB\nCached:           200000 kB\n"

struct good {
    const char *text;
    uint64_t bytes;
};

static const struct good good_files[] = {
    {HEAD "MemAvailable:    4000000 kB\n" TAIL, UINT64_C(4096000000)},
    {"MemAvailable: 1 kB\n", 1024},
    {"MemAvailable:\t1 kB\n", 1024},
    {"MemAvailable:0 kB\n", 0},
    {TAIL "MemAvailable:    4000000 kB\n" HEAD, UINT64_C(4096000000)},
    {"\n\nMemAvailable: 7 kB\nMemAvailable: 9 kB\n", 7168},
    {"MemAvailable: 18014398509481983 kB\n", UINT64_C(18446744073709550592)},
};

struct bad {
    const char *text;
    int code;
    const char *message;
};

static const struct bad bad_files[] = {
    {"", -ENODATA, "there is no line MemAvailable:"},
    {"\n", -ENODATA, "there is no line MemAvailable:"},
    {HEAD TAIL, -ENODATA, "there is no line MemAvailable:"},
    {"xMemAvailable: 1 kB\n", -ENODATA, "there is no line MemAvailable:"},
    {"memavailable: 1 kB\n", -ENODATA, "there is no line MemAvailable:"},
    {"MemAvailable : 1 kB\n", -ENODATA, "there is no line MemAvailable:"},
    {"MemAvailable", -ENODATA, "there is no line MemAvailable:"},
    {"MemAvailable:", -EBADMSG, "MemAvailable: the line is cut"},
    {HEAD "MemAvailable:    40", -EBADMSG, "MemAvailable: the line is cut"},
    {HEAD "MemAvailable:    4000000 kB", -EBADMSG, "MemAvailable: the line is cut"},
    {"MemAvailable:\n", -EBADMSG, "MemAvailable: no number follows"},
    {"MemAvailable:     kB\n", -EBADMSG, "MemAvailable: no number follows"},
    {"MemAvailable: plenty kB\n", -EBADMSG, "MemAvailable: no number follows"},
    {"MemAvailable: -5 kB\n", -EBADMSG, "MemAvailable: no number follows"},
    {"MemAvailable: +5 kB\n", -EBADMSG, "MemAvailable: no number follows"},
    {"MemAvailable: 5\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 5 \n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 5kB\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 5 MB\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 5 kBs\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 0x10 kB\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 1.5 kB\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 1 kB\r\n", -EBADMSG, "MemAvailable: its unit is not kB"},
    {"MemAvailable: 18446744073709551616 kB\n", -EBADMSG,
     "MemAvailable: the number does not fit 64 bits"},
    {"MemAvailable: 18014398509481984 kB\n", -EBADMSG,
     "MemAvailable: the number does not fit 64 bits"},
    {"MemAvailable: 99999999999999999999999999 kB\n", -EBADMSG,
     "MemAvailable: the number does not fit 64 bits"},
};

static void good_text_is_read(void) {
    for (size_t i = 0; i < ARRAY_LEN(good_files); i++) {
        uint64_t v = 1;
        struct err e = {0};
        REQUIRE_OK(sense_meminfo_parse(good_files[i].text, strlen(good_files[i].text), &v, &e), &e);
        CHECK_EQU(v, good_files[i].bytes);
    }
}

static void bad_text_is_unknown(void) {
    for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
        uint64_t v = 12345;
        struct err e = {0};
        const struct bad *b = &bad_files[i];
        CHECK_EQ(sense_meminfo_parse(b->text, strlen(b->text), &v, &e), b->code);
        CHECK_STR(e.msg, b->message);
        CHECK_EQU(v, 12345);
    }
    /* A NUL in the line, and one before it. */
    uint64_t v = 12345;
    CHECK_EQ(sense_meminfo_parse("MemAvailable: 5\0kB\n", 19, &v, NULL), -EBADMSG);
    CHECK_EQ(sense_meminfo_parse("\0MemAvailable: 5 kB\n", 20, &v, NULL), -ENODATA);
    CHECK_EQU(v, 12345);
}

/* Every cut of a good file is the whole value or unknown, never another number. */
static void every_truncation_is_safe(void) {
    static const char text[] = HEAD "MemAvailable:    4000000 kB\n" TAIL;
    size_t whole = strlen(HEAD "MemAvailable:    4000000 kB\n");
    for (size_t n = 0; n < sizeof(text); n++) {
        uint64_t v = 12345;
        int r = sense_meminfo_parse(text, n, &v, NULL);
        CHECK_EQ(r == 0, n >= whole);
        CHECK_EQU(v, r == 0 ? UINT64_C(4096000000) : 12345);
    }
}

/* Random edits: if the answer is a value, an independent reading of the line agrees. */
static void random_text_is_value_or_unknown(void) {
    static const char good[] = HEAD "MemAvailable:    4000000 kB\n" TAIL;
    static const char set[] = "0123456789 kBM:\n-+\t\0x";
    uint64_t rng = t_seed();
    unsigned n_ok = 0;
    for (int round = 0; round < 200000; round++) {
        char text[sizeof(good) + 1] = {0};
        memcpy(text, good, sizeof(good));
        for (unsigned i = 1 + t_rand(&rng) % 3; i > 0; i--)
            text[t_rand(&rng) % (sizeof(good) - 1)] = set[t_rand(&rng) % (sizeof(set) - 1)];
        uint64_t v = 12345;
        int r = sense_meminfo_parse(text, sizeof(good) - 1, &v, NULL);
        if (r < 0) {
            CHECK(r == -EBADMSG || r == -ENODATA);
            CHECK_EQU(v, 12345);
            continue;
        }
        n_ok++;
        bool found = false;
        for (size_t i = 0; i < sizeof(good) - 1 && !found; i++) {
            uint64_t kb;
            if (i > 0 && text[i - 1] != '\n') continue;
            if (sscanf(text + i, "MemAvailable:%" SCNu64 " kB", &kb) != 1) continue;
            CHECK_EQU(v, kb * 1024);
            found = true;
        }
        CHECK(found);
    }
    CHECK(n_ok > 1000);
}

static void write_file(const char *path, const char *text, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text, n) == (ssize_t)n);
    close(fd);
}

/* With a descriptor of its own. */
static int read_below(const char *root, uint64_t *ret, struct err *e) {
    static const struct sense_when when = {.now_us = 1, .may_open = true};
    struct sense_file f;
    sense_file_init(&f);
    int r = sense_meminfo_read(&f, root, &when, ret, e);
    sense_file_close(&f);
    return r;
}

static void files_are_read_below_the_root(void) {
    char proc[400], path[450];
    uint64_t v = 12345;
    struct err e = {0};
    snprintf(proc, sizeof(proc), "%s/proc", t_tmpdir());
    snprintf(path, sizeof(path), "%s/meminfo", proc);
    REQUIRE(mkdir(proc, 0700) == 0);
    CHECK_EQ(read_below(t_tmpdir(), &v, &e), -ENOENT);
    CHECK(strstr(e.msg, path));

    write_file(path, good_files[0].text, strlen(good_files[0].text));
    REQUIRE_OK(read_below(t_tmpdir(), &v, &e), &e);
    CHECK_EQU(v, good_files[0].bytes);
    v = 12345;

    /* A line of a megabyte: the rest of the file is not looked at. */
    char *large = malloc(1 << 20);
    REQUIRE(large);
    memset(large, '7', 1 << 20);
    memcpy(large, "MemAvailable: ", 14);
    write_file(path, large, 1 << 20);
    free(large);
    CHECK_EQ(read_below(t_tmpdir(), &v, &e), -EBADMSG);
    write_file(path, "", 0);
    CHECK_EQ(read_below(t_tmpdir(), &v, &e), -ENODATA);

    /* A FIFO without a writer must not block; a folder is an error. */
    REQUIRE(unlink(path) == 0 && mkfifo(path, 0600) == 0);
    CHECK_EQ(read_below(t_tmpdir(), &v, &e), -ENOTSUP);
    REQUIRE(unlink(path) == 0 && mkdir(path, 0700) == 0);
    CHECK_EQ(read_below(t_tmpdir(), &v, &e), -EISDIR);
    CHECK_EQU(v, 12345);
}

static void the_real_file_is_read(void) {
    uint64_t v = 0;
    struct err e = {0};
    if (access("/proc/meminfo", R_OK) != 0) t_skip("there is no /proc/meminfo here");
    REQUIRE_OK(read_below("/", &v, &e), &e);
    CHECK(v > 0);
}

static void a_long_root_is_refused(void) {
    char *root = malloc(5000);
    REQUIRE(root);
    memset(root, 'a', 4999);
    root[4999] = '\0';
    uint64_t v = 12345;
    CHECK_EQ(read_below(root, &v, NULL), -ENAMETOOLONG);
    free(root);
}

static const struct t_case cases[] = {
    {"good_text_is_read", good_text_is_read},
    {"bad_text_is_unknown", bad_text_is_unknown},
    {"every_truncation_is_safe", every_truncation_is_safe},
    {"random_text_is_value_or_unknown", random_text_is_value_or_unknown},
    {"files_are_read_below_the_root", files_are_read_below_the_root},
    {"the_real_file_is_read", the_real_file_is_read},
    {"a_long_root_is_refused", a_long_root_is_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
