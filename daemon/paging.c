/* Streaming of units that are not resident, the loop's side: the two slabs taken at the start, the
 * workers that fill them (two of libuv's threads, from the first plan that needs them until the
 * end), and what the disk does into log, events and figures. Who may touch what: pages.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/ladder.h"
#include "core/pages.h"
#include "core/reader.h"
#include "core/slab.h"
#include "core/store.h"
#include "daemon/buf.h"
#include "daemon/events.h"
#include "daemon/json.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

/* The form that a unit is streamed in: its smallest. */
static const struct pack_extent *streamed(const struct server *s, uint32_t unit) {
    bool has_swsc = pack_has_rung(s->model.pack, unit, RUNG_SWSC);
    return pack_find(s->model.pack, has_swsc ? PACK_SWSC : PACK_HIGH, unit);
}

uint64_t paging_form_bytes(const struct server *s, uint32_t unit) {
    return streamed(s, unit)->bytes;
}

/* Thread: I/O worker. The model is immutable by now. */
static int load(void *ud, uint32_t unit, void *slab, struct reader_watch *w, struct page *ret,
                struct err *e) {
    struct server *s = ud;
    const struct server_model *m = &s->model;
    const struct pack_extent *x = streamed(s, unit);
    int r = reader_read(m->reader, x, /* is_cached= */ false, slab, w, e);
    if (r < 0) return r;
    ret->unit = (struct plan_unit){.rung = x->part == PACK_SWSC ? RUNG_SWSC : RUNG_HIGH};
    if (x->part == PACK_HIGH)
        return pack_bind_unit(m->h, unit, slab, x->bytes, NULL, 0, ret->unit.mats, e);
    ret->unit.forms = ret->forms;
    return pack_bind_swsc(m->h, pack_swsc(m->pack), unit, m->books ? m->books->data : NULL,
                          m->books ? m->books->bytes : 0, slab, x->bytes, ret->forms, e);
}

/* A unit at `swsc` is streamed, too, as long as its extent is being read. */
static bool may_stream(const struct server *s, uint32_t unit) {
    const struct ladder *l = s->model.ladder;
    return ladder_rung(l, ladder_n_steps(l), unit) >= RUNG_SWSC;
}

int paging_create(struct server *s, struct err *e) {
    struct server_model *m = &s->model;
    struct pages_opts o = {
        .n_units = m->n_units,
        .is_tied = m->h->is_tied,
        .timeout_us = s->config.paging_timeout_us,
        .load = load,
        .ud = s,
    };
    int r = reader_create(m->pack, &m->reader, e);
    if (r < 0) return r;
    paging_set(s);
    for (uint32_t u = 0; u < m->n_units; u++)
        if (may_stream(s, u)) o.slab_bytes = MAX(o.slab_bytes, streamed(s, u)->bytes);
    return o.slab_bytes ? pages_create(m->mem, &o, &m->pages, e) : 0;
}

void paging_destroy(struct server *s) {
    pages_destroy(s->model.pages);
    reader_destroy(s->model.reader);
}

void paging_set(struct server *s) {
    reader_set_rate(s->model.reader, s->config.paging_rate_bytes);
    if (s->model.pages) pages_set_timeout(s->model.pages, s->config.paging_timeout_us);
}

/* ---- the workers ---- */

static void serve_work(uv_work_t *w) {
    struct server_worker *me = w->data;
    pages_serve(me->s->model.pages);
}

static void after_serve(uv_work_t *w, int status) {
    struct server_worker *me = w->data;
    (void)status; /* cancelled before it began: nobody waits for it, as that happens at the end */
    me->is_serving = false;
    server_check_ended(me->s);
}

static void serve(struct server *s) {
    struct server_paging *g = &s->paging;
    const struct guard *guard = s->swap.guard;
    if (g->n_units == 0 || g->is_stopped) return;
    /* Threads may be made for it, and their memory charged; the tick tries again. */
    if (guard && guard_is_over(guard) && !guard_is_exhausted(guard)) return;
    for (size_t i = 0; i < ARRAY_LEN(g->workers); i++) {
        struct server_worker *me = &g->workers[i];
        if (me->is_serving) continue;
        me->s = s;
        me->work.data = me;
        /* For want of memory at most; the next tick tries again. */
        me->is_serving = uv_queue_work(&s->loop, &me->work, serve_work, after_serve) == 0;
    }
}

bool paging_is_serving(const struct server *s) {
    for (size_t i = 0; i < ARRAY_LEN(s->paging.workers); i++)
        if (s->paging.workers[i].is_serving) return true;
    return false;
}

void paging_published(struct server *s) {
    struct server_paging *g = &s->paging;
    g->n_units = 0;
    g->pass_bytes = 0;
    for (uint32_t u = 0; u < s->model.n_units; u++) {
        if (store_next_rung(s->model.store, u) != RUNG_PAGED) continue;
        g->n_units++;
        g->pass_bytes += streamed(s, u)->bytes;
    }
    if (g->n_units <= PAGES_SLABS) g->pass_bytes = 0; /* they stay in the slabs */
    ASSERT(g->n_units == 0 || s->model.pages);
    serve(s);
}

void paging_interrupt(struct server *s) {
    if (s->model.pages) pages_interrupt(s->model.pages, store_published_epoch(s->model.store));
}

void paging_stop(struct server *s) {
    s->paging.is_stopped = true;
    if (s->model.pages) pages_stop(s->model.pages);
}

/* ---- telling ---- */

static void tell(struct server *s, const struct pages_stats *st) {
    struct buf b = {0};
    if (st->is_failing)
        log_event(s->log, LOG_ERROR,
                  "%s: paged units cannot be read, requests that need them fail: %s",
                  s->config.model_path, st->last.msg);
    else
        log_event(s->log, LOG_WARN, "%s: paged units can be read again", s->config.model_path);
    buf_printf(&b, "{\"state\":\"%s\",\"error\":", st->is_failing ? "failing" : "working");
    if (st->is_failing)
        json_put_cstr(&b, st->last.msg);
    else
        buf_str(&b, "null");
    buf_str(&b, "}");
    buf_add(&b, "", 1);
    if (!b.failed) events_send(s->events, s->config.serve_buffer_bytes, "paging", b.p);
    buf_fini(&b);
}

void paging_stats(const struct server *s, struct pages_stats *ret) {
    *ret = (struct pages_stats){0};
    if (s->model.pages) pages_stats(s->model.pages, ret);
}

void paging_look(struct server *s) {
    struct pages_stats st;
    struct server_paging *g = &s->paging;
    if (!s->model.pages) return;
    serve(s);
    pages_stats(s->model.pages, &st);
    if (st.is_failing != g->is_failing) {
        g->is_failing = st.is_failing;
        tell(s, &st);
    }
    if (!reader_is_direct(s->model.reader) && !g->is_indirect_told && st.n_reads > 0) {
        g->is_indirect_told = true;
        log_event(s->log, LOG_INFO,
                  "%s: its file system has no direct reads; what is streamed passes through the "
                  "page cache",
                  s->config.model_path);
    }
}

const char *paging_state(const struct server *s) {
    if (!s->model.pages) return "off";
    if (s->paging.is_failing) return "failing";
    return s->paging.n_units > 0 ? "streaming" : "idle";
}
