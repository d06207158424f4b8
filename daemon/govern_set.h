/* The settings of the file as the governor takes them; apart from the daemon, so that a simulated
 * run (tests/sim) has them from the same place. */
#ifndef EBB_DAEMON_GOVERN_SET_H
#define EBB_DAEMON_GOVERN_SET_H

#include "core/gov.h"

struct config;

/* max_threads >= 1: those that compute when nothing is hot. Pure. */
void govern_set_make(const struct config *c, uint32_t max_threads, struct gov_settings *ret);

#endif
