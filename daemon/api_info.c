/* The endpoints that only tell, and the one that sets the operator's limit. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pages.h"
#include "core/pool.h"
#include "core/prefix.h"
#include "core/reader.h"
#include "core/store.h"
#include "daemon/api_body.h"
#include "daemon/buf.h"
#include "daemon/conn.h"
#include "daemon/events.h"
#include "daemon/json.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

static void reply_json(struct conn *c, int status, const char *headers, struct buf *b) {
    if (b->failed)
        conn_abort(c);
    else
        conn_reply(c, status, "application/json", headers, b->p, b->n);
    buf_fini(b);
}

double api_info_bits(const struct server *s, uint32_t position) {
    const struct server_model *m = &s->model;
    uint64_t bytes = 0;
    if (!m->n_weights) return 0;
    for (uint32_t u = 0; u < m->n_units; u++) {
        enum rung r = ladder_rung(m->ladder, position, u);
        bytes += r == RUNG_PAGED ? paging_form_bytes(s, u) : pack_unit_bytes(m->pack, u, r);
    }
    return (double)bytes * 8 / (double)m->n_weights;
}

static uint64_t rss_bytes(void) {
    /* Not under sense.root: it is about this process. */
    size_t rss = 0;
    if (uv_resident_set_memory(&rss) < 0) return 0;
    return rss;
}

void api_info_models(struct server *s, struct conn *c) {
    const struct server_model *m = &s->model;
    struct buf b = {0};
    buf_str(&b, "{\"object\":\"list\",\"data\":[{\"id\":");
    json_put_cstr(&b, m->name);
    buf_printf(&b,
               ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"ebb\",\"meta\":{"
               "\"n_vocab\":%" PRIu32 ",\"n_ctx\":%" PRIu32 ",\"n_ctx_train\":%" PRIu32
               ",\"n_embd\":%" PRIu32 ",\"n_layers\":%" PRIu32 ",\"n_params\":%" PRIu64
               ",\"size\":%" PRIu64 "}}]}",
               m->created, m->h->n_vocab, m->n_ctx, m->h->n_ctx_train, m->h->n_embd, m->h->n_layers,
               m->n_weights, ladder_bytes(m->ladder, 0));
    reply_json(c, 200, "", &b);
}

void api_info_health(struct server *s, struct conn *c) {
    struct api_fault f = {0};
    if (server_state(s) == SERVER_READY && !s->is_stuck) {
        static const char ok[] = "{\"status\":\"ok\"}";
        conn_reply(c, 200, "application/json", "", ok, sizeof(ok) - 1);
        return;
    }
    api_fault_set(&f, -EAGAIN, "%s",
                  s->is_stuck                         ? "The inference thread makes no progress."
                  : server_state(s) == SERVER_LOADING ? "Loading model"
                                                      : "The server is stopping.");
    api_error(c, &f, "Retry-After: 2\r\n");
}

/* ---- status ---- */

static unsigned level_of(const struct server *s) {
    return s->swap.out.level;
}

void api_info_put_bytes(struct buf *b, uint64_t v) {
    if (v == UINT64_MAX)
        buf_str(b, "null");
    else
        buf_printf(b, "%" PRIu64, v);
}

static void put_units(struct buf *b, const struct server *s) {
    unsigned n[RUNG_COUNT] = {0};
    for (uint32_t u = 0; u < s->model.n_units; u++)
        n[ladder_rung(s->model.ladder, swap_position(s), u)]++;
    buf_str(b, "\"units\":{");
    for (unsigned r = 0; r < RUNG_COUNT; r++)
        buf_printf(b, "%s\"%s\":%u", r ? "," : "", rung_name((enum rung)r), n[r]);
    buf_str(b, "}");
}

static void put_requests(struct buf *b, const struct server *s) {
    const struct metrics *m = &s->metrics;
    buf_printf(b,
               "\"requests\":{\"active\":%u,\"queued\":%u,\"slots\":%" PRIu32
               ",\"accepted\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"refused\":%" PRIu64
               ",\"cancelled\":%" PRIu64 ",\"failed\":%" PRIu64 "}",
               s->calls.n_running, s->calls.n_parsing + s->calls.n_queued, s->config.serve_slots,
               m->accepted, m->completed, m->refused, m->cancelled, m->failed);
}

static void put_paging(struct buf *b, const struct server *s) {
    struct pages_stats st;
    paging_stats(s, &st);
    buf_printf(b,
               "\"paging\":{\"state\":\"%s\",\"units\":%u,\"bytes_per_token\":%" PRIu64
               ",\"reads\":%" PRIu64 ",\"failed_reads\":%" PRIu64 ",\"read_bytes\":%" PRIu64
               ",\"waits\":%" PRIu64 ",\"wait_s\":%.3f,\"direct\":%s}",
               paging_state(s), s->paging.n_units, s->paging.pass_bytes, st.n_reads,
               st.n_failed_reads, st.n_bytes, st.n_waits, (double)st.wait_us / 1e6,
               reader_is_direct(s->model.reader) ? "true" : "false");
}

static uint64_t weight_bytes(const struct server *s) {
    return mem_bytes(s->model.mem, MEM_SLAB);
}

void api_info_status(struct server *s, struct conn *c) {
    const struct server_model *m = &s->model;
    struct buf b = {0};
    uint32_t position = swap_position(s);
    buf_printf(&b, "{\"state\":\"%s\",\"level\":%u,\"model\":", server_state_name(s), level_of(s));
    json_put_cstr(&b, m->name);
    buf_printf(&b,
               ",\"hash\":\"%s\",\"ladder\":\"%s\",\"position\":%" PRIu32 ",\"positions\":%" PRIu32
               ",\"target\":%" PRIu32 ",\"bits\":%.3f,\"budget_bytes\":",
               m->hash, ladder_name(m->ladder), position, ladder_n_steps(m->ladder),
               pager_target(s->swap.pager), api_info_bits(s, position));
    api_info_put_bytes(&b, s->swap.out.budget_bytes);
    buf_printf(&b,
               ",\"resident_bytes\":%" PRIu64 ",\"kv_bytes\":%" PRIu64 ",\"kv_kept_bytes\":%" PRIu64
               ",\"scratch_bytes\":%" PRIu64 ",\"slack_bytes\":%" PRIu64 ",\"rss_bytes\":%" PRIu64
               ",",
               weight_bytes(s), mem_bytes(m->mem, MEM_KV), prefix_bytes(m->prefix),
               mem_bytes(m->mem, MEM_SCRATCH), m->slack_bytes, rss_bytes());
    put_units(&b, s);
    buf_str(&b, ",");
    put_paging(&b, s);
    buf_printf(&b,
               ",\"duty\":%" PRIu32
               ",\"threads\":%u,\"threads_max\":%u,\"cpus\":\"%s\",\"kernels\":\"%s\",",
               s->swap.out.duty_permille / 10, pool_active(m->pool), pool_threads(m->pool),
               pool_cpus(m->pool), cpu_ops_name(m->ops));
    api_sense_put_quota(&b, s);
    api_sense_put(&b, s);
    api_sense_put_sources(&b, s);
    buf_printf(&b, "\"speed\":{\"decode_tps\":%.1f,\"prefill_tps\":%.1f},",
               s->calls.speed.decode_tps, s->calls.speed.prefill_tps);
    put_requests(&b, s);
    buf_str(&b, ",");
    reload_put_json(s, &b);
    buf_printf(&b,
               ",\"connections\":%u,\"epoch\":%" PRIu64 ",\"uptime_s\":%" PRIu64
               ",\"version\":\"" EBB_VERSION "\"}",
               conn_hub_n(s->hub), store_published_epoch(m->store),
               (server_now_us() - s->started_us) / 1000000);
    reply_json(c, 200, "", &b);
}

void api_info_ladder(struct server *s, struct conn *c) {
    const struct server_model *m = &s->model;
    uint32_t position = swap_position(s), n = ladder_n_steps(m->ladder);
    struct buf b = {0};
    buf_str(&b, "{\"name\":");
    json_put_cstr(&b, ladder_name(m->ladder));
    buf_printf(&b,
               ",\"position\":%" PRIu32 ",\"positions\":%" PRIu32 ",\"bytes\":%" PRIu64
               ",\"bits\":%.3f,\"steps\":[",
               position, n, ladder_bytes(m->ladder, position), api_info_bits(s, position));
    for (uint32_t i = 0; i < n; i++) {
        const struct ladder_step *st = ladder_step_at(m->ladder, i);
        char name[16];
        buf_printf(&b,
                   "%s{\"unit\":\"%s\",\"index\":%" PRIu32 ",\"from\":\"%s\",\"to\":\"%s\","
                   "\"bytes\":%" PRIu64 ",\"cost\":%.9g,\"taken\":%s}",
                   i ? "," : "", model_unit_name(m->h, st->unit, name, sizeof(name)), st->unit,
                   rung_name(st->from), rung_name(st->to), st->bytes, (double)st->cost,
                   i < position ? "true" : "false");
    }
    buf_str(&b, "]}");
    reply_json(c, 200, "", &b);
}

/* ---- events ---- */

void api_info_put_state(struct server *s, struct buf *b) {
    uint32_t position = swap_position(s);
    buf_printf(b,
               "{\"state\":\"%s\",\"level\":%u,\"position\":%" PRIu32 ",\"positions\":%" PRIu32
               ",\"bits\":%.3f,\"resident_bytes\":%" PRIu64 ",\"budget_bytes\":",
               server_state_name(s), level_of(s), position, ladder_n_steps(s->model.ladder),
               api_info_bits(s, position), weight_bytes(s));
    api_info_put_bytes(b, s->swap.out.budget_bytes);
    buf_str(b, "}");
}

void api_info_events(struct server *s, struct conn *c) {
    struct buf b = {0};
    api_info_put_state(s, &b);
    buf_add(&b, "", 1);
    if (b.failed) {
        conn_abort(c);
    } else if (!events_join(s->events, c, "state", b.p)) {
        struct api_fault f;
        api_fault_set(&f, -EBUSY, "Too many listen to events already (%d).", EVENTS_MAX_LISTENERS);
        api_error(c, &f, "Retry-After: 10\r\n");
    }
    buf_fini(&b);
}

/* ---- the operator's limit ---- */

void api_info_limit(struct server *s, struct conn *c, const char *body, size_t n) {
    struct api_fault f = {0};
    uint64_t bytes;
    if (server_state(s) != SERVER_READY) {
        api_fault_set(&f, -EAGAIN, "The server is %s.", server_state_name(s));
        api_error(c, &f, "Retry-After: 2\r\n");
        return;
    }
    if (api_body_limit(body, n, &bytes, &f) < 0) {
        api_error(c, &f, "");
        return;
    }
    if (bytes == CONFIG_AUTO_BYTES)
        log_event(s->log, LOG_INFO, "%s: the operator lifts the limit", conn_request_id(c));
    else
        log_event(s->log, LOG_INFO, "%s: the operator sets the limit to %" PRIu64 " bytes",
                  conn_request_id(c), bytes);
    swap_set_limit(s, bytes);

    struct buf b = {0};
    buf_str(&b, "{\"limit_bytes\":");
    api_info_put_bytes(&b, bytes);
    buf_printf(&b,
               ",\"position\":%" PRIu32 ",\"target\":%" PRIu32 ",\"positions\":%" PRIu32
               ",\"is_over\":%s,\"budget_bytes\":",
               swap_position(s), pager_target(s->swap.pager), ladder_n_steps(s->model.ladder),
               s->swap.out.is_over ? "true" : "false");
    api_info_put_bytes(&b, s->swap.out.budget_bytes);
    buf_str(&b, ",");
    api_sense_put_memory(&b, s);
    buf_str(&b, "}");
    reply_json(c, 200, "", &b);
}

/* ---- metrics ---- */

/* Weights held, by the rung their unit is computed at; what is streamed is held by nobody. */
static void put_rungs(struct buf *b, struct server *s) {
    uint64_t bytes[RUNG_COUNT] = {0};
    swap_hold(s);
    for (uint32_t u = 0; u < s->model.n_units; u++) {
        enum rung r = store_next_rung(s->model.store, u);
        bytes[r] += pack_unit_bytes(s->model.pack, u, r);
    }
    swap_lend(s);
    buf_str(b, "# HELP ebb_bytes Weights resident, by rung.\n# TYPE ebb_bytes gauge\n");
    for (unsigned r = 0; r < RUNG_COUNT; r++)
        buf_printf(b, "ebb_bytes{rung=\"%s\"} %" PRIu64 "\n", rung_name((enum rung)r), bytes[r]);
}

static void put_paging_metrics(struct buf *b, const struct server *s) {
    struct pages_stats st;
    paging_stats(s, &st);
    const struct {
        const char *name, *type, *help;
        double v;
    } all[] = {
        {"ebb_paged_units", "gauge", "Units that are read from disk in each step.",
         s->paging.n_units},
        {"ebb_paged_bytes_per_token", "gauge", "Bytes a step reads from disk.",
         (double)s->paging.pass_bytes},
        {"ebb_paging_failing", "gauge", "1 if the last steps could not read what they needed.",
         st.is_failing},
        {"ebb_pages_read_total", "counter", "Paged units read.", (double)st.n_reads},
        {"ebb_pages_read_failed_total", "counter", "Reads of paged units that failed.",
         (double)st.n_failed_reads},
        {"ebb_pages_read_bytes_total", "counter", "Bytes of paged units read.", (double)st.n_bytes},
        {"ebb_pages_failed_steps_total", "counter", "Steps that failed for want of a paged unit.",
         (double)st.n_failed_takes},
        {"ebb_pages_waits_total", "counter", "Times that a step had to wait for the disk.",
         (double)st.n_waits},
        {"ebb_pages_wait_seconds_total", "counter", "Time that steps waited for the disk.",
         (double)st.wait_us / 1e6},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        metrics_put(b, all[i].name, all[i].type, all[i].help, "", all[i].v);
}

static void put_gauges(struct server *s, struct buf *b) {
    const struct server_model *m = &s->model;
    const struct server_swap *w = &s->swap;
    const struct {
        const char *name, *help;
        double v;
    } gauges[] = {
        {"ebb_ready", "1 if requests are served.", server_state(s) == SERVER_READY && !s->is_stuck},
        {"ebb_position", "Steps of the ladder taken; 0 = full precision.", swap_position(s)},
        {"ebb_positions", "Steps the ladder has.", ladder_n_steps(m->ladder)},
        {"ebb_level", "0 normal, 1 guarded, 2 tight, 3 emergency.", level_of(s)},
        {"ebb_bits_per_weight", "Average of what is computed with.",
         api_info_bits(s, swap_position(s))},
        {"ebb_weights_resident_bytes", "Weights held.", (double)weight_bytes(s)},
        {"ebb_kv_used_bytes", "KV cache held.", (double)mem_bytes(m->mem, MEM_KV)},
        {"ebb_kv_kept_bytes", "Of it, caches of ended requests.", (double)prefix_bytes(m->prefix)},
        {"ebb_scratch_bytes", "Scratch held.", (double)mem_bytes(m->mem, MEM_SCRATCH)},
        {"ebb_resident_set_bytes", "Of this process.", (double)rss_bytes()},
        {"ebb_generations_running", "In a slot.", s->calls.n_running},
        {"ebb_queue_depth", "Generation requests that wait.",
         s->calls.n_parsing + s->calls.n_queued},
        {"ebb_connections", "Open.", conn_hub_n(s->hub)},
        {"ebb_event_listeners", "Of /ebb/events.", events_n(s->events)},
        {"ebb_threads", "That compute.", pool_active(m->pool)},
    };
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        metrics_put(b, gauges[i].name, "gauge", gauges[i].help, "", gauges[i].v);
    if (w->out.budget_bytes != UINT64_MAX)
        metrics_put(b, "ebb_budget_bytes", "gauge", "For weights, KV and scratch together.", "",
                    (double)w->out.budget_bytes);
    metrics_put(b, "ebb_connections_stalled_total", "counter", "Cut off: they took nothing.", "",
                (double)conn_hub_n_stalled(s->hub));
    metrics_put(b, "ebb_connections_late_total", "counter", "Cut off: their request was too slow.",
                "", (double)conn_hub_n_late(s->hub));
    metrics_put(b, "ebb_log_dropped_total", "counter", "Log lines nobody took.", "",
                (double)log_dropped(s->log));
}

void api_info_metrics(struct server *s, struct conn *c) {
    struct buf b = {0};
    char name[160], labels[400];
    metrics_label(s->model.name, name, sizeof(name));
    snprintf(labels, sizeof(labels), "{name=\"%s\",arch=\"llama\",hash=\"%s\",ladder=\"%s\"}", name,
             s->model.hash, ladder_name(s->model.ladder));
    metrics_put(&b, "ebb_model_info", "gauge", "The model served.", labels, 1);
    snprintf(labels, sizeof(labels), "{version=\"" EBB_VERSION "\",kernels=\"%s\"}",
             cpu_ops_name(s->model.ops));
    metrics_put(&b, "ebb_build_info", "gauge", "The program.", labels, 1);
    put_gauges(s, &b);
    api_sense_put_metrics(&b, s);
    put_rungs(&b, s);
    put_paging_metrics(&b, s);
    reload_put_metrics(s, &b);
    metrics_put_counters(&b, &s->metrics);
    if (b.failed)
        conn_abort(c);
    else
        conn_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", "", b.p, b.n);
    buf_fini(&b);
}
