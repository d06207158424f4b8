#include "core/gov_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { MAX_STEPS = 4096 };

/* A line that grows; n == 0 once it did not fit. */
struct line {
    char *text;
    size_t n, cap;
    bool has_failed;
};

PRINTF_LIKE(2, 3)
static void put(struct line *to, const char *fmt, ...) {
    va_list ap;
    if (to->has_failed) return;
    va_start(ap, fmt);
    int n = vsnprintf(to->text + to->n, to->cap - to->n, fmt, ap);
    va_end(ap);
    to->has_failed = n < 0 || (size_t)n >= to->cap - to->n;
    if (!to->has_failed) to->n += (size_t)n;
}

static size_t end(struct line *to) {
    put(to, "\n");
    return to->has_failed ? 0 : to->n;
}

size_t gov_trace_put_ladder(const struct ladder *l, char *ret, size_t cap) {
    struct line to = {.text = ret, .cap = cap};
    put(&to, "L,%" PRIu32 ",%" PRIu64, ladder_n_units(l), ladder_bytes(l, 0));
    for (uint32_t i = 0; i < ladder_n_steps(l); i++) {
        const struct ladder_step *st = ladder_step_at(l, i);
        put(&to, ",%" PRIu32 ":%u:%u:%" PRIu64, st->unit, st->from, st->to, st->bytes);
    }
    return end(&to);
}

/* The settings as numbers, in order, both ways. Kinds: q 64 bits, u and i 32 bits without and with
 * a sign, f a flag. */
enum { N_SETTINGS = 15 };
static const char settings_kinds[N_SETTINGS + 1] = "qqqqqqqquufiiqu";

static void settings_to(const struct gov_settings *s, int64_t *v) {
    const uint64_t all[N_SETTINGS] = {
        s->limit_bytes,
        s->reserve_bytes,
        s->margin_bytes,
        s->emergency_bytes,
        s->hold_us,
        s->hold_max_us,
        s->step_us,
        s->stale_us,
        s->changes_per_hour,
        s->stall_permille,
        s->is_heat_on,
        (uint64_t)s->heat_margin_mc,
        (uint64_t)s->heat_hysteresis_mc,
        s->heat_hold_us,
        s->max_threads,
    };
    for (size_t i = 0; i < N_SETTINGS; i++) v[i] = (int64_t)all[i];
}

static void settings_from(const int64_t *v, struct gov_settings *s) {
    *s = (struct gov_settings){
        .limit_bytes = (uint64_t)v[0],
        .reserve_bytes = (uint64_t)v[1],
        .margin_bytes = (uint64_t)v[2],
        .emergency_bytes = (uint64_t)v[3],
        .hold_us = (uint64_t)v[4],
        .hold_max_us = (uint64_t)v[5],
        .step_us = (uint64_t)v[6],
        .stale_us = (uint64_t)v[7],
        .changes_per_hour = (uint32_t)v[8],
        .stall_permille = (uint32_t)v[9],
        .is_heat_on = v[10] != 0,
        .heat_margin_mc = (int32_t)v[11],
        .heat_hysteresis_mc = (int32_t)v[12],
        .heat_hold_us = (uint64_t)v[13],
        .max_threads = (uint32_t)v[14],
    };
}

enum { N_INPUT = 23 };
static const char input_kinds[N_INPUT + 1] = "fffffqqqqquifqqqqquffqf";

static void input_to(const struct gov_input *in, int64_t *v) {
    const uint64_t all[N_INPUT] = {
        in->has_mem,           in->has_cgroup,
        in->has_stall,         in->has_refaults,
        in->has_heat,          in->mem_available_bytes,
        in->cgroup_left_bytes, in->stall_some_us,
        in->stall_full_us,     in->refaults,
        in->n_alarms,          (uint64_t)(int64_t)in->headroom_mc,
        in->is_cooling,        in->operator_limit_bytes,
        in->weight_bytes,      in->other_bytes,
        in->wanted_bytes,      in->cgroup_over_bytes,
        in->position,          in->is_heat_doubtful,
        in->is_over_limit,     in->share_bytes,
        in->is_other_rising,
    };
    for (size_t i = 0; i < N_INPUT; i++) v[i] = (int64_t)all[i];
}

static void input_from(const int64_t *v, struct gov_input *in) {
    *in = (struct gov_input){
        .has_mem = v[0] != 0,
        .has_cgroup = v[1] != 0,
        .has_stall = v[2] != 0,
        .has_refaults = v[3] != 0,
        .has_heat = v[4] != 0,
        .mem_available_bytes = (uint64_t)v[5],
        .cgroup_left_bytes = (uint64_t)v[6],
        .stall_some_us = (uint64_t)v[7],
        .stall_full_us = (uint64_t)v[8],
        .refaults = (uint64_t)v[9],
        .n_alarms = (uint32_t)v[10],
        .headroom_mc = (int32_t)v[11],
        .is_cooling = v[12] != 0,
        .operator_limit_bytes = (uint64_t)v[13],
        .weight_bytes = (uint64_t)v[14],
        .other_bytes = (uint64_t)v[15],
        .wanted_bytes = (uint64_t)v[16],
        .cgroup_over_bytes = (uint64_t)v[17],
        .position = (uint32_t)v[18],
        .is_heat_doubtful = v[19] != 0,
        .is_over_limit = v[20] != 0,
        .share_bytes = (uint64_t)v[21],
        .is_other_rising = v[22] != 0,
    };
}

/* -1 stands for no bound: UINT64_MAX as a signed number. */
static void put_all(struct line *to, const int64_t *v, size_t n) {
    for (size_t i = 0; i < n; i++) put(to, ",%" PRId64, v[i]);
}

size_t gov_trace_put_settings(const struct gov_settings *set, char *ret, size_t cap) {
    struct line to = {.text = ret, .cap = cap};
    int64_t v[N_SETTINGS];
    settings_to(set, v);
    put(&to, "S");
    put_all(&to, v, N_SETTINGS);
    return end(&to);
}

size_t gov_trace_put_call(uint64_t now_us, const struct gov_input *in, const struct gov_output *out,
                          char *ret, size_t cap) {
    struct line to = {.text = ret, .cap = cap};
    int64_t v[N_INPUT];
    input_to(in, v);
    put(&to, "C,%" PRIu64, now_us);
    put_all(&to, v, N_INPUT);
    put(&to, ",%" PRIu32 ",%" PRIu32 ",%s", out->position, out->stage,
        gov_reason_name(out->reason));
    return end(&to);
}

size_t gov_trace_put_guard(const struct gov_trace_guard *g, char *ret, size_t cap) {
    struct line to = {.text = ret, .cap = cap};
    put(&to, "G,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu32, g->now_us, g->over_bytes,
        g->kept_bytes, g->position_from, g->position);
    return end(&to);
}

/* ---- reading ---- */

/* A number after `*at`, which is moved behind it; false if there is none, or one that would not be
 * written so. */
static bool get(const char **at, char before, int64_t *ret) {
    char *stop;
    if (**at != before) return false;
    const char *s = *at + 1, *first = s + (*s == '-');
    if (*first < '0' || *first > '9') return false;
    if (*first == '0' && (first > s || (first[1] >= '0' && first[1] <= '9'))) return false;
    errno = 0;
    long long v = strtoll(s, &stop, 10);
    if (errno != 0 || stop == s) return false;
    *at = stop;
    *ret = v;
    return true;
}

static bool is_of_kind(int64_t v, char kind) {
    switch (kind) {
    case 'u': return v >= 0 && v <= UINT32_MAX;
    case 'i': return v >= INT32_MIN && v <= INT32_MAX;
    case 'f': return v == 0 || v == 1;
    default: return true;
    }
}

/* As many numbers as there are kinds. */
static int get_all(const char **at, const char *kinds, int64_t *v, struct err *e) {
    for (size_t i = 0; kinds[i]; i++) {
        if (!get(at, ',', &v[i]))
            return err_set(e, -EBADMSG, "a number is missing or malformed near '%.20s'", *at);
        if (!is_of_kind(v[i], kinds[i]))
            return err_set(e, -EBADMSG, "%" PRId64 " is too small or too large", v[i]);
    }
    return 0;
}

static bool get_reason(const char *name, enum gov_reason *ret) {
    for (int r = 0; r < GOV_REASONS; r++) {
        if (strcmp(gov_reason_name((enum gov_reason)r), name) != 0) continue;
        *ret = (enum gov_reason)r;
        return true;
    }
    return false;
}

/* A step; if there is none, or only the beginning of one, `*at` stays where it is. */
static bool get_step(const char **at, struct ladder_step *ret) {
    int64_t unit, from, to, bytes;
    const char *s = *at;
    if (!get(&s, ',', &unit) || !get(&s, ':', &from) || !get(&s, ':', &to) || !get(&s, ':', &bytes))
        return false;
    if (unit < 0 || unit > UINT32_MAX || from < 0 || from > RUNG_PAGED || to < 0 ||
        to > RUNG_PAGED || bytes < 0)
        return false;
    *at = s;
    *ret = (struct ladder_step){.unit = (uint32_t)unit,
                                .from = (enum rung)from,
                                .to = (enum rung)to,
                                .bytes = (uint64_t)bytes};
    return true;
}

int gov_trace_get_ladder(const char *line, struct ladder **ret, struct err *e) {
    int64_t units, full;
    const char *at = line + 1;
    if (line[0] != 'L' || !get(&at, ',', &units) || !get(&at, ',', &full) || units < 1 ||
        units > MAX_STEPS || full < 0)
        return err_set(e, -EBADMSG, "a ladder's line: L,units,full bytes,unit:from:to:bytes,...");
    struct ladder_step *steps = calloc(MAX_STEPS, sizeof(*steps));
    uint32_t n = 0;
    if (!steps) return err_set(e, -ENOMEM, "no memory for a ladder");
    while (n < MAX_STEPS && get_step(&at, &steps[n])) n++;
    int r = *at ? err_set(e, -EBADMSG, "step %" PRIu32 " of the ladder makes no sense", n)
                : ladder_create("trace", (uint32_t)units, (uint64_t)full, steps, n, ret, e);
    free(steps);
    return r;
}

int gov_trace_get_settings(const char *line, struct gov_settings *ret, struct err *e) {
    int64_t v[N_SETTINGS];
    const char *at = line + 1;
    if (line[0] != 'S') return err_set(e, -EBADMSG, "no line of settings");
    int r = get_all(&at, settings_kinds, v, e);
    if (r < 0) return r;
    if (*at) return err_set(e, -EBADMSG, "a line of settings is too long");
    if (v[N_SETTINGS - 1] < 1 || v[11] < 1)
        return err_set(e, -EBADMSG, "settings without threads or a margin of heat");
    settings_from(v, ret);
    return 0;
}

int gov_trace_get_call(const char *line, uint64_t *ret_us, struct gov_input *ret,
                       struct gov_trace_answer *ret_answer, struct err *e) {
    int64_t now = 0, v[N_INPUT], answer[2];
    enum gov_reason reason;
    const char *at = line + 1;
    if (line[0] != 'C') return err_set(e, -EBADMSG, "no line of a call");
    int r = get_all(&at, "q", &now, e);
    if (r == 0 && now < 0) r = err_set(e, -EBADMSG, "a call at a negative time");
    if (r == 0) r = get_all(&at, input_kinds, v, e);
    if (r == 0) r = get_all(&at, "uu", answer, e);
    if (r < 0) return r;
    if (at[0] != ',' || !get_reason(at + 1, &reason))
        return err_set(e, -EBADMSG, "a call without a reason, or with one that is not known");
    *ret_us = (uint64_t)now;
    input_from(v, ret);
    *ret_answer = (struct gov_trace_answer){
        .position = (uint32_t)answer[0], .stage = (uint32_t)answer[1], .reason = reason};
    return 0;
}

int gov_trace_get_guard(const char *line, struct gov_trace_guard *ret, struct err *e) {
    int64_t v[5];
    const char *at = line + 1;
    if (line[0] != 'G') return err_set(e, -EBADMSG, "no line of the guard");
    int r = get_all(&at, "qqquu", v, e);
    if (r < 0) return r;
    if (*at) return err_set(e, -EBADMSG, "a line of the guard is too long");
    if (v[0] < 0 || v[1] < 0 || v[2] < 0)
        return err_set(e, -EBADMSG, "a line of the guard with a negative number");
    *ret = (struct gov_trace_guard){
        .now_us = (uint64_t)v[0],
        .over_bytes = (uint64_t)v[1],
        .kept_bytes = (uint64_t)v[2],
        .position_from = (uint32_t)v[3],
        .position = (uint32_t)v[4],
    };
    return 0;
}
