/* What the files of `ebb doctor` share: the list of findings, and reading below the root. Each file
 * looks at one thing: the daemon, its place in the system, the sensors, the machine. */
#ifndef EBB_DAEMON_CTL_DOCTOR_H
#define EBB_DAEMON_CTL_DOCTOR_H

#include <sys/types.h>

#include <cjson/cJSON.h>

#include "core/defs.h"

struct ctl;
struct sense_reading;

enum ctl_verdict {
    CTL_GOOD,
    CTL_NOTE, /* works, but not as well as it could */
    CTL_BAD,  /* does not work, or will not for long */
};

struct ctl_doctor {
    const struct ctl *c;
    cJSON *findings; /* owned */
    cJSON *status;   /* owned; answer to GET /ebb/status, NULL = there is none */
    pid_t pid;       /* of the daemon; 0 = unknown */
    unsigned n_cols; /* of the terminal; 0 = it is none, and nothing is wrapped */
    unsigned n_bad, n_note;
};

/* Tells a finding. `check` is a stable name; `advice` is left out where the verdict is good, and
 * may be NULL. */
void ctl_doctor_say(struct ctl_doctor *d, enum ctl_verdict v, const char *check, const char *advice,
                    const char *fmt, ...) PRINTF_LIKE(5, 6);

/* The first n - 1 bytes of a regular file below the root, and a NUL: how many, or a negative errno.
 * `rel` begins with '/'. The second is of a file of the daemon's own in /proc; -ESRCH if it is not
 * known which process that is. */
int ctl_doctor_read(const struct ctl_doctor *d, const char *rel, char *buf, size_t n) MUST_CHECK;
int ctl_doctor_read_pid(const struct ctl_doctor *d, const char *name, char *buf,
                        size_t n) MUST_CHECK;
/* The same, without blanks and newlines at the end; false if it cannot be read or is empty. */
bool ctl_doctor_word(const struct ctl_doctor *d, const char *rel, char *buf, size_t n);

/* Version of the installed systemd; 0 = unknown or none. */
unsigned ctl_doctor_systemd(const struct ctl_doctor *d);

/* True if the daemon's cgroup, or one that it lies in, may not use swap. */
bool ctl_doctor_may_not_swap(const struct ctl_doctor *d);

void ctl_doctor_daemon(struct ctl_doctor *d);  /* sockets, health, status; sets status and pid */
void ctl_doctor_place(struct ctl_doctor *d);   /* limits, cgroup, sandbox, swap of the process */
void ctl_doctor_sensors(struct ctl_doctor *d); /* each source of the governor's, and why not */
/* Parts of that: what each thermal zone says and what is made of it; which CPUs may be used, for
 * how much of the time, and at which clock. */
void ctl_doctor_zones(struct ctl_doctor *d, struct sense_reading *r);
void ctl_doctor_cpus(struct ctl_doctor *d, const struct sense_reading *r);
void ctl_doctor_machine(struct ctl_doctor *d); /* pages, swap, reclaim, overcommit, clocks */

#endif
