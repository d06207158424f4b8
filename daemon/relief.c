/* What the loop does while its cgroup is above a limit: as little as possible. The guard gives the
 * memory back (guard.h); each call of the loop that charges memory would put it to sleep for up to
 * two seconds, and whatever it holds with it. So it writes nothing and accepts nothing, and only
 * takes over what the guard has done, until the guard is below or has no more to give. If that
 * lasts, the limit is below what ebb can shrink to: then it goes on, slowly, and refuses work. */
#include <errno.h>
#include <string.h>

#include "core/mem.h"
#include "core/store.h"
#include "daemon/guard.h"
#include "daemon/log.h"
#include "daemon/program.h"
#include "daemon/sense.h"
#include "daemon/server_internal.h"

enum {
    MAX_WAIT_US = 1500000, /* far less than the watchdog's patience */
    TURN_US = 20000,
    AGAIN_US = 10000000, /* between two tries to open lost levels */
};

/* The levels that have a memory.high, nearest first, to the guard. */
static void watch_levels(struct server *s) {
    struct sense_level levels[SENSE_MAX_LEVELS];
    char folders[SENSE_MAX_LEVELS][SENSE_MAX_PATH];
    struct err e = {0};
    unsigned n_all = sense_levels(s->swap.sense, levels, &s->swap.places), n = 0;
    for (unsigned i = 0; i < n_all; i++)
        if (levels[i].version == 2) memcpy(folders[n++], levels[i].folder, SENSE_MAX_PATH);
    s->swap.levels_us = server_now_us();
    if (guard_set_levels(s->swap.guard, folders, n, &e) < 0)
        log_event(s->log, LOG_WARN, "cannot watch the cgroup's limits: %s", e.msg);
}

static bool has_other_levels(const struct server *s) {
    struct sense_level levels[SENSE_MAX_LEVELS];
    uint32_t places;
    sense_levels(s->swap.sense, levels, &places);
    return places != s->swap.places;
}

/* Thread: guard. */
static void relief_wake(void *ud) {
    struct server *s = ud;
    uv_async_send(&s->wake);
}

static void lock_program(const struct server *s) {
    struct err e = {0};
    uint64_t bytes;
    if (program_lock(&bytes, &e) < 0)
        log_event(s->log, LOG_WARN, "%s; a lowered memory.high may stop it for seconds", e.msg);
    else
        log_event(s->log, LOG_DEBUG, "%.1f MiB of the program are locked in memory",
                  (double)bytes / 1048576);
}

int relief_start(struct server *s, struct err *e) {
    const struct guard_opts o = {
        .store = s->model.store,
        .ladder = s->model.ladder,
        .prefix = s->model.prefix,
        .mem = s->model.mem,
        .reader = s->model.reader,
        .sense = s->swap.sense,
        .wake = relief_wake,
        .ud = s,
    };
    int r = guard_start(&o, &s->swap.guard, e);
    if (r < 0) return r;
    lock_program(s);
    watch_levels(s);
    swap_lend(s);
    return 0;
}

void relief_stop(struct server *s) {
    if (!s->swap.guard) return;
    swap_hold(s);
    guard_stop(s->swap.guard);
    s->swap.guard = NULL;
}

void relief_wait(struct server *s) {
    struct guard *g = s->swap.guard;
    s->swap.has_waited = false;
    if (!g || guard_is_exhausted(g) || !guard_look(g)) return;
    uint64_t until = server_now_us() + MAX_WAIT_US;
    do {
        swap_hold(s); /* takes over */
        swap_lend(s);
        guard_wait(g, TURN_US);
    } while (guard_look(g) && !guard_is_exhausted(g) && server_now_us() < until);
    s->swap.has_waited = guard_is_over(g);
}

void relief_pause(struct server *s) {
    const struct guard *g = s->swap.guard;
    if (g && guard_is_over(g) && !s->swap.has_waited) relief_wait(s);
}

void relief_tick(struct server *s) {
    struct guard *g = s->swap.guard;
    if (!g) return;
    if (guard_is_over(g)) return;
    mem_settle(s->model.mem);
    bool is_lost = guard_has_lost(g) && server_now_us() - s->swap.levels_us >= AGAIN_US;
    if (is_lost || has_other_levels(s)) watch_levels(s);
}
