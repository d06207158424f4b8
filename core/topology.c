/* Chooses CPUs from what sysfs says about them. No state; read once, before threads are made. */
#include "core/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_TEXT = 256, /* a core's siblings; a longer list is not believed */
    MAX_CAPACITY = 65536,
    /* A core counts as big with 1/2 of the largest capacity. Little ones have 0.2 to 0.45
     * (Cortex-A55 beside A76 or A78), middle ones of phones 0.6 to 0.9. */
    BIG_PERCENT_OF_CAPACITY = 50,
    MAX_KHZ = 100000000,
    /* A clock says less than a capacity, as a big core also does more in a cycle: so a core counts
     * as big with 4/5 of the greatest. Big cores of one chip are within a tenth of each other
     * (RK3588 2.25 to 2.4 GHz by its binning, desktop chips 5.2 and 5.7), little ones at three
     * quarters at most (RK3588 1.8 of 2.4, RK3399 1.4 of 1.8, Intel's 3.9 of 5.2). */
    BIG_PERCENT_OF_CLOCK = 80,
};

/* One file of each CPU that says how big it is. */
struct measure {
    enum topology_source source;
    const char *file;
    unsigned percent; /* of the greatest, from which a core is big */
    int (*parse)(const char *text, size_t n, unsigned *ret);
};

/* Best first. */
static const struct measure measures[] = {
    {TOPOLOGY_CAPACITY, "cpu_capacity", BIG_PERCENT_OF_CAPACITY, topology_parse_capacity},
    {TOPOLOGY_MAX_FREQ, "cpufreq/cpuinfo_max_freq", BIG_PERCENT_OF_CLOCK, topology_parse_khz},
};

const char *topology_source_name(enum topology_source s) {
    switch (s) {
    case TOPOLOGY_NONE: return NULL;
    case TOPOLOGY_CAPACITY: return "cpu_capacity";
    case TOPOLOGY_MAX_FREQ: return "cpuinfo_max_freq";
    }
    return NULL;
}

/* ---- parsing */

static bool take_number(const char **s, const char *end, unsigned max, unsigned *ret) {
    const char *p = *s;
    unsigned v = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (unsigned)(*p - '0');
        if (v > max) return false;
    }
    if (p == *s) return false;
    *s = p;
    *ret = v;
    return true;
}

/* The file of one number, 1 .. max. */
static int parse_value(const char *text, size_t n, unsigned max, unsigned *ret) {
    const char *s = text, *end = text + n;
    unsigned v;
    if (!take_number(&s, end, max, &v) || v == 0) return -EBADMSG;
    if (end - s != 1 || *s != '\n') return -EBADMSG;
    *ret = v;
    return 0;
}

int topology_parse_capacity(const char *text, size_t n, unsigned *ret) {
    return parse_value(text, n, MAX_CAPACITY, ret);
}

int topology_parse_khz(const char *text, size_t n, unsigned *ret) {
    return parse_value(text, n, MAX_KHZ, ret);
}

int topology_parse_list(const char *text, size_t n, cpu_set_t *ret) {
    const char *s = text, *end = text + n;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (;;) {
        unsigned first, last;
        if (!take_number(&s, end, CPU_SETSIZE - 1, &first)) return -EBADMSG;
        last = first;
        if (s < end && *s == '-') {
            s++;
            if (!take_number(&s, end, CPU_SETSIZE - 1, &last) || last < first) return -EBADMSG;
        }
        for (unsigned c = first; c <= last; c++) CPU_SET(c, &set);
        if (s == end) return -EBADMSG; /* without its newline the number may have been cut */
        if (*s == '\n') break;
        if (*s++ != ',') return -EBADMSG;
    }
    if (end - s != 1) return -EBADMSG;
    *ret = set;
    return 0;
}

/* ---- reading */

/* Bytes read of <root>/sys/devices/system/cpu/cpuN/<name>, 0 if there are none or too many. */
static size_t read_cpu_file(const char *root, unsigned cpu, const char *name, char *text) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/cpu%u/%s",
                       strcmp(root, "/") == 0 ? "" : root, cpu, name);
    if (len < 0 || (size_t)len >= sizeof(path)) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return 0;
    size_t n = 0;
    while (n < MAX_TEXT) {
        ssize_t got = read(fd, text + n, MAX_TEXT - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) n = 0;
        if (got <= 0) break;
        n += (size_t)got;
    }
    close(fd);
    return n < MAX_TEXT ? n : 0;
}

static bool is_offline(const char *root, unsigned cpu) {
    char text[MAX_TEXT];
    size_t n = read_cpu_file(root, cpu, "online", text);
    return n == 2 && memcmp(text, "0\n", 2) == 0; /* the first CPU has no such file */
}

/* Those of `set` that are big by that file. False, and *ret untouched, if one of them has none. */
static bool find_big(const char *root, const struct measure *m, const cpu_set_t *set,
                     cpu_set_t *ret) {
    unsigned size[CPU_SETSIZE], largest = 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++) {
        char text[MAX_TEXT];
        if (!CPU_ISSET(c, set)) continue;
        size_t n = read_cpu_file(root, c, m->file, text);
        if (m->parse(text, n, &size[c]) < 0) return false;
        largest = MAX(largest, size[c]);
    }
    CPU_ZERO(ret);
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, set) && (uint64_t)size[c] * 100 >= (uint64_t)largest * m->percent)
            CPU_SET(c, ret);
    return true;
}

/* Those of `set` that are big. All, if nothing says it of every one. */
static enum topology_source big_ones(const char *root, const cpu_set_t *set, cpu_set_t *ret) {
    for (size_t i = 0; i < ARRAY_LEN(measures); i++)
        if (find_big(root, &measures[i], set, ret)) return measures[i].source;
    *ret = *set;
    return TOPOLOGY_NONE;
}

/* Cores with a CPU in `set`: a CPU counts unless a lower one of the set is a sibling. */
static unsigned count_cores(const char *root, const cpu_set_t *set) {
    unsigned n_cores = 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++) {
        char text[MAX_TEXT];
        cpu_set_t siblings;
        if (!CPU_ISSET(c, set)) continue;
        size_t n = read_cpu_file(root, c, "topology/thread_siblings_list", text);
        bool is_first = true;
        if (topology_parse_list(text, n, &siblings) == 0)
            for (unsigned i = 0; i < c; i++)
                if (CPU_ISSET(i, &siblings) && CPU_ISSET(i, set)) is_first = false;
        n_cores += is_first;
    }
    return n_cores;
}

static void put_text(const cpu_set_t *set, char *ret, size_t size) {
    static const char more[] = "...";
    size_t at = 0;
    ret[0] = 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++) {
        char range[24];
        unsigned first = c;
        if (!CPU_ISSET(c, set)) continue;
        while (c + 1 < CPU_SETSIZE && CPU_ISSET(c + 1, set)) c++;
        int n = first == c ? snprintf(range, sizeof(range), "%s%u", at ? "," : "", c)
                           : snprintf(range, sizeof(range), "%s%u-%u", at ? "," : "", first, c);
        if (at + (size_t)n + sizeof(more) > size) {
            memcpy(ret + at, more, sizeof(more));
            return;
        }
        memcpy(ret + at, range, (size_t)n + 1);
        at += (size_t)n;
    }
}

void topology_choose(const char *root, const cpu_set_t *allowed, struct topology *ret) {
    cpu_set_t online;
    CPU_ZERO(&online);
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, allowed) && !is_offline(root, c)) CPU_SET(c, &online);
    if (CPU_COUNT(&online) == 0) online = *allowed; /* absurd: we run on one of them */

    *ret = (struct topology){0};
    ret->source = big_ones(root, &online, &ret->cpus);
    ret->n_cores = MAX(count_cores(root, &ret->cpus), 1u);
    ret->leaves_some = !CPU_EQUAL(&ret->cpus, &online);
    put_text(&ret->cpus, ret->cpus_text, sizeof(ret->cpus_text));
}

int topology_read(const char *root, struct topology *ret) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) == 0)
        return -ENOTSUP;
    topology_choose(root, &allowed, ret);
    return 0;
}
