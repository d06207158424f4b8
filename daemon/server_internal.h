/* The daemon's state, shared by the files that make up the loop thread: server.c (life), load.c
 * (pack to engine), swap.c (precision), call.c (generation requests), api*.c (endpoints). Each part
 * is written by the file named at it and read by all. Thread: loop, but for what is marked. */
#ifndef EBB_DAEMON_SERVER_INTERNAL_H
#define EBB_DAEMON_SERVER_INTERNAL_H

#include <uv.h>

#include "config/config.h"
#include "core/chat.h"
#include "core/defs.h"
#include "core/err.h"
#include "core/fsm.h"
#include "core/gov.h"
#include "core/kv.h"
#include "core/pack.h"
#include "core/pager.h"
#include "daemon/guard.h"
#include "daemon/iowork.h"
#include "daemon/listen.h"
#include "daemon/metrics.h"
#include "daemon/sense.h"
#include "daemon/sense_report.h"
#include "daemon/server.h"

struct batch;
struct call;
struct conn;
struct conn_hub;
struct engine;
struct events;
struct guard;
struct http_request;
struct infer;
struct jobs;
struct kern_ops;
struct pages;
struct pages_stats;
struct peers;
struct pool;
struct reader;
struct slab;
struct store;
struct watch;

enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING, SERVER_STOPPING };

/* load.c. Immutable once the state is READY, and then read by any thread. */
struct server_model {
    struct mem *mem;
    struct pack *pack;
    struct tok *tok;
    struct chat chat;
    bool has_chat;
    char chat_missing[320]; /* why there is none */
    const struct model_hparams *h;
    const struct ladder *ladder; /* that is walked: the pack's, or `cut` */
    struct ladder *cut;          /* the pack's without its paged steps, or NULL */
    struct kern_ops *ops;
    struct slab *core;
    struct slab *books; /* NULL: the pack has none */
    struct pool *pool;
    struct engine *engine;
    struct batch *batch;
    struct store *store;
    struct reader *reader;
    struct pages *pages; /* NULL: no unit of the ladder is ever streamed */
    uint32_t n_units;
    struct prefix *prefix;
    enum kv_type kv_type;
    uint32_t n_ctx;     /* positions a request may use */
    uint64_t n_weights; /* in matrices */
    /* MEM_SLACK at the position where it is greatest: counted as held at each, as the ladder's
     * bytes are without it. */
    uint64_t slack_bytes;
    char hash[9]; /* of the pack's header */
    char name[80];
    int64_t created; /* file time */
};

/* load.c, while LOADING. */
struct server_loading {
    uint32_t position;
    unsigned part; /* enum pager_part: one after the other */
    uint32_t unit; /* next to read */
    unsigned n_reading;
    uint64_t n_read, n_seen; /* extents that came; at the last load_has_moved() */
    uint64_t started_us;
};

/* A change of position on its way. */
struct server_change {
    bool is_pending;
    uint32_t from, to;
    uint64_t bytes;
    enum gov_reason reason;
    uint64_t reading_bytes, limit_bytes;
    uint64_t started_us;
    uint64_t epoch; /* of the plan that completes it */
};

/* swap.c; by enum pager_part. */
struct swap_unit {
    struct slab *arrived[PAGER_PARTS]; /* read, not yet in a plan */
    struct iowork *reads[PAGER_PARTS]; /* under way; borrowed */
};

/* Time lost to waiting for memory, between the last two readings. */
struct server_stall {
    bool has;
    uint32_t some_permille, full_permille;
    uint64_t at_us;
};

/* What the governor is told; the sums wrap on purpose. */
struct server_stall_total {
    enum sense_stall source;
    uint64_t some_us, full_us;         /* as last told */
    uint64_t some_add_us, full_add_us; /* to what the source says */
};

/* govern.c: log.trace. */
enum { TRACE_ACTS = 16 };
struct server_trace {
    int fd; /* -1: none */
    bool has_head;
    char settings[512]; /* their line as last written */
    unsigned n_acts;    /* of the guard, to be written */
    struct guard_act acts[TRACE_ACTS];
};

struct server_swap {
    struct pager *pager;
    struct gov_state gov;
    struct gov_output out;
    struct sense *sense;
    struct watch *watch; /* NULL: nothing tells us of pressure */
    struct sense_reading reading;
    struct sense_report report; /* what of it was logged */
    bool has_reading;
    struct server_stall stall;
    struct server_stall_total stall_total;
    uint64_t heat_seen_us;   /* of the zones' last reading */
    uint64_t faults_seen_us; /* of vmstat's */
    bool has_quota;          /* the next field is good */
    struct sense_quota quota;
    uint32_t n_alarms; /* of the watch, not yet decided on */
    bool has_pace;     /* the inference thread has been told */
    bool is_fresh;     /* no decision has been made on it yet */
    uint64_t operator_limit_bytes;
    uint64_t wanted_bytes;   /* KV that waits for room */
    struct swap_unit *units; /* [n_units] */
    unsigned n_reading;
    bool is_failing; /* the last read did */
    struct server_change down;
    uint64_t up_since_us; /* when the step up now under way was decided; 0 = none */
    bool is_stepping;
    /* The guard and what the loop does for it. */
    struct guard *guard; /* NULL until READY */
    unsigned n_holds;    /* of the store's publishing side; it is lent at 0 */
    bool has_waited;     /* in vain, since the last tick: callbacks go on */
    uint64_t levels_us;  /* when its levels were last opened */
    uint32_t places;     /* generation of the levels then */
    uint64_t urge_us;    /* when the plan on its way down was published; 0: none waits */
};

/* paging.c. */
struct server_worker {
    uv_work_t work;
    struct server *s;
    bool is_serving; /* its thread runs, or is about to */
};

struct server_paging {
    struct server_worker workers[2];
    bool is_stopped;
    bool is_failing;       /* as last told */
    bool is_indirect_told; /* that the file system has no direct reads */
    unsigned n_units;      /* streamed under the newest plan */
    uint64_t pass_bytes;   /* that a step reads under it */
};

/* alive.c. */
struct server_alive {
    uint64_t seen;      /* sum of what moves */
    uint64_t looked_us; /* last tick */
    uint64_t quiet_us;  /* since something moved */
    uint64_t fed_us;    /* last WATCHDOG=1 */
    bool has_moved;     /* since then */
    bool is_given_up;
};

/* reload.c. */
struct server_reload {
    bool has_been;
    uint64_t at_us;
    char error[sizeof(((struct err *)0)->msg)]; /* "": it was good */
    char needs_restart[256];                    /* changed keys that took no effect */
};

/* call.c. */
/* Tokens a second, of all requests together. */
struct call_speed {
    uint64_t n_tokens, n_before, since_us;
    double decode_tps;  /* over the last two seconds */
    double prefill_tps; /* of the last prompt that was computed; 0 = none yet */
};

struct server_calls {
    struct call_speed speed;
    struct call *first, *last; /* all, oldest first */
    unsigned n_parsing, n_queued, n_running;
    uint64_t next_id; /* random start */
    uint64_t next_seed;
};

struct server {
    uv_loop_t loop;
    struct log *log;
    struct notify *notify;
    struct config config;
    const char *config_path;
    struct fsm fsm; /* enum server_state */
    enum server_fail fail;
    uint64_t started_us;
    uint64_t watchdog_us;

    struct listen_socket sockets[LISTEN_COUNT];
    uv_pipe_t listeners[LISTEN_COUNT];
    bool is_listening;
    uv_signal_t signals[3];
    uv_timer_t tick;
    uv_async_t wake;
    struct conn_hub *hub;
    struct events *events;
    struct jobs *jobs;
    struct infer *infer; /* NULL until READY */
    struct metrics metrics;

    struct server_model model;
    struct server_loading loading;
    struct server_swap swap;
    struct server_trace trace;
    struct peers *peers; /* NULL: alone on the machine */
    struct server_paging paging;
    struct server_calls calls;
    struct server_alive alive;
    struct server_reload reload;

    uint64_t drain_until_us;
    uint64_t stop_until_us;
    uint64_t reloaded_us;
    uint64_t sensed_us;
    bool wants_reload;
    bool is_hurried;     /* the tick is faster, as a reading is to be confirmed */
    bool is_stuck;       /* alive.c: the inference thread */
    bool is_left_behind; /* a thread that does not end, when the process does */
    uint64_t pinged_us;
    unsigned n_closing; /* handles whose close callback is to come */
};

uint64_t server_now_us(void); /* monotonic */
enum server_state server_state(const struct server *s);
const char *server_state_name(const struct server *s); /* "loading", "ready", "stuck", ... */
/* Everything is in place: from LOADING to READY. */
void server_ready(struct server *s);
/* The daemon cannot go on: to STOPPING at once. */
void server_give_up(struct server *s, enum server_fail why);
/* While STOPPING: a thread has ended that the end waits for. */
void server_check_ended(struct server *s);
/* A generation request has ended: a drain may be over. */
void server_check_drained(struct server *s);
/* STATUS= for the service manager, one line. */
enum { SERVER_STATUS_BYTES = 480 };
void server_put_status(const struct server *s, char *ret, size_t cap);

/* load.c */
int load_open(struct server *s, const char *cpu, enum server_fail *ret_fail,
              struct err *e) MUST_CHECK;
void load_begin(struct server *s);     /* reads the extents; ends in server_ready() or give_up() */
bool load_has_moved(struct server *s); /* something has come since the last call */
void load_close(struct server *s);     /* after the inference thread is joined */

/* govern.c */
void govern_settings(const struct server *s, struct gov_settings *ret);
void govern_sense(struct server *s); /* a new reading */
void govern_input(struct server *s, bool is_fresh, struct gov_input *ret);
/* Decides; pace and trace follow. The position is the caller's to act on. */
void govern_step(struct server *s, bool is_fresh, uint64_t now_us);
uint64_t govern_fixed_bytes(const struct server_model *m); /* resident at every position */
/* Caches of ended requests are in neither: they give way to anything. */
uint64_t govern_kv_bytes(const struct server *s);
uint64_t govern_other_bytes(const struct server *s);
/* The temperature not to be reached in a zone, by the settings or by the zone's own trip points. */
struct sense_trip govern_trip(const struct server *s, const struct sense_zone *z);
/* Least distance to it, as the governor goes by: doubtful if only zones that have never changed are
 * that hot. False: no zone that matters is known. */
bool govern_headroom(const struct server *s, int32_t *ret_mc, bool *ret_is_doubtful);
void govern_put_heat(struct server *s, struct gov_input *in);
enum govern_cooling {
    GOVERN_COOLING_UNKNOWN,
    GOVERN_NOT_COOLING,
    GOVERN_COOLING, /* the kernel or a firmware slows the CPUs for heat now */
};
enum govern_cooling govern_cooling(const struct sense_reading *r);
/* A line and an event: the stage was `from` before. */
void govern_tell_stage(struct server *s, uint32_t from);
/* Takes the quota of CPUs in; a line if it is another. */
void govern_note_quota(struct server *s, const struct sense_reading *now);
int govern_open_trace(struct server *s, struct err *e) MUST_CHECK;
void govern_close_trace(struct server *s);
void govern_trace_guard(struct server *s, const struct guard_act *a); /* with the next decision */

/* govern_peers.c: the other daemons of the machine. Without their file it is alone. */
void govern_open_peers(struct server *s);
void govern_close_peers(struct server *s);
/* Before the first decision: gives the others a moment to make way. */
void govern_await_share(struct server *s);
/* Around gov_step(): what they have to do with *in, and what becomes known to them. */
void govern_ask_peers(struct server *s, const struct gov_settings *set, uint64_t now_us,
                      struct gov_input *in);
void govern_tell_peers(struct server *s, const struct gov_input *in, uint64_t now_us);

/* swap.c */
/* From swap_hold() to swap_lend() the guard does not publish; what it has done is taken over. They
 * nest. What lies between should not charge memory (guard.h). */
void swap_hold(struct server *s);
void swap_lend(struct server *s);
int swap_create(struct server *s, uint32_t position, struct err *e) MUST_CHECK;
void swap_destroy(struct server *s);
void swap_step(struct server *s);    /* decide and act on the newest reading */
void swap_adopted(struct server *s); /* the inference thread may have adopted a plan */
void swap_set_limit(struct server *s, uint64_t bytes);
void swap_stop(struct server *s); /* reads under way end early */
uint32_t swap_position(const struct server *s);
enum pack_part swap_pack_part(unsigned part); /* of an enum pager_part */
/* Changed settings: kv.prefix_limit. */
void swap_set_prefix(struct server *s);
/* Room for `bytes` of KV, of which new_bytes are not yet held by caches of ended requests: 1 now, 0
 * later, -ENOSPC never (not even at the lowest position). Those caches may be dropped for it, the
 * one that was last found last. */
int swap_room(struct server *s, uint64_t bytes, uint64_t new_bytes);
void swap_room_taken(struct server *s); /* or not wanted any more */

/* paging.c */
int paging_create(struct server *s, struct err *e) MUST_CHECK;
void paging_destroy(struct server *s);
void paging_set(struct server *s);       /* after a reload */
void paging_published(struct server *s); /* the next plan: starts the workers if needed */
void paging_interrupt(struct server *s); /* a step under an older plan ends, for its memory */
void paging_look(struct server *s);      /* now and then: tells what has changed */
void paging_stop(struct server *s);      /* the workers end, and steps that wait for them fail */
bool paging_is_serving(const struct server *s); /* a worker has not ended */
void paging_stats(const struct server *s, struct pages_stats *ret);
uint64_t paging_form_bytes(const struct server *s,
                           uint32_t unit);        /* what is read of a paged unit */
const char *paging_state(const struct server *s); /* "off", "idle", "streaming", "failing" */

/* reload.c */
/* What a good file may still ask for in vain. 0 or a negative errno. */
int reload_check(const struct server *s, const struct config *next, struct err *e) MUST_CHECK;
/* `error`: "" after a good one; `needs_restart`: names of keys, or "". */
void reload_note(struct server *s, const char *error, const char *needs_restart);
struct buf;
void reload_put_json(const struct server *s, struct buf *b);
void reload_put_metrics(const struct server *s, struct buf *b);

/* relief.c: what the loop does when its cgroup is above a limit. */
int relief_start(struct server *s, struct err *e) MUST_CHECK; /* the guard, once READY */
void relief_stop(struct server *s);
/* Before what charges memory: waits, for a bounded time, until the guard is below. */
void relief_wait(struct server *s);
/* The same by the guard's word alone, for callbacks between two ticks: once, or many of them would
 * keep the watchdog waiting. */
void relief_pause(struct server *s);
void relief_tick(struct server *s); /* levels that have changed */

/* alive.c: in every tick until the end begins. */
void alive_look(struct server *s, uint64_t now);

/* call.c */
void call_start(struct server *s, struct conn *c, bool is_chat, char *body, size_t n);
void call_drain_all(struct server *s); /* what inference has produced */
void call_dispatch(struct server *s);  /* queued requests into free slots */
void call_tick(struct server *s);      /* pings */
/* Ends all with an error: queued ones now, running ones within a step. */
void call_abort_all(struct server *s);
unsigned call_n(const struct server *s);

/* api.c */
void api_request(void *ud, struct conn *c, const struct http_request *rq, char *body, size_t n);
void api_fault(void *ud, struct conn *c, int status, const char *text);
void api_answered(void *ud, struct conn *c, int status);
struct api_fault;
/* `headers`: further lines or "". */
void api_error(struct conn *c, const struct api_fault *f, const char *headers);
/* Status and type from an errno: the one table. */
void api_fault_set(struct api_fault *f, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
struct buf;
void api_put_error(struct buf *b, const struct api_fault *f);

/* api_info.c */
void api_info_models(struct server *s, struct conn *c);
void api_info_health(struct server *s, struct conn *c);
void api_info_metrics(struct server *s, struct conn *c);
void api_info_status(struct server *s, struct conn *c);
void api_info_ladder(struct server *s, struct conn *c);
void api_info_events(struct server *s, struct conn *c);
void api_info_limit(struct server *s, struct conn *c, const char *body, size_t n);
void api_info_put_state(struct server *s, struct buf *b); /* JSON for events of the state */
void api_info_put_bytes(struct buf *b, uint64_t v);       /* null for UINT64_MAX */

/* api_sense.c: what the sensors say, for /ebb/status and /metrics. */
void api_sense_put(struct buf *b, const struct server *s);         /* "memory", "thermal", "heat" */
void api_sense_put_quota(struct buf *b, const struct server *s);   /* "cpu_quota" and a comma */
void api_sense_put_memory(struct buf *b, const struct server *s);  /* "memory" */
void api_sense_put_sources(struct buf *b, const struct server *s); /* "sources" and a comma */
void api_sense_put_metrics(struct buf *b, const struct server *s);
/* api_peers.c */
void api_peers_put_share(struct buf *b, const struct server *s); /* "share_bytes", "rising" */
void api_peers_put(struct buf *b, const struct server *s);       /* "peers" */
void api_peers_put_metrics(struct buf *b, const struct server *s);
double api_info_bits(const struct server *s, uint32_t position);

#endif
