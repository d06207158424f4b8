/* One reading of everything the governor looks at. Each source can be unknown by itself. */
#ifndef EBB_DAEMON_SENSE_H
#define EBB_DAEMON_SENSE_H

#include "core/err.h"

struct sense_reading {
    bool has_mem;                 /* the next field is good */
    uint64_t mem_available_bytes; /* MemAvailable */
    struct err mem_err;           /* why it is unknown, if it is */
};

/* Reads the sources below `root` (the folder that holds proc/ and sys/). Takes microseconds on real
 * files; never fails as a whole. Thread: loop. */
void sense_read(const char *root, struct sense_reading *ret);

/* True if a source became known or unknown between the two: worth one line in the log. */
bool sense_changed(const struct sense_reading *before, const struct sense_reading *now);

#endif
