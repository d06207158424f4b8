/* Clocks: how far the processors are capped, and how fast they run. A cap below the greatest clock
 * is heat or a user's wish; the files do not tell which. A firmware may cap without being seen. */
#ifndef EBB_DAEMON_SENSE_CPUFREQ_H
#define EBB_DAEMON_SENSE_CPUFREQ_H

#include "core/defs.h"

struct err;
struct sense_when;

enum {
    SENSE_MAX_CLOCKS = 8,     /* kept one by one: boards have up to three kinds of cores */
    SENSE_MAX_POLICIES = 512, /* looked at */
};

struct sense_clock {
    uint32_t number; /* of policy<number>: its first CPU */
    uint32_t cap_khz;
    uint32_t top_khz; /* greatest that the processor has */
    bool has_cur;
    uint32_t cur_khz; /* when it was found */
};

struct sense_cpufreq {
    uint32_t least_permille; /* cap / top over all policies that can be read */
    uint32_t n_clocks;       /* the first ones */
    struct sense_clock clocks[SENSE_MAX_CLOCKS];
};

/* A clock's file. Pure. 0 or -EBADMSG (no number, 0, or 4 THz and more). */
int sense_cpufreq_parse_khz(const char *text, size_t n, uint32_t *ret_khz,
                            struct err *e) MUST_CHECK;

/* What is kept between two readings: the policies, found once in sense_when.rescan_us, with their
 * greatest clocks, which do not change, and a descriptor of each cap. One thread at a time. */
struct sense_clocks;

/* root: borrowed until the end. 0 or -ENOMEM. Reads nothing yet. */
int sense_cpufreq_create(const char *root, struct sense_clocks **ret, struct err *e) MUST_CHECK;
void sense_cpufreq_destroy(struct sense_clocks *c); /* accepts NULL */

/* Reads <root>/sys/devices/system/cpu/cpufreq; how fast they run now only when the policies are
 * looked for. 0, -ENODATA (there is no policy), -EBADMSG, -EAGAIN (nothing is known yet, and
 * nothing may be opened now), -ENAMETOOLONG or the system's errors, of the first policy if none can
 * be read. */
int sense_cpufreq_read(struct sense_clocks *c, const struct sense_when *w,
                       struct sense_cpufreq *ret, struct err *e) MUST_CHECK;

#endif
