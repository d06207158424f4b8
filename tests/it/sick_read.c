/* Preloaded into ebbd by tests: drivers that fail or never answer.
 *
 * A file whose text begins with "errno <number>" gives that error when it is read. Reading one that
 * begins with "hang" lasts until its text (of the same file, written over in place) is another. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/defs.h"

enum { LOOK_US = 10000 };

#define EXPORT __attribute__((visibility("default")))
EXPORT ssize_t read(int fd, void *buf, size_t n);
EXPORT ssize_t pread64(int fd, void *buf, size_t n, off_t at);

/* As pread(), which is taken. */
static ssize_t read_at(int fd, void *buf, size_t n, off_t at) {
    const struct iovec to = {.iov_base = buf, .iov_len = n};
    return preadv(fd, &to, 1, at);
}

static ssize_t begin(int fd, char *text, size_t cap) {
    ssize_t n = read_at(fd, text, cap - 1, 0);
    text[MAX(n, 0)] = '\0';
    return n;
}

/* False with errno set: the read is to fail. */
static bool is_well(int fd) {
    char text[16];
    /* A pipe or a socket has no place to read at; it is none of ours. */
    if (begin(fd, text, sizeof(text)) <= 0) return true;
    if (strncmp(text, "errno ", 6) == 0) {
        errno = (int)strtol(text + 6, NULL, 10);
        return false;
    }
    while (strncmp(text, "hang", 4) == 0) {
        usleep(LOOK_US);
        begin(fd, text, sizeof(text));
    }
    return true;
}

ssize_t read(int fd, void *buf, size_t n) {
    return is_well(fd) ? (ssize_t)syscall(SYS_read, fd, buf, n) : -1;
}

/* With files of 64 bits this is what pread() is called. */
ssize_t pread64(int fd, void *buf, size_t n, off_t at) {
    return is_well(fd) ? read_at(fd, buf, n, at) : -1;
}
