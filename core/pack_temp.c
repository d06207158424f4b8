#include "core/pack_temp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"

struct pack_temp {
    int dir_fd;
    int fd;           /* locked from creation to close */
    const char *base; /* final name in the folder; into `path` */
    char *path;       /* final path, owned */
    char *temp_path;  /* owned */
    const char *temp; /* name in the folder; into `temp_path` */
    bool is_published;
};

static const char mark[] = ".tmp.";

/* NAME.tmp.DIGITS */
static bool is_temp_of(const char *name, const char *base) {
    size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || strncmp(name + n, mark, sizeof(mark) - 1) != 0) return false;
    const char *digits = name + n + sizeof(mark) - 1;
    return *digits != '\0' && strspn(digits, "0123456789") == strlen(digits);
}

/* A locked file is ours from now on, under our own name. */
static int adopt_one(struct pack_temp *t, const char *name, int fd, struct err *e) {
    if (renameat(t->dir_fd, name, t->dir_fd, t->temp) < 0)
        return err_sys(e, -errno, "cannot take over %s", name);
    t->fd = fd;
    return 0;
}

/* A temporary file of our name: its writer lives (-EBUSY), or it goes, or it is the one to adopt.
 */
static int clear_one(struct pack_temp *t, const char *name, bool is_adopting, struct err *e) {
    struct stat st;
    int fd = openat(t->dir_fd, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    if (fd < 0) return err_sys(e, -errno, "cannot look at %s, left beside it", name);
    int r = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        r = errno == EWOULDBLOCK ? err_set(e, -EBUSY, "another writer is at work on it (%s)", name)
                                 : err_sys(e, -errno, "cannot lock %s", name);
    else if (is_adopting && t->fd < 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        r = adopt_one(t, name, fd, e);
    else if (unlinkat(t->dir_fd, name, 0) < 0 && errno != ENOENT)
        r = err_sys(e, -errno, "cannot remove %s, left by a dead writer", name);
    if (fd != t->fd) close(fd);
    return r;
}

static int clear_stale(struct pack_temp *t, bool is_adopting, struct err *e) {
    /* A description of its own: reading moves an offset, and closing drops no lock of dir_fd. */
    int fd = openat(t->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int r = err_sys(e, -errno, "cannot list its folder");
        if (fd >= 0) close(fd);
        return r;
    }
    int r = 0;
    for (struct dirent *x; r == 0 && (x = readdir(d));) {
        if (!is_temp_of(x->d_name, t->base)) continue;
        if (t->fd >= 0 && strcmp(x->d_name, t->temp) == 0) continue; /* it has been adopted */
        r = clear_one(t, x->d_name, is_adopting, e);
    }
    closedir(d);
    return r;
}

static int make_file(struct pack_temp *t, struct err *e) {
    t->fd = openat(t->dir_fd, t->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (t->fd < 0) return err_sys(e, -errno, "cannot make %s", t->temp);
    if (flock(t->fd, LOCK_EX | LOCK_NB) == 0) return 0;
    int r = err_sys(e, -errno, "cannot lock %s", t->temp);
    ignore_result(unlinkat(t->dir_fd, t->temp, 0)); /* the lock's error is the one to tell */
    return r;
}

static int open_folder(struct pack_temp *t, struct err *e) {
    struct stat st;
    char *slash = strrchr(t->path, '/');
    t->base = slash ? slash + 1 : t->path;
    if (*t->base == '\0') return err_set(e, -EINVAL, "it names a folder, not a file");
    if (stat(t->path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "it exists and is not a regular file");
    size_t n = strlen(t->path) + sizeof(mark) + 20;
    t->temp_path = malloc(n);
    if (!t->temp_path) return err_set(e, -ENOMEM, "no memory");
    snprintf(t->temp_path, n, "%s%s%ld", t->path, mark, (long)getpid());
    t->temp = t->temp_path + (t->base - t->path);
    char *folder = strdup(t->path);
    if (!folder) return err_set(e, -ENOMEM, "no memory");
    folder[t->base - t->path] = '\0';
    t->dir_fd = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = t->dir_fd < 0 ? err_sys(e, -errno, "cannot open its folder") : 0;
    free(folder);
    return r;
}

static int start(const char *path, bool is_adopting, struct pack_temp **ret, struct err *e) {
    struct pack_temp *t = calloc(1, sizeof(*t));
    if (!t) return err_set(e, -ENOMEM, "%s: no memory", path);
    t->dir_fd = t->fd = -1;
    t->path = strdup(path);
    int r = t->path ? open_folder(t, e) : err_set(e, -ENOMEM, "no memory");
    if (r < 0) goto out;
    if (flock(t->dir_fd, LOCK_EX) < 0) {
        r = err_sys(e, -errno, "cannot lock its folder");
        goto out;
    }
    r = clear_stale(t, is_adopting, e);
    if (r == 0 && !is_adopting) r = make_file(t, e);
    if (r == 0 && t->fd < 0) r = err_set(e, -ENOENT, "no dead writer left a file to go on with");
    flock(t->dir_fd, LOCK_UN);
out:
    if (r < 0) {
        err_prefix(e, "%s", path);
        pack_temp_destroy(t);
    } else {
        *ret = t;
    }
    return r;
}

int pack_temp_create(const char *path, struct pack_temp **ret, struct err *e) {
    return start(path, false, ret, e);
}

int pack_temp_adopt(const char *path, struct pack_temp **ret, struct err *e) {
    return start(path, true, ret, e);
}

void pack_temp_destroy(struct pack_temp *t) {
    if (!t) return;
    /* Nothing can be done about a failure here: the next writer of the name cleans up. */
    if (t->fd >= 0 && !t->is_published) ignore_result(unlinkat(t->dir_fd, t->temp, 0));
    if (t->fd >= 0) close(t->fd);
    if (t->dir_fd >= 0) close(t->dir_fd);
    free(t->path);
    free(t->temp_path);
    free(t);
}

int pack_temp_write(struct pack_temp *t, uint64_t at, const void *data, size_t n, struct err *e) {
    const uint8_t *p = data;
    if (at > INT64_MAX || n > (uint64_t)INT64_MAX - at)
        return err_set(e, -EINVAL, "%s: byte %" PRIu64 " is beyond what a file can hold", t->path,
                       at);
    while (n > 0) {
        ssize_t put = pwrite(t->fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return err_sys(e, -errno, "%s: cannot write at byte %" PRIu64, t->path, at);
        if (put == 0) return err_set(e, -EIO, "%s: wrote nothing at byte %" PRIu64, t->path, at);
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

int pack_temp_read(struct pack_temp *t, uint64_t at, void *data, size_t n, struct err *e) {
    uint8_t *p = data;
    if (at > INT64_MAX || n > (uint64_t)INT64_MAX - at)
        return err_set(e, -EINVAL, "%s: byte %" PRIu64 " is beyond what a file can hold", t->path,
                       at);
    while (n > 0) {
        ssize_t got = pread(t->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_sys(e, -errno, "%s: cannot read at byte %" PRIu64, t->path, at);
        if (got == 0) return err_set(e, -EBADMSG, "%s: it ends at byte %" PRIu64, t->path, at);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

const char *pack_temp_path(const struct pack_temp *t) {
    return t->temp_path;
}

int pack_temp_sync(struct pack_temp *t, struct err *e) {
    if (fsync(t->fd) < 0) return err_sys(e, -errno, "%s: cannot sync it", t->path);
    return 0;
}

int pack_temp_publish(struct pack_temp *t, struct err *e) {
    if (renameat(t->dir_fd, t->temp, t->dir_fd, t->base) < 0)
        return err_sys(e, -errno, "%s: cannot rename %s to it", t->path, t->temp);
    t->is_published = true;
    if (fsync(t->dir_fd) < 0) return err_sys(e, -errno, "%s: cannot sync its folder", t->path);
    return 0;
}
