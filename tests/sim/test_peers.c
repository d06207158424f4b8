/* Several daemons on one machine, on virtual time: each a governor with its place in the shared
 * file, read, written and locked as the daemon does it. What they hold comes to their shares and
 * stays there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/share.h"
#include "daemon/govern_set.h"
#include "daemon/peers.h"
#include "tests/sim/setup.h"
#include "tests/t.h"

#define MIB (UINT64_C(1) << 20)
#define SEC UINT64_C(1000000)

enum {
    MAX_ONES = 3,
    DAY = 86400,
    RETURN_US = 20000, /* until dropped bytes are back */
    READ_MIB_PER_S = 90,
    OTHER_MIB = 24, /* KV and scratch of each */
};

struct one {
    struct peers *peers; /* NULL: not there */
    struct gov_state gov;
    struct gov_output out;
    uint32_t weight, position;
    uint64_t held_bytes; /* weights */
    uint64_t tick_us, interval_us;
    uint64_t back_us,
        read_us; /* when what was dropped is back, and what is read is there; 0 = none */
    uint64_t n_down, n_up;
    uint64_t start_us;
    bool is_waiting;  /* for the others to make way */
    uint64_t load_us; /* when the next part is there; 0 = all is */
    bool is_rising;   /* a read is under way */
};

struct machine {
    struct setup setup;
    struct gov_settings set;
    char path[600];
    uint64_t total_bytes;  /* for all of them, beside the reserve */
    uint64_t jitter_bytes; /* others take and give that much */
    uint64_t rng, now_us;
    struct one ones[MAX_ONES];
    uint32_t n;
    uint64_t n_together; /* turns in which two rose at once */
};

static uint64_t least_of_all(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static struct machine *make(uint32_t n, const uint32_t *weights, uint64_t total_mib) {
    struct machine *m = calloc(1, sizeof(*m));
    struct err e = {0};
    struct config c;
    static unsigned n_made;
    REQUIRE(m);
    config_defaults(&c);
    govern_set_make(&c, 4, &m->set);
    m->set.is_heat_on = false;
    REQUIRE_OK(setup_make(&m->setup, &e), &e);
    snprintf(m->path, sizeof(m->path), "%s/peers-%u", t_tmpdir(), n_made++);
    m->total_bytes = total_mib * MIB;
    m->rng = t_seed();
    m->n = n;
    for (uint32_t i = 0; i < n; i++) {
        m->ones[i].weight = weights[i];
        m->ones[i].interval_us = SEC / 10 + i * 7000; /* they are not in step */
    }
    return m;
}

static void end(struct machine *m) {
    for (uint32_t i = 0; i < m->n; i++) peers_close(m->ones[i].peers);
    setup_fini(&m->setup);
    free(m);
}

static uint64_t held_by(const struct one *o) {
    return o->peers ? o->held_bytes + OTHER_MIB * MIB : 0;
}

static uint64_t left(struct machine *m) {
    uint64_t held = 0;
    uint64_t noise = m->jitter_bytes ? t_rand(&m->rng) % m->jitter_bytes : 0;
    for (uint32_t i = 0; i < m->n; i++) held += held_by(&m->ones[i]);
    uint64_t all = m->total_bytes + m->set.reserve_bytes - noise;
    return all > held ? all - held : 0;
}

static struct gov_input input_of(struct machine *m, const struct one *o, bool is_fresh) {
    return (struct gov_input){
        .operator_limit_bytes = UINT64_MAX,
        .weight_bytes = o->held_bytes,
        .other_bytes = OTHER_MIB * MIB,
        .position = o->position,
        .has_mem = is_fresh,
        .has_stall = is_fresh,
        .mem_available_bytes = is_fresh ? left(m) : 0,
    };
}

static struct peers_self self_of(const struct machine *m, const struct one *o,
                                 const struct gov_input *in) {
    return (struct peers_self){
        .claim = {.weight = o->weight,
                  .held_bytes = in->weight_bytes + in->other_bytes,
                  .most_bytes = ladder_bytes(m->setup.ladder, 0) + in->other_bytes +
                                (o->position > 0 ? m->set.margin_bytes / 2 : 0)},
        .reserve_bytes = m->set.reserve_bytes,
    };
}

/* What daemon/govern.c does: a reading, the shared file, the governor. */
static void decide(struct machine *m, struct one *o, bool is_fresh) {
    struct gov_input in = input_of(m, o, is_fresh);
    struct peers_self self = self_of(m, o, &in);
    peers_before(o->peers, &self, m->now_us, &in);
    o->out = gov_step(&o->gov, &m->set, m->setup.ladder, &in, m->now_us);
    peers_after(o->peers, &in, &o->out,
                ladder_bytes(m->setup.ladder, o->out.position) + in.other_bytes, m->now_us);
}

/* Memory follows: dropped bytes are back a little later, a step up is read first. */
static void act(struct machine *m, struct one *o) {
    const struct ladder *l = m->setup.ladder;
    if (o->is_rising && o->out.position >= o->position) { /* cancelled */
        o->is_rising = false;
        o->read_us = 0;
        o->held_bytes = ladder_bytes(l, o->position);
    }
    if (o->out.position > o->position) {
        o->n_down++;
        o->position = o->out.position;
        o->back_us = m->now_us + RETURN_US;
    } else if (o->out.position < o->position && !o->is_rising) {
        uint64_t bytes = ladder_bytes(l, o->position - 1);
        o->read_us = m->now_us + 1 +
                     (bytes - ladder_bytes(l, o->position)) * SEC / (READ_MIB_PER_S * MIB);
        o->held_bytes = bytes;
        o->is_rising = true;
    }
}

static void start(struct machine *m, uint32_t i, const char *name) {
    struct one *o = &m->ones[i];
    struct err e = {0};
    REQUIRE_OK(peers_open(m->path, name, &o->peers, &e), &e);
    o->position = ladder_n_steps(m->setup.ladder);
    o->start_us = o->load_us = m->now_us + 1;
    o->is_waiting = true;
    o->tick_us = UINT64_MAX;
}

/* As load.c: the others get a moment to make way. Then loading takes as long as reading; until its
 * end the daemon decides nothing. */
static void await(struct machine *m, struct one *o) {
    struct gov_input in = input_of(m, o, /* is_fresh= */ true);
    struct peers_self self = self_of(m, o, &in);
    o->load_us = m->now_us + SEC / 20;
    if (!peers_is_free(o->peers, &self, m->now_us, &in) && m->now_us - o->start_us < PEERS_START_US)
        return;
    o->is_waiting = false;
    decide(m, o, /* is_fresh= */ true);
    o->position = o->out.position;
}

static void stop(struct machine *m, uint32_t i) {
    struct one *o = &m->ones[i];
    peers_close(o->peers);
    *o = (struct one){.weight = o->weight, .interval_us = o->interval_us};
}

static uint64_t next_us(const struct one *o) {
    uint64_t at = o->peers ? o->tick_us : UINT64_MAX;
    if (o->load_us) at = least_of_all(at, o->load_us);
    if (o->back_us) at = least_of_all(at, o->back_us);
    if (o->read_us) at = least_of_all(at, o->read_us);
    return at;
}

static void load(struct machine *m, struct one *o) {
    uint64_t all = ladder_bytes(m->setup.ladder, o->position);
    o->held_bytes = least_of_all(all, o->held_bytes + READ_MIB_PER_S * MIB / 20);
    o->load_us = o->held_bytes < all ? m->now_us + SEC / 20 : 0;
    if (o->load_us == 0) o->tick_us = m->now_us + 1;
}

static void turn(struct machine *m, struct one *o) {
    bool is_fresh = false;
    if (o->load_us == m->now_us) {
        if (o->is_waiting)
            await(m, o);
        else
            load(m, o);
        return;
    }
    if (o->back_us == m->now_us) {
        o->back_us = 0;
        if (!o->is_rising) o->held_bytes = ladder_bytes(m->setup.ladder, o->position);
    } else if (o->read_us == m->now_us) {
        o->read_us = 0;
        o->is_rising = false;
        o->position--;
        o->n_up++;
    } else {
        is_fresh = true;
    }
    decide(m, o, is_fresh);
    act(m, o);
    if (is_fresh)
        o->tick_us = m->now_us + (o->out.is_suspicious ? o->interval_us / 2 : o->interval_us);
}

static void run_us(struct machine *m, uint64_t span_us) {
    uint64_t end_us = m->now_us + span_us;
    for (;;) {
        struct one *next = &m->ones[0];
        uint32_t n_rising = 0;
        for (uint32_t i = 1; i < m->n; i++)
            if (next_us(&m->ones[i]) < next_us(next)) next = &m->ones[i];
        if (next_us(next) > end_us) break;
        m->now_us = next_us(next);
        turn(m, next);
        for (uint32_t i = 0; i < m->n; i++) n_rising += m->ones[i].is_rising;
        m->n_together += n_rising > 1;
    }
    m->now_us = end_us;
}

static void run(struct machine *m, uint64_t seconds) {
    run_us(m, seconds * SEC);
}

static void forget_changes(struct machine *m) {
    for (uint32_t i = 0; i < m->n; i++) m->ones[i].n_down = m->ones[i].n_up = 0;
}

static uint64_t n_changes(const struct machine *m) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < m->n; i++) n += m->ones[i].n_down + m->ones[i].n_up;
    return n;
}

/* Each within so many percent of its share of the whole. */
static void check_shares(const struct machine *m, const char *what, unsigned percent) {
    struct share_claim all[MAX_ONES] = {{0}};
    uint64_t shares[MAX_ONES];
    uint32_t n = 0, at[MAX_ONES];
    for (uint32_t i = 0; i < m->n; i++) {
        if (!m->ones[i].peers) continue;
        all[n] = (struct share_claim){m->ones[i].weight, 0,
                                      ladder_bytes(m->setup.ladder, 0) + OTHER_MIB * MIB};
        at[n++] = i;
    }
    share_split(all, n, m->total_bytes, shares);
    for (uint32_t k = 0; k < n; k++) {
        const struct one *o = &m->ones[at[k]];
        double ratio = (double)held_by(o) / (double)shares[k];
        printf("     %s: %u holds %.1f MiB of its %.1f, position %u (%u down, %u up)\n", what,
               at[k], (double)held_by(o) / MIB, (double)shares[k] / MIB, o->position,
               (unsigned)o->n_down, (unsigned)o->n_up);
        if (ratio > 1 || ratio < 1 - percent / 100.0)
            t_fail(__FILE__, __LINE__, "%s: %u holds %.3f of its share", what, at[k], ratio);
    }
    CHECK_EQU(m->n_together, 0);
}

/* Both have all; then the machine's memory falls. */
static struct machine *squeezed(const uint32_t weights[2], uint64_t to_mib, uint64_t jitter_bytes) {
    struct machine *m = make(2, weights, 1000);
    m->jitter_bytes = jitter_bytes;
    start(m, 0, "one");
    start(m, 1, "two");
    run(m, 60);
    CHECK_EQU(m->ones[0].position + m->ones[1].position, 0);
    forget_changes(m);
    m->total_bytes = to_mib * MIB;
    run(m, 120);
    return m;
}

static void a_squeeze_ends_at_the_shares(void) {
    static const struct {
        uint32_t weights[2];
        uint64_t to_mib, jitter_bytes;
    } all[] = {
        {{100, 100}, 240, 0},       {{100, 100}, 320, 0}, {{100, 100}, 200, 0},
        {{100, 300}, 300, 0},       {{300, 100}, 260, 0}, {{100, 100}, 240, 2 * MIB},
        {{100, 300}, 300, 2 * MIB},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char what[100];
        struct machine *m = squeezed(all[i].weights, all[i].to_mib, all[i].jitter_bytes);
        snprintf(what, sizeof(what), "%u:%u in %u MiB, jitter %u MiB", all[i].weights[0],
                 all[i].weights[1], (unsigned)all[i].to_mib, (unsigned)(all[i].jitter_bytes / MIB));
        check_shares(m, what, 10);
        /* Down once, and not too far. */
        CHECK_EQU(m->ones[0].n_up + m->ones[1].n_up, 0);
        forget_changes(m);
        run(m, i == 0 || i + 1 == ARRAY_LEN(all) ? DAY : 600);
        check_shares(m, "and later", 10);
        CHECK_EQU(n_changes(m), 0);
        end(m);
    }
}

static void what_is_free_again_is_shared(void) {
    static const uint32_t weights[] = {100, 100};
    struct machine *m = squeezed(weights, 220, 0);
    m->total_bytes = 290 * MIB;
    run(m, 600);
    check_shares(m, "290 MiB after 220", 10);
    CHECK(m->ones[0].n_up > 0 && m->ones[1].n_up > 0);
    forget_changes(m);
    run(m, 4 * 3600);
    CHECK_EQU(n_changes(m), 0);
    m->total_bytes = 1000 * MIB;
    run(m, 600);
    CHECK_EQU(m->ones[0].position + m->ones[1].position, 0);
    CHECK_EQU(m->n_together, 0);
    end(m);
}

static void who_comes_gets_a_share_and_who_goes_leaves_it(void) {
    static const uint32_t weights[] = {100, 100};
    struct machine *m = make(2, weights, 240);
    start(m, 0, "one");
    run(m, 60);
    CHECK_EQU(m->ones[0].position, 0); /* alone it has all */
    start(m, 1, "two");
    run(m, 600);
    check_shares(m, "after the second came", 10);
    CHECK_EQU(m->ones[0].n_down, 1); /* not again for what the second loads */
    CHECK_EQU(m->ones[0].n_up, 0);
    forget_changes(m);
    run(m, 3600);
    CHECK_EQU(n_changes(m), 0);
    stop(m, 0); /* as if killed */
    run(m, 600);
    CHECK_EQU(m->ones[1].position, 0);
    end(m);
}

/* One alone holds all that there is, so that the next one would find nothing to start with. */
static void a_full_machine_takes_one_more(void) {
    static const uint32_t weights[] = {100, 100};
    struct machine *m = make(2, weights, 1000);
    start(m, 0, "one");
    run(m, 60);
    m->total_bytes = 150 * MIB;
    run(m, 60);
    m->total_bytes = held_by(&m->ones[0]);
    run(m, 60);
    start(m, 1, "two");
    run(m, 600);
    CHECK(m->ones[1].position < ladder_n_steps(m->setup.ladder));
    CHECK(!m->ones[1].out.is_over);
    /* At first for the memory that went, then for what the second had at once, then its share. */
    CHECK(m->ones[0].n_down <= 3);
    CHECK_EQU(m->ones[0].n_up, 0);
    printf("     the first holds %.1f MiB, the second %.1f\n", (double)held_by(&m->ones[0]) / MIB,
           (double)held_by(&m->ones[1]) / MIB);
    end(m);
}

static void three_share_too(void) {
    static const uint32_t weights[] = {100, 200, 300};
    struct machine *m = make(3, weights, 1000);
    start(m, 0, "one");
    start(m, 1, "two");
    start(m, 2, "three");
    run(m, 60);
    m->total_bytes = 420 * MIB;
    run(m, 120);
    check_shares(m, "100:200:300 in 420 MiB", 10);
    forget_changes(m);
    run(m, 4 * 3600);
    CHECK_EQU(n_changes(m), 0);
    end(m);
}

/* Of any period: no more changes than one alone may make, and never two rises at once. */
static void no_period_makes_them_swing(void) {
    static const uint32_t weights[] = {100, 100};
    static const unsigned periods_ms[] = {200, 1000, 5000, 20000, 60000, 120000, 600000};
    for (size_t k = 0; k < ARRAY_LEN(periods_ms); k++) {
        struct machine *m = make(2, weights, 400);
        uint64_t most[2] = {0};
        start(m, 0, "one");
        start(m, 1, "two");
        for (unsigned hour = 0; hour < 6; hour++) {
            forget_changes(m);
            uint64_t end_us = m->now_us + 3600 * SEC;
            while (m->now_us < end_us) {
                m->total_bytes = (m->total_bytes == 400 * MIB ? 240 : 400) * MIB;
                run_us(m, (uint64_t)periods_ms[k] * 500);
            }
            for (unsigned i = 0; i < 2; i++) {
                uint64_t n = m->ones[i].n_down + m->ones[i].n_up;
                most[i] = n > most[i] ? n : most[i];
            }
        }
        printf("     period %u ms: at most %u and %u changes an hour\n", periods_ms[k],
               (unsigned)most[0], (unsigned)most[1]);
        CHECK(most[0] <= m->set.changes_per_hour && most[1] <= m->set.changes_per_hour);
        CHECK_EQU(m->n_together, 0);
        end(m);
    }
}

static const struct t_case cases[] = {
    {"a_squeeze_ends_at_the_shares", a_squeeze_ends_at_the_shares},
    {"what_is_free_again_is_shared", what_is_free_again_is_shared},
    {"who_comes_gets_a_share_and_who_goes_leaves_it",
     who_comes_gets_a_share_and_who_goes_leaves_it},
    {"a_full_machine_takes_one_more", a_full_machine_takes_one_more},
    {"three_share_too", three_share_too},
    {"no_period_makes_them_swing", no_period_makes_them_swing},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
