#include "daemon/sense_cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/sense_text.h"

enum {
    MAX_SELF = 8192,  /* a line for each of a dozen hierarchies */
    MAX_STAT = 16384, /* the real file has 2 KiB */
    MAX_SMALL = 512,
};

static bool is_path(const char *s, size_t n) {
    if (n == 0 || s[0] != '/') return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f) return false;
        bool is_start = s[i] == '/';
        size_t left = n - i;
        if (is_start && left >= 3 && s[i + 1] == '.' && s[i + 2] == '.' &&
            (left == 3 || s[i + 3] == '/'))
            return false;
    }
    return true;
}

int sense_cgroup_parse_path(const char *text, size_t n, char *ret, struct err *e) {
    const char *path;
    size_t at = 0, n_path;
    int r = sense_text_line(text, n, &at, "0::", &path, &n_path, e);
    if (r < 0) return r;
    if (!is_path(path, n_path)) return err_set(e, -EBADMSG, "the path after 0:: is not usable");
    if (n_path >= SENSE_CGROUP_MAX_PATH)
        return err_set(e, -EBADMSG, "the path after 0:: is longer than %d bytes",
                       SENSE_CGROUP_MAX_PATH - 1);
    while (n_path > 1 && path[n_path - 1] == '/') n_path--;
    memcpy(ret, path, n_path);
    ret[n_path] = '\0';
    return 0;
}

int sense_cgroup_parse_limit(const char *text, size_t n, uint64_t *ret_bytes, struct err *e) {
    if (n == 4 && memcmp(text, "max\n", 4) == 0) {
        *ret_bytes = UINT64_MAX;
        return 0;
    }
    return sense_text_value(text, n, ret_bytes, e);
}

int sense_cgroup_parse_events(const char *text, size_t n, struct sense_cgroup_events *ret,
                              struct err *e) {
    struct sense_cgroup_events v;
    int r = sense_text_key(text, n, "high", &v.high, e);
    if (r == 0) r = sense_text_key(text, n, "max", &v.max, e);
    if (r == 0) r = sense_text_key(text, n, "oom", &v.oom, e);
    if (r == 0) r = sense_text_key(text, n, "oom_kill", &v.oom_kill, e);
    if (r == 0) *ret = v;
    return r;
}

int sense_cgroup_parse_stat(const char *text, size_t n, struct sense_cgroup_stat *ret,
                            struct err *e) {
    struct sense_cgroup_stat v;
    int r = sense_text_key(text, n, "inactive_file", &v.inactive_file, e);
    if (r == 0) r = sense_text_key(text, n, "active_file", &v.active_file, e);
    if (r == 0) r = sense_text_key(text, n, "workingset_refault_file", &v.refaults, e);
    if (r == -ENODATA) r = sense_text_key(text, n, "workingset_refault", &v.refaults, e);
    if (r == 0) r = sense_text_key(text, n, "pgmajfault", &v.major_faults, e);
    if (r == 0) *ret = v;
    return r;
}

/* ---- files ---- */

static const char *mount_of(const struct sense_cgroup_place *at) {
    return at->is_hybrid ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
}

int sense_cgroup_find(const char *root, struct sense_cgroup_place *ret, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_SELF];
    struct sense_cgroup_place at = {0};
    size_t n;
    int r;
    for (;; at.is_hybrid = true) {
        r = sense_text_path(path, e, root, "%s/cgroup.controllers", mount_of(&at));
        if (r < 0) return r;
        if (access(path, F_OK) == 0) break;
        if (at.is_hybrid) return err_set(e, -ENODATA, "there is no cgroup hierarchy of version 2");
    }
    r = sense_text_path(path, e, root, "/proc/self/cgroup");
    if (r == 0) r = sense_text_read(path, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_cgroup_parse_path(text, n, at.path, e);
    if (r < 0) {
        err_prefix(e, "%s", path);
        return r;
    }
    *ret = at;
    return 0;
}

/* File of the cgroup that is the first n_path bytes of our path, 0 = the top. */
static int file_at(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                   const char *name, char *ret, struct err *e) {
    return sense_text_path(ret, e, root, "%s%.*s%s%s", mount_of(at), (int)n_path, at->path,
                           name[0] ? "/" : "", name);
}

static size_t own_length(const struct sense_cgroup_place *at) {
    return strcmp(at->path, "/") == 0 ? 0 : strlen(at->path);
}

int sense_cgroup_file(const char *root, const struct sense_cgroup_place *at, const char *name,
                      char *ret, struct err *e) {
    return file_at(root, at, own_length(at), name, ret, e);
}

/* text[cap] from one file at a level. */
static int read_at(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                   const char *name, char *text, size_t cap, size_t *ret_n, struct err *e) {
    char path[SENSE_MAX_PATH];
    int r = file_at(root, at, n_path, name, path, e);
    return r < 0 ? r : sense_text_read(path, text, cap, ret_n, e);
}

static int read_limit(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                      const char *name, uint64_t *ret_bytes, struct err *e) {
    char text[MAX_SMALL];
    size_t n;
    int r = read_at(root, at, n_path, name, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_cgroup_parse_limit(text, n, ret_bytes, e);
    if (r < 0) err_prefix(e, "%s of cgroup %.*s/", name, (int)n_path, at->path);
    return r;
}

/* What is used of it and cannot be dropped. */
static int read_used(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                     uint64_t *ret_bytes, struct err *e) {
    char text[MAX_STAT];
    size_t n;
    uint64_t current = 0, cache = 0;
    struct sense_cgroup_stat stat;
    int r = read_at(root, at, n_path, "memory.current", text, MAX_SMALL, &n, e);
    if (r < 0) return r;
    r = sense_text_value(text, n, &current, e);
    if (r < 0) {
        err_prefix(e, "memory.current of cgroup %.*s/", (int)n_path, at->path);
        return r;
    }
    r = read_at(root, at, n_path, "memory.stat", text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_cgroup_parse_stat(text, n, &stat, e);
    if (r == 0 && __builtin_add_overflow(stat.inactive_file, stat.active_file, &cache))
        r = err_set(e, -EBADMSG, "the page cache does not fit 64 bits");
    if (r < 0) {
        err_prefix(e, "memory.stat of cgroup %.*s/", (int)n_path, at->path);
        return r;
    }
    /* The two files are not of one moment. */
    *ret_bytes = current > cache ? current - cache : 0;
    return 0;
}

/* One level: 1 with what is left there, and what is over, 0 if memory is not accounted at it. */
static int read_level(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                      uint64_t *ret_left, uint64_t *ret_over, struct err *e) {
    uint64_t high = UINT64_MAX, max = UINT64_MAX, used;
    int r = read_limit(root, at, n_path, "memory.high", &high, e);
    int r2 = r < 0 && r != -ENOENT ? r : read_limit(root, at, n_path, "memory.max", &max, e);
    if (r2 < 0 && r2 != -ENOENT) return r2;
    if (r == -ENOENT && r2 == -ENOENT) return 0;
    /* The kernel makes both or none, so one that is missing is not one without a limit. */
    if (r < 0 || r2 < 0) return -ENOENT;
    uint64_t limit = MIN(high, max);
    *ret_left = UINT64_MAX;
    *ret_over = 0;
    if (limit == UINT64_MAX) return 1;
    r = read_used(root, at, n_path, &used, e);
    if (r < 0) return r;
    *ret_left = limit > used ? limit - used : 0;
    *ret_over = used > limit ? used - limit : 0;
    return 1;
}

static int read_events(const char *root, const struct sense_cgroup_place *at, size_t n_path,
                       struct sense_cgroup *c, struct err *e) {
    char text[MAX_SMALL];
    size_t n;
    int r = read_at(root, at, n_path, "memory.events", text, sizeof(text), &n, e);
    if (r == -ENOENT) return 0;
    if (r < 0) return r;
    r = sense_cgroup_parse_events(text, n, &c->events, e);
    if (r < 0)
        err_prefix(e, "memory.events of cgroup %.*s/", (int)n_path, at->path);
    else
        c->has_events = true;
    return r;
}

/* The hierarchy accounts memory, although no cgroup of ours has limits (the top never has). */
static int check_accounted(const char *root, const struct sense_cgroup_place *at, struct err *e) {
    char text[MAX_SMALL];
    size_t n;
    int r = read_at(root, at, 0, "cgroup.controllers", text, sizeof(text), &n, e);
    if (r < 0) return r;
    for (size_t i = 0; i + 6 < n; i++) {
        char before = i > 0 ? text[i - 1] : ' ', after = text[i + 6];
        if (memcmp(text + i, "memory", 6) == 0 && before == ' ' && (after == ' ' || after == '\n'))
            return 0;
    }
    return err_set(e, -ENODATA,
                   "cgroups do not account memory (a kernel parameter such as "
                   "cgroup_enable=memory turns it on)");
}

int sense_cgroup_read(const char *root, const struct sense_cgroup_place *at,
                      struct sense_cgroup *ret, struct err *e) {
    struct sense_cgroup c = {.left_bytes = UINT64_MAX};
    char path[SENSE_MAX_PATH];
    bool is_seen = false;
    size_t n_path = own_length(at);
    int r = file_at(root, at, n_path, "", path, e);
    if (r < 0) return r;
    if (access(path, F_OK) < 0)
        return err_set(e, -ESTALE, "our cgroup %s is not there (has the process been moved?)",
                       at->path);
    for (;;) {
        uint64_t left, over;
        r = read_level(root, at, n_path, &left, &over, e);
        if (r < 0) return r;
        if (r > 0) {
            is_seen = true;
            c.left_bytes = MIN(c.left_bytes, left);
            c.over_bytes = MAX(c.over_bytes, over);
            if (!c.has_events && (r = read_events(root, at, n_path, &c, e)) < 0) return r;
        }
        if (n_path == 0) break;
        while (n_path > 0 && at->path[n_path - 1] != '/') n_path--;
        if (n_path > 0) n_path--; /* the slash itself */
    }
    if (!is_seen && (r = check_accounted(root, at, e)) < 0) return r;
    if (e) *e = (struct err){0}; /* of files that levels lack */
    *ret = c;
    return 0;
}
