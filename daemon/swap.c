/* Precision while tokens flow, the loop's side: readings to the governor, its answer to the pager,
 * the pager's actions to the store and the disk, and what became of them into log, metrics and
 * events. Nothing here decides: gov.h and pager.h do. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "core/ladder.h"
#include "core/mem.h"
#include "core/prefix.h"
#include "core/slab.h"
#include "core/store.h"
#include "daemon/buf.h"
#include "daemon/events.h"
#include "daemon/guard.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

static const enum pack_part pack_parts[PAGER_PARTS] = {
    [PAGER_HIGH] = PACK_HIGH, [PAGER_LOW] = PACK_LOW, [PAGER_SWSC] = PACK_SWSC};

enum pack_part swap_pack_part(unsigned part) {
    return pack_parts[part];
}

static enum pager_part pager_part_of(enum pack_part part) {
    unsigned k = 0;
    while (k < PAGER_PARTS && pack_parts[k] != part) k++;
    ASSERT(k < PAGER_PARTS);
    return (enum pager_part)k;
}

int swap_create(struct server *s, uint32_t position, struct err *e) {
    const struct server_model *m = &s->model;
    struct pager_unit *sizes = calloc(m->n_units, sizeof(*sizes));
    s->swap.units = calloc(m->n_units, sizeof(s->swap.units[0]));
    s->swap.n_holds = 1; /* until there is a guard */
    if (!sizes || !s->swap.units) {
        free(sizes);
        return err_set(e, -ENOMEM, "no memory to start");
    }
    for (uint32_t u = 0; u < m->n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++) {
            const struct pack_extent *x = pack_find(m->pack, pack_parts[k], u);
            sizes[u].bytes[k] = x ? x->bytes : 0;
        }
    int r = pager_create(m->ladder, sizes, position, IOWORK_MAX_READS, &s->swap.pager, e);
    free(sizes);
    return r;
}

void swap_destroy(struct server *s) {
    for (uint32_t u = 0; s->swap.units && u < s->model.n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++) slab_destroy(s->swap.units[u].arrived[k]);
    free(s->swap.units);
    s->swap.units = NULL;
    pager_destroy(s->swap.pager);
    s->swap.pager = NULL;
}

uint32_t swap_position(const struct server *s) {
    return s->swap.pager ? pager_position(s->swap.pager) : s->loading.position;
}

/* Caches of ended requests go before anything else, as far as what is held, what is wanted and what
 * is being read is more than the budget. */
static void make_way(struct server *s, uint64_t wanted) {
    uint64_t coming = ladder_bytes(s->model.ladder, pager_target(s->swap.pager));
    uint64_t weights = MAX(mem_bytes(s->model.mem, MEM_SLAB) - govern_fixed_bytes(&s->model),
                           coming);
    uint64_t held = govern_other_bytes(s) + weights + prefix_bytes(s->model.prefix);
    uint64_t budget = s->swap.out.budget_bytes;
    if (budget == UINT64_MAX) return;
    uint64_t room = budget > wanted ? budget - wanted : 0;
    if (held > room) prefix_shed(s->model.prefix, held - room);
}

/* ---- telling ---- */

static void tell(struct server *s, const struct server_change *c, bool is_down) {
    double ms = (double)(server_now_us() - c->started_us) / 1000;
    struct timespec now;
    struct buf b = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    log_event(s->log, LOG_INFO,
              "position %" PRIu32 " -> %" PRIu32 ": %s, %s %.1f MiB in %.1f ms (budget %.1f MiB, "
              "MemAvailable %.1f MiB)",
              c->from, c->to, gov_reason_name(c->reason), is_down ? "returned" : "read",
              (double)c->bytes / 1048576, ms,
              c->limit_bytes == UINT64_MAX ? -1.0 : (double)c->limit_bytes / 1048576,
              (double)c->reading_bytes / 1048576);
    buf_printf(&b,
               "{\"time\":%lld.%03ld,\"from\":%" PRIu32 ",\"to\":%" PRIu32 ",\"bytes\":%" PRIu64
               ",\"reason\":\"%s\",\"reading\":%" PRIu64 ",\"limit\":",
               (long long)now.tv_sec, now.tv_nsec / 1000000, c->from, c->to, c->bytes,
               gov_reason_name(c->reason), c->reading_bytes);
    if (c->limit_bytes == UINT64_MAX)
        buf_str(&b, "null");
    else
        buf_printf(&b, "%" PRIu64, c->limit_bytes);
    buf_printf(&b, ",\"ms\":%.1f}", ms);
    buf_add(&b, "", 1);
    if (!b.failed) events_send(s->events, s->config.serve_buffer_bytes, "position", b.p);
    buf_fini(&b);

    *(is_down ? &s->metrics.swaps_down : &s->metrics.swaps_up) += 1;
    *(is_down ? &s->metrics.bytes_dropped : &s->metrics.bytes_read) += c->bytes;
    metrics_observe(&s->metrics.swap_seconds, ms / 1000);
}

/* ---- acting ---- */

/* What a change of position comes from. */
struct cause {
    enum gov_reason reason;
    uint64_t limit_bytes;
    uint64_t at_us;
};

/* Position and plan, or only the plan: an extent that the position holds has come or given way. */
static void publish(struct server *s, const struct pager_action *a, const struct cause *why) {
    struct server_swap *w = &s->swap;
    store_publish(s->model.store, a->position);
    paging_published(s);
    jobs_kick(s->jobs); /* adopts at once if it sleeps, after the step if not */

    struct server_change c = {
        .from = a->position_from,
        .to = a->position,
        .bytes = a->bytes,
        .reason = why->reason,
        .reading_bytes = w->reading.mem_available_bytes,
        .limit_bytes = why->limit_bytes,
        .started_us = why->at_us,
    };
    if (a->position > a->position_from) {
        paging_interrupt(s);
        w->up_since_us = 0; /* what was on its way up is cancelled */
        if (w->down.is_pending) {
            c.from = w->down.from;
            c.started_us = w->down.started_us;
            c.bytes += w->down.bytes;
        }
        c.is_pending = true;
        c.epoch = store_published_epoch(s->model.store);
        w->down = c;
        w->urge_us = server_now_us();
    } else if (a->position < a->position_from) {
        if (c.reason == GOV_STEADY) c.reason = GOV_ROOM;
        if (w->up_since_us) c.started_us = w->up_since_us;
        w->up_since_us = 0;
        tell(s, &c, /* is_down= */ false);
    } else {
        s->metrics.bytes_read += a->bytes;
        log_event(s->log, LOG_DEBUG, "position %" PRIu32 ": %.1f MiB read, %u units are streamed",
                  a->position, (double)a->bytes / 1048576, s->paging.n_units);
    }
}

/* One line when reads begin to fail, and one when they work again. */
static void look_at_read(struct server *s, bool has_failed, const struct err *e) {
    struct server_swap *w = &s->swap;
    s->metrics.reads++;
    if (has_failed) s->metrics.reads_failed++;
    if (has_failed && !w->is_failing)
        log_event(s->log, LOG_ERROR,
                  "%s: %s; precision stays where it is, and the read is tried again",
                  s->config.model_path, e->msg);
    if (!has_failed && w->is_failing)
        log_event(s->log, LOG_WARN, "%s: reads work again", s->config.model_path);
    w->is_failing = has_failed;
}

static void on_read(void *ud, const struct pack_extent *x, struct slab *slab, const struct err *e) {
    struct server *s = ud;
    struct server_swap *w = &s->swap;
    enum pager_part part = pager_part_of(x->part);
    w->n_reading--;
    w->units[x->unit].reads[part] = NULL;
    if (server_state(s) == SERVER_STOPPING) {
        slab_destroy(slab);
        server_check_ended(s);
        return;
    }
    /* Above the limit the reader ends reads by itself: they are paced like failed ones. */
    bool is_cancelled = !slab && e->code == -ECANCELED;
    bool is_held = is_cancelled && w->guard && guard_is_over(w->guard);
    enum pager_end end = slab                       ? PAGER_READ_OK
                         : is_cancelled && !is_held ? PAGER_READ_CANCELLED
                                                    : PAGER_READ_FAILED;
    if (!is_cancelled) look_at_read(s, end == PAGER_READ_FAILED, e);
    if (pager_read_done(w->pager, x->unit, part, end, server_now_us()))
        w->units[x->unit].arrived[part] = slab;
    else
        slab_destroy(slab);
    swap_step(s);
}

static void start_read(struct server *s, const struct pager_action *a) {
    const struct server_model *m = &s->model;
    const struct pack_extent *x = pack_find(m->pack, pack_parts[a->part], a->unit);
    ASSERT(x);
    int r = iowork_read(&s->loop, m->mem, m->reader, x, on_read, s,
                        &s->swap.units[a->unit].reads[a->part]);
    if (r < 0) {
        struct err e = {0};
        err_set(&e, r, "%s: cannot start reading: %s", x->name, uv_strerror(r));
        look_at_read(s, /* has_failed= */ true, &e);
        /* Nothing to keep. */
        ignore_result(
            pager_read_done(s->swap.pager, a->unit, a->part, PAGER_READ_FAILED, server_now_us()));
        return;
    }
    s->swap.n_reading++;
}

static void add(struct server *s, const struct pager_action *a) {
    struct err e = {0};
    struct slab **place = &s->swap.units[a->unit].arrived[a->part], *slab = *place;
    *place = NULL;
    ASSERT(slab);
    if (store_add(s->model.store, slab, &e) == 0) return;
    /* The checksum held, so the pack was written wrong: the unit stays at a lower rung in fact, and
     * the position says otherwise until the next drop. */
    log_event(s->log, LOG_ERROR, "unit %" PRIu32 ": %s", a->unit, e.msg);
    slab_destroy(slab);
}

static void discard(struct server *s, const struct pager_action *a) {
    struct slab **place = &s->swap.units[a->unit].arrived[a->part];
    slab_destroy(*place);
    *place = NULL;
}

static void read_part(struct server *s, const struct pager_action *a, uint64_t now_us) {
    struct server_swap *w = &s->swap;
    if (!w->up_since_us && pager_target(w->pager) < a->position) w->up_since_us = now_us;
    swap_lend(s); /* a thread may be made for it */
    start_read(s, a);
    swap_hold(s);
}

static void set_retired(struct server *s) {
    pager_set_retired(s->swap.pager,
                      store_bytes(s->model.store) - store_next_bytes(s->model.store));
}

/* Takes actions until there is none, while the store is held; true if a plan was published. */
static bool act(struct server *s, const struct cause *why) {
    struct server_swap *w = &s->swap;
    bool has_published = false;
    for (;;) {
        struct pager_action a = pager_next(w->pager, why->at_us);
        switch (a.verb) {
        case PAGER_NONE: return has_published;
        case PAGER_DROP: store_drop(s->model.store, a.unit, pack_parts[a.part]); break;
        case PAGER_ADD: add(s, &a); break;
        case PAGER_PUBLISH:
            publish(s, &a, why);
            has_published = true;
            break;
        case PAGER_DISCARD: discard(s, &a); break;
        case PAGER_READ: read_part(s, &a, why->at_us); break;
        case PAGER_CANCEL: iowork_cancel(w->units[a.unit].reads[a.part]); break;
        }
        set_retired(s);
    }
}

/* ---- the guard ---- */

/* What the guard has done in the loop's place: the pager's ledger follows, and publishes the same
 * position once more. */
static void swap_take_over(struct server *s) {
    struct server_swap *w = &s->swap;
    struct guard_act a, last = {0};
    prefix_drop_discarded(s->model.prefix);
    while (guard_next(w->guard, &a)) {
        govern_trace_guard(s, &a);
        last = a;
    }
    uint32_t position = store_position(s->model.store);
    if (position <= pager_position(w->pager)) return;
    const struct cause why = {
        .reason = GOV_CGROUP,
        .limit_bytes = last.limit_bytes,
        .at_us = last.at_us ? last.at_us : server_now_us(),
    };
    w->out.position = MAX(w->out.position, position);
    pager_set_target(w->pager, w->out.position, w->out.weight_budget_bytes);
    act(s, &why);
}

void swap_hold(struct server *s) {
    if (s->swap.n_holds++ > 0) return;
    store_recall(s->model.store);
    if (s->swap.guard) swap_take_over(s);
}

void swap_lend(struct server *s) {
    ASSERT(s->swap.n_holds > 0);
    if (--s->swap.n_holds == 0) store_lend(s->model.store);
}

void swap_stop(struct server *s) {
    for (uint32_t u = 0; s->swap.units && u < s->model.n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++)
            if (s->swap.units[u].reads[k]) iowork_cancel(s->swap.units[u].reads[k]);
}

/* A long step under the old plan is not waited for. */
static void swap_urge(struct server *s) {
    struct server_swap *w = &s->swap;
    if (!w->urge_us) return;
    if (store_adopted_epoch(s->model.store) >= w->down.epoch)
        w->urge_us = 0;
    else if (server_now_us() - w->urge_us >= GUARD_PATIENCE_US)
        store_urge(s->model.store, w->down.epoch);
}

void swap_step(struct server *s) {
    struct server_swap *w = &s->swap;
    if (server_state(s) != SERVER_READY && server_state(s) != SERVER_DRAINING) return;
    swap_urge(s);
    if (w->is_stepping) return;
    w->is_stepping = true;
    swap_hold(s);
    bool again = true, is_fresh = w->is_fresh;
    w->is_fresh = false;
    /* After a step up the governor may allow the next at once (an operator raised the limit). A
     * reading counts once, before the bytes change. */
    while (again) {
        uint64_t now = server_now_us();
        govern_step(s, is_fresh, now);
        pager_set_target(w->pager, w->out.position, w->out.weight_budget_bytes);
        make_way(s, 0);
        again = act(s, &(struct cause){w->out.reason, w->out.budget_bytes, now});
        is_fresh = false;
    }
    swap_lend(s);
    w->is_stepping = false;
}

void swap_adopted(struct server *s) {
    struct server_swap *w = &s->swap;
    uint64_t freed = store_reap(s->model.store);
    swap_hold(s);
    set_retired(s);
    swap_lend(s);
    if (w->down.is_pending && store_adopted_epoch(s->model.store) >= w->down.epoch) {
        struct server_change c = w->down;
        w->down.is_pending = false;
        tell(s, &c, /* is_down= */ true);
    }
    if (freed > 0) swap_step(s);
}

void swap_set_limit(struct server *s, uint64_t bytes) {
    s->swap.operator_limit_bytes = bytes;
    govern_sense(s);
    swap_step(s);
}

static bool fits(const struct server *s, uint64_t bytes) {
    uint64_t held = govern_other_bytes(s) + mem_bytes(s->model.mem, MEM_SLAB) -
                    govern_fixed_bytes(&s->model);
    uint64_t budget = s->swap.out.budget_bytes;
    return held <= budget && bytes <= budget - held;
}

static int find_room(struct server *s, uint64_t bytes, uint64_t new_bytes) {
    struct server_swap *w = &s->swap;
    const struct server_model *m = &s->model;
    uint64_t budget = w->out.budget_bytes, kv = govern_kv_bytes(s);
    uint64_t least = ladder_bytes(m->ladder, ladder_n_steps(m->ladder)) + govern_other_bytes(s) -
                     kv;
    if (least > budget || bytes > budget - least) return -ENOSPC;
    if (fits(s, bytes)) {
        make_way(s, new_bytes);
        return 1;
    }
    /* Once others have given back their KV it may fit; until then dropping planes is in vain. */
    if (least + kv > budget || bytes > budget - least - kv) return 0;
    if (w->wanted_bytes != bytes) {
        /* The governor counts it as if it were held, and drops planes for it. */
        w->wanted_bytes = bytes;
        swap_step(s);
    }
    if (!fits(s, bytes)) return 0;
    make_way(s, new_bytes);
    return 1;
}

int swap_room(struct server *s, uint64_t bytes, uint64_t new_bytes) {
    swap_hold(s);
    int r = find_room(s, bytes, new_bytes);
    swap_lend(s);
    return r;
}

void swap_set_prefix(struct server *s) {
    if (!s->model.prefix) return;
    swap_hold(s);
    prefix_set_limit(s->model.prefix, s->config.kv_prefix_bytes);
    swap_lend(s);
}

void swap_room_taken(struct server *s) {
    s->swap.wanted_bytes = 0;
}
