#include "daemon/sense_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sense_file.h"

void sense_folder_init(struct sense_folder *f) {
    *f = (struct sense_folder){.fd = -1};
}

void sense_folder_close(struct sense_folder *f) {
    if (f->fd >= 0) close(f->fd);
    sense_folder_init(f);
}

/* FNV-1a, with the end of the name. */
static uint64_t add_name(uint64_t hash, const char *name) {
    do hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    while (*name++);
    return hash;
}

/* False if it cannot be read. */
static bool read_names(int fd, uint64_t *ret) {
    _Alignas(struct dirent64) char buf[2048];
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (lseek(fd, 0, SEEK_SET) < 0) return false;
    for (;;) {
        ssize_t n = getdents64(fd, buf, sizeof(buf));
        if (n < 0) return false;
        if (n == 0) break;
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *d = (const void *)(buf + at);
            hash = add_name(hash, d->d_name);
            at += d->d_reclen;
        }
    }
    *ret = hash;
    return true;
}

bool sense_folder_is_same(struct sense_folder *f, const char *path) {
    uint64_t names = 0; /* of one that is not there */
    if (f->fd < 0) f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd >= 0 && (!sense_file_is_kernels(f->fd) || !read_names(f->fd, &names))) {
        sense_folder_close(f);
        return false;
    }
    bool is_same = f->is_known && names == f->names && ++f->n_looks < SENSE_FOLDER_LOOKS;
    if (!is_same) f->n_looks = 0;
    f->is_known = true;
    f->names = names;
    return is_same;
}
