/* Precision while tokens flow, the loop's side: readings to the governor, its answer to the pager,
 * the pager's actions to the store and the disk, and what became of them into log, metrics and
 * events. Nothing here decides: gov.h and pager.h do. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "core/ladder.h"
#include "core/mem.h"
#include "core/pager.h"
#include "core/slab.h"
#include "core/store.h"
#include "daemon/buf.h"
#include "daemon/events.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

void swap_settings(const struct server *s, struct gov_settings *ret) {
    const struct config *c = &s->config;
    *ret = (struct gov_settings){
        .limit_bytes = c->memory_limit_bytes,
        .reserve_bytes = c->memory_reserve_bytes,
        .margin_bytes = c->memory_margin_bytes,
        .hold_us = c->memory_hold_us,
        .step_us = c->memory_step_us,
        .stale_us = c->sense_stale_us,
    };
}

int swap_create(struct server *s, uint32_t position, struct err *e) {
    s->swap.arrived = calloc(s->model.n_units, sizeof(s->swap.arrived[0]));
    if (!s->swap.arrived) return err_set(e, -ENOMEM, "no memory to start");
    return pager_create(s->model.ladder, position, IOWORK_MAX_READS, &s->swap.pager, e);
}

void swap_destroy(struct server *s) {
    for (uint32_t u = 0; s->swap.arrived && u < s->model.n_units; u++)
        slab_destroy(s->swap.arrived[u]);
    free(s->swap.arrived);
    s->swap.arrived = NULL;
    pager_destroy(s->swap.pager);
    s->swap.pager = NULL;
}

uint32_t swap_position(const struct server *s) {
    return s->swap.pager ? pager_position(s->swap.pager) : s->loading.position;
}

void swap_sense(struct server *s) {
    struct sense_reading now;
    sense_read(s->config.sense_root, &now);
    if (s->swap.has_reading ? sense_changed(&s->swap.reading, &now) : !now.has_mem) {
        if (now.has_mem)
            log_event(s->log, LOG_INFO, "MemAvailable is known again: %" PRIu64 " MiB",
                      now.mem_available_bytes >> 20);
        else
            log_event(s->log, LOG_WARN, "memory is unknown, nothing will grow: %s",
                      now.mem_err.msg);
    }
    s->swap.reading = now;
    s->swap.has_reading = true;
    s->swap.is_fresh = true;
}

/* What is resident at every position. */
static uint64_t fixed_bytes(const struct server_model *m) {
    return m->core->bytes + (m->books ? m->books->bytes : 0);
}

static uint64_t other_bytes(const struct server *s) {
    const struct server_model *m = &s->model;
    return mem_bytes(m->mem, MEM_KV) + mem_bytes(m->mem, MEM_SCRATCH) + fixed_bytes(m);
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

static void publish(struct server *s, uint32_t position) {
    store_publish(s->model.store, position);
    jobs_kick(s->jobs); /* adopts at once if it sleeps, after the step if not */
}

static void drop(struct server *s, const struct pager_action *a, uint64_t started_us) {
    for (uint32_t i = a->position_from; i < a->position; i++)
        store_drop(s->model.store, ladder_step_at(s->model.ladder, i)->unit, PACK_LOW);
    publish(s, a->position);
    struct server_change *c = &s->swap.down;
    if (!c->is_pending)
        *c = (struct server_change){
            .is_pending = true, .from = a->position_from, .started_us = started_us};
    c->to = a->position;
    c->bytes += a->bytes;
    c->reason = s->swap.out.reason;
    c->reading_bytes = s->swap.reading.mem_available_bytes;
    c->limit_bytes = s->swap.out.budget_bytes;
    c->epoch = store_published_epoch(s->model.store);
}

static void on_read(void *ud, const struct pack_extent *x, struct slab *slab, const struct err *e) {
    struct server *s = ud;
    s->swap.n_reading--;
    if (server_state(s) == SERVER_STOPPING) {
        slab_destroy(slab);
        return;
    }
    s->metrics.reads++;
    if (!slab) {
        s->metrics.reads_failed++;
        log_event(s->log, LOG_ERROR, "%s: %s; it stays at the lower precision",
                  s->config.model_path, e->msg);
    }
    if (pager_read_done(s->swap.pager, x->unit, slab != NULL))
        s->swap.arrived[x->unit] = slab;
    else
        slab_destroy(slab);
    swap_step(s);
}

static void start_read(struct server *s, uint32_t unit) {
    const struct pack_extent *x = pack_find(s->model.pack, PACK_LOW, unit);
    ASSERT(x);
    int r = iowork_read(&s->loop, s->model.mem, s->model.pack, x, on_read, s);
    if (r < 0) {
        log_event(s->log, LOG_ERROR, "%s: cannot start reading: %s", x->name, uv_strerror(r));
        ignore_result(pager_read_done(s->swap.pager, unit, false)); /* nothing to keep */
        return;
    }
    s->swap.n_reading++;
}

static void publish_arrived(struct server *s, const struct pager_action *a) {
    struct err e = {0};
    struct slab *slab = s->swap.arrived[a->unit];
    s->swap.arrived[a->unit] = NULL;
    ASSERT(slab);
    uint64_t bytes = slab->bytes;
    if (store_add(s->model.store, slab, &e) < 0) {
        /* The checksum held, so the pack was written wrong: the unit stays at `high` in fact, and
         * the position says otherwise until the next drop. */
        log_event(s->log, LOG_ERROR, "unit %" PRIu32 ": %s", a->unit, e.msg);
        slab_destroy(slab);
    }
    publish(s, a->position);
    struct server_change c = {
        .from = a->position_from,
        .to = a->position,
        .bytes = bytes,
        .reason = s->swap.out.reason == GOV_STEADY ? GOV_ROOM : s->swap.out.reason,
        .reading_bytes = s->swap.reading.mem_available_bytes,
        .limit_bytes = s->swap.out.budget_bytes,
        .started_us = s->swap.up_since_us ? s->swap.up_since_us : server_now_us(),
    };
    s->swap.up_since_us = 0;
    tell(s, &c, /* is_down= */ false);
}

/* Takes actions until there is none; true if a plan was published. */
static bool act(struct server *s, uint64_t started_us) {
    bool has_published = false;
    for (;;) {
        struct pager_action a = pager_next(s->swap.pager);
        switch (a.verb) {
        case PAGER_NONE: return has_published;
        case PAGER_DROP:
            drop(s, &a, started_us);
            has_published = true;
            break;
        case PAGER_DISCARD:
            slab_destroy(s->swap.arrived[a.unit]);
            s->swap.arrived[a.unit] = NULL;
            break;
        case PAGER_READ:
            if (!s->swap.up_since_us) s->swap.up_since_us = started_us;
            start_read(s, a.unit);
            break;
        case PAGER_PUBLISH:
            publish_arrived(s, &a);
            has_published = true;
            break;
        }
        pager_set_retired(s->swap.pager,
                          store_bytes(s->model.store) - store_next_bytes(s->model.store));
    }
}

void swap_step(struct server *s) {
    struct server_swap *w = &s->swap;
    struct gov_settings set;
    if (server_state(s) != SERVER_READY && server_state(s) != SERVER_DRAINING) return;
    if (w->is_stepping) return;
    w->is_stepping = true;
    swap_settings(s, &set);
    bool again = true, is_fresh = w->is_fresh;
    w->is_fresh = false;
    /* After a step up the governor may allow the next at once (an operator raised the limit). */
    while (again) {
        uint64_t now = server_now_us();
        struct gov_input in = {
            /* The governor adds what is held and what is available. KV that is wanted is not held
             * yet, so it is taken off here; and a reading counts once, before the bytes change. */
            .mem_available_bytes = w->reading.mem_available_bytes - w->wanted_bytes,
            .has_mem = is_fresh && w->reading.has_mem &&
                       w->reading.mem_available_bytes >= w->wanted_bytes,
            .operator_limit_bytes = w->operator_limit_bytes,
            .weight_bytes = mem_bytes(s->model.mem, MEM_SLAB) - fixed_bytes(&s->model),
            .other_bytes = other_bytes(s) + w->wanted_bytes,
            .position = pager_position(w->pager),
        };
        w->out = gov_step(&w->gov, &set, s->model.ladder, &in, now);
        pager_set_target(w->pager, w->out.position, w->out.weight_budget_bytes);
        again = act(s, now);
        is_fresh = false;
    }
    w->is_stepping = false;
}

void swap_adopted(struct server *s) {
    struct server_swap *w = &s->swap;
    uint64_t freed = store_reap(s->model.store);
    pager_set_retired(w->pager, store_bytes(s->model.store) - store_next_bytes(s->model.store));
    if (w->down.is_pending && store_adopted_epoch(s->model.store) >= w->down.epoch) {
        struct server_change c = w->down;
        w->down.is_pending = false;
        tell(s, &c, /* is_down= */ true);
    }
    if (freed > 0) swap_step(s);
}

void swap_set_limit(struct server *s, uint64_t bytes) {
    s->swap.operator_limit_bytes = bytes;
    swap_sense(s);
    swap_step(s);
}

static bool fits(const struct server *s, uint64_t bytes) {
    uint64_t held = other_bytes(s) + mem_bytes(s->model.mem, MEM_SLAB) - fixed_bytes(&s->model);
    uint64_t budget = s->swap.out.budget_bytes;
    return held <= budget && bytes <= budget - held;
}

int swap_room(struct server *s, uint64_t bytes) {
    struct server_swap *w = &s->swap;
    const struct server_model *m = &s->model;
    uint64_t budget = w->out.budget_bytes, kv = mem_bytes(m->mem, MEM_KV);
    uint64_t least = ladder_bytes(m->ladder, ladder_n_steps(m->ladder)) + other_bytes(s) - kv;
    if (least > budget || bytes > budget - least) return -ENOSPC;
    if (fits(s, bytes)) return 1;
    /* Once others have given back their KV it may fit; until then dropping planes is in vain. */
    if (least + kv > budget || bytes > budget - least - kv) return 0;
    if (w->wanted_bytes != bytes) {
        /* The governor counts it as if it were held, and drops planes for it. */
        w->wanted_bytes = bytes;
        swap_step(s);
    }
    return fits(s, bytes);
}

void swap_room_taken(struct server *s) {
    s->swap.wanted_bytes = 0;
}
