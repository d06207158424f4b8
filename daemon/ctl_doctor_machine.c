/* `ebb doctor`, the machine: settings of the kernel that decide what happens to a program that
 * holds a model: pages, swap, reclaim, overcommit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_doctor.h"
#include "daemon/sense_meminfo.h"

static void check_board(struct ctl_doctor *d) {
    char model[128], release[128];
    if (!ctl_doctor_word(d, "/proc/device-tree/model", model, sizeof(model)))
        strcpy(model, "no device tree");
    if (!ctl_doctor_word(d, "/proc/sys/kernel/osrelease", release, sizeof(release)))
        strcpy(release, "unknown");
    ctl_doctor_say(d, CTL_GOOD, "board", NULL, "%s, kernel %s", model, release);
}

/* Total memory, and how little of it is left. */
static void check_memory(struct ctl_doctor *d) {
    char text[8192], a[32], b[32];
    unsigned long long total;
    uint64_t available;
    int n = ctl_doctor_read(d, "/proc/meminfo", text, sizeof(text));
    if (n < 0 || sense_meminfo_parse(text, (size_t)n, &available, NULL) < 0) return; /* `meminfo` */
    const char *line = strstr(text, "MemTotal:");
    if (!line || sscanf(line, "MemTotal: %llu kB", &total) != 1 || total == 0) return;
    double share = (double)available / 1024 / (double)total;
    ctl_doctor_say(d, share < 0.1 ? CTL_NOTE : CTL_GOOD, "memory",
                   "little is left: ebbd will keep to low precision", "%s of %s available",
                   ctl_bytes((double)available, a), ctl_bytes((double)total * 1024, b));
}

/* Of the machine below the root, from the first mapping of this process; 0 = unknown. */
static long page_bytes(const struct ctl_doctor *d) {
    char text[2048];
    long kib;
    if (ctl_doctor_read(d, "/proc/self/smaps", text, sizeof(text)) > 0) {
        const char *line = strstr(text, "KernelPageSize:");
        if (line && sscanf(line, "KernelPageSize: %ld kB", &kib) == 1 && kib > 0 && kib <= 1024)
            return kib * 1024;
    }
    return strcmp(d->c->root, "/") == 0 ? sysconf(_SC_PAGESIZE) : 0;
}

static void check_pages(struct ctl_doctor *d) {
    long page = page_bytes(d);
    if (page == 0)
        ctl_doctor_say(d, CTL_GOOD, "pages", NULL, "size unknown from here");
    else if (page == 4096)
        ctl_doctor_say(d, CTL_GOOD, "pages", NULL, "4096 bytes");
    else if (page == 16384)
        ctl_doctor_say(d, CTL_GOOD, "pages", NULL,
                       "16384 bytes, as on a Raspberry Pi 5: weights lie in the pack on such "
                       "borders, so they are read without copies; other programs hold more memory "
                       "than with 4096, and a few refuse to start");
    else
        ctl_doctor_say(d, CTL_NOTE, "pages",
                       "parts of a pack begin every 16384 bytes, so that reads go through the page "
                       "cache, and each allocation is rounded up: a kernel with 4 or 16 KiB pages "
                       "suits a small board better",
                       "%ld bytes", page);
}

static void check_swap(struct ctl_doctor *d) {
    char text[4096], name[64];
    unsigned n_disk = 0, n_zram = 0;
    if (ctl_doctor_read(d, "/proc/swaps", text, sizeof(text)) < 0) return;
    const char *line = strchr(text, '\n'); /* the first line names the columns */
    for (; line && line[1]; line = strchr(line + 1, '\n')) {
        if (sscanf(line + 1, "%63s", name) != 1) continue;
        if (strstr(name, "zram"))
            n_zram++;
        else
            n_disk++;
    }
    if ((n_disk || n_zram) && ctl_doctor_may_not_swap(d))
        ctl_doctor_say(d, CTL_GOOD, "swap", NULL, "%s, and closed to the daemon (MemorySwapMax=0)",
                       n_disk ? "on disk" : "zram");
    else if (n_disk)
        ctl_doctor_say(d, CTL_NOTE, "swap",
                       "weights in swap are worse than paging: each token faults them in page by "
                       "page, and wears the card. MemorySwapMax=0 in the unit keeps ebbd out of it "
                       "(needs the memory controller); else swapoff",
                       "%u on disk%s", n_disk, n_zram ? ", and zram" : "");
    else if (n_zram)
        ctl_doctor_say(d, CTL_NOTE, "swap",
                       "weights do not compress: what of them goes to zram frees nothing. "
                       "MemorySwapMax=0 in the unit keeps ebbd out of it (needs the memory "
                       "controller); zram is good for the rest of the system",
                       "zram");
    else
        ctl_doctor_say(d, CTL_GOOD, "swap", NULL, "none");
}

static void check_lru(struct ctl_doctor *d) {
    char enabled[32], ttl[32];
    if (!ctl_doctor_word(d, "/sys/kernel/mm/lru_gen/enabled", enabled, sizeof(enabled))) {
        ctl_doctor_say(d, CTL_GOOD, "lru_gen", NULL, "this kernel has no multi-generation LRU");
        return;
    }
    if (!(strtoul(enabled, NULL, 0) & 1)) {
        ctl_doctor_say(d, CTL_NOTE, "lru_gen",
                       "echo y > /sys/kernel/mm/lru_gen/enabled: the kernel then chooses better "
                       "what to drop when memory is short",
                       "the multi-generation LRU is built in, and off");
        return;
    }
    if (!ctl_doctor_word(d, "/sys/kernel/mm/lru_gen/min_ttl_ms", ttl, sizeof(ttl)))
        strcpy(ttl, "unknown");
    unsigned long ms = strtoul(ttl, NULL, 10);
    if (ms == 0)
        ctl_doctor_say(d, CTL_GOOD, "lru_gen", NULL,
                       "on, min_ttl_ms %s: short of memory the kernel thrashes for long before it "
                       "kills; ebbd gives way before",
                       ttl);
    else
        ctl_doctor_say(d, CTL_NOTE, "lru_gen",
                       "that ends thrashing, but the one killed is likely ebbd, the largest and by "
                       "its unit the first: keep memory.reserve large enough that it does not come "
                       "to that",
                       "on, min_ttl_ms %lu: the kernel kills at once when it cannot keep what was "
                       "used in the last %lu ms",
                       ms, ms);
}

static void check_overcommit(struct ctl_doctor *d) {
    static const char *const words[] = {"by guess", "always", "never"};
    char text[32];
    if (!ctl_doctor_word(d, "/proc/sys/vm/overcommit_memory", text, sizeof(text))) return;
    unsigned long mode = strtoul(text, NULL, 10);
    if (mode > 2) return; /* not ours to guess */
    ctl_doctor_say(d, mode == 2 ? CTL_NOTE : CTL_GOOD, "overcommit",
                   "with strict accounting units may not grow although memory is free: "
                   "vm.overcommit_memory=0, or a larger vm.overcommit_ratio",
                   "%s (vm.overcommit_memory=%lu)", words[mode], mode);
}

static void check_huge_pages(struct ctl_doctor *d) {
    char text[128];
    if (!ctl_doctor_word(d, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text))) {
        ctl_doctor_say(d, CTL_GOOD, "huge pages", NULL, "this kernel has no transparent ones");
        return;
    }
    if (strstr(text, "[never]"))
        ctl_doctor_say(d, CTL_NOTE, "huge pages",
                       "ebbd asks for them for weights, which saves time at each token: echo "
                       "madvise > /sys/kernel/mm/transparent_hugepage/enabled",
                       "never");
    else if (strstr(text, "[always]"))
        ctl_doctor_say(d, CTL_GOOD, "huge pages", NULL,
                       "always: good for ebbd; other programs may hold more than they use, and "
                       "madvise would spare that");
    else
        ctl_doctor_say(d, CTL_GOOD, "huge pages", NULL,
                       "for those who ask (madvise), as ebbd does");
}

static void check_shell(struct ctl_doctor *d) {
    struct rlimit as;
    if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY)
        ctl_doctor_say(d, CTL_NOTE, "address space", "a model needs room: ulimit -v unlimited",
                       "limited to %llu bytes in this shell", (unsigned long long)as.rlim_cur);
}

void ctl_doctor_machine(struct ctl_doctor *d) {
    check_board(d);
    check_memory(d);
    check_pages(d);
    check_swap(d);
    check_lru(d);
    check_overcommit(d);
    check_huge_pages(d);
    check_shell(d);
}
