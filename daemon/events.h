/* GET /ebb/events: whoever listens is told of state changes, as server-sent events. A listener that
 * does not read is left out of events (and told how many it missed) rather than waited for.
 * Thread: loop. */
#ifndef EBB_DAEMON_EVENTS_H
#define EBB_DAEMON_EVENTS_H

#include "core/defs.h"

struct conn;
struct events;

enum { EVENTS_MAX_LISTENERS = 32 };

int events_create(struct events **ret) MUST_CHECK; /* 0 or -ENOMEM */
void events_destroy(struct events *ev);            /* accepts NULL */

/* Begins the stream on `c` with one event. False: too many listen already, nothing was answered. */
bool events_join(struct events *ev, struct conn *c, const char *name, const char *json);
/* Sends to all; `json` is one line. `buffer_limit`: unsent bytes above which a listener is left
 * out. */
void events_send(struct events *ev, uint64_t buffer_limit, const char *name, const char *json);
/* ": ping" to all. */
void events_ping(struct events *ev);
/* Ends all streams. */
void events_end(struct events *ev);
unsigned events_n(const struct events *ev);

#endif
