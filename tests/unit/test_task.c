/* What a thread does, from the kernel's files or from such as they might be. */
#include "daemon/task.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/t.h"

static void put(const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", t_tmpdir(), name);
    unlink(path);
    if (!text) return;
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void describes(void) {
    static const struct {
        const char *status, *wchan, *call, *want;
    } cases[] = {
        {"Name:\tx\nState:\tS (sleeping)\nTgid:\t1\n", "futex_wait_queue", "202 0x7f 0x80\n",
         "S (sleeping), wchan futex_wait_queue, syscall 202"},
        {"Name:\tx\nState:\tR (running)\n", "0", "running\n",
         "R (running), wchan 0, syscall running"},
        {"Name:\tx\nState:\tD (disk sleep)", "folio_wait_bit_common\n", "17 0x0 0x0",
         "D (disk sleep), wchan folio_wait_bit_common, syscall 17"},
        {NULL, NULL, NULL, "unknown, wchan unknown, syscall unknown"},
        {"", "", "", "unknown, wchan unknown, syscall unknown"},
        {"State:\n\n", "\n", "\n", "unknown, wchan unknown, syscall unknown"},
        {"Name:\tState:\tX\n", NULL, " 1", "unknown, wchan unknown, syscall unknown"},
        {"\nState:\t0123456789012345678901234567890123456789tail\n", NULL, NULL,
         "0123456789012345678901234567890123456789, wchan unknown, syscall unknown"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[160];
        put("status", cases[i].status);
        put("wchan", cases[i].wchan);
        put("syscall", cases[i].call);
        task_describe(t_tmpdir(), got, sizeof(got));
        CHECK_STR(got, cases[i].want);
    }
}

static void small_buffers(void) {
    char got[8] = "#######";
    task_describe("/nowhere", got, sizeof(got));
    CHECK_STR(got, "unknown");
    char path[600];
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    task_describe(path, got, sizeof(got));
    CHECK_STR(got, "unknown");
}

static void oneself(void) {
    char dir[64], got[160];
    snprintf(dir, sizeof(dir), "/proc/self/task/%d", gettid());
    task_describe(dir, got, sizeof(got));
    CHECK(strncmp(got, "R (running), wchan ", 19) == 0);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"describes", describes},
        {"small_buffers", small_buffers},
        {"oneself", oneself},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
