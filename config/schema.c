/* The table of settings and what can be done with one entry. */
#include "config/schema.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/value.h"
#include "core/err.h"

#define KIB  UINT64_C(1024)
#define MIB  (KIB * 1024)
#define TIB  (MIB * 1024 * 1024)
#define MS   UINT64_C(1000)
#define SEC  (MS * 1000)
#define MIN1 (SEC * 60)
#define DAY  (MIN1 * 60 * 24)

#define AT(field) offsetof(struct config, field)

/* clang-format off */
static const struct schema_section sections[] = {
    {"model", "What is served."},
    {"socket", "Where clients find the daemon."},
    {"serve", "Requests: how many at once, how large, how long."},
    {"kv", "The KV cache: what a request's tokens leave behind for those after them."},
    {"precision", "How precision falls and rises."},
    {"memory", "How much memory the daemon may use."},
    {"heat", "What is done before the board gets too hot."},
    {"paging", "Reading of layers from disk in each step, when memory holds them no more."},
    {"sense", "Where and how often the system's state is read."},
    {"log", "What is written to the log."},
};

/* name, type, reloadable, auto, offset, min, max, default, help */
static const struct schema_key keys[] = {
    {"model.path", SCHEMA_PATH, false, false, AT(model_path), 1, CONFIG_MAX_STR - 1, "",
     "The model's .ebb file, made by ebb-pack; it must be given"},

    {"socket.path", SCHEMA_PATH, false, false, AT(socket_path), 1, CONFIG_SUN_PATH_MAX,
     "/run/ebb/ebb.sock", "The socket that clients use"},
    {"socket.admin_path", SCHEMA_PATH, false, false, AT(socket_admin_path), 1, CONFIG_SUN_PATH_MAX,
     "/run/ebb/admin.sock", "The socket that may change things; only its owner can open it"},
    {"socket.group", SCHEMA_NAME, false, false, AT(socket_group), 0, 63, "",
     "Group that owns the clients' socket; empty leaves it as it is"},
    {"socket.mode", SCHEMA_MODE, false, false, AT(socket_mode), 0600, 0777, "0660",
     "File mode of the clients' socket, octal"},

    {"serve.slots", SCHEMA_COUNT, false, false, AT(serve_slots), 1, 64, "4",
     "Requests that are answered together; each holds a KV cache"},
    {"serve.queue", SCHEMA_COUNT, true, false, AT(serve_queue), 0, 4096, "64",
     "Requests that may wait for a slot; more are refused with 503"},
    {"serve.ctx", SCHEMA_COUNT, false, false, AT(serve_ctx), 64, 1 << 20, "2048",
     "Tokens that one request may use, prompt and answer together"},
    {"serve.max_tokens", SCHEMA_COUNT, true, false, AT(serve_max_tokens), 1, 1 << 20, "512",
     "Length of an answer when the request names none"},
    {"serve.threads", SCHEMA_COUNT, false, false, AT(serve_threads), 0, 64, "0",
     "Compute threads; 0 is one for each big core; no more run at once than the cgroup has CPUs by time"},
    {"serve.prompt_chunk", SCHEMA_COUNT, false, false, AT(serve_prompt_chunk), 1, 512, "32",
     "Prompt tokens taken in one step; running streams wait for one chunk at most"},
    {"serve.connections", SCHEMA_COUNT, true, false, AT(serve_connections), 1, 4096, "128",
     "Connections that may be open at once"},
    {"serve.body_limit", SCHEMA_BYTES, true, false, AT(serve_body_bytes), KIB, 64 * MIB, "1MiB",
     "Largest request body"},
    {"serve.buffer_limit", SCHEMA_BYTES, true, false, AT(serve_buffer_bytes), 4 * KIB, 16 * MIB,
     "256KiB", "Unsent bytes kept for one client before its stream is paused"},
    {"serve.header_timeout", SCHEMA_TIME, true, false, AT(serve_header_us), 100 * MS, 10 * MIN1,
     "10s", "Time a client has to send a request's head"},
    {"serve.body_timeout", SCHEMA_TIME, true, false, AT(serve_body_us), 100 * MS, 10 * MIN1, "30s",
     "Time a client has to send a request's body"},
    {"serve.idle_timeout", SCHEMA_TIME, true, false, AT(serve_idle_us), 100 * MS, DAY, "60s",
     "Time after which an idle connection is closed"},
    {"serve.stall_timeout", SCHEMA_TIME, true, false, AT(serve_stall_us), 100 * MS, DAY, "30s",
     "Time after which the request of a client that does not read is cancelled"},
    {"serve.drain_timeout", SCHEMA_TIME, true, false, AT(serve_drain_us), 0, 10 * MIN1, "20s",
     "Time that running answers get to finish when the daemon is told to stop"},

    {"kv.type", SCHEMA_KV_TYPE, false, false, AT(kv_type), CONFIG_KV_Q8, CONFIG_KV_F16, "q8",
     "Form of the KV cache: q8 (int8) takes about half the memory of f16"},
    {"kv.prefix_limit", SCHEMA_BYTES, true, false, AT(kv_prefix_bytes), 0, 1024 * TIB, "64MiB",
     "Most that is kept of ended requests, so that a chat's next turn computes only what is new"},

    {"precision.ladder", SCHEMA_NAME, false, false, AT(precision_ladder), 1, 63, "jaccard",
     "Which of the pack's ladders gives the order in which units change precision: jaccard, lsaq, kl"},

    {"memory.limit", SCHEMA_BYTES, true, true, AT(memory_limit_bytes), MIB, 1024 * TIB, "auto",
     "Most that weights, KV cache and scratch may use together; auto leaves it to the system"},
    {"memory.reserve", SCHEMA_BYTES, true, false, AT(memory_reserve_bytes), 0, 1024 * TIB, "256MiB",
     "Part of MemAvailable that is left to other programs"},
    {"memory.margin", SCHEMA_BYTES, true, false, AT(memory_margin_bytes), 0, 1024 * TIB, "16MiB",
     "Room wanted beyond the next step's bytes before precision rises"},
    {"memory.hold", SCHEMA_TIME, true, false, AT(memory_hold_us), 0, DAY, "30s",
     "Quiet time before precision rises after it fell"},
    {"memory.step", SCHEMA_TIME, true, false, AT(memory_step_us), 0, DAY, "1s",
     "Time between two steps up"},
    {"memory.hold_limit", SCHEMA_TIME, true, false, AT(memory_hold_max_us), 0, DAY, "30min",
     "Longest hold: it doubles when what was raised had to fall again soon"},
    {"memory.changes", SCHEMA_COUNT, true, false, AT(memory_changes), 2, 240, "120",
     "Changes of precision and heat stage in one hour; at the limit, nothing rises"},
    {"memory.stall", SCHEMA_COUNT, true, false, AT(memory_stall_percent), 1, 100, "10",
     "Percent of time in which programs wait for memory, from which on precision falls"},
    {"memory.emergency", SCHEMA_BYTES, true, true, AT(memory_emergency_bytes), 0, 1024 * TIB,
     "auto", "MemAvailable below which all goes to the lowest precision and new requests get 503; auto is a quarter of the reserve"},
    {"memory.weight", SCHEMA_COUNT, true, false, AT(memory_weight), 1, 1000, "100",
     "Weight by which memory is shared with the other daemons of the machine"},
    {"memory.peers", SCHEMA_PATH, false, false, AT(memory_peers), 0, CONFIG_MAX_STR - 1,
     "/run/ebb/peers", "File in which the daemons of one machine agree on their shares; empty is none"},

    {"heat.enabled", SCHEMA_SWITCH, true, false, AT(heat_is_enabled), 0, 1, "on",
     "Whether heat slows the daemon and lowers precision"},
    {"heat.zones", SCHEMA_PATH, false, false, AT(heat_zones), 1, CONFIG_MAX_STR - 1, "auto",
     "Types of the thermal zones that matter, in any case, with commas between; auto is the processor's"},
    {"heat.trip", SCHEMA_TEMP, true, true, AT(heat_trip_mc), 1000, 150000, "auto",
     "Temperature not to be reached; auto is each zone's own trip point (below 50C it is none), or 10C below its critical one but at most 80C, or 80C"},
    {"heat.margin", SCHEMA_TEMP, true, false, AT(heat_margin_mc), 1000, 60000, "8C",
     "Distance to the trip point at which the first measures are taken"},
    {"heat.hysteresis", SCHEMA_TEMP, true, false, AT(heat_hysteresis_mc), 0, 60000, "3C",
     "How much cooler it must get than where a measure was taken before it is taken back"},
    {"heat.hold", SCHEMA_TIME, true, false, AT(heat_hold_us), 0, DAY, "30s",
     "How long it must stay so, for each measure"},

    {"paging.enabled", SCHEMA_SWITCH, false, false, AT(paging_is_enabled), 0, 1, "on",
     "Whether layers may go to disk; off, requests get 503 where it would begin"},
    {"paging.timeout", SCHEMA_TIME, true, false, AT(paging_timeout_us), 100 * MS, 20 * SEC, "10s",
     "Time without a byte from the disk after which requests that wait for it fail"},
    {"paging.rate_limit", SCHEMA_BYTES, true, false, AT(paging_rate_bytes), 0, 1024 * TIB, "0B",
     "Most bytes a second read from disk, which leaves the rest to others; 0 is no limit"},

    {"sense.root", SCHEMA_PATH, false, false, AT(sense_root), 1, CONFIG_MAX_STR - 1, "/",
     "Folder that holds proc/ and sys/; another one than / serves tests and demonstrations"},
    {"sense.interval", SCHEMA_TIME, true, false, AT(sense_interval_us), 10 * MS, MIN1, "100ms",
     "Time between two readings"},
    {"sense.stale", SCHEMA_TIME, true, false, AT(sense_stale_us), 2 * SEC, 10 * MIN1, "5s",
     "How long the last good reading is believed when a source fails; two intervals at least"},
    {"sense.rescan", SCHEMA_TIME, true, false, AT(sense_rescan_us), 10 * MS, 60 * MIN1, "10s",
     "Time after which a file of the kernel that is not there is looked for again"},
    {"sense.report", SCHEMA_TIME, true, false, AT(sense_report_us), 0, 60 * MIN1, "30s",
     "Time between two log lines on one source; changes in between are counted"},

    {"log.level", SCHEMA_LOG_LEVEL, true, false, AT(log_level), LOG_ERROR, LOG_DEBUG, "info",
     "Least important messages that are written"},
    {"log.trace", SCHEMA_PATH, false, false, AT(log_trace), 0, CONFIG_MAX_STR - 1, "",
     "File to which each decision on memory and heat is added with what it was made on; empty is none"},
};
/* clang-format on */

static_assert(ARRAY_LEN(keys) <= SCHEMA_MAX_KEYS, "the parser keeps one mark a key");
static_assert(ARRAY_LEN(sections) <= SCHEMA_MAX_SECTIONS, "the parser keeps one mark a section");

static const char *const log_levels[] = {"error", "warn", "info", "debug"};
static const char *const kv_types[] = {"q8", "f16"};
static const char *const switches[] = {"off", "on"};
static_assert(ARRAY_LEN(log_levels) == LOG_DEBUG + 1, "a name for each level");
static_assert(ARRAY_LEN(kv_types) == CONFIG_KV_F16 + 1, "a name for each type");

size_t schema_n_keys(void) {
    return ARRAY_LEN(keys);
}

const struct schema_key *schema_key_at(size_t i) {
    return &keys[i];
}

size_t schema_n_sections(void) {
    return ARRAY_LEN(sections);
}

const struct schema_section *schema_section_at(size_t i) {
    return &sections[i];
}

bool schema_in_section(const struct schema_key *k, const char *section) {
    size_t n = strlen(section);
    return strncmp(k->name, section, n) == 0 && k->name[n] == '.';
}

const char *schema_short_name(const struct schema_key *k) {
    return strchr(k->name, '.') + 1;
}

static bool text_is(const char *text, size_t n, const char *name) {
    return strlen(name) == n && memcmp(text, name, n) == 0;
}

int schema_find_key(const char *section, const char *key, size_t n_key) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!schema_in_section(&keys[i], section)) continue;
        if (text_is(key, n_key, schema_short_name(&keys[i]))) return (int)i;
    }
    return -1;
}

int schema_find_section(const char *name, size_t n) {
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (text_is(name, n, sections[i].name)) return (int)i;
    return -1;
}

/* Texts: length and characters. The field is one byte larger than max, for the terminator. */
static int set_text(const struct schema_key *k, const char *text, size_t n, char *field,
                    struct err *e) {
    if (n < k->min) return err_set(e, -EINVAL, "it must not be empty");
    if (n > k->max)
        return err_set(e, -EINVAL, "%zu bytes are too long; at most %" PRIu64 " fit", n, k->max);
    if (!value_is_plain_text(text, n))
        return err_set(e, -EINVAL, "control characters and invalid UTF-8 are not allowed");
    for (size_t i = 0; i < n && k->type == SCHEMA_NAME; i++) {
        char c = text[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok)
            return err_set(e, -EINVAL, "a name may hold letters, digits, '.', '_' and '-' only");
    }
    memcpy(field, text, n);
    field[n] = '\0';
    return 0;
}

static int parse_number(const struct schema_key *k, const char *text, size_t n, uint64_t *ret,
                        struct err *e) {
    char shown[40];
    switch (k->type) {
    case SCHEMA_PATH:
    case SCHEMA_NAME: break;
    case SCHEMA_COUNT: return value_parse_u64(text, n, ret, e);
    case SCHEMA_MODE: return value_parse_octal(text, n, ret, e);
    case SCHEMA_BYTES: return value_parse_bytes(text, n, ret, e);
    case SCHEMA_TIME: return value_parse_time(text, n, ret, e);
    case SCHEMA_TEMP: return value_parse_temp(text, n, ret, e);
    case SCHEMA_LOG_LEVEL:
        for (size_t i = 0; i < ARRAY_LEN(log_levels); i++) {
            if (!text_is(text, n, log_levels[i])) continue;
            *ret = i;
            return 0;
        }
        return err_set(e, -EINVAL, "'%s' is none of error, warn, info, debug",
                       value_shown(text, n, shown, sizeof(shown)));
    case SCHEMA_KV_TYPE:
        for (size_t i = 0; i < ARRAY_LEN(kv_types); i++) {
            if (!text_is(text, n, kv_types[i])) continue;
            *ret = i;
            return 0;
        }
        return err_set(e, -EINVAL, "'%s' is neither q8 nor f16",
                       value_shown(text, n, shown, sizeof(shown)));
    case SCHEMA_SWITCH:
        for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
            if (!text_is(text, n, switches[i])) continue;
            *ret = i;
            return 0;
        }
        return err_set(e, -EINVAL, "'%s' is neither on nor off",
                       value_shown(text, n, shown, sizeof(shown)));
    }
    ASSERT(false);
}

int schema_set(const struct schema_key *k, const char *text, size_t n, struct config *c,
               struct err *e) {
    char *field = (char *)c + k->offset;
    if (k->type == SCHEMA_PATH || k->type == SCHEMA_NAME) return set_text(k, text, n, field, e);

    uint64_t v;
    bool is_auto = k->has_auto && text_is(text, n, "auto");
    if (is_auto) {
        v = CONFIG_AUTO_BYTES;
    } else {
        char shown[40], range[SCHEMA_MAX_VALUE];
        int r = parse_number(k, text, n, &v, e);
        if (r < 0) return r;
        if (v < k->min || v > k->max) {
            schema_range(k, range);
            return err_set(e, -EINVAL, "%s is out of range: %s",
                           value_shown(text, n, shown, sizeof(shown)), range);
        }
    }
    switch (k->type) {
    case SCHEMA_PATH:
    case SCHEMA_NAME: break;
    case SCHEMA_COUNT:
    case SCHEMA_MODE: memcpy(field, &(uint32_t){(uint32_t)v}, sizeof(uint32_t)); break;
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_TEMP: memcpy(field, &v, sizeof(v)); break;
    case SCHEMA_LOG_LEVEL: c->log_level = (enum log_level)v; break;
    case SCHEMA_KV_TYPE: c->kv_type = (enum config_kv)v; break;
    case SCHEMA_SWITCH: memcpy(field, &(bool){v != 0}, sizeof(bool)); break;
    }
    return 0;
}

static uint64_t get_number(const struct schema_key *k, const struct config *c) {
    const char *field = (const char *)c + k->offset;
    uint32_t v32;
    uint64_t v64;
    bool is_on;
    switch (k->type) {
    case SCHEMA_PATH:
    case SCHEMA_NAME: break;
    case SCHEMA_COUNT:
    case SCHEMA_MODE: memcpy(&v32, field, sizeof(v32)); return v32;
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_TEMP: memcpy(&v64, field, sizeof(v64)); return v64;
    case SCHEMA_LOG_LEVEL: return (uint64_t)c->log_level;
    case SCHEMA_KV_TYPE: return (uint64_t)c->kv_type;
    case SCHEMA_SWITCH: memcpy(&is_on, field, sizeof(is_on)); return is_on;
    }
    ASSERT(false);
}

static void format_number(const struct schema_key *k, uint64_t v, char *buf) {
    switch (k->type) {
    case SCHEMA_PATH:
    case SCHEMA_NAME:
    case SCHEMA_COUNT: snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64, v); break;
    case SCHEMA_MODE: snprintf(buf, VALUE_MAX_TEXT, "%04" PRIo64, v); break;
    case SCHEMA_BYTES: value_format_bytes(v, buf); break;
    case SCHEMA_TIME: value_format_time(v, buf); break;
    case SCHEMA_TEMP: value_format_temp(v, buf); break;
    case SCHEMA_LOG_LEVEL: snprintf(buf, VALUE_MAX_TEXT, "%s", log_levels[v]); break;
    case SCHEMA_KV_TYPE: snprintf(buf, VALUE_MAX_TEXT, "%s", kv_types[v]); break;
    case SCHEMA_SWITCH: snprintf(buf, VALUE_MAX_TEXT, "%s", switches[v]); break;
    }
}

void schema_format(const struct schema_key *k, const struct config *c, char *buf) {
    if (k->type == SCHEMA_PATH || k->type == SCHEMA_NAME) {
        /* Quoted always: a plain `no` or `1e3` means something else to other readers of YAML. */
        const char *s = (const char *)c + k->offset;
        size_t n = 0;
        buf[n++] = '"';
        for (; *s; s++) {
            if (*s == '"' || *s == '\\') buf[n++] = '\\';
            buf[n++] = *s;
        }
        buf[n++] = '"';
        buf[n] = '\0';
        return;
    }
    uint64_t v = get_number(k, c);
    if (k->has_auto && v == CONFIG_AUTO_BYTES)
        snprintf(buf, SCHEMA_MAX_VALUE, "auto");
    else
        format_number(k, v, buf);
}

void schema_range(const struct schema_key *k, char *buf) {
    char lo[VALUE_MAX_TEXT], hi[VALUE_MAX_TEXT];
    switch (k->type) {
    case SCHEMA_PATH: snprintf(buf, SCHEMA_MAX_VALUE, "at most %" PRIu64 " bytes", k->max); return;
    case SCHEMA_NAME: snprintf(buf, SCHEMA_MAX_VALUE, "a name"); return;
    case SCHEMA_LOG_LEVEL: snprintf(buf, SCHEMA_MAX_VALUE, "error, warn, info, debug"); return;
    case SCHEMA_KV_TYPE: snprintf(buf, SCHEMA_MAX_VALUE, "q8, f16"); return;
    case SCHEMA_SWITCH: snprintf(buf, SCHEMA_MAX_VALUE, "on, off"); return;
    case SCHEMA_COUNT:
    case SCHEMA_MODE:
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_TEMP: break;
    }
    format_number(k, k->min, lo);
    format_number(k, k->max, hi);
    snprintf(buf, SCHEMA_MAX_VALUE, "%s to %s%s", lo, hi, k->has_auto ? ", or auto" : "");
}

bool schema_equal(const struct schema_key *k, const struct config *a, const struct config *b) {
    if (k->type == SCHEMA_PATH || k->type == SCHEMA_NAME)
        return strcmp((const char *)a + k->offset, (const char *)b + k->offset) == 0;
    return get_number(k, a) == get_number(k, b);
}

void schema_copy(const struct schema_key *k, const struct config *from, struct config *to) {
    size_t n = 0;
    switch (k->type) {
    case SCHEMA_PATH:
    case SCHEMA_NAME: n = (size_t)k->max + 1; break;
    case SCHEMA_COUNT:
    case SCHEMA_MODE: n = sizeof(uint32_t); break;
    case SCHEMA_BYTES:
    case SCHEMA_TIME:
    case SCHEMA_TEMP: n = sizeof(uint64_t); break;
    case SCHEMA_LOG_LEVEL: n = sizeof(enum log_level); break;
    case SCHEMA_KV_TYPE: n = sizeof(enum config_kv); break;
    case SCHEMA_SWITCH: n = sizeof(bool); break;
    }
    memcpy((char *)to + k->offset, (const char *)from + k->offset, n);
}

enum { MAX_NEAR = 32 };

/* Edits (insert, delete, replace) between two short texts; MAX_NEAR + 1 if one is too long. */
static unsigned edit_distance(const char *a, size_t n, const char *b, size_t m) {
    unsigned row[MAX_NEAR + 1];
    if (n > MAX_NEAR || m > MAX_NEAR) return MAX_NEAR + 1;
    for (unsigned j = 0; j <= m; j++) row[j] = j;
    for (unsigned i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = MIN(best, diagonal + 1);
            row[j] = MIN(best, row[j - 1] + 1);
        }
    }
    return row[m];
}

const char *schema_near(const char *section, const char *text, size_t n) {
    const char *best = NULL;
    unsigned best_d = MAX(2, (unsigned)MIN(n, MAX_NEAR) / 3) + 1;
    for (size_t i = 0; i < ARRAY_LEN(sections) && !section; i++) {
        const char *name = sections[i].name;
        unsigned d = edit_distance(text, n, name, strlen(name));
        if (d >= best_d) continue;
        best_d = d;
        best = name;
    }
    /* A key of another section, or one written without any, is a slip as likely as a typing
     * error, but one in the same section wins. */
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *name = schema_short_name(&keys[i]);
        bool is_here = section && schema_in_section(&keys[i], section);
        unsigned d = edit_distance(text, n, name, strlen(name)) + (is_here ? 0 : 1);
        if (d >= best_d) continue;
        best_d = d;
        best = keys[i].name;
    }
    return best;
}
