/* Clocks: how far the processors are capped, and how fast they run. A cap below the greatest clock
 * is heat or a user's wish; the files do not tell which. A firmware may cap without being seen. */
#ifndef EBB_DAEMON_SENSE_CPUFREQ_H
#define EBB_DAEMON_SENSE_CPUFREQ_H

#include "core/defs.h"

struct err;

enum {
    SENSE_MAX_CLOCKS = 8,     /* kept one by one: boards have up to three kinds of cores */
    SENSE_MAX_POLICIES = 512, /* looked at */
};

struct sense_clock {
    uint32_t number; /* of policy<number>: its first CPU */
    uint32_t cap_khz;
    uint32_t top_khz; /* greatest that the processor has */
    bool has_cur;
    uint32_t cur_khz;
};

struct sense_cpufreq {
    uint32_t least_permille; /* cap / top over all policies that can be read */
    uint32_t n_clocks;       /* the first ones */
    struct sense_clock clocks[SENSE_MAX_CLOCKS];
};

/* A clock's file. Pure. 0 or -EBADMSG (no number, 0, or 4 THz and more). */
int sense_cpufreq_parse_khz(const char *text, size_t n, uint32_t *ret_khz,
                            struct err *e) MUST_CHECK;

/* Reads <root>/sys/devices/system/cpu/cpufreq. 0, -ENODATA (there is no policy), -EBADMSG,
 * -ENOMEM, -ENAMETOOLONG or the system's errors, of the first policy if none can be read. */
int sense_cpufreq_read(const char *root, struct sense_cpufreq *ret, struct err *e) MUST_CHECK;

#endif
