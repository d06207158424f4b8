/* The guard's thread, and the two things that it shares with the loop: a set of open files that the
 * loop makes and hands over, and a ring of decisions. See guard.h for what it may not do. */
#include "daemon/guard.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/prefix.h"
#include "core/reader.h"
#include "core/shed.h"
#include "core/store.h"
#include "daemon/sense.h"
#include "daemon/sense_cgroup.h"
#include "daemon/sense_file.h"

enum {
    N_ACTS = 16, /* a power of two */
    MAX_SMALL = 64,
    MAX_STAT = 8192,
};

enum level_file { HIGH, MAX_FILE, CURRENT, STAT };
enum { LEVEL_FILES = STAT + 1 };
static const char *const file_names[] = {"memory.high", "memory.max", "memory.current",
                                         "memory.stat"};

struct level {
    bool is_fake; /* not the kernel's: its files may be replaced, and opening one harms nobody */
    struct sense_file files[LEVEL_FILES];
    char paths[LEVEL_FILES][SENSE_MAX_PATH];
};

/* Of one thread at a time. */
struct levels {
    int inotify_fd; /* -1: there is none, the period must do */
    unsigned n;
    struct level at[];
};

/* What the levels say together. */
struct guard_sight {
    uint64_t over_bytes, limit_bytes;
    bool has_lost;
};

struct guard {
    struct guard_opts o;
    pthread_t thread;
    int wake_fd; /* eventfd */

    /* Loop only. */
    struct levels *own; /* for guard_look(); owned */

    /* Guard only. */
    struct levels *levels; /* owned, as are those in the two slots */
    uint64_t epoch;        /* of the plan that the last decision published */
    uint64_t published_us;
    bool is_urged;
    bool is_halted; /* the steps are, since halted_us */
    uint64_t halted_us;
    char stat[MAX_STAT];

    /* Crossings. Handing over: acquire and release by the exchanges. */
    _Atomic(struct levels *) offered; /* loop to guard */
    _Atomic(struct levels *) retired; /* guard to loop, which frees them */
    atomic_bool is_stopping;          /* relaxed, as is the rest: the eventfd orders it */
    atomic_bool is_over;
    atomic_bool was_over;
    atomic_bool is_exhausted;
    atomic_bool has_lost;
    _Atomic uint64_t beats;
    _Atomic uint32_t news; /* futex: rises with each move and each decision */
    /* Ring of decisions: head is the guard's, tail the loop's; release and acquire. */
    _Atomic uint32_t head, tail;
    struct guard_act acts[N_ACTS];
};

static uint64_t guard_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* ---- the files ---- */

static void levels_destroy(struct levels *l) {
    if (!l) return;
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned k = 0; k < LEVEL_FILES; k++) sense_file_close(&l->at[i].files[k]);
    if (l->inotify_fd >= 0) close(l->inotify_fd);
    free(l);
}

static int level_read(struct level *l, enum level_file k, char *text, size_t cap, size_t *ret_n) {
    const struct sense_when w = {.rescan_us = l->is_fake ? 0 : UINT64_MAX, .may_open = l->is_fake};
    return sense_file_read(&l->files[k], l->paths[k], &w, text, cap, ret_n, NULL);
}

/* UINT64_MAX: no limit, also where there is no such file (the top has none). */
static int level_limit(struct level *l, enum level_file k, uint64_t *ret) {
    char text[MAX_SMALL];
    size_t n;
    *ret = UINT64_MAX;
    if (!l->is_fake && !sense_file_is_open(&l->files[k])) return 0;
    int r = level_read(l, k, text, sizeof(text), &n);
    if (r == -ENOENT && l->is_fake) return 0;
    return r < 0 ? r : sense_cgroup_parse_limit(text, n, ret, NULL);
}

/* What is held of a level and cannot be reclaimed. *ret_bytes stays at what memory.current says
 * where memory.stat is of no use. */
static int level_used(struct level *l, uint64_t limit, char stat[MAX_STAT], uint64_t *ret_bytes) {
    char text[MAX_SMALL];
    size_t n;
    struct sense_cgroup_stat s;
    int r = level_read(l, CURRENT, text, sizeof(text), &n);
    if (r == 0) r = sense_text_value(text, n, ret_bytes, NULL);
    if (r < 0 || *ret_bytes <= limit) return r;
    if (level_read(l, STAT, stat, MAX_STAT, &n) < 0) return 0;
    if (sense_cgroup_parse_stat(stat, n, &s, NULL) < 0) return 0;
    uint64_t cache = s.inactive_file + s.active_file;
    if (cache >= s.inactive_file) *ret_bytes -= MIN(*ret_bytes, cache);
    return 0;
}

static void level_look(struct level *l, char stat[MAX_STAT], struct guard_sight *ret) {
    uint64_t high, max, used = 0;
    int r = level_limit(l, HIGH, &high);
    if (r == 0) r = level_limit(l, MAX_FILE, &max);
    if (r == 0 && max < UINT64_MAX) max -= MIN(max / 16, (uint64_t)GUARD_RESERVE_BYTES);
    uint64_t limit = r == 0 ? MIN(high, max) : UINT64_MAX;
    if (r == 0 && limit < UINT64_MAX) r = level_used(l, limit, stat, &used);
    if (r == -ENODEV || r == -ENOENT || r == -ESTALE) ret->has_lost = true;
    if (r < 0 || used <= limit || used - limit <= ret->over_bytes) return;
    ret->over_bytes = used - limit;
    ret->limit_bytes = limit;
}

static struct guard_sight levels_look(struct levels *l, char stat[MAX_STAT]) {
    struct guard_sight s = {.limit_bytes = UINT64_MAX};
    for (unsigned i = 0; l && i < l->n; i++) level_look(&l->at[i], stat, &s);
    return s;
}

/* ---- deciding ---- */

static void guard_report(struct guard *g) {
    atomic_fetch_add_explicit(&g->news, 1, memory_order_release);
    syscall(SYS_futex, (void *)&g->news, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    g->o.wake(g->o.ud);
}

static void guard_note(struct guard *g, const struct guard_act *a) {
    uint32_t head = atomic_load_explicit(&g->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&g->tail, memory_order_acquire);
    if (head - tail == N_ACTS) return; /* the loop sleeps; what matters is in the store */
    g->acts[head % N_ACTS] = *a;
    atomic_store_explicit(&g->head, head + 1, memory_order_release);
}

static void guard_halt(struct guard *g, bool on) {
    if (on) g->halted_us = guard_now_us();
    if (on != g->is_halted) store_halt(g->o.store, on);
    g->is_halted = on;
}

/* The plan of the last decision takes effect when it is adopted. True once it is. */
static bool guard_settle(struct guard *g) {
    if (store_adopted_epoch(g->o.store) >= g->epoch) return true;
    if (store_adopt_idle(g->o.store)) return true;
    if (!g->is_urged && guard_now_us() - g->published_us >= GUARD_PATIENCE_US) {
        g->is_urged = true;
        guard_halt(g, true);
        store_urge(g->o.store, g->epoch);
    }
    return false;
}

/* With the publishing side borrowed. False if there is nothing left to give. */
static bool guard_give(struct guard *g, const struct guard_sight *s) {
    struct guard_act a = {
        .at_us = guard_now_us(),
        .over_bytes = s->over_bytes,
        .limit_bytes = s->limit_bytes,
        .held_kept_bytes = prefix_bytes(g->o.prefix),
        .position_from = store_position(g->o.store),
    };
    struct shed_choice c = shed_choose(g->o.ladder, a.position_from, a.held_kept_bytes,
                                       s->over_bytes);
    a.position = c.position;
    if (c.kept_bytes > 0) a.kept_bytes = prefix_discard(g->o.prefix, c.kept_bytes);
    if (c.position != a.position_from) {
        a.plan_bytes = store_shed(g->o.store, g->o.ladder, c.position);
        g->epoch = store_published_epoch(g->o.store);
        g->published_us = a.at_us;
        g->is_urged = false;
    }
    bool has_given = a.kept_bytes > 0 || c.position != a.position_from;
    if (has_given) guard_note(g, &a);
    return has_given;
}

static void guard_shed(struct guard *g) {
    if (!guard_settle(g)) return;
    /* What has just been given back may be in the numbers that were seen before. */
    struct guard_sight s = levels_look(g->levels, g->stat);
    if (s.over_bytes == 0 || !store_borrow(g->o.store)) return;
    bool has_given = guard_give(g, &s), was_exhausted = guard_is_exhausted(g);
    store_hand_back(g->o.store);
    atomic_store_explicit(&g->is_exhausted, !has_given, memory_order_relaxed);
    if (has_given)
        guard_settle(g);
    else
        guard_halt(g, false);
    if (has_given || !was_exhausted) guard_report(g);
}

static void guard_hush(struct guard *g, bool on) {
    mem_hold(g->o.mem, on);
    if (g->o.reader) reader_hold(g->o.reader, on);
    if (g->o.sense) sense_set_quiet(g->o.sense, on);
}

static void guard_set_over(struct guard *g, bool on) {
    guard_hush(g, on);
    guard_halt(g, false);
    atomic_store_explicit(&g->is_exhausted, false, memory_order_relaxed);
    if (on) atomic_store_explicit(&g->was_over, true, memory_order_relaxed);
    atomic_store_explicit(&g->is_over, on, memory_order_relaxed);
    guard_report(g);
}

static void guard_check(struct guard *g) {
    struct guard_sight s = levels_look(g->levels, g->stat);
    bool is_over = s.over_bytes > 0, was = guard_is_over(g);
    if (s.has_lost) atomic_store_explicit(&g->has_lost, true, memory_order_relaxed);
    if (is_over != was) guard_set_over(g, is_over);
    if (is_over) guard_shed(g);
    if (g->is_halted && guard_now_us() - g->halted_us >= GUARD_HALT_US) guard_halt(g, false);
}

/* ---- the thread ---- */

/* The loop has opened another set: it takes back the last one. */
static void guard_take_levels(struct guard *g) {
    if (atomic_load_explicit(&g->retired, memory_order_relaxed)) return; /* first that one */
    struct levels *l = atomic_exchange_explicit(&g->offered, NULL, memory_order_acquire);
    if (!l) return;
    struct levels *old = g->levels;
    g->levels = l;
    atomic_store_explicit(&g->retired, old, memory_order_release);
}

static void guard_wait_event(struct guard *g, uint64_t timeout_us) {
    char waste[4096];
    struct pollfd p[2] = {
        {.fd = g->wake_fd, .events = POLLIN},
        {.fd = g->levels ? g->levels->inotify_fd : -1, .events = POLLIN},
    };
    if (poll(p, ARRAY_LEN(p), (int)(timeout_us / 1000)) <= 0) return;
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        if (p[i].revents & POLLIN) ignore_result(read(p[i].fd, waste, sizeof(waste)) < 0);
}

static uint64_t guard_period_us(const struct guard *g) {
    if (!guard_is_over(g)) return GUARD_PERIOD_US;
    return guard_is_exhausted(g) ? GUARD_SPENT_US : GUARD_HURRY_US;
}

static void *guard_run(void *ud) {
    struct guard *g = ud;
    mem_touch_stack();
    while (!atomic_load_explicit(&g->is_stopping, memory_order_relaxed)) {
        guard_take_levels(g);
        guard_check(g);
        atomic_fetch_add_explicit(&g->beats, 1, memory_order_relaxed);
        guard_wait_event(g, guard_period_us(g));
    }
    return NULL;
}

int guard_start(const struct guard_opts *o, struct guard **ret, struct err *e) {
    sigset_t all, old;
    struct guard *g = malloc(sizeof(*g));
    if (!g) return err_set(e, -ENOMEM, "no memory for the guard");
    memset(g, 0, sizeof(*g)); /* touched now */
    g->o = *o;
    g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = g->wake_fd < 0 ? -errno : 0;
    if (r == 0) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = -pthread_create(&g->thread, NULL, guard_run, g);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (r < 0) {
        if (g->wake_fd >= 0) close(g->wake_fd);
        free(g);
        return err_sys(e, r, "cannot start the guard");
    }
    pthread_setname_np(g->thread, "ebb-guard");
    *ret = g;
    return 0;
}

static void guard_wake(struct guard *g) {
    uint64_t one = 1;
    ignore_result(write(g->wake_fd, &one, sizeof(one)) < 0); /* full: it is awake anyway */
}

void guard_stop(struct guard *g) {
    if (!g) return;
    atomic_store_explicit(&g->is_stopping, true, memory_order_relaxed);
    guard_wake(g);
    pthread_join(g->thread, NULL);
    levels_destroy(g->own);
    levels_destroy(g->levels);
    levels_destroy(atomic_load_explicit(&g->offered, memory_order_relaxed));
    levels_destroy(atomic_load_explicit(&g->retired, memory_order_relaxed));
    guard_hush(g, false);
    guard_halt(g, false);
    close(g->wake_fd);
    free(g);
}

/* ---- the loop's side ---- */

/* Opens a level's files and reads each once: the first read of a descriptor charges. */
static int level_open(struct level *l, const char *folder, int inotify_fd, char stat[MAX_STAT]) {
    const struct sense_when w = {.may_open = true};
    for (unsigned k = 0; k < LEVEL_FILES; k++) sense_file_init(&l->files[k]);
    for (unsigned k = 0; k < LEVEL_FILES; k++) {
        size_t n;
        int r = sense_text_path(l->paths[k], NULL, folder, "/%s", file_names[k]);
        if (r < 0) return r;
        r = sense_file_read(&l->files[k], l->paths[k], &w, stat, MAX_STAT, &n, NULL);
        if (r == -EMFILE || r == -ENFILE || r == -ENOMEM) return r;
        if (r == 0 && !l->files[k].is_kernels) l->is_fake = true;
        if (k <= MAX_FILE && inotify_fd >= 0 && r == 0)
            ignore_result(inotify_add_watch(inotify_fd, l->paths[k], IN_MODIFY) < 0);
    }
    return 0;
}

static int levels_open(char (*folders)[SENSE_MAX_PATH], unsigned n, bool is_told,
                       struct levels **ret, struct err *e) {
    char stat[MAX_STAT];
    struct levels *l = malloc(sizeof(*l) + n * sizeof(l->at[0]));
    if (!l) return err_set(e, -ENOMEM, "no memory to watch the cgroup");
    memset(l, 0, sizeof(*l) + n * sizeof(l->at[0])); /* touched now */
    l->inotify_fd = is_told ? inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1;
    for (unsigned i = 0; i < n; i++) {
        l->n = i + 1;
        int r = level_open(&l->at[i], folders[i], l->inotify_fd, stat);
        if (r == 0) continue;
        levels_destroy(l);
        return err_sys(e, r, "%s", folders[i]);
    }
    *ret = l;
    return 0;
}

int guard_set_levels(struct guard *g, char (*folders)[SENSE_MAX_PATH], unsigned n, struct err *e) {
    struct levels *theirs = NULL, *ours = NULL;
    n = MIN(n, (unsigned)GUARD_MAX_LEVELS);
    int r = levels_open(folders, n, /* is_told= */ true, &theirs, e);
    if (r == 0) r = levels_open(folders, n, /* is_told= */ false, &ours, e);
    if (r < 0) {
        levels_destroy(theirs);
        return r;
    }
    levels_destroy(g->own);
    g->own = ours;
    levels_destroy(atomic_exchange_explicit(&g->retired, NULL, memory_order_acquire));
    /* A set that was not taken yet has no other user. */
    levels_destroy(atomic_exchange_explicit(&g->offered, theirs, memory_order_acq_rel));
    atomic_store_explicit(&g->has_lost, false, memory_order_relaxed);
    guard_wake(g);
    return 0;
}

bool guard_has_lost(const struct guard *g) {
    return atomic_load_explicit(&g->has_lost, memory_order_relaxed);
}

bool guard_is_over(const struct guard *g) {
    return atomic_load_explicit(&g->is_over, memory_order_relaxed);
}

bool guard_is_exhausted(const struct guard *g) {
    return atomic_load_explicit(&g->is_exhausted, memory_order_relaxed);
}

bool guard_was_over(struct guard *g) {
    bool is = guard_is_over(g);
    return atomic_exchange_explicit(&g->was_over, is, memory_order_relaxed) || is;
}

bool guard_look(struct guard *g) {
    char stat[MAX_STAT];
    if (guard_is_over(g)) return true;
    if (levels_look(g->own, stat).over_bytes == 0) return false;
    guard_wake(g);
    return true;
}

void guard_wait(struct guard *g, uint64_t timeout_us) {
    uint32_t seen = atomic_load_explicit(&g->news, memory_order_acquire);
    struct timespec t = {.tv_sec = (time_t)(timeout_us / 1000000),
                         .tv_nsec = (long)(timeout_us % 1000000) * 1000};
    syscall(SYS_futex, (void *)&g->news, FUTEX_WAIT_PRIVATE, seen, &t, NULL, 0);
}

bool guard_next(struct guard *g, struct guard_act *ret) {
    uint32_t tail = atomic_load_explicit(&g->tail, memory_order_relaxed);
    if (atomic_load_explicit(&g->head, memory_order_acquire) == tail) return false;
    *ret = g->acts[tail % N_ACTS];
    atomic_store_explicit(&g->tail, tail + 1, memory_order_release);
    return true;
}

uint64_t guard_beats(const struct guard *g) {
    return atomic_load_explicit(&g->beats, memory_order_relaxed);
}
