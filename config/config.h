/* The daemon's settings, from a YAML file. One table in schema.c (key, type, unit, min, max,
 * default, reloadable, help) is the only source of parsing, checking, --print-config and the
 * README's table. Unknown keys, duplicate keys, anchors, tags and second documents are errors with
 * line:column and a near miss. Files over 64 KiB are refused. */
#ifndef EBB_CONFIG_CONFIG_H
#define EBB_CONFIG_CONFIG_H

#include "core/defs.h"

struct err;

enum { CONFIG_MAX_FILE_BYTES = 64 << 10, CONFIG_MAX_STR = 256, CONFIG_SUN_PATH_MAX = 107 };

#define CONFIG_AUTO_BYTES UINT64_MAX
#define CONFIG_AUTO       UINT64_MAX /* of any key that may be auto */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum config_kv { CONFIG_KV_Q8, CONFIG_KV_F16 };

struct config {
    char model_path[CONFIG_MAX_STR]; /* model.path: the .ebb file; required */

    char socket_path[CONFIG_MAX_STR];       /* socket.path, /run/ebb/ebb.sock */
    char socket_admin_path[CONFIG_MAX_STR]; /* socket.admin_path, /run/ebb/admin.sock */
    char socket_group[CONFIG_MAX_STR];      /* socket.group, "" = leave */
    uint32_t socket_mode;                   /* socket.mode, octal, 0660 */

    uint32_t serve_slots;        /* serve.slots: requests decoded together, 4 */
    uint32_t serve_queue;        /* serve.queue: requests that may wait, 64 */
    uint32_t serve_ctx;          /* serve.ctx: tokens a request may use, 2048 */
    uint32_t serve_max_tokens;   /* serve.max_tokens: when the request names none, 512 */
    uint32_t serve_threads;      /* serve.threads: 0 = one for each big core */
    uint32_t serve_prompt_chunk; /* serve.prompt_chunk: prompt tokens of one step, 32 */
    uint32_t serve_connections;  /* serve.connections, 128 */
    uint64_t serve_body_bytes;   /* serve.body_limit, 1 MiB */
    uint64_t serve_buffer_bytes; /* serve.buffer_limit: unsent bytes of one client, 256 KiB */
    uint64_t serve_header_us;    /* serve.header_timeout, 10s */
    uint64_t serve_body_us;      /* serve.body_timeout, 30s */
    uint64_t serve_idle_us;      /* serve.idle_timeout, 60s */
    uint64_t serve_stall_us;     /* serve.stall_timeout: a client that does not read, 30s */
    uint64_t serve_drain_us;     /* serve.drain_timeout: on SIGTERM, 20s */

    enum config_kv kv_type;   /* kv.type: q8 f16 */
    uint64_t kv_prefix_bytes; /* kv.prefix_limit: caches kept after their requests, 64MiB */

    char precision_ladder[64];     /* precision.ladder: jaccard */
    uint64_t memory_limit_bytes;   /* memory.limit: size or auto (CONFIG_AUTO_BYTES) */
    uint64_t memory_reserve_bytes; /* memory.reserve: MemAvailable left to others, 256MiB */
    uint64_t memory_margin_bytes;  /* memory.margin: room wanted before a step up, 16MiB */
    uint64_t memory_hold_us;       /* memory.hold: quiet time before growing, 30s */
    uint64_t memory_step_us;       /* memory.step: between two steps up, 1s */

    uint64_t memory_hold_max_us;     /* memory.hold_limit: longest hold after back-off, 30min */
    uint32_t memory_changes;         /* memory.changes: in an hour, 120 */
    uint32_t memory_stall_percent;   /* memory.stall: of time, 10 */
    uint64_t memory_emergency_bytes; /* memory.emergency: size or auto */

    uint32_t memory_weight;            /* memory.weight: among the daemons of a machine, 100 */
    char memory_peers[CONFIG_MAX_STR]; /* memory.peers: their file, "" = none */

    bool heat_is_enabled;            /* heat.enabled, on */
    char heat_zones[CONFIG_MAX_STR]; /* heat.zones: types, or auto */
    uint64_t heat_trip_mc;           /* heat.trip: temperature or auto */
    uint64_t heat_margin_mc;         /* heat.margin, 8C */
    uint64_t heat_hysteresis_mc;     /* heat.hysteresis, 3C */
    uint64_t heat_hold_us;           /* heat.hold, 30s */

    bool paging_is_enabled;     /* paging.enabled, on */
    uint64_t paging_timeout_us; /* paging.timeout: a step's wait without a byte, 10s */
    uint64_t paging_rate_bytes; /* paging.rate_limit: bytes a second, 0 = none */

    char sense_root[CONFIG_MAX_STR]; /* sense.root: folder that holds proc/ and sys/, "/" */
    uint64_t sense_interval_us;      /* sense.interval, 100ms */
    uint64_t sense_stale_us;         /* sense.stale: how long an old reading is believed, 5s */
    uint64_t sense_rescan_us;        /* sense.rescan: until an absent file is sought again, 10s */
    uint64_t sense_report_us;        /* sense.report: between two lines on a source, 30s */

    enum log_level log_level;       /* log.level: error warn info debug */
    char log_trace[CONFIG_MAX_STR]; /* log.trace: file, "" = none */
};

/* Defaults for every key (model.path empty). */
void config_defaults(struct config *ret);

/* Parses text[n] over the defaults; `name` stands in messages ("ebb.yaml:3:7: ..."). Pure.
 * 0, -EINVAL (with file:line:column), -EFBIG or -ENOMEM. *ret is untouched on failure. */
int config_parse(const char *name, const char *text, size_t n, struct config *ret,
                 struct err *e) MUST_CHECK;

/* Reads and parses a regular file. Also -EFBIG and the system's errors. */
int config_read(const char *path, struct config *ret, struct err *e) MUST_CHECK;

/* The effective settings as YAML with a comment a key, which parses back to the same settings;
 * owned by the caller (free()). NULL without memory. */
char *config_print(const struct config *c) MUST_CHECK;
/* Markdown table of all keys for the README; as above. */
char *config_table(void) MUST_CHECK;

/* Names of keys that differ but are not reloadable, comma separated, into buf; returns how many. */
unsigned config_needs_restart(const struct config *now, const struct config *next, char *buf,
                              size_t n);

/* Takes the reloadable keys of `next` over into *now. */
void config_take_reloadable(struct config *now, const struct config *next);

/* "64MiB", "1.5GiB", "4096" or "auto" -> bytes (CONFIG_AUTO_BYTES for auto). Also for the client's
 * `ebb limit`. 0 or -EINVAL. */
int config_parse_bytes(const char *s, uint64_t *ret) MUST_CHECK;

#endif
