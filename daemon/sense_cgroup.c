#include "daemon/sense_cgroup.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_text.h"

/* ---- where we are ---- */

/* s[n] begins with a whole component "..". */
static bool is_up(const char *s, size_t n) {
    return n >= 3 && memcmp(s, "/..", 3) == 0 && (n == 3 || s[3] == '/');
}

static bool is_path(const char *s, size_t n) {
    if (n == 0 || s[0] != '/') return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f) return false;
        if (is_up(s + i, n - i)) return false;
    }
    return true;
}

/* Behind the components ".." in front of path[n]. The kernel puts them there alone: once for each
 * cgroup between ours and the root of the namespace. */
static size_t skip_ups(const char *path, size_t n) {
    size_t at = 0;
    while (is_up(path + at, n - at)) at += 3;
    return at;
}

static bool is_path_with_ups(const char *path, size_t n) {
    size_t at = skip_ups(path, n);
    return (at > 0 && at == n) || is_path(path + at, n - at);
}

/* path[n] of such a line, checked, and below the top. */
static int take_path(const char *path, size_t n, const char *top, const char *what, char *ret,
                     bool *ret_is_outside, struct err *e) {
    size_t n_top = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (!is_path_with_ups(path, n))
        return err_set(e, -EBADMSG, "the path after %s is not usable", what);
    if (n >= SENSE_CGROUP_MAX_PATH)
        return err_set(e, -EBADMSG, "the path after %s is longer than %d bytes", what,
                       SENSE_CGROUP_MAX_PATH - 1);
    bool is_below = n >= n_top && memcmp(path, top, n_top) == 0 &&
                    (n == n_top || path[n_top] == '/');
    if (is_below) path += n_top, n -= n_top;
    while (n > 0 && path[n - 1] == '/') n--;
    *ret_is_outside = !is_below || skip_ups(path, n) > 0;
    if (*ret_is_outside) n = 0;
    memcpy(ret, path, n);
    strcpy(ret + n, n == 0 ? "/" : "");
    return 0;
}

static int parse_2(const char *text, size_t n, const char *top, char *ret, bool *ret_is_outside,
                   struct err *e) {
    const char *path;
    size_t at = 0, n_path;
    int r = sense_text_line(text, n, &at, "0::", &path, &n_path, e);
    return r < 0 ? r : take_path(path, n_path, top, "0::", ret, ret_is_outside, e);
}

/* "memory" among the names of list[n], which has commas between. */
static bool has_memory(const char *list, size_t n) {
    while (n > 0) {
        const char *comma = memchr(list, ',', n);
        size_t len = comma ? (size_t)(comma - list) : n;
        if (len == 6 && memcmp(list, "memory", 6) == 0) return true;
        list += len + (comma != NULL);
        n -= len + (comma != NULL);
    }
    return false;
}

/* "<number>:<controllers>:<path>", several of them where hierarchies were mounted together. */
static int parse_1(const char *text, size_t n, const char *top, char *ret, bool *ret_is_outside,
                   struct err *e) {
    for (size_t at = 0; at < n;) {
        const char *line;
        size_t n_line;
        int r = sense_text_line(text, n, &at, "", &line, &n_line, e);
        if (r < 0) return r;
        const char *names = memchr(line, ':', n_line), *end = line + n_line;
        if (!names) continue;
        names++;
        const char *path = memchr(names, ':', (size_t)(end - names));
        if (!path || !has_memory(names, (size_t)(path - names))) continue;
        return take_path(path + 1, (size_t)(end - path - 1), top, "memory:", ret, ret_is_outside,
                         e);
    }
    return err_set(e, -ENODATA, "there is no line of the memory controller");
}

int sense_cgroup_parse_path(const char *text, size_t n, char *ret, bool *ret_is_outside,
                            struct err *e) {
    return parse_2(text, n, "/", ret, ret_is_outside, e);
}

int sense_cgroup_parse_below(unsigned version, const char *text, size_t n, const char *top,
                             char *ret, bool *ret_is_outside, struct err *e) {
    return version == 1 ? parse_1(text, n, top, ret, ret_is_outside, e)
                        : parse_2(text, n, top, ret, ret_is_outside, e);
}

/* The next of the words of a line, which have a blank between; false at its end. */
static bool next_word(const char **at, const char *end, const char **ret, size_t *ret_n) {
    if (*at >= end) return false;
    const char *blank = memchr(*at, ' ', (size_t)(end - *at));
    *ret = *at;
    *ret_n = (size_t)((blank ? blank : end) - *at);
    *at += *ret_n + 1;
    return true;
}

/* "36 35 98:0 <top> <point> rw,noatime master:1 - <type> ...". True with the top if it is of
 * cgroups at that point. */
static bool parse_mount(const char *line, size_t n, const char *point, const char **ret_top,
                        size_t *ret_n_top) {
    const char *at = line, *end = line + n, *word;
    size_t n_word;
    for (unsigned i = 0; i < 5; i++) {
        if (!next_word(&at, end, &word, &n_word)) return false;
        if (i == 3) *ret_top = word, *ret_n_top = n_word;
    }
    if (n_word != strlen(point) || memcmp(word, point, n_word) != 0) return false;
    do {
        if (!next_word(&at, end, &word, &n_word)) return false;
    } while (n_word != 1 || word[0] != '-');
    return next_word(&at, end, &word, &n_word) &&
           ((n_word == 6 && memcmp(word, "cgroup", 6) == 0) ||
            (n_word == 7 && memcmp(word, "cgroup2", 7) == 0));
}

int sense_cgroup_parse_top(const char *text, size_t n, const char *point, char *ret,
                           struct err *e) {
    const char *line, *top = NULL;
    size_t at = 0, n_line, n_top = 0;
    while (at < n && sense_text_line(text, n, &at, "", &line, &n_line, NULL) == 0) {
        const char *this_top = NULL;
        size_t n_this = 0;
        /* The last one mounted there covers the others. */
        if (parse_mount(line, n_line, point, &this_top, &n_this)) top = this_top, n_top = n_this;
    }
    if (!top) return err_set(e, -ENODATA, "no cgroups are mounted at %s", point);
    if (n_top >= SENSE_CGROUP_MAX_PATH || !is_path_with_ups(top, n_top))
        return err_set(e, -EBADMSG, "the top of %s is not usable", point);
    memcpy(ret, top, n_top);
    ret[n_top] = '\0';
    return 0;
}

/* ---- texts ---- */

int sense_cgroup_parse_limit(const char *text, size_t n, uint64_t *ret_bytes, struct err *e) {
    /* The greatest whole page, of 4 KiB to 1 MiB, below 2^63. */
    const uint64_t none = (UINT64_C(1) << 63) - (UINT64_C(1) << 20);
    uint64_t v;
    if (n == 4 && memcmp(text, "max\n", 4) == 0) {
        *ret_bytes = UINT64_MAX;
        return 0;
    }
    int r = sense_text_value(text, n, &v, e);
    if (r == 0) *ret_bytes = v >= none ? UINT64_MAX : v;
    return r;
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

/* ---- what is left ---- */

/* Of version 1: with those below it, or of a kernel that does not add them up, its own. */
static int cache_of_1(const struct sense_cgroup_text *stat, uint64_t *ret, struct err *e) {
    uint64_t inactive, active;
    if (!stat->s) {
        *ret = 0;
        return 0;
    }
    int r = sense_text_key(stat->s, stat->n, "total_inactive_file", &inactive, e);
    if (r == 0) r = sense_text_key(stat->s, stat->n, "total_active_file", &active, e);
    if (r == -ENODATA) {
        r = sense_text_key(stat->s, stat->n, "inactive_file", &inactive, e);
        if (r == 0) r = sense_text_key(stat->s, stat->n, "active_file", &active, e);
    }
    if (r == 0 && __builtin_add_overflow(inactive, active, ret))
        r = err_set(e, -EBADMSG, "the page cache does not fit 64 bits");
    return r;
}

static int cache_of_2(const struct sense_cgroup_text *stat, uint64_t *ret, struct err *e) {
    struct sense_cgroup_stat v;
    if (!stat->s) return err_set(e, -ENODATA, "there is no such file");
    int r = sense_cgroup_parse_stat(stat->s, stat->n, &v, e);
    if (r == 0 && __builtin_add_overflow(v.inactive_file, v.active_file, ret))
        r = err_set(e, -EBADMSG, "the page cache does not fit 64 bits");
    return r;
}

static int used_of(const struct sense_cgroup_texts *t, uint64_t *ret, struct err *e) {
    uint64_t current = 0, cache = 0;
    int r = t->current.s ? sense_text_value(t->current.s, t->current.n, &current, e)
                         : err_set(e, -ENODATA, "there is no such file");
    if (r < 0) {
        err_prefix(e, t->version == 1 ? "memory.usage_in_bytes" : "memory.current");
        return r;
    }
    r = t->version == 1 ? cache_of_1(&t->stat, &cache, e) : cache_of_2(&t->stat, &cache, e);
    if (r < 0) {
        err_prefix(e, "memory.stat");
        return r;
    }
    /* The two files are not of one moment. */
    *ret = current > cache ? current - cache : 0;
    return 0;
}

static int limit_of(const struct sense_cgroup_text *t, const char *name, uint64_t *ret,
                    struct err *e) {
    int r = t->s ? sense_cgroup_parse_limit(t->s, t->n, ret, e)
                 : err_set(e, -ENODATA, "there is no such file");
    if (r < 0) err_prefix(e, "%s", name);
    return r;
}

int sense_cgroup_count(const struct sense_cgroup_texts *t, struct sense_cgroup_count *ret,
                       struct err *e) {
    uint64_t high = UINT64_MAX, max = UINT64_MAX, used = 0;
    /* The kernel makes both files or none: one that is missing is not one without a limit. */
    int r = t->version == 1 ? 0 : limit_of(&t->high, "memory.high", &high, e);
    if (r == 0)
        r = limit_of(&t->max, t->version == 1 ? "memory.limit_in_bytes" : "memory.max", &max, e);
    if (r < 0) return r;
    uint64_t limit = MIN(high, max);
    r = used_of(t, &used, e);
    if (limit != UINT64_MAX && r < 0) return r;
    *ret = (struct sense_cgroup_count){
        .limit_bytes = limit,
        .used_bytes = used,
        .left_bytes = limit == UINT64_MAX ? UINT64_MAX
                      : limit > used      ? limit - used
                                          : 0,
        .over_bytes = used > limit ? used - limit : 0,
        .is_high = high <= max && high != UINT64_MAX,
    };
    if (e) *e = (struct err){0}; /* of what was tried first */
    return 0;
}
