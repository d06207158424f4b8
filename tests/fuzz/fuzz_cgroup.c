/* The files of a cgroup from any bytes. The first byte chooses which one it is. */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_cgroup.h"
#include "tests/fuzz/fuzz.h"

static void check_path(const char *s) {
    if (s[0] != '/' || strlen(s) >= SENSE_CGROUP_MAX_PATH) abort();
    for (const char *p = s; (p = strchr(p, '/')); p++)
        if (strncmp(p, "/..", 3) == 0 && (p[3] == '/' || p[3] == '\0')) abort();
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) abort();
}

/* The text as every file of a cgroup: what is left and what is over never are both. */
static int check_count(const char *text, size_t n, struct err *e) {
    const struct sense_cgroup_text all = {.s = text, .n = n};
    struct sense_cgroup_count c = {.used_bytes = 12};
    int r = 0;
    for (unsigned version = 1; version <= 2; version++) {
        const struct sense_cgroup_texts t = {version, all, all, all, all};
        r = sense_cgroup_count(&t, &c, e);
        if (r < 0 && c.used_bytes != 12) abort();
        if (r == 0 && c.left_bytes > 0 && c.over_bytes > 0) abort();
        if (r == 0 && c.limit_bytes == UINT64_MAX && c.left_bytes != UINT64_MAX) abort();
        c = (struct sense_cgroup_count){.used_bytes = 12};
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[SENSE_CGROUP_MAX_PATH] = "-";
    struct sense_cgroup_events ev = {.high = 12};
    struct sense_cgroup_stat st = {.active_file = 12};
    uint64_t limit = 12;
    struct err e = {0};
    if (size == 0) return 0;
    const char *text = (const char *)data + 1;
    int r = 0;
    bool is_outside = false;
    switch (data[0] % 7) {
    case 0:
    case 4:
        r = data[0] % 7 == 0
                ? sense_cgroup_parse_path(text, size - 1, path, &is_outside, &e)
                : sense_cgroup_parse_below(1, text, size - 1, "/a", path, &is_outside, &e);
        if (r == 0) check_path(path);
        if (r < 0 && strcmp(path, "-") != 0) abort();
        if (is_outside && strcmp(path, "/") != 0) abort();
        break;
    case 6:
        r = sense_cgroup_parse_top(text, size - 1, "/sys/fs/cgroup", path, &e);
        if (r == 0 && path[0] != '/') abort();
        if (r < 0 && strcmp(path, "-") != 0) abort();
        break;
    case 5: r = check_count(text, size - 1, &e); break;
    case 1:
        r = sense_cgroup_parse_limit(text, size - 1, &limit, &e);
        if (r < 0 && limit != 12) abort();
        break;
    case 2:
        r = sense_cgroup_parse_events(text, size - 1, &ev, &e);
        if (r < 0 && ev.high != 12) abort();
        break;
    case 3:
        r = sense_cgroup_parse_stat(text, size - 1, &st, &e);
        if (r < 0 && st.active_file != 12) abort();
        break;
    }
    if (r < 0 && e.code != r) abort();
    return 0;
}
