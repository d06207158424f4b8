/* The log: escaping, priorities, and that a full pipe is dropped and not waited for. */
#include "daemon/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/t.h"

static void escaping(void) {
    char s[64];
    CHECK_EQ(log_escape("a\r\n\x1b[0m\\\xff", 9, s, sizeof(s)), 24);
    CHECK_STR(s, "a\\x0d\\x0a\\x1b[0m\\x5c\\xff");
    /* A cut never splits an escape. */
    CHECK_EQ(log_escape("ab\n", 3, s, 6), 2);
    CHECK_STR(s, "ab");
    CHECK_EQ(log_escape("", 0, s, sizeof(s)), 0);
    CHECK_STR(s, "");
}

static void lines(void) {
    int fd[2];
    char s[4096];
    struct log l;
    REQUIRE(pipe(fd) == 0);
    log_init(&l, fd[1], LOG_INFO);
    log_event(&l, LOG_WARN, "name %s", "x\ny");
    log_event(&l, LOG_DEBUG, "not wanted");
    log_set_level(&l, LOG_DEBUG);
    log_event(&l, LOG_DEBUG, "wanted");
    ssize_t n = read(fd[0], s, sizeof(s) - 1);
    REQUIRE(n > 0);
    s[n] = '\0';
    CHECK_STR(s, "<4>name x\\x0ay\n<7>wanted\n");
    CHECK_EQU(log_dropped(&l), 0);

    static char big[4000];
    memset(big, 'b', sizeof(big) - 1);
    for (int i = 0; i < 200; i++) log_event(&l, LOG_ERROR, "%s", big); /* nobody reads */
    CHECK(log_dropped(&l) > 0);
    while ((n = read(fd[0], s, sizeof(s))) == (ssize_t)sizeof(s)) continue;
    close(fd[0]);
    close(fd[1]);
}

static void closed(void) {
    struct log l;
    int fd = dup(1);
    REQUIRE(fd >= 0);
    log_init(&l, fd, LOG_INFO);
    close(fd);
    log_event(&l, LOG_ERROR, "into nothing");
    CHECK_EQU(log_dropped(&l), 1);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"escaping", escaping}, {"lines", lines}, {"closed", closed}};
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
