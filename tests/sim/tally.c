#include "tests/sim/tally.h"

#include <errno.h>
#include <inttypes.h>

#include "core/ladder.h"

static const uint64_t hour_us = UINT64_C(3600000000);

/* Counts the changes of the hour that ends with this one. */
static void count_change(struct tally *t, bool is_rise, uint64_t now_us) {
    while (t->n_changes > 0 && now_us - t->changes_us[t->first_change] >= hour_us) {
        t->first_change = (t->first_change + 1) % TALLY_MAX_HOUR;
        t->n_changes--;
    }
    if (t->n_changes == TALLY_MAX_HOUR) return;
    t->changes_us[(t->first_change + t->n_changes) % TALLY_MAX_HOUR] = now_us;
    t->n_changes++;
    t->worst_hour = MAX(t->worst_hour, t->n_changes);
    if (is_rise) t->worst_rise = MAX(t->worst_rise, t->n_changes);
}

static void look_at_change(struct tally *t, const struct plant_moment *m) {
    bool has_moved = m->position != t->position, has_staged = m->out->stage != t->stage;
    bool is_rise = m->position < t->position || m->out->stage < t->stage;
    if (has_moved) count_change(t, is_rise, m->now_us);
    if (has_staged) count_change(t, is_rise, m->now_us);
    if (has_moved) *(m->position > t->position ? &t->n_down : &t->n_up) += 1;
    t->n_stages += has_staged;
}

static uint64_t least_of(const struct ladder *l) {
    return ladder_bytes(l, ladder_n_steps(l));
}

static uint64_t over(const struct ladder *l, const struct plant_moment *m) {
    uint64_t allowed = MAX(m->out->weight_budget_bytes, least_of(l));
    return m->held_bytes > allowed ? m->held_bytes - allowed : 0;
}

uint64_t tally_unexplained(const struct ladder *l, const struct plant_moment *m) {
    uint64_t bytes = over(l, m);
    uint64_t leaving = m->retired_bytes + (m->is_cancelled ? m->reading_bytes : 0);
    return bytes > leaving ? bytes - leaving : 0;
}

bool tally_is_too_high(const struct ladder *l, const struct plant_moment *m) {
    return ladder_bytes(l, m->position) > MAX(m->out->weight_budget_bytes, least_of(l));
}

static void look_at_bytes(struct tally *t, const struct plant_moment *m) {
    uint64_t bytes = over(t->ladder, m), unexplained = tally_unexplained(t->ladder, m);
    if (t->is_over) t->longest_over_us = MAX(t->longest_over_us, m->now_us - t->over_since_us);
    if (bytes > 0 && !t->is_over) t->over_since_us = m->now_us;
    t->is_over = bytes > 0;
    t->most_over_bytes = MAX(t->most_over_bytes, bytes);
    t->unexplained_bytes = MAX(t->unexplained_bytes, unexplained);
    t->n_too_high += tally_is_too_high(t->ladder, m);
}

static void look_at_answer(struct tally *t, const struct plant_moment *m) {
    uint64_t other = m->in->other_bytes, left = m->world->left_bytes;
    if (m->is_fresh && m->in->has_mem) {
        t->goal_bytes = left > t->reserve_bytes ? left - t->reserve_bytes : 0;
        t->goal_bytes = MAX(t->goal_bytes, other + least_of(t->ladder));
        bool is_short = m->in->weight_bytes + other > t->goal_bytes;
        if (is_short && !t->is_short) t->short_since_us = m->now_us;
        t->is_short = is_short;
    }
    if (!t->is_short || m->held_bytes + other > t->goal_bytes) return;
    t->is_short = false;
    t->n_answers++;
    t->answers[MIN((m->now_us - t->short_since_us + 999) / 1000, (uint64_t)TALLY_MAX_MS)]++;
}

void tally_add(struct tally *t, const struct plant_moment *m) {
    if (t->has_begun) {
        t->at_level_us[t->level] += m->now_us - t->now_us;
        look_at_change(t, m);
    } else {
        t->has_begun = true;
        t->begun_us = m->now_us;
    }
    look_at_bytes(t, m);
    look_at_answer(t, m);
    t->now_us = m->now_us;
    t->position = m->position;
    t->stage = m->out->stage;
    t->level = MIN(m->out->level, (uint32_t)TALLY_LEVELS - 1);
    t->n_turns++;
}

uint32_t tally_answer_ms(const struct tally *t, unsigned percent) {
    uint64_t n = 0;
    for (uint32_t ms = 0; ms <= TALLY_MAX_MS; ms++) {
        n += t->answers[ms];
        if (n > 0 && n * 100 >= t->n_answers * percent) return ms;
    }
    return 0;
}

int tally_print(const struct tally *t, FILE *f) {
    static const char *const levels[TALLY_LEVELS] = {"normal", "guarded", "tight", "emergency"};
    fprintf(f, "time           %.1f s, %" PRIu64 " decisions\n",
            (double)(t->now_us - t->begun_us) / 1e6, t->n_turns);
    fprintf(f,
            "changes        %" PRIu64 " down, %" PRIu64 " up, %" PRIu64
            " of the heat stage; %" PRIu32 "%s in the worst hour\n",
            t->n_down, t->n_up, t->n_stages, t->worst_hour,
            t->worst_hour == TALLY_MAX_HOUR ? " or more" : "");
    fprintf(f, "levels        ");
    for (unsigned i = 0; i < TALLY_LEVELS; i++)
        fprintf(f, " %s %.1f s%s", levels[i], (double)t->at_level_us[i] / 1e6,
                i + 1 < TALLY_LEVELS ? "," : "\n");
    fprintf(f,
            "over budget    %.1f ms at the longest, %" PRIu64
            " bytes at the most, of which %" PRIu64 " were not on their way back\n",
            (double)t->longest_over_us / 1e3, t->most_over_bytes, t->unexplained_bytes);
    fprintf(f,
            "memory is back %" PRIu64 " times, p50 %" PRIu32 " ms, p99 %" PRIu32
            " ms after the first reading\n",
            t->n_answers, tally_answer_ms(t, 50), tally_answer_ms(t, 99));
    return ferror(f) ? -EIO : 0;
}
