#include "daemon/sense_quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/sense_cgroup.h"
#include "daemon/sense_file.h"
#include "daemon/sense_folder.h"
#include "daemon/sense_text.h"

static_assert((int)SENSE_QUOTA_MAX_PATH == (int)SENSE_CGROUP_MAX_PATH, "one kind of path");

enum {
    MAX_SELF = 8192, /* a line for each of a dozen hierarchies */
    MAX_TEXT = 64,
    MAX_LEVELS = 24,
    N_MOUNTS = 5,
};

/* Where hierarchies are mounted; of version 1 the one with the controller "cpu". */
static const struct mount {
    const char *path;
    bool is_v1;
} mounts[N_MOUNTS] = {
    {"/sys/fs/cgroup", false},
    {"/sys/fs/cgroup/unified", false},
    {"/sys/fs/cgroup/cpu,cpuacct", true},
    {"/sys/fs/cgroup/cpu", true},
    {"/sys/fs/cgroup/cpuacct,cpu", true},
};

/* One cgroup: the first n_path bytes of the path below that mount. */
struct level {
    const struct mount *mount;
    size_t n_path;
    struct sense_folder folder;      /* another name in it, and absent files are looked for */
    struct sense_file quota, period; /* cpu.max alone of version 2 */
};

struct sense_quotas {
    const char *root, *self; /* borrowed */
    struct sense_file self_file;
    bool has_scanned;
    uint64_t scanned_us;
    int scan_code;
    struct err scan_err;
    unsigned n_looks;                    /* since the mounts were looked for */
    char paths[2][SENSE_QUOTA_MAX_PATH]; /* of version 2 and 1; "" = at the top */
    uint32_t n;
    struct level levels[N_MOUNTS * MAX_LEVELS];
};

/* ---- parsing ---- */

static int permille_of(uint64_t quota_us, uint64_t period_us, uint32_t *ret, struct err *e) {
    uint64_t v;
    if (quota_us == 0 || period_us == 0)
        return err_set(e, -EBADMSG, "a quota or a period of 0 is none");
    if (__builtin_mul_overflow(quota_us, UINT64_C(1000), &v) ||
        __builtin_add_overflow(v, period_us - 1, &v))
        return err_set(e, -EBADMSG, "the quota does not fit 64 bits");
    *ret = (uint32_t)MIN(v / period_us, (uint64_t)SENSE_QUOTA_NONE - 1);
    return 0;
}

int sense_quota_parse(const char *text, size_t n, uint32_t *ret_permille, struct err *e) {
    const char *blank = n > 0 ? memchr(text, ' ', n) : NULL;
    uint64_t quota_us, period_us;
    if (!blank) return err_set(e, -EBADMSG, "it is not a quota and a period");
    size_t n_quota = (size_t)(blank - text);
    int r = sense_text_value(blank + 1, n - n_quota - 1, &period_us, e);
    if (r < 0) return r;
    if (n_quota == 3 && memcmp(text, "max", 3) == 0) {
        *ret_permille = SENSE_QUOTA_NONE;
        return 0;
    }
    r = sense_text_number(text, n_quota, &quota_us, e);
    return r < 0 ? r : permille_of(quota_us, period_us, ret_permille, e);
}

int sense_quota_parse_v1(const char *quota, size_t n_quota, const char *period, size_t n_period,
                         uint32_t *ret_permille, struct err *e) {
    int64_t quota_us;
    uint64_t period_us;
    int r = sense_text_signed(quota, n_quota, &quota_us, e);
    if (r == 0) r = sense_text_value(period, n_period, &period_us, e);
    if (r < 0) return r;
    if (quota_us < 0) {
        *ret_permille = SENSE_QUOTA_NONE;
        return 0;
    }
    return permille_of((uint64_t)quota_us, period_us, ret_permille, e);
}

/* Is "cpu" one of the words of list[n], which has commas between? */
static bool lists_cpu(const char *list, size_t n) {
    while (n > 0) {
        const char *comma = memchr(list, ',', n);
        size_t len = comma ? (size_t)(comma - list) : n;
        if (len == 3 && memcmp(list, "cpu", 3) == 0) return true;
        list += len + (comma != NULL);
        n -= len + (comma != NULL);
    }
    return false;
}

/* The path is checked by the reader of version 2's line, which it is made to look like. */
static int check_path(const char *path, size_t n, char *ret, struct err *e) {
    char line[SENSE_QUOTA_MAX_PATH + 8] = "0::";
    if (n + 4 >= sizeof(line)) return err_set(e, -EBADMSG, "the path of a cgroup is too long");
    memcpy(line + 3, path, n);
    line[3 + n] = '\n';
    bool is_outside; /* then "/" stands in for it, as it should */
    return sense_cgroup_parse_path(line, n + 4, ret, &is_outside, e);
}

int sense_quota_parse_path_v1(const char *text, size_t n, char *ret, struct err *e) {
    for (const char *at = text, *end = text + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline) return err_set(e, -EBADMSG, "the last line is cut");
        size_t len = (size_t)(newline - at);
        const char *list = memchr(at, ':', len);
        const char *path = list ? memchr(list + 1, ':', (size_t)(newline - list - 1)) : NULL;
        if (path && lists_cpu(list + 1, (size_t)(path - list - 1)))
            return check_path(path + 1, (size_t)(newline - path - 1), ret, e);
        at = newline + 1;
    }
    return err_set(e, -ENODATA, "there is no hierarchy of version 1 with the controller cpu");
}

uint32_t sense_quota_threads(uint32_t permille, uint32_t n) {
    if (permille == SENSE_QUOTA_NONE) return MAX(n, 1u);
    uint64_t most = ((uint64_t)permille + 999) / 1000;
    return (uint32_t)MAX(MIN(most, n), 1u);
}

/* ---- the place ---- */

int sense_quota_create(const char *root, const char *self, struct sense_quotas **ret,
                       struct err *e) {
    struct sense_quotas *q = calloc(1, sizeof(*q));
    if (!q) return err_set(e, -ENOMEM, "no memory to read the quota of CPUs");
    q->root = root;
    q->self = self;
    sense_file_init(&q->self_file);
    *ret = q;
    return 0;
}

static void close_levels(struct sense_quotas *q) {
    for (uint32_t i = 0; i < q->n; i++) {
        sense_folder_close(&q->levels[i].folder);
        sense_file_close(&q->levels[i].quota);
        sense_file_close(&q->levels[i].period);
    }
    q->n = 0;
}

void sense_quota_destroy(struct sense_quotas *q) {
    if (!q) return;
    close_levels(q);
    sense_file_close(&q->self_file);
    free(q);
}

/* From the cgroup itself up to the mount's top, which is always one. */
static void add_levels(struct sense_quotas *q, const struct mount *m) {
    const char *path = q->paths[m->is_v1];
    size_t n = strlen(path);
    for (unsigned i = 0; i < MAX_LEVELS; i++) {
        struct level *l = &q->levels[q->n++];
        l->mount = m;
        l->n_path = i + 1 < MAX_LEVELS ? n : 0;
        sense_folder_init(&l->folder);
        sense_file_init(&l->quota);
        sense_file_init(&l->period);
        if (n == 0) return;
        while (n > 0 && path[n - 1] != '/') n--;
        if (n > 0) n--;
    }
}

/* "" also where the path cannot be used: it does not lie below the mount. */
static void take_path(int code, const char *found, char *ret) {
    strcpy(ret, code < 0 || strcmp(found, "/") == 0 ? "" : found);
}

static int level_path(const struct sense_quotas *q, const struct level *l, const char *name,
                      char *ret, struct err *e) {
    return sense_text_path(ret, e, q->root, "%s%.*s%s%s", l->mount->path, (int)l->n_path,
                           q->paths[l->mount->is_v1], name[0] ? "/" : "", name);
}

/* Files that a level lacks come when a controller is turned on, with others. */
static void look_at_level(const struct sense_quotas *q, struct level *l) {
    char path[SENSE_MAX_PATH];
    if (level_path(q, l, "", path, NULL) < 0 || sense_folder_is_same(&l->folder, path)) return;
    sense_file_close(&l->quota);
    sense_file_close(&l->period);
}

static bool is_mounted(const struct sense_quotas *q, const struct mount *m) {
    char path[SENSE_MAX_PATH];
    return sense_text_path(path, NULL, q->root, "%s", m->path) == 0 && access(path, F_OK) == 0;
}

static int scan(struct sense_quotas *q, const struct sense_when *w, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_SELF], found[2][SENSE_QUOTA_MAX_PATH];
    char at[2][SENSE_QUOTA_MAX_PATH];
    size_t n;
    bool is_outside;
    int r = sense_text_path(path, e, q->root, "%s", q->self);
    if (r == 0) r = sense_file_read(&q->self_file, path, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    take_path(sense_cgroup_parse_path(text, n, found[0], &is_outside, NULL), found[0], at[0]);
    take_path(sense_quota_parse_path_v1(text, n, found[1], NULL), found[1], at[1]);
    bool is_same = q->has_scanned && strcmp(at[0], q->paths[0]) == 0 &&
                   strcmp(at[1], q->paths[1]) == 0;
    if (is_same && q->self_file.is_kernels && ++q->n_looks < SENSE_FOLDER_LOOKS) {
        for (uint32_t i = 0; i < q->n; i++) look_at_level(q, &q->levels[i]);
        return 0;
    }
    close_levels(q);
    q->n_looks = 0;
    memcpy(q->paths, at, sizeof(at));
    for (size_t i = 0; i < N_MOUNTS; i++)
        if (is_mounted(q, &mounts[i])) add_levels(q, &mounts[i]);
    for (uint32_t i = 0; i < q->n; i++) look_at_level(q, &q->levels[i]); /* the first of each */
    return 0;
}

/* ---- reading ---- */

static int read_file(const struct sense_quotas *q, const struct sense_when *w,
                     const struct level *l, struct sense_file *f, const char *name, char *text,
                     size_t *ret_n, struct err *e) {
    char path[SENSE_MAX_PATH];
    /* What is absent is not looked for again here: look_at_level() knows when. */
    const struct sense_when once = {.now_us = w->now_us,
                                    .rescan_us = UINT64_MAX,
                                    .may_open = w->may_open,
                                    .is_quiet = w->is_quiet};
    int r = level_path(q, l, name, path, e);
    return r < 0 ? r : sense_file_read(f, path, &once, text, MAX_TEXT, ret_n, e);
}

static int read_level(const struct sense_quotas *q, const struct sense_when *w, struct level *l,
                      uint32_t *ret_permille, struct err *e) {
    char quota[MAX_TEXT], period[MAX_TEXT];
    size_t n_quota, n_period;
    if (!l->mount->is_v1) {
        int r = read_file(q, w, l, &l->quota, "cpu.max", quota, &n_quota, e);
        return r < 0 ? r : sense_quota_parse(quota, n_quota, ret_permille, e);
    }
    int r = read_file(q, w, l, &l->quota, "cpu.cfs_quota_us", quota, &n_quota, e);
    if (r == 0) r = read_file(q, w, l, &l->period, "cpu.cfs_period_us", period, &n_period, e);
    return r < 0 ? r : sense_quota_parse_v1(quota, n_quota, period, n_period, ret_permille, e);
}

static void take_level(const struct sense_quotas *q, const struct level *l, uint32_t permille,
                       struct sense_quota *best) {
    if (permille >= best->permille) return;
    const char *path = q->paths[l->mount->is_v1];
    best->permille = permille;
    best->is_v1 = l->mount->is_v1;
    memcpy(best->at, path, l->n_path);
    best->at[l->n_path] = '\0';
    if (l->n_path == 0) strcpy(best->at, "/");
}

static bool is_due(const struct sense_quotas *q, const struct sense_when *w) {
    return !q->has_scanned || w->now_us < q->scanned_us ||
           w->now_us - q->scanned_us >= w->rescan_us;
}

int sense_quota_read(struct sense_quotas *q, const struct sense_when *w, struct sense_quota *ret,
                     struct err *e) {
    struct sense_quota best = {.permille = SENSE_QUOTA_NONE};
    bool has = false;
    if (sense_may_open(w) && is_due(q, w)) {
        q->scan_err = (struct err){0};
        q->scan_code = scan(q, w, &q->scan_err);
        q->has_scanned = true;
        q->scanned_us = w->now_us;
    }
    if (!q->has_scanned)
        return err_set(e, -EAGAIN, "the quota of CPUs was not looked for before the limit");
    if (q->scan_code < 0) return err_set(e, q->scan_code, "%s", q->scan_err.msg);
    for (uint32_t i = 0; i < q->n; i++) {
        uint32_t permille = SENSE_QUOTA_NONE;
        int r = read_level(q, w, &q->levels[i], &permille, e);
        if (r == -EBADMSG) return r;
        if (r < 0) continue;
        has = true;
        take_level(q, &q->levels[i], permille, &best);
    }
    if (!has) return err_set(e, -ENODATA, "no cgroup here has a quota of CPUs");
    if (e) *e = (struct err){0};
    *ret = best;
    return 0;
}
