/* Which CPUs compute threads should have: the big ones, one thread for each physical core.
 *
 * Linux says in <root>/sys/devices/system/cpu/cpuN: cpu_capacity where cores differ (big.LITTLE;
 * the largest has 1024), topology/thread_siblings_list where one core is several CPUs. Kernels
 * whose device tree has no capacities still have each core's greatest clock in
 * cpufreq/cpuinfo_max_freq. What is missing or absurd is unknown, and then all CPUs count as equal
 * or as cores of their own: so do containers and virtual machines without these files use what they
 * may, as if there were none. */
#ifndef EBB_CORE_TOPOLOGY_H
#define EBB_CORE_TOPOLOGY_H

#include <sched.h>

#include "core/defs.h"

/* By which of the files the big cores were found: the first that every CPU has. */
enum topology_source {
    TOPOLOGY_NONE, /* by none: all count as big */
    TOPOLOGY_CAPACITY,
    TOPOLOGY_MAX_FREQ,
};

struct topology {
    cpu_set_t cpus;     /* to run on: every CPU of a big core, never empty */
    unsigned n_cores;   /* physical ones among them, >= 1: the threads to have */
    bool leaves_some;   /* cpus is not all that this process may use */
    char cpus_text[64]; /* "0-3,6"; ends in "..." where there was no room */
    enum topology_source source;
};

/* "cpu_capacity", "cpuinfo_max_freq"; NULL of TOPOLOGY_NONE. */
const char *topology_source_name(enum topology_source s);

/* allowed: the CPUs this process may use, not empty (its affinity mask, which the kernel keeps
 * within the cgroup's cpuset). Reads a few small files below `root` ("/" or another folder that
 * holds sys/); never fails, never blocks on a FIFO. */
void topology_choose(const char *root, const cpu_set_t *allowed, struct topology *ret);

/* The same for the calling thread's affinity mask. -ENOTSUP: there are more CPUs than cpu_set_t
 * holds, or no mask can be had; *ret is untouched. */
int topology_read(const char *root, struct topology *ret) MUST_CHECK;

/* The number in the text of a cpu_capacity file. Pure. 0 or -EBADMSG (not "<number>\n" in
 * 1 .. 65536). */
int topology_parse_capacity(const char *text, size_t n, unsigned *ret) MUST_CHECK;

/* The number in the text of a cpuinfo_max_freq file. Pure. 0 or -EBADMSG (not "<number>\n" in
 * 1 .. 100000000). */
int topology_parse_khz(const char *text, size_t n, unsigned *ret) MUST_CHECK;

/* The CPUs in the text of a list file: "0,4-7\n". Pure. 0 or -EBADMSG (anything else, a reversed
 * range, a CPU beyond CPU_SETSIZE, a line that is cut). */
int topology_parse_list(const char *text, size_t n, cpu_set_t *ret) MUST_CHECK;

#endif
