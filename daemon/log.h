/* The daemon's log: one line an event, to standard error.
 *
 * Not a terminal: the line begins with journald's `<N>` priority; a terminal: with the time.
 * Control characters and invalid bytes are escaped, so that nothing a client or a file says can
 * forge a line. Prompts and answers are never logged. A log that cannot be written is dropped and
 * counted: the daemon never waits for its reader. Thread: any; a line is one write(). */
#ifndef EBB_DAEMON_LOG_H
#define EBB_DAEMON_LOG_H

#include <stdatomic.h>

#include "config/config.h"
#include "core/defs.h"

struct log { /* caller's memory */
    int fd;  /* borrowed */
    bool is_terminal;
    _Atomic int level;        /* enum log_level; relaxed: an old value for one line does no harm */
    _Atomic uint64_t dropped; /* lines; statistics: relaxed */
};

enum { LOG_LINE_BYTES = 2048 };

void log_init(struct log *l, int fd, enum log_level level);
void log_set_level(struct log *l, enum log_level level);
bool log_wants(const struct log *l, enum log_level level);
void log_event(struct log *l, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);
uint64_t log_dropped(const struct log *l);

/* Escapes s[n] into ret[cap] (always NUL-terminated); returns its length. Pure. */
size_t log_escape(const char *s, size_t n, char *ret, size_t cap);

#endif
