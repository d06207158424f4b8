/* Readings and settings into what the governor takes, and its pace into what computes. Nothing here
 * decides: gov.h does. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/gov_trace.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/prefix.h"
#include "core/slab.h"
#include "daemon/events.h"
#include "daemon/govern_set.h"
#include "daemon/infer.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

void govern_settings(const struct server *s, struct gov_settings *ret) {
    uint32_t n_threads = s->model.pool ? pool_threads(s->model.pool) : 1;
    uint32_t permille = s->swap.has_quota ? s->swap.quota.permille : SENSE_QUOTA_NONE;
    govern_set_make(&s->config, sense_quota_threads(permille, n_threads), ret);
}

/* ---- readings ---- */

/* Shares of the time between two readings of the same file, for people. */
static void note_stall(struct server_swap *w, const struct sense_reading *now, uint64_t now_us) {
    struct server_stall *st = &w->stall;
    uint64_t span_us = now_us - st->at_us;
    bool is_same = w->has_reading && w->reading.has_stall && now->has_stall &&
                   w->reading.stall_source == now->stall_source && span_us > 0;
    st->has = is_same;
    st->at_us = now_us;
    if (!is_same) return;
    uint64_t some = now->stall_some_us - w->reading.stall_some_us;
    uint64_t full = now->stall_full_us - w->reading.stall_full_us;
    st->some_permille = (uint32_t)(MIN(some, span_us) * 1000 / span_us);
    st->full_permille = (uint32_t)(MIN(full, span_us) * 1000 / span_us);
}

void govern_sense(struct server *s) {
    struct server_swap *w = &s->swap;
    static const enum log_level levels[] = {LOG_WARN, LOG_INFO};
    struct sense_change changes[SENSE_MAX_CHANGES], lines[SENSE_MAX_LINES];
    struct sense_reading now;
    uint64_t now_us = server_now_us();
    sense_set_rescan(w->sense, s->config.sense_rescan_us);
    sense_read(w->sense, now_us, &now);
    unsigned n = sense_changes(w->has_reading ? &w->reading : NULL, &now, changes);
    n = sense_report(&w->report, changes, n, &now, now_us, s->config.sense_report_us, true, lines);
    for (unsigned i = 0; i < n; i++)
        log_event(s->log, levels[lines[i].is_good], "%s", lines[i].text);
    note_stall(w, &now, now_us);
    govern_note_quota(s, &now);
    w->reading = now;
    w->has_reading = true;
    w->is_fresh = true;
}

/* ---- what the governor takes ---- */

uint64_t govern_fixed_bytes(const struct server_model *m) {
    return (m->core ? m->core->bytes : 0) + (m->books ? m->books->bytes : 0);
}

uint64_t govern_kv_bytes(const struct server *s) {
    const struct server_model *m = &s->model;
    return mem_bytes(m->mem, MEM_KV) - (m->prefix ? prefix_bytes(m->prefix) : 0);
}

uint64_t govern_other_bytes(const struct server *s) {
    const struct server_model *m = &s->model;
    return govern_kv_bytes(s) + mem_bytes(m->mem, MEM_SCRATCH) + govern_fixed_bytes(m) +
           m->slack_bytes;
}

/* What a source has left, with the caches of ended requests, which are as good as free memory. */
static uint64_t left_bytes(const struct server *s, uint64_t left) {
    uint64_t kept = s->model.prefix ? prefix_bytes(s->model.prefix) : 0;
    return __builtin_add_overflow(left, kept, &left) ? UINT64_MAX : left;
}

/* The governor takes differences: with another source, which counts from elsewhere, its total goes
 * on where that of the last one ended. */
static void put_stall(struct server_swap *w, struct gov_input *in) {
    const struct sense_reading *r = &w->reading;
    struct server_stall_total *t = &w->stall_total;
    in->has_stall = r->has_stall;
    if (!r->has_stall) return;
    if (r->stall_source != t->source) {
        t->some_add_us = t->some_us - r->stall_some_us;
        t->full_add_us = t->full_us - r->stall_full_us;
        t->source = r->stall_source;
    }
    in->stall_some_us = t->some_us = r->stall_some_us + t->some_add_us;
    in->stall_full_us = t->full_us = r->stall_full_us + t->full_add_us;
}

static void put_fresh(struct server *s, struct gov_input *in) {
    struct server_swap *w = &s->swap;
    const struct sense_reading *r = &w->reading;
    in->has_mem = r->has_mem;
    in->mem_available_bytes = left_bytes(s, r->mem_available_bytes);
    in->has_cgroup = r->has_cgroup;
    in->cgroup_left_bytes = left_bytes(s, r->cgroup_left_bytes);
    if (r->has_cgroup) in->cgroup_over_bytes = r->cgroup_over_bytes;
    put_stall(w, in);
    in->has_refaults = r->has_refaults && r->faults_us != w->faults_seen_us;
    in->refaults = r->refaults;
    w->faults_seen_us = r->faults_us;
    in->n_alarms = w->n_alarms;
    w->n_alarms = 0;
    govern_put_heat(s, in);
}

void govern_input(struct server *s, bool is_fresh, struct gov_input *ret) {
    struct server_swap *w = &s->swap;
    *ret = (struct gov_input){
        .is_cooling = govern_cooling(&w->reading) == GOVERN_COOLING,
        .cgroup_over_bytes = w->reading.is_cgroup_hidden,
        .operator_limit_bytes = w->operator_limit_bytes,
        .weight_bytes = mem_bytes(s->model.mem, MEM_SLAB) - govern_fixed_bytes(&s->model),
        .other_bytes = govern_other_bytes(s),
        .wanted_bytes = w->wanted_bytes,
        .position = w->pager ? pager_position(w->pager) : 0,
    };
    if (is_fresh) put_fresh(s, ret);
}

/* ---- the decision, kept and put into force ---- */

/* A line is written whole or the trace ends. What cuts one short is told by writing the rest. */
static bool put_line(int fd, const char *text, size_t n) {
    if (n == 0) errno = EMSGSIZE; /* without its ladder a trace says nothing */
    size_t done = 0;
    while (done < n) {
        ssize_t r = write(fd, text + done, n - done);
        if (r <= 0) return false;
        done += (size_t)r;
    }
    return n > 0;
}

static void write_trace(struct server *s, const struct gov_settings *set,
                        const struct gov_input *in, uint64_t now_us) {
    struct server_trace *t = &s->trace;
    char text[GOV_TRACE_MAX];
    size_t n;
    if (t->fd < 0) return;
    if (!t->has_head) {
        n = gov_trace_put_ladder(s->model.ladder, text, sizeof(text));
        if (!put_line(t->fd, text, n)) goto failed;
    }
    /* Compared as text: between the fields of the struct lies what the stack has left there. */
    n = gov_trace_put_settings(set, text, sizeof(t->settings));
    if (!t->has_head || strcmp(t->settings, text) != 0) {
        if (!put_line(t->fd, text, n)) goto failed;
        memcpy(t->settings, text, n + 1);
    }
    t->has_head = true;
    n = gov_trace_put_call(now_us, in, &s->swap.out, text, sizeof(text));
    if (put_line(t->fd, text, n)) return;
failed:
    log_event(s->log, LOG_ERROR, "%s: %s; the trace ends here", s->config.log_trace,
              strerror(errno));
    close(t->fd);
    t->fd = -1;
}

int govern_open_trace(struct server *s, struct err *e) {
    const char *path = s->config.log_trace;
    s->trace.fd = -1;
    if (!path[0]) return 0;
    s->trace.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                       0640);
    return s->trace.fd < 0 ? err_sys(e, -errno, "%s (log.trace)", path) : 0;
}

void govern_close_trace(struct server *s) {
    if (s->trace.fd >= 0) close(s->trace.fd);
    s->trace.fd = -1;
}

static void tell_pace(struct server *s, const struct gov_output *before) {
    const struct gov_output *now = &s->swap.out;
    if (now->stage != before->stage) govern_tell_stage(s, before->stage);
    if (now->refuses != before->refuses)
        log_event(s->log, now->refuses ? LOG_WARN : LOG_INFO,
                  now->refuses ? "new requests are refused: %s" : "new requests are taken again",
                  now->stage + 1 == GOV_STAGES ? "heat" : "memory is all but gone");
}

void govern_step(struct server *s, bool is_fresh, uint64_t now_us) {
    struct server_swap *w = &s->swap;
    struct gov_settings set;
    struct gov_input in;
    struct gov_output before = w->out;
    govern_settings(s, &set);
    govern_input(s, is_fresh, &in);
    w->out = gov_step(&w->gov, &set, s->model.ladder, &in, now_us);
    write_trace(s, &set, &in, now_us);
    if (!s->infer) return;
    tell_pace(s, &before);
    if (w->out.duty_permille != before.duty_permille || w->out.threads != before.threads ||
        !w->has_pace)
        infer_set_pace(s->infer, w->out.duty_permille, w->out.threads);
    w->has_pace = true;
}
