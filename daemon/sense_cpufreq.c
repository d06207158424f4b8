#include "daemon/sense_cpufreq.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "daemon/sense_file.h"
#include "daemon/sense_folder.h"
#include "daemon/sense_text.h"

enum { MAX_TEXT = 64 };

int sense_cpufreq_parse_khz(const char *text, size_t n, uint32_t *ret_khz, struct err *e) {
    uint64_t v;
    int r = sense_text_value(text, n, &v, e);
    if (r < 0) return r;
    if (v == 0 || v > UINT32_MAX) return err_set(e, -EBADMSG, "no clock of a processor");
    *ret_khz = (uint32_t)v;
    return 0;
}

struct policy {
    struct sense_clock clock;
    struct sense_file cap;
};

struct sense_clocks {
    const char *root; /* borrowed */
    bool has_scanned;
    uint64_t scanned_us;
    struct sense_folder folder;
    struct err scan_err; /* of the folder, or of the first policy without a greatest clock */
    uint32_t n;
    struct policy policies[SENSE_MAX_POLICIES];
    uint32_t numbers[SENSE_MAX_POLICIES];
};

int sense_cpufreq_create(const char *root, struct sense_clocks **ret, struct err *e) {
    struct sense_clocks *c = calloc(1, sizeof(*c));
    if (!c) return err_set(e, -ENOMEM, "no memory to read the clocks");
    c->root = root;
    sense_folder_init(&c->folder);
    *ret = c;
    return 0;
}

static void close_all(struct sense_clocks *c) {
    for (uint32_t i = 0; i < c->n; i++) sense_file_close(&c->policies[i].cap);
    c->n = 0;
}

void sense_cpufreq_destroy(struct sense_clocks *c) {
    if (!c) return;
    close_all(c);
    sense_folder_close(&c->folder);
    free(c);
}

static int path_of(const struct sense_clocks *c, uint32_t number, const char *name, char *ret,
                   struct err *e) {
    return sense_text_path(ret, e, c->root, "/sys/devices/system/cpu/cpufreq/policy%u/%s", number,
                           name);
}

static int parse_at(const char *path, const char *text, size_t n, uint32_t *ret_khz,
                    struct err *e) {
    int r = sense_cpufreq_parse_khz(text, n, ret_khz, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}

static int read_once(const struct sense_clocks *c, uint32_t number, const char *name,
                     uint32_t *ret_khz, struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = path_of(c, number, name, path, e);
    if (r == 0) r = sense_text_read(path, text, sizeof(text), &n, e);
    return r < 0 ? r : parse_at(path, text, n, ret_khz, e);
}

static int read_cap(struct sense_clocks *c, const struct sense_when *w, struct policy *p,
                    struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = path_of(c, p->clock.number, "scaling_max_freq", path, e);
    if (r == 0) r = sense_file_read(&p->cap, path, w, text, sizeof(text), &n, e);
    return r < 0 ? r : parse_at(path, text, n, &p->clock.cap_khz, e);
}

static void scan(struct sense_clocks *c, const struct sense_when *w) {
    char path[SENSE_MAX_PATH];
    size_t n = 0, n_beyond;
    struct err e = {0};
    c->has_scanned = true;
    c->scanned_us = w->now_us;
    int r = sense_text_path(path, &e, c->root, "/sys/devices/system/cpu/cpufreq");
    if (r == 0 && sense_folder_is_same(&c->folder, path)) return;
    close_all(c);
    c->scan_err = e;
    if (r < 0 || sense_text_numbered(path, "policy", c->numbers, SENSE_MAX_POLICIES, &n, &n_beyond,
                                     &c->scan_err) < 0) {
        /* scan_err says why. Unless there is none, the next look is a whole one. */
        if (c->scan_err.code != -ENOENT) sense_folder_close(&c->folder);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct policy p = {.clock = {.number = c->numbers[i]}};
        struct err bad = {0};
        if (read_once(c, p.clock.number, "cpuinfo_max_freq", &p.clock.top_khz, &bad) < 0) {
            if (c->scan_err.code == 0) c->scan_err = bad;
            continue;
        }
        p.clock.has_cur = c->n < SENSE_MAX_CLOCKS &&
                          read_once(c, p.clock.number, "scaling_cur_freq", &p.clock.cur_khz,
                                    NULL) == 0;
        sense_file_init(&p.cap);
        c->policies[c->n++] = p;
    }
}

static bool is_due(const struct sense_clocks *c, const struct sense_when *w) {
    return !c->has_scanned || w->now_us < c->scanned_us ||
           w->now_us - c->scanned_us >= w->rescan_us;
}

int sense_cpufreq_read(struct sense_clocks *c, const struct sense_when *w,
                       struct sense_cpufreq *ret, struct err *e) {
    struct sense_cpufreq f = {.least_permille = UINT32_MAX};
    if (sense_may_open(w) && is_due(c, w)) scan(c, w);
    if (!c->has_scanned)
        return err_set(e, -EAGAIN, "the clocks were not looked for before the limit");
    struct err first = c->scan_err;
    for (uint32_t i = 0; i < c->n; i++) {
        struct policy *p = &c->policies[i];
        struct err bad = {0};
        if (read_cap(c, w, p, &bad) < 0) {
            if (first.code == 0) first = bad;
            continue;
        }
        /* A boost may allow more than the processor's own greatest clock. */
        uint64_t permille = (uint64_t)MIN(p->clock.cap_khz, p->clock.top_khz) * 1000 /
                            p->clock.top_khz;
        f.least_permille = MIN(f.least_permille, (uint32_t)permille);
        if (f.n_clocks < SENSE_MAX_CLOCKS) f.clocks[f.n_clocks++] = p->clock;
    }
    if (f.n_clocks == 0) {
        if (first.code < 0) return err_set(e, first.code, "%s", first.msg);
        return err_set(e, -ENODATA, "there is no cpufreq policy");
    }
    *ret = f;
    return 0;
}
