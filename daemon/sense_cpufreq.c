#include "daemon/sense_cpufreq.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
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

static int read_khz(const char *root, uint32_t number, const char *name, uint32_t *ret_khz,
                    struct err *e) {
    char path[SENSE_MAX_PATH], text[MAX_TEXT];
    size_t n;
    int r = sense_text_path(path, e, root, "/sys/devices/system/cpu/cpufreq/policy%u/%s", number,
                            name);
    if (r == 0) r = sense_text_read(path, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_cpufreq_parse_khz(text, n, ret_khz, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}

static int read_policies(const char *root, uint32_t *numbers, struct sense_cpufreq *ret,
                         struct err *e) {
    char path[SENSE_MAX_PATH];
    size_t n, n_beyond;
    struct err first = {0};
    struct sense_cpufreq f = {.least_permille = UINT32_MAX};
    int r = sense_text_path(path, e, root, "/sys/devices/system/cpu/cpufreq");
    if (r == 0)
        r = sense_text_numbered(path, "policy", numbers, SENSE_MAX_POLICIES, &n, &n_beyond, e);
    if (r < 0) return r;
    for (size_t i = 0; i < n; i++) {
        struct sense_clock c = {.number = numbers[i]};
        struct err bad = {0};
        r = read_khz(root, c.number, "scaling_max_freq", &c.cap_khz, &bad);
        if (r == 0) r = read_khz(root, c.number, "cpuinfo_max_freq", &c.top_khz, &bad);
        if (r < 0) {
            if (first.code == 0) first = bad;
            continue;
        }
        c.has_cur = read_khz(root, c.number, "scaling_cur_freq", &c.cur_khz, NULL) == 0;
        /* A boost may allow more than the processor's own greatest clock. */
        uint64_t permille = (uint64_t)MIN(c.cap_khz, c.top_khz) * 1000 / c.top_khz;
        f.least_permille = MIN(f.least_permille, (uint32_t)permille);
        if (f.n_clocks < SENSE_MAX_CLOCKS) f.clocks[f.n_clocks++] = c;
    }
    if (f.n_clocks == 0) {
        if (first.code < 0) return err_set(e, first.code, "%s", first.msg);
        return err_set(e, -ENODATA, "there is no cpufreq policy");
    }
    *ret = f;
    return 0;
}

int sense_cpufreq_read(const char *root, struct sense_cpufreq *ret, struct err *e) {
    uint32_t *numbers = malloc(SENSE_MAX_POLICIES * sizeof(numbers[0]));
    if (!numbers) return err_set(e, -ENOMEM, "no memory to read the clocks");
    int r = read_policies(root, numbers, ret, e);
    free(numbers);
    return r;
}
