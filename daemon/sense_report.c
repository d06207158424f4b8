#include "daemon/sense_report.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_due(const struct sense_report *st, unsigned source, uint64_t now_us,
                   uint64_t every_us) {
    if (!st->sources[source].has_said) return true;
    uint64_t since_us = st->sources[source].since_us;
    return now_us < since_us || now_us - since_us >= every_us;
}

static void hold_back(struct sense_report *st, unsigned source, uint64_t now_us) {
    if (!st->sources[source].has_said && st->sources[source].n_changes == 0)
        st->sources[source].since_us = now_us;
    if (st->sources[source].n_changes < UINT32_MAX) st->sources[source].n_changes++;
}

/* What it is by now, and how it came to be. */
static void put_summary(const struct sense_status *s, uint32_t n, uint64_t span_us,
                        struct sense_change *ret) {
    const char *more = s->state == SENSE_KNOWN ? s->value : s->why;
    ret->is_good = s->state == SENSE_KNOWN;
    if (n == 1)
        snprintf(ret->text, sizeof(ret->text), "%s is %s: %s", s->name, sense_state_name(s->state),
                 more);
    else
        snprintf(ret->text, sizeof(ret->text),
                 "%s: %" PRIu32 " changes in %" PRIu64 " s, now %s: %s", s->name, n,
                 (span_us + 500000) / 1000000, sense_state_name(s->state), more);
}

/* Sources with something held back whose time has come. */
static unsigned put_summaries(struct sense_report *st, const bool *is_ready,
                              const struct sense_reading *now, uint64_t now_us,
                              struct sense_change *ret, unsigned n) {
    struct sense_status all[SENSE_N_SOURCES];
    bool is_listed = false;
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        if (!is_ready[i] || st->sources[i].n_changes == 0) continue;
        if (!is_listed) sense_list(now, all);
        is_listed = true;
        uint64_t since_us = st->sources[i].since_us;
        ret[n].source = (enum sense_source)i;
        put_summary(&all[i], st->sources[i].n_changes, now_us > since_us ? now_us - since_us : 0,
                    &ret[n++]);
        st->sources[i].has_said = true;
        st->sources[i].since_us = now_us;
        st->sources[i].n_changes = 0;
    }
    return n;
}

unsigned sense_report(struct sense_report *st, const struct sense_change *changes, unsigned n,
                      const struct sense_reading *now, uint64_t now_us, uint64_t every_us,
                      bool may_say, struct sense_change ret[SENSE_MAX_LINES]) {
    bool is_ready[SENSE_N_SOURCES], has_held[SENSE_N_SOURCES];
    unsigned n_lines = 0;
    for (unsigned i = 0; i < SENSE_N_SOURCES; i++) {
        is_ready[i] = may_say && is_due(st, i, now_us, every_us);
        has_held[i] = st->sources[i].n_changes > 0;
    }
    for (unsigned i = 0; i < n && i < SENSE_MAX_CHANGES; i++) {
        unsigned source = changes[i].source;
        if (!is_ready[source] || has_held[source]) {
            hold_back(st, source, now_us);
            continue;
        }
        ret[n_lines++] = changes[i];
        st->sources[source].has_said = true;
        st->sources[source].since_us = now_us;
    }
    return put_summaries(st, is_ready, now, now_us, ret, n_lines);
}
