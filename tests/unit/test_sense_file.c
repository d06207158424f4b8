/* Files that are kept open: what comes, goes, is replaced or fails, and what is asked of the
 * system for it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_folder.h"
#include "tests/t.h"
#include "tests/unit/root.h"

enum { SECOND = 1000000 };

static struct sense_when when = {.now_us = SECOND, .rescan_us = 10 * SECOND, .may_open = true};
static char got[64], why[240];

/* The file's text or "-", with the reason in why[]. */
static const char *text_of(struct sense_file *f, const char *rel, int expected) {
    size_t n = 12345;
    struct err e = {0};
    int r = sense_file_read(f, rel[0] == '/' ? rel : root_path(rel), &when, got, sizeof(got) - 1,
                            &n, &e);
    CHECK_EQ(r, expected);
    CHECK_EQ(e.code, expected);
    snprintf(why, sizeof(why), "%s", e.msg);
    if (r < 0) {
        CHECK_EQU(n, 12345);
        return "-";
    }
    got[n] = '\0';
    return got;
}

static void start(struct sense_file *f) {
    root_make();
    sense_file_init(f);
    when = (struct sense_when){.now_us = SECOND, .rescan_us = 10 * SECOND, .may_open = true};
}

static unsigned n_open(void) {
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) t_skip("there is no /proc/self/fd here");
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void the_descriptor_is_kept(void) {
    struct sense_file f;
    start(&f);
    CHECK(!sense_file_is_open(&f));
    root_put("a", "one\n");
    CHECK_STR(text_of(&f, "a", 0), "one\n");
    CHECK(sense_file_is_open(&f));
    int fd = f.fd;
    unsigned n = n_open();
    /* Written in place, as a kernel's file changes. */
    int out = open(root_path("a"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    REQUIRE(out >= 0 && write(out, "two\n", 4) == 4);
    close(out);
    CHECK_STR(text_of(&f, "a", 0), "two\n");
    CHECK_EQ(f.fd, fd);
    CHECK_EQU(n_open(), n);
    sense_file_close(&f);
    CHECK_EQU(n_open(), n - 1);
    sense_file_close(&f);
}

static void what_is_replaced_is_followed(void) {
    struct sense_file f;
    start(&f);
    root_put("a", "one\n");
    CHECK_STR(text_of(&f, "a", 0), "one\n");
    unsigned n = n_open();
    root_put("a", "two\n");
    CHECK_STR(text_of(&f, "a", 0), "two\n");
    /* It stands in for a kernel's file, which would go on answering. */
    when.may_open = false;
    root_put("a", "three\n");
    CHECK_STR(text_of(&f, "a", 0), "three\n");
    CHECK_EQU(n_open(), n);
    root_remove("a");
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    CHECK(!sense_file_is_open(&f));
    sense_file_close(&f);
}

static void what_is_absent_is_remembered(void) {
    struct sense_file f;
    start(&f);
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    CHECK(strstr(why, "/a: No such file"));
    root_put("a", "one\n");
    when.now_us += 9 * SECOND;
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    CHECK(strstr(why, "/a: No such file"));
    when.now_us += SECOND;
    when.may_open = false;
    CHECK_STR(text_of(&f, "a", -ENOENT), "-"); /* not above a limit */
    when.may_open = true;
    CHECK_STR(text_of(&f, "a", 0), "one\n");
    root_remove("a");
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    root_put("a", "two\n");
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    sense_file_close(&f); /* forgets it */
    CHECK_STR(text_of(&f, "a", 0), "two\n");
    root_remove("a");
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    root_put("a", "three\n");
    when.rescan_us = 0;
    CHECK_STR(text_of(&f, "a", 0), "three\n");
    root_remove("a");
    when.rescan_us = 10 * SECOND;
    CHECK_STR(text_of(&f, "a", -ENOENT), "-");
    root_put("a", "four\n");
    when.now_us -= 5 * SECOND; /* a clock that went back is no reason to wait */
    CHECK_STR(text_of(&f, "a", 0), "four\n");
    sense_file_close(&f);
}

static void above_a_limit_nothing_is_opened(void) {
    struct sense_file f;
    start(&f);
    root_put("a", "one\n");
    when.may_open = false;
    CHECK_STR(text_of(&f, "a", -EAGAIN), "-");
    CHECK(strstr(why, "/a was not open before the limit"));
    CHECK(!sense_file_is_open(&f));
    when.may_open = true;
    CHECK_STR(text_of(&f, "a", 0), "one\n"); /* that was no search */
    sense_file_close(&f);
}

static void odd_files_are_errors(void) {
    struct sense_file f;
    start(&f);
    root_put_fifo("a");
    unsigned n = n_open();
    CHECK_STR(text_of(&f, "a", -ENOTSUP), "-");
    CHECK(strstr(why, "/a is not a regular file"));
    CHECK_STR(text_of(&f, "a", -ENOTSUP), "-");
    CHECK(strstr(why, "/a is not a regular file"));
    sense_file_close(&f);
    root_put_folder("a");
    CHECK_STR(text_of(&f, "a", -EISDIR), "-");
    sense_file_close(&f);
    CHECK_STR(text_of(&f, "/dev/null", -ENOTSUP), "-");
    sense_file_close(&f);
    CHECK_EQU(n_open(), n);
    if (geteuid() != 0) {
        root_remove("a");
        root_put("a", "one\n");
        REQUIRE(chmod(root_path("a"), 0) == 0);
        CHECK_STR(text_of(&f, "a", -EACCES), "-");
        sense_file_close(&f);
    }
    root_remove("a");
    root_put("a", "");
    CHECK_STR(text_of(&f, "a", 0), "");
    char large[200];
    memset(large, 'x', sizeof(large));
    root_put_n("a", large, sizeof(large));
    CHECK_EQU(strlen(text_of(&f, "a", 0)), sizeof(got) - 1); /* the rest is not looked at */
    sense_file_close(&f);
}

/* The whole of it, whatever the parts in which the kernel gives it. */
static void the_kernels_files_are_read_whole(void) {
    static const char *const paths[] = {"/proc/vmstat", "/proc/meminfo", "/proc/self/stat"};
    static char kept[65536], fresh[65536];
    start(&(struct sense_file){0});
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct sense_file f;
        struct err e = {0};
        size_t n = 0, n_fresh = 0;
        if (access(paths[i], R_OK) != 0) t_skip("there is no /proc here");
        sense_file_init(&f);
        for (int k = 0; k < 3; k++)
            REQUIRE_OK(sense_file_read(&f, paths[i], &when, kept, sizeof(kept), &n, &e), &e);
        CHECK(f.is_kernels);
        FILE *in = fopen(paths[i], "r");
        REQUIRE(in);
        n_fresh = fread(fresh, 1, sizeof(fresh), in);
        fclose(in);
        /* Values change between the two; lines do not. */
        unsigned n_lines[2] = {0};
        for (size_t k = 0; k < n; k++) n_lines[0] += kept[k] == '\n';
        for (size_t k = 0; k < n_fresh; k++) n_lines[1] += fresh[k] == '\n';
        CHECK(n > 0 && kept[n - 1] == '\n');
        CHECK_EQU(n_lines[0], n_lines[1]);
        sense_file_close(&f);
    }
}

/* A process that ends takes its files with it: descriptors give ESRCH, then the path is gone. */
static void a_kernels_file_that_ends_is_gone(void) {
    struct sense_file f;
    char path[64];
    int ends[2];
    start(&f);
    REQUIRE(pipe(ends) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        char c;
        close(ends[1]);
        ignore_result((int)read(ends[0], &c, 1)); /* until the test lets go */
        _exit(0);
    }
    close(ends[0]);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CHECK(text_of(&f, path, 0)[0] != '-');
    CHECK(f.is_kernels);
    close(ends[1]);
    REQUIRE(waitpid(pid, NULL, 0) == pid);
    when.may_open = false;
    CHECK_STR(text_of(&f, path, -ESRCH), "-");
    CHECK(!sense_file_is_open(&f));
    when.may_open = true;
    when.now_us += 10 * SECOND;
    CHECK_STR(text_of(&f, path, -ENOENT), "-");
    sense_file_close(&f);
}

/* A driver that fails: the descriptor is kept, and made anew once in a while. */
static void what_only_fails_is_kept(void) {
    struct sense_file f;
    char c;
    start(&f);
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &c, 1, 0) >= 0 || errno != EIO) t_skip("no file here gives EIO");
    close(fd);
    CHECK_STR(text_of(&f, "/proc/self/mem", -EIO), "-");
    CHECK(sense_file_is_open(&f) && f.is_kernels);
    uint64_t looked_us = f.looked_us;
    when.now_us += 9 * SECOND;
    CHECK_STR(text_of(&f, "/proc/self/mem", -EIO), "-");
    CHECK(sense_file_is_open(&f));
    CHECK_EQU(f.looked_us, looked_us);
    when.now_us += SECOND;
    when.may_open = false;
    CHECK_STR(text_of(&f, "/proc/self/mem", -EIO), "-");
    CHECK_EQU(f.looked_us, looked_us);
    when.may_open = true;
    CHECK_STR(text_of(&f, "/proc/self/mem", -EIO), "-");
    CHECK(sense_file_is_open(&f));
    CHECK_EQU(f.looked_us, when.now_us);
    sense_file_close(&f);
}

static void *wait_for_end(void *ud) {
    sem_wait(ud);
    return NULL;
}

/* A thread is a name more in /proc/self/task. */
static void a_folder_is_known_by_its_names(void) {
    struct sense_folder f;
    pthread_t thread;
    sem_t end;
    sense_folder_init(&f);
    CHECK(!sense_folder_is_same(&f, "/proc/self/task"));
    unsigned n = n_open();
    CHECK(sense_folder_is_same(&f, "/proc/self/task"));
    sem_init(&end, 0, 0);
    REQUIRE(pthread_create(&thread, NULL, wait_for_end, &end) == 0);
    CHECK(!sense_folder_is_same(&f, "/proc/self/task"));
    CHECK(sense_folder_is_same(&f, "/proc/self/task"));
    sem_post(&end);
    pthread_join(thread, NULL);
    sem_destroy(&end);
    /* The name goes a moment after the thread. */
    bool is_same = true;
    for (unsigned i = 0; i < 5000 && is_same; i++) {
        f.n_looks = 0;
        is_same = sense_folder_is_same(&f, "/proc/self/task");
        if (is_same) usleep(1000);
    }
    CHECK(!is_same);
    unsigned n_same = 0;
    while (n_same < 10 * SENSE_FOLDER_LOOKS && sense_folder_is_same(&f, "/proc/self/task"))
        n_same++;
    CHECK_EQU(n_same, SENSE_FOLDER_LOOKS - 1);
    CHECK_EQ(n_open(), n);
    sense_folder_close(&f);
}

static void a_folder_of_others_may_have_changed(void) {
    struct sense_folder f;
    root_make();
    sense_folder_init(&f);
    CHECK(!sense_folder_is_same(&f, root_path("x")));
    CHECK(sense_folder_is_same(&f, root_path("x")));
    root_put("x/a", "1");
    CHECK(!sense_folder_is_same(&f, root_path("x")));
    CHECK(!sense_folder_is_same(&f, root_path("x")));
    sense_folder_close(&f);
}

static const struct t_case cases[] = {
    {"the_descriptor_is_kept", the_descriptor_is_kept},
    {"what_is_replaced_is_followed", what_is_replaced_is_followed},
    {"what_is_absent_is_remembered", what_is_absent_is_remembered},
    {"above_a_limit_nothing_is_opened", above_a_limit_nothing_is_opened},
    {"odd_files_are_errors", odd_files_are_errors},
    {"the_kernels_files_are_read_whole", the_kernels_files_are_read_whole},
    {"a_kernels_file_that_ends_is_gone", a_kernels_file_that_ends_is_gone},
    {"what_only_fails_is_kept", what_only_fails_is_kept},
    {"a_folder_is_known_by_its_names", a_folder_is_known_by_its_names},
    {"a_folder_of_others_may_have_changed", a_folder_of_others_may_have_changed},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
