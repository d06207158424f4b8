#include "daemon/sense_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_MOUNTS = 128 << 10, /* a machine of many containers has hundreds of mounts */
    MAX_STAT = 16384,       /* the real file has 2 KiB */
    MAX_SMALL = 512,
};

/* Of a level; the first two make it an accounted one. */
enum { LIMIT, HIGH, CURRENT, STAT, EVENTS };
static const char *const names[2][SENSE_TREE_FILES] = {
    {"memory.limit_in_bytes", NULL, "memory.usage_in_bytes", "memory.stat", NULL},
    {"memory.max", "memory.high", "memory.current", "memory.stat", "memory.events"},
};

/* ---- places ---- */

static const char *mount_of(const struct sense_tree_place *at) {
    if (at->version == 1) return "/sys/fs/cgroup/memory";
    return at->is_hybrid ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
}

/* The cgroup that is the first n_path bytes of the path, 0 = the top. */
static int path_at(const char *root, const struct sense_tree_place *at, size_t n_path,
                   const char *name, char *ret, struct err *e) {
    return sense_text_path(ret, e, root, "%s%.*s%s%s", mount_of(at), (int)n_path, at->path,
                           name[0] ? "/" : "", name);
}

static size_t own_length(const struct sense_tree_place *at) {
    return strcmp(at->path, "/") == 0 ? 0 : strlen(at->path);
}

/* Of the cgroup above the one that is path[n]. */
static size_t length_above(const char *path, size_t n) {
    while (n > 0 && path[n - 1] != '/') n--;
    return n > 0 ? n - 1 : 0; /* without the slash itself */
}

int sense_tree_place_path(const char *root, const struct sense_tree_place *at, const char *name,
                          char *ret, struct err *e) {
    return path_at(root, at, own_length(at), name, ret, e);
}

int sense_tree_path(const struct sense_tree *t, unsigned level, const char *name, char *ret,
                    struct err *e) {
    return path_at(t->root, &t->at.memory, t->levels[level].n_path, name, ret, e);
}

static bool exists(const char *root, const char *rel) {
    char path[SENSE_MAX_PATH];
    return sense_text_path(path, NULL, root, "%s", rel) == 0 && access(path, F_OK) == 0;
}

/* Up to the nearest cgroup that is there; the top always is. */
static int settle(const char *root, struct sense_tree_place *at, struct err *e) {
    char path[SENSE_MAX_PATH];
    for (size_t n; (n = own_length(at)) > 0;) {
        int r = path_at(root, at, n, "", path, e);
        if (r < 0) return r;
        if (access(path, F_OK) == 0) return 0;
        at->is_fallback = true;
        n = length_above(at->path, n);
        at->path[MAX(n, 1u)] = '\0';
    }
    return 0;
}

/* What is mounted there, as far as that is known: else the whole hierarchy. */
static int find_top(const char *root, const char *who, const char *point, char *ret,
                    struct err *e) {
    char path[SENSE_MAX_PATH];
    size_t n;
    strcpy(ret, "/");
    int r = sense_text_path(path, e, root, "/proc/%s/mountinfo", who);
    if (r < 0) return r;
    char *text = malloc(MAX_MOUNTS);
    if (!text) return err_set(e, -ENOMEM, "no memory to look where our cgroup is mounted");
    if (sense_text_read(path, text, MAX_MOUNTS, &n, NULL) == 0)
        ignore_result(sense_cgroup_parse_top(text, n, point, ret, NULL)); /* "/" */
    free(text);
    return 0;
}

static int locate_one(const char *root, const char *who, const char *text, size_t n,
                      struct sense_tree_place *at, struct err *e) {
    char top[SENSE_CGROUP_MAX_PATH];
    int r = find_top(root, who, mount_of(at), top, e);
    if (r < 0) return r;
    r = sense_cgroup_parse_below(at->version, text, n, top, at->path, &at->is_fallback, e);
    return r < 0 ? r : settle(root, at, e);
}

int sense_tree_locate(const char *root, const char *who, const char *text, size_t n,
                      struct sense_tree_where *ret, struct err *e) {
    bool is_pure = exists(root, "/sys/fs/cgroup/cgroup.controllers");
    bool is_hybrid = !is_pure && exists(root, "/sys/fs/cgroup/unified/cgroup.controllers");
    bool has_v1 = !is_pure && exists(root, "/sys/fs/cgroup/memory");
    struct sense_tree_where at = {.memory.version = 1,
                                  .v2 = {.version = 2, .is_hybrid = is_hybrid}};
    int r2 = -ENODATA, r1 = -ENODATA;
    if (!is_pure && !is_hybrid && !has_v1)
        return err_set(e, -ENODATA, "there is no cgroup hierarchy that could account memory");
    if (is_pure || is_hybrid) r2 = locate_one(root, who, text, n, &at.v2, e);
    if (r2 < 0 && r2 != -ENODATA) return r2;
    at.has_v2 = r2 == 0;
    if (has_v1) r1 = locate_one(root, who, text, n, &at.memory, e);
    if (r1 < 0 && r1 != -ENODATA) return r1;
    if (r1 < 0 && r2 < 0) return r2;
    if (r1 < 0) at.memory = at.v2;
    *ret = at;
    return 0;
}

/* ---- where we are ---- */

void sense_tree_init(struct sense_tree *t, const char *root) {
    *t = (struct sense_tree){0};
    strcpy(t->root, root);
    sense_file_init(&t->self);
    sense_file_init(&t->controllers);
    sense_file_init(&t->pressure);
}

static void close_levels(struct sense_tree *t) {
    for (unsigned i = 0; i < t->n_levels; i++)
        for (unsigned k = 0; k < SENSE_TREE_FILES; k++) sense_file_close(&t->levels[i].files[k]);
    sense_file_close(&t->controllers);
    t->n_levels = 0;
}

void sense_tree_fini(struct sense_tree *t) {
    close_levels(t);
    sense_file_close(&t->self);
    sense_file_close(&t->pressure);
}

static bool is_same(const struct sense_tree_place *a, const struct sense_tree_place *b) {
    return a->version == b->version && a->is_hybrid == b->is_hybrid &&
           a->is_fallback == b->is_fallback && strcmp(a->path, b->path) == 0;
}

static void set_levels(struct sense_tree *t) {
    size_t n = own_length(&t->at.memory);
    close_levels(t);
    t->has_read = false;
    for (;;) {
        struct sense_tree_level *l = &t->levels[t->n_levels++];
        *l = (struct sense_tree_level){.n_path = n};
        for (unsigned k = 0; k < SENSE_TREE_FILES; k++) sense_file_init(&l->files[k]);
        if (n == 0 || t->n_levels == SENSE_MAX_LEVELS) return;
        n = length_above(t->at.memory.path, n);
    }
}

/* In place of what was known; t->text is what it was found by. */
static int look_anew(struct sense_tree *t, const struct sense_when *w) {
    struct sense_tree_where at;
    bool had_place = t->generation > 0, must_look = t->must_look;
    t->has_looked = true;
    t->must_look = false;
    t->looked_us = w->now_us;
    t->err = (struct err){0};
    int r = sense_tree_locate(t->root, "self", t->text, t->n_text, &at, &t->err);
    t->has_place = r == 0;
    if (r < 0) return r;
    if (!had_place || !is_same(&at.v2, &t->at.v2)) sense_file_close(&t->pressure);
    bool is_other = !had_place || !is_same(&at.memory, &t->at.memory) || must_look;
    t->at = at;
    if (!is_other) return 0;
    set_levels(t);
    t->generation++;
    return 0;
}

int sense_tree_look(struct sense_tree *t, const struct sense_when *w, struct err *e) {
    char path[SENSE_MAX_PATH], text[SENSE_TREE_MAX_SELF];
    size_t n;
    int r = sense_text_path(path, e, t->root, "/proc/self/cgroup");
    if (r == 0) r = sense_file_read(&t->self, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    bool is_same_text = t->has_looked && n == t->n_text && memcmp(text, t->text, n) == 0;
    bool is_due = w->now_us < t->looked_us || w->now_us - t->looked_us >= w->rescan_us;
    bool is_settled = t->has_place && !t->at.memory.is_fallback;
    if (is_same_text && !t->must_look && (is_settled || !is_due || !sense_may_open(w))) {
        if (!t->has_place && e) *e = t->err;
        return t->err.code;
    }
    if (!sense_may_open(w))
        return err_set(e, -EAGAIN,
                       "our cgroup changed above its limit, and is not looked at there");
    memcpy(t->text, text, n);
    t->n_text = n;
    if (look_anew(t, w) == 0) return 0;
    err_prefix(&t->err, "%s", path);
    if (e) *e = t->err;
    return t->err.code;
}

/* ---- files ---- */

/* Room for the texts of one level. */
struct texts {
    char small[SENSE_TREE_FILES][MAX_SMALL]; /* of all but STAT */
    char stat[MAX_STAT];
    size_t n[SENSE_TREE_FILES];
    bool has[SENSE_TREE_FILES];
};

/* Of the level, in words. */
static void name_level(const struct sense_tree *t, unsigned level, struct err *e) {
    err_prefix(e, "cgroup %.*s/", (int)t->levels[level].n_path, t->at.memory.path);
}

/* 1 with its text, 0 if the file is not there, or an error. */
static int read_file(struct sense_tree *t, unsigned level, unsigned which,
                     const struct sense_when *w, struct texts *x, struct err *e) {
    const char *name = names[t->at.memory.version - 1][which];
    char path[SENSE_MAX_PATH], *text = which == STAT ? x->stat : x->small[which];
    x->has[which] = false;
    if (!name) return 0;
    int r = sense_tree_path(t, level, name, path, e);
    if (r == 0)
        r = sense_file_read(&t->levels[level].files[which], path, w, text,
                            which == STAT ? MAX_STAT : MAX_SMALL, &x->n[which], e);
    x->has[which] = r == 0;
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

static struct sense_cgroup_text text_of(const struct texts *x, unsigned which) {
    if (!x->has[which]) return (struct sense_cgroup_text){0};
    return (struct sense_cgroup_text){
        .s = which == STAT ? x->stat : x->small[which],
        .n = x->n[which],
    };
}

static int count(const struct sense_tree *t, const struct texts *x, struct sense_cgroup_count *ret,
                 struct err *e) {
    const struct sense_cgroup_texts texts = {
        .version = t->at.memory.version,
        .high = text_of(x, HIGH),
        .max = text_of(x, LIMIT),
        .current = text_of(x, CURRENT),
        .stat = text_of(x, STAT),
    };
    return sense_cgroup_count(&texts, ret, e);
}

/* What is used is read where there is a limit; elsewhere once, so that it is open when one comes.
 */
static int read_used(struct sense_tree *t, unsigned level, const struct sense_when *w,
                     struct texts *x, bool has_limit, struct err *e) {
    struct sense_tree_level *l = &t->levels[level];
    static const unsigned parts[] = {CURRENT, STAT};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!has_limit && sense_file_is_open(&l->files[parts[i]])) continue;
        int r = read_file(t, level, parts[i], w, x, e);
        if (r < 0 && has_limit) return r;
    }
    return 0;
}

/* A limit, or something in its place that is none and no "max". */
static bool is_limit(const struct texts *x, unsigned which) {
    uint64_t v;
    if (!x->has[which]) return false;
    return sense_cgroup_parse_limit(x->small[which], x->n[which], &v, NULL) < 0 || v != UINT64_MAX;
}

/* One level: 1 with its count, 0 if memory is not accounted at it. */
static int read_level(struct sense_tree *t, unsigned level, const struct sense_when *w,
                      struct sense_cgroup_count *ret, struct err *e) {
    struct sense_tree_level *l = &t->levels[level];
    struct texts x;
    memset(x.has, 0, sizeof(x.has));
    int r = read_file(t, level, LIMIT, w, &x, e);
    if (r >= 0) r = read_file(t, level, HIGH, w, &x, e);
    if (r < 0) return r;
    if (!x.has[LIMIT] && !x.has[HIGH]) {
        t->must_look = t->must_look || l->is_accounted;
        if (!l->is_accounted) return 0;
        return err_set(e, -ESTALE, "its files are not there any more");
    }
    if (!l->is_accounted && t->has_read) t->generation++;
    l->is_accounted = true;
    r = read_used(t, level, w, &x, is_limit(&x, LIMIT) || is_limit(&x, HIGH), e);
    if (r == 0) r = count(t, &x, ret, e);
    return r < 0 ? r : 1;
}

static int read_events(struct sense_tree *t, unsigned level, const struct sense_when *w,
                       struct sense_tree_reading *c, struct err *e) {
    struct texts x;
    int r = read_file(t, level, EVENTS, w, &x, e);
    if (r <= 0) return r;
    r = sense_cgroup_parse_events(x.small[EVENTS], x.n[EVENTS], &c->events, e);
    if (r < 0) err_prefix(e, "memory.events");
    c->has_events = r == 0;
    return r;
}

/* The hierarchy accounts memory, although no cgroup of ours has limits (the top never has). */
static int check_accounted(struct sense_tree *t, const struct sense_when *w, struct err *e) {
    const struct sense_tree_place *at = &t->at.memory;
    char path[SENSE_MAX_PATH], text[MAX_SMALL];
    size_t n;
    int r = path_at(t->root, at, 0, "cgroup.controllers", path, e);
    if (r == 0 && at->version == 2)
        r = sense_file_read(&t->controllers, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    for (size_t i = 0; at->version == 2 && i + 6 < n; i++) {
        char before = i > 0 ? text[i - 1] : ' ', after = text[i + 6];
        if (memcmp(text + i, "memory", 6) != 0 || before != ' ') continue;
        if (after != ' ' && after != '\n') continue;
        if (!at->is_fallback) return 0;
        return err_set(e, -ESTALE, "our cgroup is not below the mount: see /proc/self/cgroup");
    }
    return err_set(e, -ENODATA,
                   "cgroups do not account memory (a kernel parameter such as "
                   "cgroup_enable=memory turns it on)");
}

/* Whether `a` is what counts before `b`: less is left, or as little and more is over. */
static bool is_nearer(const struct sense_cgroup_count *a, const struct sense_cgroup_count *b) {
    if (a->left_bytes != b->left_bytes) return a->left_bytes < b->left_bytes;
    return a->over_bytes > b->over_bytes;
}

static int read_levels(struct sense_tree *t, const struct sense_when *w,
                       struct sense_tree_reading *ret, bool *ret_is_seen, struct err *e) {
    for (unsigned i = 0; i < t->n_levels; i++) {
        struct sense_cgroup_count c;
        int r = read_level(t, i, w, &c, e);
        if (r > 0) {
            *ret_is_seen = true;
            if (is_nearer(&c, &ret->least)) ret->least = c, ret->level = i;
            r = ret->has_events ? 0 : read_events(t, i, w, ret, e);
        }
        if (r < 0) {
            name_level(t, i, e);
            /* What is missing here is missing beside a limit: nothing of "there is none". */
            return r == -ESTALE || r == -EAGAIN || r == -EACCES || r == -EIO ? r : -EBADMSG;
        }
    }
    return 0;
}

int sense_tree_read(struct sense_tree *t, const struct sense_when *w,
                    struct sense_tree_reading *ret, struct err *e) {
    struct sense_tree_reading c = {
        .version = t->at.memory.version,
        .least = {.limit_bytes = UINT64_MAX, .left_bytes = UINT64_MAX},
        .is_fallback = t->at.memory.is_fallback,
    };
    bool is_seen = false;
    int r = read_levels(t, w, &c, &is_seen, e);
    t->has_read = true;
    if (r == 0 && !is_seen) r = check_accounted(t, w, e);
    /* The top of all of version 1 has the files too, and of course no limit. */
    if (r == 0 && c.version == 1 && c.is_fallback && c.least.limit_bytes == UINT64_MAX)
        r = err_set(e, -ESTALE, "our cgroup is not below the mount: see /proc/self/cgroup");
    if (r < 0) {
        if (e) e->code = r;
        return r;
    }
    if (e) *e = (struct err){0}; /* of files that levels lack */
    *ret = c;
    return 0;
}

int sense_tree_read_pressure(struct sense_tree *t, const struct sense_when *w,
                             struct sense_psi *ret, struct err *e) {
    char path[SENSE_MAX_PATH];
    if (!t->at.has_v2) return err_set(e, -ENODATA, "there is no cgroup hierarchy of version 2");
    int r = sense_tree_place_path(t->root, &t->at.v2, "memory.pressure", path, e);
    return r < 0 ? r : sense_psi_read(&t->pressure, path, w, ret, e);
}

void sense_tree_close_pressure(struct sense_tree *t) {
    sense_file_close(&t->pressure);
}
