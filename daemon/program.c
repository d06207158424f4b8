#include "daemon/program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/err.h"

/* A private mapping of a file, from a line of /proc/self/maps (proc(5)). */
static bool parse_mapping(const char *line, uintptr_t *ret_from, size_t *ret_n) {
    uint64_t from, to, inode;
    char perms[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %" SCNu64, &from, &to, perms, &inode) !=
        4)
        return false;
    /* What cannot be read are the gaps between the parts of a library. */
    if (inode == 0 || perms[0] != 'r' || perms[3] != 'p' || to <= from) return false;
    *ret_from = (uintptr_t)from;
    *ret_n = (size_t)(to - from);
    return true;
}

static int lock_all(FILE *maps, uint64_t *ret_bytes, struct err *e) {
    char *line = NULL;
    size_t cap = 0;
    int r = 0;
    while (r == 0 && getline(&line, &cap, maps) > 0) {
        uintptr_t from;
        size_t n;
        if (!parse_mapping(line, &from, &n)) continue;
        if (mlock((const void *)from, n) < 0)
            r = err_sys(e, -errno, "cannot lock the program in memory (LimitMEMLOCK=)");
        else
            *ret_bytes += n;
    }
    free(line);
    return r;
}

int program_lock(uint64_t *ret_bytes, struct err *e) {
    *ret_bytes = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps) return err_sys(e, -errno, "/proc/self/maps");
    int r = lock_all(maps, ret_bytes, e);
    fclose(maps);
    return r;
}
