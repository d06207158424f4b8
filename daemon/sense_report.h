/* Which changes of the sensors are worth a line in the log now. A driver that fails at every second
 * reading would fill it: a source is reported at once, and then at most once in a while, with how
 * often it changed and what it is by then. So the last line on a source is always true. Pure: the
 * time is an argument. One thread at a time. */
#ifndef EBB_DAEMON_SENSE_REPORT_H
#define EBB_DAEMON_SENSE_REPORT_H

#include "daemon/sense.h"

enum { SENSE_MAX_LINES = SENSE_MAX_CHANGES + SENSE_N_SOURCES };

/* Zero it to start. */
struct sense_report {
    struct {
        bool has_said;
        uint64_t since_us;  /* of the last line, or of the first change that was held back */
        uint32_t n_changes; /* held back since */
    } sources[SENSE_N_SOURCES];
};

/* To be called at each reading, also without changes: it is then that what was held back is due.
 * changes[n]: of sense_changes(), between the last reading and `now`. every_us: between two lines
 * of a source; 0 = no bound. may_say: false holds all back, for a log that may not be written.
 * Returns how many lines. */
unsigned sense_report(struct sense_report *st, const struct sense_change *changes, unsigned n,
                      const struct sense_reading *now, uint64_t now_us, uint64_t every_us,
                      bool may_say, struct sense_change ret[SENSE_MAX_LINES]);

#endif
