/* `ebb top` for programs: a line of fields, or of JSON, for each answer of the daemon. */
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/ctl_field.h"
#include "daemon/ctl_view.h"

enum kind { WORD, WHOLE, REAL, LIMIT };

/* The fields, in order; `group`: the object that holds the key, NULL = the status itself. */
static const struct field {
    const char *name, *group, *key;
    enum kind kind;
} fields[] = {
    {"state", NULL, "state", WORD},
    {"level", NULL, "level", WHOLE},
    {"model", NULL, "model", WORD},
    {"version", NULL, "version", WORD},
    {"uptime_s", NULL, "uptime_s", WHOLE},
    {"position", NULL, "position", WHOLE},
    {"positions", NULL, "positions", WHOLE},
    {"target", NULL, "target", WHOLE},
    {"bits", NULL, "bits", REAL},
    {"full", "units", "full", WHOLE},
    {"high", "units", "high", WHOLE},
    {"swsc", "units", "swsc", WHOLE},
    {"paged", "units", "paged", WHOLE},
    {"resident_bytes", NULL, "resident_bytes", WHOLE},
    {"kv_bytes", NULL, "kv_bytes", WHOLE},
    {"scratch_bytes", NULL, "scratch_bytes", WHOLE},
    {"rss_bytes", NULL, "rss_bytes", WHOLE},
    {"budget_bytes", NULL, "budget_bytes", LIMIT},
    {"available_bytes", "memory", "available_bytes", WHOLE},
    {"reserve_bytes", "memory", "reserve_bytes", WHOLE},
    {"operator_limit_bytes", "memory", "operator_limit_bytes", LIMIT},
    {"cgroup_left_bytes", "memory", "cgroup_left_bytes", WHOLE},
    {"stall_some_ratio", "memory", "stall_some_ratio", REAL},
    {"stall_full_ratio", "memory", "stall_full_ratio", REAL},
    {"source", "memory", "source", WORD},
    {"reason", "memory", "reason", WORD},
    {"stage", "heat", "stage", WHOLE},
    {"headroom_celsius", "heat", "headroom_celsius", REAL},
    {"clock_ratio", "heat", "clock_ratio", REAL},
    {"duty", NULL, "duty", WHOLE},
    {"threads", NULL, "threads", WHOLE},
    {"threads_max", NULL, "threads_max", WHOLE},
    {"decode_tps", "speed", "decode_tps", REAL},
    {"prefill_tps", "speed", "prefill_tps", REAL},
    {"active", "requests", "active", WHOLE},
    {"queued", "requests", "queued", WHOLE},
    {"completed", "requests", "completed", WHOLE},
    {"refused", "requests", "refused", WHOLE},
    {"cancelled", "requests", "cancelled", WHOLE},
    {"failed", "requests", "failed", WHOLE},
    {"paging", "paging", "state", WORD},
    {"paging_wait_s", "paging", "wait_s", REAL},
};

/* A value of one word: everything else than letters, digits and a few signs is '_'. */
static void put_word(FILE *f, const char *name, const char *text) {
    fprintf(f, " %s=", name);
    for (const char *p = text; *p; p++) {
        bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                        (*p >= '0' && *p <= '9') || strchr("-+.,:/_", *p);
        putc(is_plain ? *p : '_', f);
    }
    if (!*text) putc('-', f);
}

static void put_field(FILE *f, const struct field *d, const cJSON *status) {
    const cJSON *o = d->group ? ctl_field(status, d->group) : status;
    switch (d->kind) {
    case WORD: put_word(f, d->name, ctl_field_string(o, d->key)); return;
    case WHOLE: put_word(f, d->name, ctl_field_text(o, d->key, 1, 0).s); return;
    case REAL: put_word(f, d->name, ctl_field_text(o, d->key, 1, 3).s); return;
    case LIMIT:
        put_word(f, d->name,
                 cJSON_IsNull(ctl_field(o, d->key)) ? "none" : ctl_field_text(o, d->key, 1, 0).s);
        return;
    }
}

/* The hottest zone that can be read. */
static void put_hottest(FILE *f, const cJSON *status) {
    const cJSON *zone, *hottest = NULL;
    double celsius, most = 0;
    cJSON_ArrayForEach(zone, ctl_field(status, "thermal")) {
        if (!ctl_field_number(zone, "celsius", &celsius)) continue;
        if (hottest && celsius <= most) continue;
        hottest = zone;
        most = celsius;
    }
    put_word(f, "zone", ctl_field_string(hottest, "type"));
    put_word(f, "celsius", ctl_field_text(hottest, "celsius", 1, 1).s);
}

static void put_throttled(FILE *f, const cJSON *status) {
    const cJSON *all = ctl_field(ctl_field(status, "heat"), "throttled"), *word;
    char text[160];
    size_t n = 0;
    snprintf(text, sizeof(text), "%s", cJSON_IsArray(all) ? "none" : "-");
    cJSON_ArrayForEach(word, all) {
        const char *w = cJSON_GetStringValue(word);
        int more = snprintf(text + n, sizeof(text) - n, "%s%s", n ? "," : "", w ? w : "-");
        n = MIN(n + (size_t)MAX(more, 0), sizeof(text) - 1);
    }
    put_word(f, "throttled", text);
}

static void put_time(char ret[32], time_t now) {
    struct tm tm;
    if (!gmtime_r(&now, &tm) || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(ret, 32, "-");
}

void ctl_view_line(const struct ctl_view *v, FILE *f) {
    char when[32];
    put_time(when, v->now);
    fprintf(f, "time=%s answer=%s", when, v->status ? "yes" : "no");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) put_field(f, &fields[i], v->status);
    put_hottest(f, v->status);
    put_throttled(f, v->status);
    put_word(f, "error", v->status ? "-" : v->why.msg);
    putc('\n', f);
}

static const char *rung_name(char letter) {
    switch (letter) {
    case 'F': return "full";
    case 'H': return "high";
    case 'S': return "swsc";
    case 'P': return "paged";
    default: return "unknown";
    }
}

/* {"head": "full", "0": "high", ...}; NULL without memory. */
static cJSON *rungs_of(const struct ctl_view *v) {
    struct ctl_units units;
    cJSON *o = cJSON_CreateObject();
    ctl_units_read(v->ladder, v->status, &units);
    for (unsigned i = 0; o && i < units.n; i++) {
        char name[16] = "head";
        if (i > 0) snprintf(name, sizeof(name), "%u", i - 1);
        if (!cJSON_AddStringToObject(o, name, rung_name(units.letters[i]))) {
            cJSON_Delete(o);
            o = NULL;
        }
    }
    return o;
}

/* The object of the line; NULL without memory. */
static cJSON *line_of(const struct ctl_view *v) {
    char when[32];
    cJSON *o = v->status ? cJSON_Duplicate(v->status, 1) : cJSON_CreateObject();
    put_time(when, v->now);
    if (o && !ctl_field(o, "time") && !cJSON_AddStringToObject(o, "time", when)) goto fail;
    if (o && !v->status) {
        if (!cJSON_AddStringToObject(o, "state", "unreachable")) goto fail;
        if (!cJSON_AddStringToObject(o, "error", v->why.msg)) goto fail;
    } else if (o && !ctl_field(o, "rungs")) {
        cJSON *rungs = rungs_of(v);
        if (!rungs || !cJSON_AddItemToObject(o, "rungs", rungs)) goto fail;
    }
    return o;
fail:
    cJSON_Delete(o);
    return NULL;
}

bool ctl_view_json(const struct ctl_view *v, FILE *f) {
    cJSON *o = line_of(v);
    char *text = o ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    if (!text) return false;
    ctl_print(f, text);
    putc('\n', f);
    cJSON_free(text);
    return true;
}
