/* The screen of `ebb top`, section by section, and the answers that it is made from. */
#include "daemon/ctl_view.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/ctl_field.h"
#include "daemon/ctl_screen.h"

/* Below this, the state and the units come first and in short. */
enum { SMALL_ROWS = 10, SMALL_COLS = 30 };
/* A zone this close below its trip is worth a colour. */
static const double near_celsius = 5;

void ctl_view_fini(struct ctl_view *v) {
    cJSON_Delete(v->status);
    cJSON_Delete(v->ladder);
    v->status = v->ladder = NULL;
}

/* --- units --- */

static char rung_letter(const char *rung) {
    static const char *const names[] = {"full", "high", "swsc", "paged"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(rung, names[i]) == 0) return "FHSP"[i];
    return '?';
}

/* How many units the status counts; 0 if it does not say. */
static unsigned n_units_of(const cJSON *status) {
    const cJSON *u;
    double n = 0;
    cJSON_ArrayForEach(u, ctl_field(status, "units")) {
        if (!cJSON_IsNumber(u) || !(u->valuedouble >= 0)) return 0;
        n += u->valuedouble;
    }
    return n <= CTL_UNITS_MAX ? (unsigned)n : 0;
}

void ctl_units_read(const cJSON *ladder, const cJSON *status, struct ctl_units *ret) {
    const cJSON *step;
    double position, index;
    unsigned n = n_units_of(status), i = 0;
    ret->n = 0;
    if (n == 0 || !ctl_field_number(status, "position", &position)) return;
    if (!cJSON_IsArray(ctl_field(ladder, "steps"))) return;
    memset(ret->letters, 'F', n); /* where every unit begins */
    cJSON_ArrayForEach(step, ctl_field(ladder, "steps")) {
        if (i++ >= position) break;
        if (!ctl_field_number(step, "index", &index) || !(index >= 0 && index < n)) return;
        /* The head is the last unit, and the first to be shown. */
        bool is_head = strcmp(ctl_field_string(step, "unit"), "head") == 0;
        unsigned at = is_head ? 0 : (unsigned)index + 1;
        if (at >= n) return;
        ret->letters[at] = rung_letter(ctl_field_string(step, "to"));
    }
    ret->n = n;
}

/* --- events --- */

static void put_clock(time_t when, char ret[9]) {
    struct tm tm;
    if (!localtime_r(&when, &tm) || strftime(ret, 9, "%H:%M:%S", &tm) == 0) strcpy(ret, "-");
}

static struct ctl_event *new_event(struct ctl_view *v, time_t when) {
    struct ctl_event *ev = &v->events.all[v->events.n++ % CTL_EVENTS_KEPT];
    *ev = (struct ctl_event){0};
    put_clock(when, ev->clock);
    return ev;
}

void ctl_view_say(struct ctl_view *v, time_t now, const char *text) {
    struct ctl_event *ev = new_event(v, now);
    snprintf(ev->text, sizeof(ev->text), "%s", text);
}

/* "name: key value, key value", as much as fits. The time stands before it already. */
static void put_members(char *to, size_t n_to, const char *name, const cJSON *tree) {
    const char *between = ": ";
    const cJSON *m;
    size_t n = (size_t)MAX(snprintf(to, n_to, "%.40s", name), 0);
    cJSON_ArrayForEach(m, tree) {
        const char *key = m->string ? m->string : "", *text = cJSON_GetStringValue(m);
        if (strcmp(key, "time") == 0) continue;
        int more = snprintf(to + n, n_to - n, "%s%.40s %s", between, key,
                            text ? text : ctl_field_value(m, 1, 0).s);
        if (more < 0 || (size_t)more >= n_to - n) return;
        n += (size_t)more;
        between = ", ";
    }
}

void ctl_view_event(struct ctl_view *v, time_t now, const char *name, const char *data) {
    cJSON *tree = cJSON_Parse(data);
    double at;
    bool has_time = ctl_field_number(tree, "time", &at) && at > 0 && at < 1e11;
    struct ctl_event *ev = new_event(v, has_time ? (time_t)at : now);
    double from = 0, to = 0;
    if (strcmp(name, "position") == 0 && ctl_field_number(tree, "from", &from) &&
        ctl_field_number(tree, "to", &to))
        snprintf(ev->text, sizeof(ev->text), "position %.0f -> %.0f, %s: %s %s in %s ms", from, to,
                 ctl_field_string(tree, "reason"), to > from ? "returned" : "read",
                 ctl_field_bytes(tree, "bytes").s, ctl_field_text(tree, "ms", 1, 1).s);
    else if (strcmp(name, "state") == 0)
        snprintf(ev->text, sizeof(ev->text), "state %s, position %s of %s",
                 ctl_field_string(tree, "state"), ctl_field_text(tree, "position", 1, 0).s,
                 ctl_field_text(tree, "positions", 1, 0).s);
    else
        put_members(ev->text, sizeof(ev->text), name, tree);
    cJSON_Delete(tree);
}

/* --- sections --- */

/* "3 h 12 min" */
static struct ctl_text duration(double seconds) {
    struct ctl_text t = {"-"};
    unsigned long s = seconds >= 0 && seconds < 1e12 ? (unsigned long)seconds : 0;
    if (!(seconds >= 0 && seconds < 1e12)) return t;
    if (s < 60)
        snprintf(t.s, sizeof(t.s), "%lu s", s);
    else if (s < 3600)
        snprintf(t.s, sizeof(t.s), "%lu min", s / 60);
    else if (s < 86400)
        snprintf(t.s, sizeof(t.s), "%lu h %lu min", s / 3600, s / 60 % 60);
    else
        snprintf(t.s, sizeof(t.s), "%lu d %lu h", s / 86400, s / 3600 % 24);
    return t;
}

static void lay_head(const struct ctl_view *v, struct ctl_screen *s) {
    static const char *const levels[] = {"normal", "guarded", "tight", "emergency"};
    static const enum ctl_style styles[] = {CTL_STYLE_GOOD, CTL_STYLE_PLAIN, CTL_STYLE_WARN,
                                            CTL_STYLE_BAD};
    const cJSON *st = v->status;
    const char *state = ctl_field_string(st, "state");
    double level, up = -1;
    char clock[9];
    ctl_screen_section(s, "ebb top");
    ctl_screen_item(s, CTL_STYLE_TITLE, "%s", ctl_field_string(st, "model"));
    ctl_screen_item(s, strcmp(state, "ready") == 0 ? CTL_STYLE_GOOD : CTL_STYLE_WARN, "%s", state);
    if (ctl_field_number(st, "level", &level) && level >= 0 && level < 4)
        ctl_screen_item(s, styles[(int)level], "level %d %s", (int)level, levels[(int)level]);
    else
        ctl_screen_item(s, CTL_STYLE_PLAIN, "level %s", ctl_field_text(st, "level", 1, 0).s);
    ctl_field_number(st, "uptime_s", &up);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "up %s", duration(up).s);
    put_clock(v->now, clock);
    ctl_screen_item(s, CTL_STYLE_LABEL, "%s", clock);
}

static void lay_units(const struct ctl_view *v, struct ctl_screen *s) {
    static struct {
        char letter;
        enum ctl_style style;
    } const styles[] = {{'F', CTL_STYLE_FULL},
                        {'H', CTL_STYLE_HIGH},
                        {'S', CTL_STYLE_SWSC},
                        {'P', CTL_STYLE_PAGED}};
    struct ctl_units units;
    ctl_units_read(v->ladder, v->status, &units);
    ctl_screen_section(s, "units");
    if (units.n == 0) ctl_screen_item(s, CTL_STYLE_PLAIN, "-");
    for (unsigned i = 0; i < units.n; i++) {
        enum ctl_style style = CTL_STYLE_PLAIN;
        for (size_t k = 0; k < ARRAY_LEN(styles); k++)
            if (styles[k].letter == units.letters[i]) style = styles[k].style;
        ctl_screen_cell(s, style, units.letters[i]);
    }
}

/* The first thing to know, where there is no room for more. */
static void lay_small(const struct ctl_view *v, struct ctl_screen *s) {
    const char *state = ctl_field_string(v->status, "state");
    ctl_screen_section(s, "ebb");
    ctl_screen_item(s, strcmp(state, "ready") == 0 ? CTL_STYLE_GOOD : CTL_STYLE_WARN, "%s", state);
    ctl_screen_item(s, CTL_STYLE_TITLE, "%s of %s", ctl_field_text(v->status, "position", 1, 0).s,
                    ctl_field_text(v->status, "positions", 1, 0).s);
    lay_units(v, s);
}

static void lay_position(const struct ctl_view *v, struct ctl_screen *s) {
    const cJSON *st = v->status, *u;
    double position = 0, target = 0;
    ctl_screen_section(s, "position");
    ctl_screen_item(s, CTL_STYLE_TITLE, "%s of %s", ctl_field_text(st, "position", 1, 0).s,
                    ctl_field_text(st, "positions", 1, 0).s);
    if (ctl_field_number(st, "position", &position) && ctl_field_number(st, "target", &target) &&
        target != position)
        ctl_screen_item(s, CTL_STYLE_WARN, "on its way to %s",
                        ctl_field_text(st, "target", 1, 0).s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "%s bits a weight", ctl_field_text(st, "bits", 1, 2).s);
    cJSON_ArrayForEach(u, ctl_field(st, "units")) {
        if (ctl_screen_is_full(s)) break;
        const char *name = u->string ? u->string : "";
        if (cJSON_IsNumber(u) && u->valuedouble != 0)
            ctl_screen_item(s, CTL_STYLE_PLAIN, "%.20s %s", name, ctl_field_value(u, 1, 0).s);
    }
}

/* "none" for a limit that is null: it is not set. */
static struct ctl_text limit(const cJSON *o, const char *key) {
    return cJSON_IsNull(ctl_field(o, key)) ? (struct ctl_text){"none"} : ctl_field_bytes(o, key);
}

static void lay_memory(const cJSON *st, struct ctl_screen *s) {
    const cJSON *m = ctl_field(st, "memory");
    ctl_screen_section(s, "memory");
    ctl_screen_item(s, CTL_STYLE_PLAIN, "resident %s", ctl_field_bytes(st, "resident_bytes").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "KV %s", ctl_field_bytes(st, "kv_bytes").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "scratch %s", ctl_field_bytes(st, "scratch_bytes").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "RSS %s", ctl_field_bytes(st, "rss_bytes").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "budget %s", limit(st, "budget_bytes").s);
    bool is_known = cJSON_IsNumber(ctl_field(m, "available_bytes"));
    ctl_screen_item(s, is_known ? CTL_STYLE_PLAIN : CTL_STYLE_BAD, "available %s",
                    is_known ? ctl_field_bytes(m, "available_bytes").s : "unknown");
    ctl_screen_item(s, CTL_STYLE_PLAIN, "reserve %s", ctl_field_bytes(m, "reserve_bytes").s);
    if (cJSON_IsNumber(ctl_field(m, "operator_limit_bytes")))
        ctl_screen_item(s, CTL_STYLE_WARN, "operator's limit %s",
                        ctl_field_bytes(m, "operator_limit_bytes").s);
    if (cJSON_IsNumber(ctl_field(m, "cgroup_left_bytes")))
        ctl_screen_item(s, CTL_STYLE_PLAIN, "left in cgroup %s",
                        ctl_field_bytes(m, "cgroup_left_bytes").s);
    if (cJSON_IsNumber(ctl_field(m, "share_bytes")))
        ctl_screen_item(s, CTL_STYLE_PLAIN, "share %s", ctl_field_bytes(m, "share_bytes").s);
    double some = 0;
    bool is_stalled = ctl_field_number(m, "stall_some_ratio", &some) && some >= 0.1;
    ctl_screen_item(s, is_stalled ? CTL_STYLE_WARN : CTL_STYLE_PLAIN, "stalled some %s, full %s",
                    ctl_field_unit(m, "stall_some_ratio", 100, 1, "%").s,
                    ctl_field_unit(m, "stall_full_ratio", 100, 1, "%").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "source %s", ctl_field_string(m, "source"));
    ctl_screen_item(s, CTL_STYLE_PLAIN, "reason %s", ctl_field_string(m, "reason"));
}

static void lay_zone(const cJSON *zone, struct ctl_screen *s) {
    double celsius, trip;
    bool is_known = ctl_field_number(zone, "celsius", &celsius);
    const char *key = cJSON_IsNumber(ctl_field(zone, "passive_celsius")) ? "passive_celsius"
                                                                         : "hot_celsius";
    bool has_trip = ctl_field_number(zone, key, &trip);
    enum ctl_style style = CTL_STYLE_PLAIN;
    if (is_known && has_trip && celsius >= trip - near_celsius) style = CTL_STYLE_WARN;
    if (is_known && has_trip && celsius >= trip) style = CTL_STYLE_BAD;
    if (has_trip)
        ctl_screen_item(s, style, "%.40s %s of %s C", ctl_field_string(zone, "type"),
                        ctl_field_text(zone, "celsius", 1, 1).s, ctl_field_text(zone, key, 1, 1).s);
    else
        ctl_screen_item(s, style, "%.40s %s", ctl_field_string(zone, "type"),
                        ctl_field_unit(zone, "celsius", 1, 1, " C").s);
}

static void lay_throttled(const cJSON *heat, struct ctl_screen *s) {
    const cJSON *all = ctl_field(heat, "throttled"), *word;
    if (!cJSON_IsArray(all) || cJSON_GetArraySize(all) == 0) {
        ctl_screen_item(s, CTL_STYLE_PLAIN, "throttled %s", cJSON_IsArray(all) ? "no" : "-");
        return;
    }
    cJSON_ArrayForEach(word, all) {
        if (ctl_screen_is_full(s)) break;
        const char *text = cJSON_GetStringValue(word);
        ctl_screen_item(s, CTL_STYLE_BAD, "throttled: %.40s", text ? text : "-");
    }
}

static void lay_heat(const cJSON *st, struct ctl_screen *s) {
    const cJSON *heat = ctl_field(st, "heat"), *zones = ctl_field(st, "thermal"), *zone;
    double stage = 0;
    ctl_screen_section(s, "heat");
    if (cJSON_GetArraySize(zones) == 0)
        ctl_screen_item(s, CTL_STYLE_PLAIN, "zones %s", cJSON_IsArray(zones) ? "none" : "-");
    cJSON_ArrayForEach(zone, zones) {
        if (ctl_screen_is_full(s)) break;
        lay_zone(zone, s);
    }
    ctl_field_number(heat, "stage", &stage);
    ctl_screen_item(s, stage > 0 ? CTL_STYLE_WARN : CTL_STYLE_PLAIN, "stage %s",
                    ctl_field_text(heat, "stage", 1, 0).s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "headroom %s",
                    ctl_field_unit(heat, "headroom_celsius", 1, 1, " C").s);
    if (cJSON_IsTrue(ctl_field(heat, "cooling")))
        ctl_screen_item(s, CTL_STYLE_WARN, "the kernel slows the CPU");
    ctl_screen_item(s, CTL_STYLE_PLAIN, "clock %s",
                    ctl_field_unit(heat, "clock_ratio", 100, 0, "%").s);
    lay_throttled(heat, s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "duty %s", ctl_field_unit(st, "duty", 1, 0, "%").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "threads %s of %s", ctl_field_text(st, "threads", 1, 0).s,
                    ctl_field_text(st, "threads_max", 1, 0).s);
}

static void lay_work(const cJSON *st, struct ctl_screen *s) {
    const cJSON *speed = ctl_field(st, "speed"), *requests = ctl_field(st, "requests"), *n;
    const cJSON *paging = ctl_field(st, "paging");
    ctl_screen_section(s, "speed");
    ctl_screen_item(s, CTL_STYLE_TITLE, "decode %s",
                    ctl_field_unit(speed, "decode_tps", 1, 1, " tokens/s").s);
    ctl_screen_item(s, CTL_STYLE_TITLE, "prompt %s",
                    ctl_field_unit(speed, "prefill_tps", 1, 1, " tokens/s").s);
    ctl_screen_section(s, "requests");
    if (cJSON_GetArraySize(requests) == 0) ctl_screen_item(s, CTL_STYLE_PLAIN, "-");
    cJSON_ArrayForEach(n, requests) {
        if (ctl_screen_is_full(s)) break;
        const char *name = n->string ? n->string : "";
        ctl_screen_item(s, CTL_STYLE_PLAIN, "%.20s %s", name, ctl_field_value(n, 1, 0).s);
    }
    const char *state = ctl_field_string(paging, "state");
    ctl_screen_section(s, "paging");
    ctl_screen_item(s, strcmp(state, "failing") == 0 ? CTL_STYLE_BAD : CTL_STYLE_PLAIN, "%s",
                    state);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "%s units", ctl_field_text(paging, "units", 1, 0).s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "%s a token", ctl_field_bytes(paging, "bytes_per_token").s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "reads %s", ctl_field_text(paging, "reads", 1, 0).s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "failed %s",
                    ctl_field_text(paging, "failed_reads", 1, 0).s);
    ctl_screen_item(s, CTL_STYLE_PLAIN, "waited %s",
                    ctl_field_unit(paging, "wait_s", 1, 1, " s").s);
}

/* Newest first: what does not fit is old. */
static void lay_events(const struct ctl_view *v, struct ctl_screen *s) {
    const struct ctl_events *all = &v->events;
    unsigned long n = MIN(all->n, (unsigned long)CTL_EVENTS_KEPT);
    ctl_screen_section(s, "events");
    if (v->events_why[0])
        ctl_screen_item(s, CTL_STYLE_WARN, "%s", v->events_why);
    else if (n == 0)
        ctl_screen_item(s, CTL_STYLE_PLAIN, "none yet");
    for (unsigned long i = 0; i < n; i++) {
        const struct ctl_event *ev = &all->all[(all->n - 1 - i) % CTL_EVENTS_KEPT];
        if (i > 0 || v->events_why[0]) ctl_screen_section(s, "");
        ctl_screen_item(s, CTL_STYLE_LABEL, "%s", ev->clock);
        ctl_screen_words(s, CTL_STYLE_PLAIN, ev->text);
    }
}

static void lay_no_answer(const struct ctl_view *v, struct ctl_screen *s) {
    ctl_screen_section(s, "ebb top");
    ctl_screen_item(s, CTL_STYLE_BAD, "no answer, trying again");
    if (v->answered)
        ctl_screen_item(s, CTL_STYLE_PLAIN, "the last came %s ago",
                        duration(difftime(v->now, v->answered)).s);
    ctl_screen_section(s, "why");
    ctl_screen_words(s, CTL_STYLE_PLAIN, v->why.msg);
}

void ctl_view_screen(const struct ctl_view *v, struct ctl_screen *s) {
    ctl_screen_clear(s);
    if (v->status) {
        bool is_small = s->n_rows < SMALL_ROWS || s->n_cols < SMALL_COLS;
        if (is_small) lay_small(v, s);
        lay_head(v, s);
        lay_position(v, s);
        if (!is_small) lay_units(v, s);
        lay_memory(v->status, s);
        lay_heat(v->status, s);
        lay_work(v->status, s);
    } else {
        lay_no_answer(v, s);
    }
    lay_events(v, s);
}
