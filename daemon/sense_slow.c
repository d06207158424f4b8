#include "daemon/sense_slow.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/sense_rpi.h"
#include "daemon/sense_text.h"

enum {
    STOP_US = 200000,
    STACK_BYTES = 256 << 10, /* glob() and a few KiB of text */
    MAX_ZONE_NAMES = 1024,
};

/* Belongs to whoever ends last: the owner, or a thread that was left behind. */
struct sense_slow {
    char root[SENSE_MAX_PATH];
    char zones[MAX_ZONE_NAMES];
    uint64_t interval_us;
    sense_slow_fn read;
    void *ud;
    struct sense_zones *zones_kept; /* the thread's alone, as is all down to `working` */
    struct sense_clocks *clocks_kept;
    struct sense_quotas *quotas_kept;
    struct sense_rpi rpi;
    struct sense_slow_result working; /* being filled */
    pthread_t thread;
    _Atomic bool is_quiet; /* relaxed, as is the next one: a reading more or less */
    _Atomic uint64_t rescan_us;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t cond;  /* any of it changed */
    bool is_stopping, is_abandoned, has_ended, has_result;
    struct sense_slow_result result;
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static struct timespec after(uint64_t us) {
    uint64_t at = now_us() + MIN(us, UINT64_C(3600000000));
    return (struct timespec){.tv_sec = (time_t)(at / 1000000),
                             .tv_nsec = (long)(at % 1000000 * 1000)};
}

static void read_sensors(void *ud, struct sense_slow_result *ret) {
    struct sense_slow *s = ud;
    const struct sense_when w = {
        .now_us = ret->begun_us,
        .rescan_us = atomic_load_explicit(&s->rescan_us, memory_order_relaxed),
        .may_open = true,
        .is_quiet = &s->is_quiet,
    };
    ret->has_thermal = sense_thermal_read(s->zones_kept, &w, &ret->thermal, &ret->thermal_err) == 0;
    ret->has_cpufreq = sense_cpufreq_read(s->clocks_kept, &w, &ret->cpufreq, &ret->cpufreq_err) ==
                       0;
    ret->has_throttle = sense_rpi_read(&s->rpi, s->root, &w, &ret->throttle_bits,
                                       &ret->throttle_mask, &ret->throttle_err) == 0;
    ret->has_quota = sense_quota_read(s->quotas_kept, &w, &ret->quota, &ret->quota_err) == 0;
}

static void free_slow(struct sense_slow *s) {
    sense_thermal_destroy(s->zones_kept);
    sense_cpufreq_destroy(s->clocks_kept);
    sense_quota_destroy(s->quotas_kept);
    sense_rpi_close(&s->rpi);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *run(void *ud) {
    struct sense_slow *s = ud;
    pthread_mutex_lock(&s->lock);
    while (!s->is_stopping) {
        pthread_mutex_unlock(&s->lock);
        s->working = (struct sense_slow_result){.begun_us = now_us()};
        s->read(s->ud, &s->working);
        s->working.ended_us = now_us();
        pthread_mutex_lock(&s->lock);
        s->result = s->working;
        s->has_result = true;
        pthread_cond_broadcast(&s->cond);
        struct timespec until = after(s->interval_us);
        while (!s->is_stopping && pthread_cond_timedwait(&s->cond, &s->lock, &until) == 0) continue;
    }
    s->has_ended = true;
    bool is_abandoned = s->is_abandoned;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
    if (is_abandoned) free_slow(s);
    return NULL;
}

static int start(struct sense_slow *s, struct err *e) {
    pthread_attr_t attr;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0) return err_set(e, -ENOMEM, "no memory to start");
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int r = pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (r == 0) r = pthread_create(&s->thread, &attr, run, s);
    if (r == 0) pthread_setname_np(s->thread, "ebb-sense");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return r == 0 ? 0 : err_sys(e, -r, "cannot start the thread that reads /sys");
}

int sense_slow_create(const struct sense_slow_opts *o, struct sense_slow **ret, struct err *e) {
    struct sense_slow *s;
    pthread_condattr_t attr;
    if (strlen(o->root) >= sizeof(s->root))
        return err_set(e, -ENAMETOOLONG, "the root of the sensors is longer than %zu bytes",
                       sizeof(s->root) - 1);
    if (strlen(o->zones) >= sizeof(s->zones))
        return err_set(e, -ENAMETOOLONG, "the list of thermal zones is longer than %zu bytes",
                       sizeof(s->zones) - 1);
    s = calloc(1, sizeof(*s));
    if (!s || pthread_condattr_init(&attr) != 0) {
        free(s);
        return err_set(e, -ENOMEM, "no memory to start");
    }
    strcpy(s->root, o->root);
    strcpy(s->zones, o->zones);
    s->interval_us = o->interval_us;
    s->rescan_us = o->rescan_us;
    s->read = o->read ? o->read : read_sensors;
    s->ud = o->read ? o->ud : s;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
    sense_rpi_init(&s->rpi);
    int r = sense_thermal_create(s->root, s->zones, &s->zones_kept, e);
    if (r == 0) r = sense_cpufreq_create(s->root, &s->clocks_kept, e);
    if (r == 0) r = sense_quota_create(s->root, "/proc/self/cgroup", &s->quotas_kept, e);
    if (r == 0) r = start(s, e);
    if (r < 0) {
        free_slow(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* With the lock held: until *flag, at most so long. */
static bool wait_for(struct sense_slow *s, const bool *flag, uint64_t timeout_us) {
    struct timespec until = after(timeout_us);
    while (!*flag && pthread_cond_timedwait(&s->cond, &s->lock, &until) == 0) continue;
    return *flag;
}

bool sense_slow_destroy(struct sense_slow *s) {
    if (!s) return true;
    pthread_t thread = s->thread;
    pthread_mutex_lock(&s->lock);
    s->is_stopping = true;
    pthread_cond_broadcast(&s->cond);
    bool has_ended = wait_for(s, &s->has_ended, STOP_US);
    s->is_abandoned = !has_ended;
    pthread_mutex_unlock(&s->lock);
    if (!has_ended) {
        pthread_detach(thread);
        return false;
    }
    pthread_join(thread, NULL);
    free_slow(s);
    return true;
}

void sense_slow_set_quiet(struct sense_slow *s, bool is_quiet) {
    atomic_store_explicit(&s->is_quiet, is_quiet, memory_order_relaxed);
}

void sense_slow_set_rescan(struct sense_slow *s, uint64_t rescan_us) {
    atomic_store_explicit(&s->rescan_us, rescan_us, memory_order_relaxed);
}

bool sense_slow_take(struct sense_slow *s, struct sense_slow_result *ret) {
    pthread_mutex_lock(&s->lock);
    bool has_result = s->has_result;
    if (has_result) *ret = s->result;
    pthread_mutex_unlock(&s->lock);
    return has_result;
}

bool sense_slow_wait(struct sense_slow *s, uint64_t timeout_us) {
    pthread_mutex_lock(&s->lock);
    bool has_result = wait_for(s, &s->has_result, timeout_us);
    pthread_mutex_unlock(&s->lock);
    return has_result;
}
