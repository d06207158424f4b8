/* Progress on standard error: a bar with rate and time left on a terminal, else plain lines. */
#ifndef EBB_CORE_MAKE_CMD_PROGRESS_H
#define EBB_CORE_MAKE_CMD_PROGRESS_H

#include "core/defs.h"
#include "core/make/progress.h"

/* Owned by the caller; free with cmd_progress_destroy(). NULL without memory. */
struct cmd_progress *cmd_progress_create(bool is_terminal, bool has_colour) MUST_CHECK;
void cmd_progress_destroy(struct cmd_progress *p); /* accepts NULL; ends an open line */
struct progress cmd_progress_listener(struct cmd_progress *p);

/* "0:07", "12:40", "3:05:00" into buf[16]; returns buf. */
const char *cmd_progress_clock(double seconds, char *buf, size_t n);

#endif
