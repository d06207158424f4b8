/* The daemon's life on the loop thread: sockets, signals, the tick, drain and stop.
 *
 *   LOADING --all extents read--> READY --SIGTERM, SIGINT--> DRAINING --all answered, or the drain
 *   limit, or a second signal--> STOPPING. LOADING --signal, bad extent--> STOPPING.
 *
 * LOADING: everything is answered, but generation waits in its queue. READY: the inference thread
 * runs.
 * DRAINING: no new connection, no new request; what was accepted is finished.
 * STOPPING: connections are closed, the inference thread ends its jobs, and when it has ended the
 * last handles close and uv_run() returns. */
#include "daemon/server.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ladder.h"
#include "core/mem.h"
#include "core/pool.h"
#include "daemon/buf.h"
#include "daemon/conn.h"
#include "daemon/events.h"
#include "daemon/infer.h"
#include "daemon/jobs.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/server_internal.h"
#include "daemon/watch.h"

enum {
    BACKLOG = 512,
    FLUSH_US = 1000000,  /* after the last answer, for clients to take it */
    ABORT_US = 2000000,  /* after the drain limit, for error events to go out */
    STOP_US = 1500000,   /* for the inference thread to end its step */
    RELOAD_US = 1000000, /* between two reloads */
    PING_US = 15000000,  /* to listeners of /ebb/events */
    TICK_MS = 100,       /* housekeeping; sense.interval may be longer or shorter */
    EXTEND_US = 5000000, /* between signs of life to the service manager while loading */
};

static const uint32_t server_next[] = {
    [SERVER_LOADING] = FSM_TO(SERVER_READY) | FSM_TO(SERVER_STOPPING),
    [SERVER_READY] = FSM_TO(SERVER_DRAINING) | FSM_TO(SERVER_STOPPING),
    [SERVER_DRAINING] = FSM_TO(SERVER_STOPPING),
    [SERVER_STOPPING] = 0,
};
static const char *const server_names[] = {"loading", "ready", "draining", "stopping"};
static const struct fsm_table server_table = {.name = "server",
                                              .next = server_next,
                                              .names = server_names,
                                              .n_states = ARRAY_LEN(server_names)};

uint64_t server_now_us(void) {
    return uv_hrtime() / 1000;
}

enum server_state server_state(const struct server *s) {
    return (enum server_state)s->fsm.state;
}

const char *server_state_name(const struct server *s) {
    return server_state(s) == SERVER_READY && s->is_stuck ? "stuck" : fsm_name(&s->fsm);
}

void server_put_status(const struct server *s, char *ret, size_t cap) {
    const char *error = s->reload.error;
    bool is_serving = server_state(s) == SERVER_READY && !s->is_stuck;
    snprintf(ret, cap, "%s%s%s%s %s, %.2f bits a weight, position %" PRIu32 " of %" PRIu32,
             error[0] ? "reload failed, the old settings stay: " : "", error, error[0] ? "; " : "",
             is_serving ? "serving" : server_state_name(s), s->model.name,
             api_info_bits(s, swap_position(s)), swap_position(s), ladder_n_steps(s->model.ladder));
    /* A line break would begin another assignment. */
    for (char *p = ret; *p; p++)
        if (*p == '\n') *p = ' ';
}

static void move(struct server *s, enum server_state to) {
    struct buf b = {0};
    fsm_move(&s->fsm, to);
    log_event(s->log, LOG_DEBUG, "state %s", fsm_name(&s->fsm));
    api_info_put_state(s, &b);
    buf_add(&b, "", 1);
    if (!b.failed) events_send(s->events, s->config.serve_buffer_bytes, "state", b.p);
    buf_fini(&b);
}

/* ---- stopping ---- */

static void close_listeners(struct server *s) {
    if (!s->is_listening) return;
    s->is_listening = false;
    for (size_t i = 0; i < ARRAY_LEN(s->listeners); i++)
        uv_close((uv_handle_t *)&s->listeners[i], NULL);
    /* Nobody may find the socket who would not be answered. */
    for (size_t i = 0; i < ARRAY_LEN(s->sockets); i++) listen_close(&s->sockets[i]);
}

/* The other threads have ended, or must be left behind: nothing wakes the loop any more. */
static void close_rest(struct server *s) {
    call_drain_all(s);
    if (!uv_is_closing((uv_handle_t *)&s->wake)) uv_close((uv_handle_t *)&s->wake, NULL);
    if (!uv_is_closing((uv_handle_t *)&s->tick)) uv_close((uv_handle_t *)&s->tick, NULL);
}

static bool has_ended(const struct server *s) {
    return (!s->infer || infer_has_ended(s->infer)) && !paging_is_serving(s) &&
           s->swap.n_reading == 0 && s->loading.n_reading == 0;
}

void server_check_ended(struct server *s) {
    if (server_state(s) == SERVER_STOPPING && has_ended(s)) close_rest(s);
}

static void stop(struct server *s) {
    if (server_state(s) == SERVER_STOPPING) return;
    move(s, SERVER_STOPPING);
    notify_send(s->notify, "STOPPING=1\nSTATUS=stopping");
    close_listeners(s);
    events_end(s->events);
    conn_hub_close(s->hub);
    for (size_t i = 0; i < ARRAY_LEN(s->signals); i++)
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    relief_stop(s);
    jobs_stop(s->jobs);
    paging_stop(s);
    swap_stop(s);
    watch_close(s->swap.watch);
    s->swap.watch = NULL;
    s->stop_until_us = server_now_us() + STOP_US;
    server_check_ended(s);
}

static void drain(struct server *s) {
    log_event(s->log, LOG_INFO, "stopping: %u requests to finish within %" PRIu64 " s", call_n(s),
              s->config.serve_drain_us / 1000000);
    move(s, SERVER_DRAINING);
    notify_send(s->notify, "STOPPING=1\nSTATUS=finishing %u requests", call_n(s));
    close_listeners(s);
    events_end(s->events);
    conn_hub_drain(s->hub);
    s->drain_until_us = server_now_us() + s->config.serve_drain_us;
    server_check_drained(s);
}

void server_check_drained(struct server *s) {
    if (server_state(s) != SERVER_DRAINING || call_n(s) > 0 || s->stop_until_us) return;
    s->stop_until_us = server_now_us() + FLUSH_US;
}

static void tick_draining(struct server *s, uint64_t now) {
    if (s->stop_until_us) {
        if (conn_hub_n(s->hub) == 0 || now >= s->stop_until_us) stop(s);
    } else if (now >= s->drain_until_us + ABORT_US) {
        stop(s);
    } else if (now >= s->drain_until_us) {
        call_abort_all(s);
    }
}

void server_give_up(struct server *s, enum server_fail why) {
    if (s->fail == SERVER_FAIL_NONE) s->fail = why;
    stop(s);
}

/* ---- signals ---- */

/* The tick is as fast as the sensors are to be read, and never slower than housekeeping needs. */
static void on_tick(uv_timer_t *t);

static uint64_t tick_ms(const struct server *s) {
    return MIN(MAX(s->config.sense_interval_us / 1000, 1), TICK_MS);
}

static void reload(struct server *s) {
    struct config next;
    struct err e = {0};
    char names[256] = "", status[SERVER_STATUS_BYTES];
    s->reloaded_us = server_now_us();
    s->wants_reload = false;
    notify_send(s->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, s->reloaded_us);
    int r = config_read(s->config_path, &next, &e);
    if (r == 0) r = reload_check(s, &next, &e);
    if (r < 0) {
        s->metrics.reloads_failed++;
        log_event(s->log, LOG_ERROR, "reload: %s; the old settings stay", e.msg);
    } else {
        unsigned n = config_needs_restart(&s->config, &next, names, sizeof(names));
        if (n > 0) log_event(s->log, LOG_WARN, "reload: these need a restart: %s", names);
        config_take_reloadable(&s->config, &next);
        log_set_level(s->log, s->config.log_level);
        uv_timer_set_repeat(&s->tick, tick_ms(s));
        paging_set(s);
        swap_set_prefix(s);
        s->metrics.reloads_ok++;
        log_event(s->log, LOG_INFO, "reloaded %s", s->config_path);
    }
    reload_note(s, r < 0 ? e.msg : "", names);
    server_put_status(s, status, sizeof(status));
    notify_send(s->notify, "READY=1\nSTATUS=%s", status);
    if (r < 0) return;
    govern_sense(s);
    swap_step(s);
}

static void on_signal(uv_signal_t *h, int signum) {
    struct server *s = h->data;
    if (signum == SIGHUP) {
        s->wants_reload = true; /* the tick does it, so that many signals are one reload */
        return;
    }
    log_event(s->log, LOG_INFO, "%s", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    if (server_state(s) == SERVER_READY)
        drain(s);
    else
        stop(s);
}

/* ---- the tick ---- */

/* A reading that says shed is to be seen twice before it counts: the next one comes sooner. */
static void hurry(struct server *s) {
    uint64_t ms = s->swap.out.is_suspicious ? MAX(tick_ms(s) / 2, 1u) : tick_ms(s);
    if (s->is_hurried == s->swap.out.is_suspicious) return;
    s->is_hurried = s->swap.out.is_suspicious;
    int r = uv_timer_start(&s->tick, on_tick, ms, ms);
    ASSERT(r == 0); /* it fails without a callback, or when it closes */
}

static void on_tick(uv_timer_t *t) {
    struct server *s = t->data;
    relief_wait(s);
    relief_tick(s);
    uint64_t now = server_now_us();
    switch (server_state(s)) {
    case SERVER_LOADING:
        /* With a disk that does not answer the manager's patience is to end. */
        if (now - s->pinged_us >= EXTEND_US && load_has_moved(s)) {
            s->pinged_us = now;
            notify_send(s->notify, "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=loading %s",
                        s->model.name);
        }
        call_tick(s);
        break;
    case SERVER_READY:
    case SERVER_DRAINING:
        /* Half a tick early is nearer than a whole tick late. */
        if (now + tick_ms(s) * 500 >= s->sensed_us + s->config.sense_interval_us || s->is_hurried) {
            s->sensed_us = now;
            govern_sense(s);
        }
        swap_step(s);
        hurry(s);
        paging_look(s);
        call_tick(s);
        if (now - s->pinged_us >= PING_US) {
            s->pinged_us = now;
            events_ping(s->events);
        }
        if (server_state(s) == SERVER_READY && s->wants_reload && now - s->reloaded_us >= RELOAD_US)
            reload(s);
        break;
    case SERVER_STOPPING:
        if (now < s->stop_until_us) return;
        log_event(s->log, LOG_ERROR, "%s does not end; leaving it behind",
                  !s->infer || infer_has_ended(s->infer) ? "a read from disk"
                                                         : "the inference thread");
        s->is_left_behind = true;
        close_rest(s);
        uv_stop(&s->loop); /* it would wait for a read */
        return;
    }
    alive_look(s, now);
    if (server_state(s) == SERVER_DRAINING) tick_draining(s, now);
}

static void on_wake(uv_async_t *h) {
    struct server *s = h->data;
    relief_wait(s);
    if (s->swap.pager) swap_adopted(s);
    paging_look(s);
    call_drain_all(s);
    server_check_ended(s);
}

/* Thread: inference. */
static void wake_loop(void *ud) {
    struct server *s = ud;
    uv_async_send(&s->wake);
}

/* ---- start ---- */

void server_ready(struct server *s) {
    struct err e = {0};
    char status[SERVER_STATUS_BYTES];
    int r = infer_start(s->jobs, s->model.batch, s->model.store, s->model.pool,
                        s->config.serve_slots, &s->infer, &e);
    if (r < 0) {
        log_event(s->log, LOG_ERROR, "%s", e.msg);
        server_give_up(s, SERVER_FAIL_MEMORY);
        return;
    }
    r = relief_start(s, &e);
    if (r < 0) {
        log_event(s->log, LOG_ERROR, "%s", e.msg);
        server_give_up(s, SERVER_FAIL_MEMORY);
        return;
    }
    pack_forget(s->model.pack);
    jobs_kick(s->jobs);
    move(s, SERVER_READY);
    server_put_status(s, status, sizeof(status));
    log_event(s->log, LOG_INFO,
              "ready: %s, %" PRIu64
              " MiB of weights loaded in %.2f s, %u threads on CPUs %s, socket %s",
              status, mem_bytes(s->model.mem, MEM_SLAB) >> 20,
              (double)(server_now_us() - s->loading.started_us) / 1e6, pool_threads(s->model.pool),
              pool_cpus(s->model.pool), s->sockets[LISTEN_API].path);
    notify_send(s->notify, "READY=1\nSTATUS=%s", status);
    call_dispatch(s);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct server *s = listener->data;
    if (status < 0) {
        log_event(s->log, LOG_WARN, "cannot accept a connection: %s", uv_strerror(status));
        return;
    }
    relief_pause(s);
    conn_hub_accept(s->hub, listener, listener == (uv_stream_t *)&s->listeners[LISTEN_ADMIN]);
}

static int open_socket(struct server *s, enum listen_name i, int given_fd, struct err *e) {
    const struct config *c = &s->config;
    struct listen_socket *l = &s->sockets[i];
    const char *path = i == LISTEN_API ? c->socket_path : c->socket_admin_path;
    if (given_fd < 0)
        return i == LISTEN_API ? listen_open(l, path, c->socket_mode, c->socket_group, e)
                               : listen_open(l, path, 0600, "", e);
    int r = listen_adopt(l, given_fd, path, e);
    /* We would not mind, but `ebb` looks where the settings say. */
    if (r == 0 && strcmp(l->path, path) != 0)
        log_event(s->log, LOG_WARN,
                  "the service manager's socket is %s, and socket.%s says %s: clients that read "
                  "the settings will not find it",
                  l->path, i == LISTEN_API ? "path" : "admin_path", path);
    return r;
}

static int open_sockets(struct server *s, const int given_fds[LISTEN_COUNT],
                        enum server_fail *ret_fail, struct err *e) {
    const struct config *c = &s->config;
    *ret_fail = SERVER_FAIL_CONFIG;
    if (strcmp(c->socket_path, c->socket_admin_path) == 0)
        return err_set(e, -EINVAL, "socket.path and socket.admin_path are the same");
    int r = open_socket(s, LISTEN_API, given_fds[LISTEN_API], e);
    if (r == 0) r = open_socket(s, LISTEN_ADMIN, given_fds[LISTEN_ADMIN], e);
    if (r == -EALREADY)
        *ret_fail = SERVER_FAIL_RUNNING;
    else if (r != -EINVAL)
        *ret_fail = SERVER_FAIL_SOCKET;
    return r;
}

static int start_listening(struct server *s, struct err *e) {
    int r = 0;
    s->is_listening = true;
    for (size_t i = 0; i < ARRAY_LEN(s->listeners) && r == 0; i++) {
        r = uv_pipe_open(&s->listeners[i], listen_take_fd(&s->sockets[i]));
        if (r == 0) r = uv_listen((uv_stream_t *)&s->listeners[i], BACKLOG, on_connection);
    }
    if (r < 0) return err_set(e, r, "cannot listen: %s", uv_strerror(r));
    return 0;
}

static const int signums[] = {SIGTERM, SIGINT, SIGHUP};

void server_signals(sigset_t *ret) {
    sigemptyset(ret);
    for (size_t i = 0; i < ARRAY_LEN(signums); i++) sigaddset(ret, signums[i]);
}

static int make_loop(struct server *s, struct err *e) {
    const struct conn_hub_opts ho = {
        .loop = &s->loop,
        .config = &s->config,
        .on_request = api_request,
        .on_fault = api_fault,
        .on_answered = api_answered,
        .ud = s,
    };
    int r = uv_loop_init(&s->loop);
    if (r < 0) return err_set(e, r, "cannot make an event loop: %s", uv_strerror(r));
    /* None of these fails on Linux once the loop is there, but for want of memory. */
    r = uv_async_init(&s->loop, &s->wake, on_wake);
    if (r == 0) r = uv_timer_init(&s->loop, &s->tick);
    s->wake.data = s->tick.data = s;
    for (size_t i = 0; i < ARRAY_LEN(signums) && r == 0; i++) {
        r = uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        if (r == 0) r = uv_signal_start(&s->signals[i], on_signal, signums[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(s->listeners) && r == 0; i++) {
        r = uv_pipe_init(&s->loop, &s->listeners[i], 0);
        s->listeners[i].data = s;
    }
    uint64_t seeds[2] = {0};
    if (r == 0) r = uv_random(NULL, NULL, seeds, sizeof(seeds), 0, NULL);
    s->calls.next_id = seeds[0];
    s->calls.next_seed = seeds[1];
    if (r == 0) r = events_create(&s->events);
    if (r == 0) r = jobs_create(wake_loop, s, &s->jobs);
    if (r == 0) r = conn_hub_create(&ho, &s->hub);
    return r < 0 ? err_set(e, r, "cannot set up the event loop: %s", uv_strerror(r)) : 0;
}

/* Pressure is felt now: what the files say is looked at at once, and not at the next tick. */
static void on_pressure(void *ud) {
    struct server *s = ud;
    log_event(s->log, LOG_DEBUG, "the service manager tells of memory pressure");
    s->swap.n_alarms++;
    if (server_state(s) != SERVER_READY && server_state(s) != SERVER_DRAINING) return;
    govern_sense(s);
    swap_step(s);
}

static void on_pressure_gone(void *ud, const struct err *why) {
    struct server *s = ud;
    log_event(s->log, LOG_WARN, "MEMORY_PRESSURE_WATCH: %s; pressure is read, not told", why->msg);
    sense_set_owns_pressure(s->swap.sense, false);
    watch_close(s->swap.watch); /* so that the status does not name it as the source */
    s->swap.watch = NULL;
}

static void start_watch(struct server *s, const struct server_opts *o) {
    struct err e = {0};
    const struct watch_opts wo = {
        .loop = &s->loop,
        .path = o->pressure_watch,
        .write = o->pressure_write,
        .on_pressure = on_pressure,
        .on_gone = on_pressure_gone,
        .ud = s,
    };
    if (watch_open(&wo, &s->swap.watch, &e) < 0)
        log_event(s->log, LOG_WARN, "MEMORY_PRESSURE_WATCH: %s; pressure is read, not told", e.msg);
    sense_set_owns_pressure(s->swap.sense, watch_owns_file(s->swap.watch));
}

int server_create(const struct server_opts *o, struct server **ret, enum server_fail *ret_fail,
                  struct err *e) {
    struct server *s = calloc(1, sizeof(*s));
    *ret_fail = SERVER_FAIL_MEMORY;
    if (!s) return err_set(e, -ENOMEM, "no memory to start");
    s->config = *o->config;
    s->config_path = o->config_path;
    s->log = o->log;
    s->notify = o->notify;
    s->watchdog_us = o->watchdog_us;
    s->started_us = server_now_us();
    s->swap.operator_limit_bytes = CONFIG_AUTO_BYTES;
    fsm_init(&s->fsm, &server_table, SERVER_LOADING);

    int r = open_sockets(s, o->given_fds, ret_fail, e);
    if (r == 0) {
        const struct sense_opts so = {.root = s->config.sense_root, .zones = s->config.heat_zones};
        *ret_fail = SERVER_FAIL_MEMORY;
        r = sense_create(&so, &s->swap.sense, e);
    }
    if (r == 0) {
        *ret_fail = SERVER_FAIL_SOCKET;
        r = govern_open_trace(s, e);
    }
    if (r == 0) govern_open_peers(s);
    if (r == 0) r = load_open(s, o->cpu, ret_fail, e);
    bool has_loop = r == 0;
    if (r == 0) {
        *ret_fail = SERVER_FAIL_MEMORY;
        r = make_loop(s, e);
    }
    if (r == 0) {
        *ret_fail = SERVER_FAIL_SOCKET;
        r = start_listening(s, e);
    }
    if (r < 0) {
        for (size_t i = 0; i < ARRAY_LEN(s->sockets); i++) listen_close(&s->sockets[i]);
        /* With a loop there are handles that only a running loop could close. The process ends now,
         * and the kernel takes them back. */
        if (has_loop) return r;
        load_close(s);
        govern_close_peers(s);
        sense_destroy(s->swap.sense);
        free(s);
        return r;
    }
    start_watch(s, o);
    *ret_fail = SERVER_FAIL_NONE;
    *ret = s;
    return 0;
}

enum server_fail server_run(struct server *s) {
    sigset_t ours;
    server_signals(&ours);
    mem_touch_stack();
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL); /* the handlers are there; what waited comes now */
    int r = uv_timer_start(&s->tick, on_tick, tick_ms(s), tick_ms(s));
    ASSERT(r == 0);
    load_begin(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return s->fail;
}

bool server_destroy(struct server *s) {
    if (!s) return true;
    if (s->is_left_behind) return false;
    infer_join(s->infer);
    ASSERT(call_n(s) == 0);
    jobs_destroy(s->jobs);
    conn_hub_destroy(s->hub);
    events_destroy(s->events);
    int r = uv_loop_close(&s->loop);
    ASSERT(r == 0);
    load_close(s);
    govern_close_trace(s);
    govern_close_peers(s);
    sense_destroy(s->swap.sense); /* a thread that hangs in a driver ends with the process */
    free(s);
    return true;
}
