/* Is the inference thread getting on, and does the service manager's watchdog hear of it?
 *
 * It gets on when it has nothing to do, or begins a step, or a phase of one (a product of one
 * matrix: the slowest board's longest prompt chunk has hundreds), or when bytes that a step may
 * wait for come from the disk. Looked at in every tick; time counts as quiet only as the ticks see
 * it, so a stopped and continued process, or a suspended machine, is not taken for a stuck thread.
 *
 *   quiet for half of WatchdogSec (30 s without)   /health gives 503, and the log says what the
 *                                                  thread does
 *   quiet for all of WatchdogSec                   the manager is told to act as if it had waited
 *
 * WATCHDOG=1 goes out at half of WatchdogSec, if the thread got on since the last one. A stuck loop
 * sends none. */
#include <inttypes.h>
#include <stdio.h>

#include "core/pages.h"
#include "core/pool.h"
#include "daemon/infer.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/server_internal.h"
#include "daemon/task.h"

enum {
    PATIENCE_US = 30000000, /* without a watchdog */
    MAX_TICK_US = 1000000,  /* that is taken for time in which the threads could run */
};

/* Any counter that moves will do, so one sum of them is looked at. */
static bool has_moved(struct server *s) {
    struct pages_stats st;
    if (!s->infer || !jobs_is_busy(s->jobs)) return true;
    paging_stats(s, &st);
    /* Above a limit that it cannot get below, a thread may sleep in the kernel for long: then the
     * guard's looks count, as nothing is stuck but the memory. */
    const struct guard *g = s->swap.guard;
    uint64_t sum = jobs_beats(s->jobs) + pool_runs(s->model.pool) + st.n_bytes +
                   (g && guard_is_over(g) ? guard_beats(g) : 0);
    bool r = sum != s->alive.seen;
    s->alive.seen = sum;
    return r;
}

static void tell_stuck(struct server *s) {
    char dir[64], what[160];
    snprintf(dir, sizeof(dir), "/proc/self/task/%d", infer_tid(s->infer));
    task_describe(dir, what, sizeof(what));
    log_event(s->log, LOG_ERROR, "the inference thread has made no progress for %.1f s: %s",
              (double)s->alive.quiet_us / 1e6, what);
}

static void tell_manager(struct server *s) {
    char status[SERVER_STATUS_BYTES];
    server_put_status(s, status, sizeof(status));
    notify_send(s->notify, "STATUS=%s", status);
}

void alive_look(struct server *s, uint64_t now) {
    struct server_alive *a = &s->alive;
    uint64_t patience = s->watchdog_us ? s->watchdog_us / 2 : PATIENCE_US;
    uint64_t tick = a->looked_us ? now - a->looked_us : 0;
    a->looked_us = now;
    if (has_moved(s)) {
        a->quiet_us = 0;
        a->has_moved = true;
        a->is_given_up = false;
        if (s->is_stuck) {
            s->is_stuck = false;
            log_event(s->log, LOG_WARN, "the inference thread goes on");
            tell_manager(s);
        }
    } else {
        a->quiet_us += MIN(tick, (uint64_t)MAX_TICK_US);
        if (a->quiet_us >= patience && !s->is_stuck) {
            s->is_stuck = true;
            tell_stuck(s);
            tell_manager(s);
        }
    }
    if (!s->watchdog_us) return;
    if (a->has_moved && now - a->fed_us >= s->watchdog_us / 2) {
        a->fed_us = now;
        a->has_moved = false;
        notify_send(s->notify, "WATCHDOG=1");
    }
    if (a->quiet_us >= s->watchdog_us && !a->is_given_up) {
        a->is_given_up = true;
        log_event(s->log, LOG_ERROR,
                  "the inference thread stays stuck; the service manager is to restart us");
        notify_send(s->notify, "WATCHDOG=trigger");
    }
}
