/* Chooses CPUs from what sysfs tells about them. No state; read once, before threads are made. */
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
    BIG_DIVISOR = 2,
};

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

int topology_parse_capacity(const char *text, size_t n, unsigned *ret) {
    const char *s = text, *end = text + n;
    unsigned v;
    if (!take_number(&s, end, MAX_CAPACITY, &v) || v == 0) return -EBADMSG;
    if (end - s != 1 || *s != '\n') return -EBADMSG;
    *ret = v;
    return 0;
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

/* Those of `set` that are big. All, if one of them does not tell. */
static cpu_set_t big_ones(const char *root, const cpu_set_t *set) {
    unsigned capacity[CPU_SETSIZE], largest = 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++) {
        char text[MAX_TEXT];
        if (!CPU_ISSET(c, set)) continue;
        size_t n = read_cpu_file(root, c, "cpu_capacity", text);
        if (topology_parse_capacity(text, n, &capacity[c]) < 0) return *set;
        largest = MAX(largest, capacity[c]);
    }
    cpu_set_t big;
    CPU_ZERO(&big);
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, set) && capacity[c] * BIG_DIVISOR >= largest) CPU_SET(c, &big);
    return big;
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

    *ret = (struct topology){.cpus = big_ones(root, &online)};
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
