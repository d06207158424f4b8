#include "daemon/task.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES = 4096 };

/* The start of a small file, NUL-terminated; "" if it cannot be read. */
static void read_file(const char *dir, const char *name, char ret[FILE_BYTES]) {
    char path[512];
    ret[0] = '\0';
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(path)) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    ssize_t got = read(fd, ret, FILE_BYTES - 1);
    close(fd);
    ret[got > 0 ? got : 0] = '\0';
}

/* The word or line at `s`, ended where it ends; `s` may be NULL. */
static const char *cut(char *s, const char *ends) {
    if (!s) return "unknown";
    s[strcspn(s, ends)] = '\0';
    return s[0] ? s : "unknown";
}

void task_describe(const char *dir, char *ret, size_t cap) {
    static const char key[] = "\nState:\t";
    char status[FILE_BYTES], wchan[FILE_BYTES], call[FILE_BYTES];
    read_file(dir, "status", status);
    read_file(dir, "wchan", wchan);
    read_file(dir, "syscall", call); /* "202 0x7f.. ..", or "running" */
    char *state = strstr(status, key);
    if (state) state += sizeof(key) - 1;
    snprintf(ret, cap, "%.40s, wchan %.60s, syscall %.20s", cut(state, "\n"), cut(wchan, "\n"),
             cut(call, " \n"));
}
