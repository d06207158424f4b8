#include "tests/sim/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/shed.h"

struct replay {
    struct ladder *ladder; /* owned; NULL before its line */
    struct gov_settings set;
    bool has_set;
    struct gov_state gov;
    uint64_t now_us, line;
    replay_fn fn;
    void *ud;
    struct replay_result *result;
};

static void compare(struct replay *r, struct replay_call *c) {
    struct replay_result *to = r->result;
    const struct gov_output *out = c->out;
    const struct gov_trace_answer *want = c->recorded;
    c->is_same = out->position == want->position && out->stage == want->stage &&
                 out->reason == want->reason;
    to->n_calls++;
    to->n_same += c->is_same;
    if (c->is_same || to->first_line != 0) return;
    to->first_line = r->line;
    snprintf(to->first, sizeof(to->first),
             "at %.3f s: recorded position %" PRIu32 ", stage %" PRIu32
             ", %s; computed position %" PRIu32 ", stage %" PRIu32 ", %s",
             (double)c->now_us / 1e6, want->position, want->stage, gov_reason_name(want->reason),
             out->position, out->stage, gov_reason_name(out->reason));
}

static int take_call(struct replay *r, const char *line, struct err *e) {
    uint64_t now_us;
    struct gov_input in;
    struct gov_trace_answer recorded;
    if (!r->ladder || !r->has_set)
        return err_set(e, -EBADMSG, "a call before the ladder and the settings");
    int ret = gov_trace_get_call(line, &now_us, &in, &recorded, e);
    if (ret < 0) return ret;
    if (in.position > ladder_n_steps(r->ladder))
        return err_set(e, -EBADMSG, "the ladder has no position %" PRIu32, in.position);
    if (now_us < r->now_us) return err_set(e, -EBADMSG, "the time goes back");
    r->now_us = now_us;
    struct gov_output out = gov_step(&r->gov, &r->set, r->ladder, &in, now_us);
    struct replay_call c = {.now_us = now_us,
                            .ladder = r->ladder,
                            .set = &r->set,
                            .in = &in,
                            .out = &out,
                            .recorded = &recorded};
    compare(r, &c);
    if (r->fn) r->fn(r->ud, &c);
    return 0;
}

static int take_guard(struct replay *r, const char *line, struct err *e) {
    struct gov_trace_guard g;
    struct replay_result *to = r->result;
    if (!r->ladder) return err_set(e, -EBADMSG, "a decision of the guard before the ladder");
    int ret = gov_trace_get_guard(line, &g, e);
    if (ret < 0) return ret;
    if (g.position_from > ladder_n_steps(r->ladder) || g.position > ladder_n_steps(r->ladder))
        return err_set(e, -EBADMSG, "the ladder has no such position");
    if (g.now_us < r->now_us) return err_set(e, -EBADMSG, "the time goes back");
    r->now_us = g.now_us;
    struct shed_choice c = shed_choose(r->ladder, g.position_from, g.kept_bytes, g.over_bytes);
    to->n_guard++;
    if (c.position == g.position) return 0;
    to->n_guard_other++;
    if (to->first_line != 0) return 0;
    to->first_line = r->line;
    snprintf(to->first, sizeof(to->first),
             "at %.3f s: the guard's recorded position %" PRIu32 ", computed %" PRIu32,
             (double)g.now_us / 1e6, g.position, c.position);
    return 0;
}

static int take_line(struct replay *r, const char *line, struct err *e) {
    switch (line[0]) {
    case '#':
    case '\0': return 0;
    case 'C': return take_call(r, line, e);
    case 'G': return take_guard(r, line, e);
    case 'L':
        if (r->ladder) return err_set(e, -EBADMSG, "a second ladder: is this more than one trace?");
        return gov_trace_get_ladder(line, &r->ladder, e);
    case 'S': {
        int ret = gov_trace_get_settings(line, &r->set, e);
        if (ret == 0) r->has_set = true;
        return ret;
    }
    default: return err_set(e, -EBADMSG, "not a line of a trace");
    }
}

/* One line as a text of its own. */
static int take(struct replay *r, const char *text, size_t n, char *line, struct err *e) {
    if (n >= GOV_TRACE_MAX)
        return err_set(e, -EBADMSG, "the line is longer than %d bytes", GOV_TRACE_MAX - 1);
    if (memchr(text, '\0', n)) return err_set(e, -EBADMSG, "there is a NUL in the line");
    memcpy(line, text, n);
    line[n] = '\0';
    return take_line(r, line, e);
}

int replay_run(const char *name, const char *text, size_t n, replay_fn fn, void *ud,
               struct replay_result *ret, struct err *e) {
    char line[GOV_TRACE_MAX];
    struct replay *r = calloc(1, sizeof(*r));
    if (!r) return err_set(e, -ENOMEM, "no memory for a replay");
    *ret = (struct replay_result){0};
    r->fn = fn;
    r->ud = ud;
    r->result = ret;
    int failed = 0;
    while (n > 0 && failed == 0) {
        const char *nl = memchr(text, '\n', n);
        r->line++;
        failed = nl ? take(r, text, (size_t)(nl - text), line, e)
                    : err_set(e, -EBADMSG, "the last line has no end: the trace is cut off");
        if (failed < 0) break;
        n -= (size_t)(nl + 1 - text);
        text = nl + 1;
    }
    if (failed < 0) err_prefix(e, "%s:%" PRIu64, name, r->line);
    ladder_destroy(r->ladder);
    free(r);
    return failed;
}
