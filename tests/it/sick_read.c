/* Preloaded into ebbd by tests: drivers that fail or never answer.
 *
 * A file whose text begins with "errno <number>" gives that error when it is read. Reading one that
 * begins with "hang" lasts until its text (of the same file, written over in place) is another. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/defs.h"

enum { LOOK_US = 10000 };

__attribute__((visibility("default"))) ssize_t read(int fd, void *buf, size_t n);

static ssize_t begin(int fd, char *text, size_t cap) {
    ssize_t n = pread(fd, text, cap - 1, 0);
    text[MAX(n, 0)] = '\0';
    return n;
}

ssize_t read(int fd, void *buf, size_t n) {
    char text[16];
    /* A pipe or a socket has no place to read at; it is none of ours. */
    if (begin(fd, text, sizeof(text)) > 0) {
        if (strncmp(text, "errno ", 6) == 0) {
            errno = (int)strtol(text + 6, NULL, 10);
            return -1;
        }
        while (strncmp(text, "hang", 4) == 0) {
            usleep(LOOK_US);
            begin(fd, text, sizeof(text));
        }
    }
    return (ssize_t)syscall(SYS_read, fd, buf, n);
}
