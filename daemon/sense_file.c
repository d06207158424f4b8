#include "daemon/sense_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/err.h"

/* A kernel's file gives whole records, as many as fit a page or all that were asked for. Its
 * records are lines of less than 128 bytes, or the one that is the whole file: less than this is
 * all. */
enum { MIN_PART = 4096 - 128 };

void sense_file_init(struct sense_file *f) {
    *f = (struct sense_file){.fd = -1};
}

void sense_file_close(struct sense_file *f) {
    if (f->fd >= 0) close(f->fd);
    sense_file_init(f);
}

bool sense_file_is_kernels(int fd) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) return false;
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC: return true;
    default: return false;
    }
}

/* 0 or a negative errno: fills f->fd. */
static int open_now(struct sense_file *f, const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -errno;
    int r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && S_ISDIR(st.st_mode)) r = -EISDIR;
    f->is_odd = r == 0 && !S_ISREG(st.st_mode);
    if (f->is_odd) r = -ENOTSUP;
    if (r < 0) {
        close(fd);
        return r;
    }
    f->fd = fd;
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    f->is_kernels = sense_file_is_kernels(fd);
    return 0;
}

/* Of this moment rather than of the file. */
static bool is_passing(int code) {
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -EINTR;
}

/* The file is not there any more, or does not work here. */
static bool is_gone(int code) {
    return code == -ENODEV || code == -ENOENT || code == -ENXIO || code == -ESRCH ||
           code == -ESTALE || code == -EOPNOTSUPP;
}

static bool is_due(const struct sense_file *f, const struct sense_when *w) {
    return w->now_us < f->looked_us || w->now_us - f->looked_us >= w->rescan_us;
}

static int look(struct sense_file *f, const char *path, const struct sense_when *w) {
    f->looked_us = w->now_us;
    f->is_odd = false;
    f->code = open_now(f, path);
    return f->code;
}

static int read_whole(int fd, char *ret, size_t cap, size_t *ret_n) {
    size_t n = 0;
    while (n < cap) {
        ssize_t got = pread(fd, ret + n, cap - n, (off_t)n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        n += (size_t)got;
        if (got < MIN_PART) break;
    }
    *ret_n = n;
    return 0;
}

/* Put aside, but not what is known of it. */
static void drop(struct sense_file *f) {
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

/* The path leads elsewhere by now, or nowhere. Never so for a kernel's file. */
static bool is_replaced(const struct sense_file *f, const char *path) {
    struct stat st;
    if (f->fd < 0 || f->is_kernels) return false;
    return stat(path, &st) < 0 || st.st_dev != f->dev || st.st_ino != f->ino;
}

/* Opens what is not open, if it may be and it is time. *ret_is_fresh: just now. */
static int prepare(struct sense_file *f, const char *path, const struct sense_when *w,
                   bool *ret_is_fresh) {
    bool was_replaced = is_replaced(f, path);
    *ret_is_fresh = false;
    if (was_replaced) drop(f);
    if (f->fd >= 0) return 0;
    bool was_sought = f->code < 0 && !is_passing(f->code);
    if (!was_replaced && was_sought && (!sense_may_open(w) || !is_due(f, w))) return f->code;
    if (!was_replaced && !sense_may_open(w)) return -EAGAIN;
    *ret_is_fresh = true;
    return look(f, path, w);
}

/* After a failed read: what is gone is looked for at once if it was kept, else remembered. What
 * only fails may do so by its descriptor, and gets a new one once in a while. */
static int recover(struct sense_file *f, const char *path, const struct sense_when *w,
                   bool is_fresh, int code, char *ret, size_t cap, size_t *ret_n) {
    f->code = code;
    if (!is_fresh && sense_may_open(w) && (is_gone(code) || is_due(f, w))) {
        drop(f);
        if (look(f, path, w) < 0) return f->code;
        f->code = read_whole(f->fd, ret, cap, ret_n);
    }
    if (f->code < 0 && is_gone(f->code)) drop(f);
    return f->code;
}

int sense_file_read(struct sense_file *f, const char *path, const struct sense_when *w, char *ret,
                    size_t cap, size_t *ret_n, struct err *e) {
    bool is_fresh;
    int r = prepare(f, path, w, &is_fresh);
    if (r == 0) {
        r = read_whole(f->fd, ret, cap, ret_n);
        if (r < 0)
            r = recover(f, path, w, is_fresh, r, ret, cap, ret_n);
        else
            f->code = 0;
    }
    if (r == 0) return 0;
    if (f->is_odd && f->fd < 0) return err_set(e, r, "%s is not a regular file", path);
    if (r == -EAGAIN && f->fd < 0)
        return err_set(e, r, "%s was not open before the limit, and is not opened above it", path);
    return err_sys(e, r, "%s", path);
}
