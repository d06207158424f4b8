/* Worlds made by a formula, and the access to both sorts. All of them are functions of the time, so
 * that a run can be begun anywhere and asked as often as wanted. */
#include "tests/sim/world.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "tests/sim/fixed.h"
#include "tests/sim/world_internal.h"

#define MIB  (UINT64_C(1) << 20)
#define SEC  INT64_C(1000000)
#define YEAR (WORLD_MAX_DAYS * 86400 * SEC)

enum { COOL_MC = 45000, NONE = -1 };

enum key {
    FOR_S,
    PERIOD_S,
    AT_S,
    WIDTH_MS,
    LOW_MIB,
    HIGH_MIB,
    AROUND_C,
    SWING_C,
    STALL_PERCENT,
    CELSIUS,
    SEED,
    AMBIENT_C,
    RISE_C,
    TAU_S
};
enum { KEYS = TAU_S + 1 };

struct key_text {
    const char *name;
    unsigned digits; /* behind the point that count */
    int64_t min, max, def;
};

static const struct key_text keys[KEYS] = {
    [FOR_S] = {"for_s", 6, SEC / 10, YEAR, 3600 * SEC},
    [PERIOD_S] = {"period_s", 6, 2, YEAR, 60 * SEC},
    [AT_S] = {"at_s", 6, 0, YEAR, 60 * SEC},
    [WIDTH_MS] = {"width_ms", 3, 1, YEAR, 40000},
    [LOW_MIB] = {"low_mib", 0, 0, 1 << 24, 330},
    [HIGH_MIB] = {"high_mib", 0, 0, 1 << 24, 1024},
    [AROUND_C] = {"around_c", 3, -40000, 150000, 80000},
    [SWING_C] = {"swing_c", 3, 0, 100000, 3000},
    [STALL_PERCENT] = {"stall_percent", 1, 0, 1000, NONE},
    [CELSIUS] = {"celsius", 3, -40000, 150000, NONE},
    [SEED] = {"seed", 0, 0, INT64_MAX, 1},
    [AMBIENT_C] = {"ambient_c", 3, -40000, 100000, 30000},
    [RISE_C] = {"rise_c", 3, 0, 150000, 60000},
    [TAU_S] = {"tau_s", 6, SEC / 10, YEAR, 90 * SEC},
};

typedef void (*world_fn)(const int64_t *v, uint64_t now_us, struct world_sample *ret);

struct world {
    world_fn fn;
    int64_t v[KEYS];
    bool is_thermal;
    struct world_thermal thermal;
    uint64_t span_us;
    struct world_row *rows; /* owned; [n_rows], n_rows > 0: of a file */
    size_t n_rows;
};

/* ---- formulas ---- */

static void put_left(struct world_sample *s, int64_t mib) {
    s->left_bytes = (uint64_t)mib * MIB;
}

static bool is_second_half(const int64_t *v, uint64_t now_us) {
    uint64_t period = (uint64_t)v[PERIOD_S];
    return now_us % period >= period / 2;
}

static void square(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    put_left(ret, v[is_second_half(v, now_us) ? LOW_MIB : HIGH_MIB]);
}

/* From one value to the other while `part` goes from 0 to 1. */
static void between(const int64_t *v, double part, struct world_sample *ret) {
    double low = (double)v[LOW_MIB], high = (double)v[HIGH_MIB];
    ret->left_bytes = (uint64_t)((high + (low - high) * part) * (double)MIB);
}

static void ramp(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    double since = (double)now_us - (double)v[AT_S];
    between(v, fmin(fmax(since / (double)v[PERIOD_S], 0.0), 1.0), ret);
}

static void saw(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    uint64_t period = (uint64_t)v[PERIOD_S];
    between(v, (double)(now_us % period) / (double)period, ret);
}

static void step(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    put_left(ret, v[now_us >= (uint64_t)v[AT_S] ? LOW_MIB : HIGH_MIB]);
}

static void spike(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    uint64_t at = (uint64_t)v[AT_S];
    if (now_us < at || now_us - at >= (uint64_t)v[WIDTH_MS]) return;
    put_left(ret, v[LOW_MIB]);
    if (v[STALL_PERCENT] != NONE) ret->stall_permille = (uint32_t)v[STALL_PERCENT];
    if (v[CELSIUS] != NONE) ret->temp_mc = (int32_t)v[CELSIUS];
}

static void heat_square(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    ret->temp_mc = (int32_t)(v[AROUND_C] + (is_second_half(v, now_us) ? -v[SWING_C] : v[SWING_C]));
}

static void heat_sine(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    uint64_t period = (uint64_t)v[PERIOD_S];
    double turn = (double)(now_us % period) / (double)period;
    ret->temp_mc = (int32_t)lrint((double)v[AROUND_C] +
                                  (double)v[SWING_C] * sin(2 * 3.14159265358979 * turn));
}

/* Up and down again, once; the swing is below and a third of it above. */
static void heat_ramp(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    double part = fmin((double)now_us / (double)v[PERIOD_S], 1.0);
    double height = part < 0.5 ? 2 * part : 2 - 2 * part;
    double low = (double)(v[AROUND_C] - v[SWING_C]);
    ret->temp_mc = (int32_t)lrint(low + height * (double)v[SWING_C] * 4 / 3);
}

/* Memory and heat together, with periods that share no beat; while there is little, tasks wait. */
static void storm(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    square(v, now_us, ret);
    if (is_second_half(v, now_us)) ret->stall_permille = 150;
    heat_square(v, now_us / 17 * 11, ret);
}

static uint64_t mix(uint64_t z) {
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Each of the three jumps at times of its own; one in sixteen is unknown. */
static void random_world(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    uint64_t seed = mix((uint64_t)v[SEED]), r[3];
    for (unsigned k = 0; k < 3; k++) {
        uint64_t slot_us = UINT64_C(40000) << (seed >> 4 * k) % 8;
        r[k] = mix(seed ^ mix(k + 3 * (now_us / slot_us)));
    }
    uint64_t low = (uint64_t)v[LOW_MIB] * MIB, high = (uint64_t)v[HIGH_MIB] * MIB;
    ret->has_left = r[0] % 16 != 0;
    ret->left_bytes = low + (high > low ? (r[0] >> 8) % (high - low) : 0);
    ret->has_stall = r[1] % 16 != 0;
    ret->stall_permille = r[1] % 4 == 1 ? (uint32_t)(r[1] >> 8) % 1001 : 0;
    ret->has_temp = r[2] % 16 != 0;
    ret->temp_mc = (int32_t)(v[AROUND_C] - v[SWING_C]) +
                   (int32_t)((r[2] >> 8) % (2 * (uint64_t)v[SWING_C] + 1));
}

static void nothing(const int64_t *v, uint64_t now_us, struct world_sample *ret) {
    (void)v;
    (void)now_us;
    (void)ret;
}

#define K(key) (1u << (key))
#define MEMORY (K(LOW_MIB) | K(HIGH_MIB))

static const struct kind {
    const char *name;
    world_fn fn;
    unsigned keys; /* K(key); for_s and high_mib are taken by all */
    const char *help;
} kinds[] = {
    {"square", square, K(PERIOD_S) | MEMORY, "memory is high, then low, each half a period"},
    {"ramp", ramp, K(AT_S) | K(PERIOD_S) | MEMORY, "memory falls within a period, once"},
    {"step", step, K(AT_S) | MEMORY, "memory falls at once"},
    {"spike", spike, K(AT_S) | K(WIDTH_MS) | K(STALL_PERCENT) | K(CELSIUS) | MEMORY,
     "memory falls for a moment, and stall and temperature rise if given"},
    {"saw", saw, K(PERIOD_S) | MEMORY, "memory falls within each period and is back at once"},
    {"heat-square", heat_square, K(PERIOD_S) | K(AROUND_C) | K(SWING_C), "hot and cool in turn"},
    {"heat-sine", heat_sine, K(PERIOD_S) | K(AROUND_C) | K(SWING_C), "a wave of temperature"},
    {"heat-ramp", heat_ramp, K(PERIOD_S) | K(AROUND_C) | K(SWING_C),
     "up to a third of the swing above, and down again within a period"},
    {"storm", storm, K(PERIOD_S) | K(AROUND_C) | K(SWING_C) | MEMORY, "memory, stall and heat"},
    {"random", random_world, K(SEED) | K(AROUND_C) | K(SWING_C) | MEMORY,
     "anything, and unknown now and then"},
    {"thermal", nothing, K(AMBIENT_C) | K(RISE_C) | K(TAU_S),
     "the temperature follows what is computed"},
};

/* ---- from a text ---- */

static bool takes(const struct kind *k, size_t key) {
    return (k->keys | K(FOR_S) | K(HIGH_MIB)) & K(key);
}

static int set_key(const struct kind *kind, struct world *w, const char *s, size_t n,
                   struct err *e) {
    const char *eq = memchr(s, '=', n);
    size_t n_name = eq ? (size_t)(eq - s) : n;
    for (size_t k = 0; k < KEYS; k++) {
        const struct key_text *t = &keys[k];
        if (!takes(kind, k) || strlen(t->name) != n_name || memcmp(t->name, s, n_name) != 0)
            continue;
        int r = eq ? fixed_parse(eq + 1, n - n_name - 1, t->digits, t->min, t->max, &w->v[k])
                   : -EINVAL;
        if (r == -ERANGE)
            return err_set(e, -EINVAL, "world %s: %s is too small or too large", kind->name,
                           t->name);
        if (r < 0)
            return err_set(e, -EINVAL, "world %s: %s needs a number, as in %s=1", kind->name,
                           t->name, t->name);
        return 0;
    }
    return err_set(e, -EINVAL, "world %s has no key '%.*s'; --help lists them", kind->name,
                   (int)MIN(n_name, (size_t)40), s);
}

static const struct kind *find_kind(const char *s, size_t n) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strlen(kinds[i].name) == n && memcmp(kinds[i].name, s, n) == 0) return &kinds[i];
    return NULL;
}

int world_make(const char *spec, struct world **ret, struct err *e) {
    size_t n_kind = strcspn(spec, ":");
    const struct kind *kind = find_kind(spec, n_kind);
    if (!kind)
        return err_set(e, -EINVAL, "no world is called '%.*s'; --help lists them",
                       (int)MIN(n_kind, (size_t)40), spec);
    struct world *w = calloc(1, sizeof(*w));
    if (!w) return err_set(e, -ENOMEM, "no memory for a world");
    w->fn = kind->fn;
    for (size_t k = 0; k < KEYS; k++) w->v[k] = keys[k].def;
    for (const char *s = spec + n_kind; *s;) {
        size_t n = strcspn(s + 1, ",");
        int r = set_key(kind, w, s + 1, n, e);
        if (r < 0) {
            world_destroy(w);
            return r;
        }
        s += 1 + n;
    }
    w->span_us = (uint64_t)w->v[FOR_S];
    w->is_thermal = kind->fn == nothing;
    w->thermal = (struct world_thermal){(int32_t)w->v[AMBIENT_C], (int32_t)w->v[RISE_C],
                                        (uint64_t)w->v[TAU_S]};
    *ret = w;
    return 0;
}

int world_take_rows(struct world_row *rows, size_t n, struct world **ret, struct err *e) {
    struct world *w = calloc(1, sizeof(*w));
    if (!w) return err_set(e, -ENOMEM, "no memory for a world");
    w->rows = rows;
    w->n_rows = n;
    w->span_us = rows[n - 1].at_us;
    *ret = w;
    return 0;
}

void world_destroy(struct world *w) {
    if (!w) return;
    free(w->rows);
    free(w);
}

/* ---- access ---- */

uint64_t world_span_us(const struct world *w) {
    return w->span_us;
}

const struct world_thermal *world_thermal(const struct world *w) {
    return w->is_thermal ? &w->thermal : NULL;
}

/* The last row that is not after `now_us`; before the first one nothing is known. */
static void row_at(const struct world *w, uint64_t now_us, struct world_sample *ret) {
    size_t lo = 0, hi = w->n_rows;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (w->rows[mid].at_us <= now_us)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret = lo > 0 ? w->rows[lo - 1].sample : (struct world_sample){0};
}

void world_at(const struct world *w, uint64_t now_us, struct world_sample *ret) {
    if (w->n_rows > 0) {
        row_at(w, now_us, ret);
        return;
    }
    *ret = (struct world_sample){
        .has_left = true, .has_stall = true, .has_temp = true, .temp_mc = COOL_MC};
    put_left(ret, w->v[HIGH_MIB]);
    w->fn(w->v, now_us, ret);
}

const char *world_help(unsigned i, char ret[WORLD_MAX_HELP]) {
    if (i >= ARRAY_LEN(kinds)) return NULL;
    size_t n = (size_t)snprintf(ret, WORLD_MAX_HELP, "%s:", kinds[i].help);
    for (size_t k = 0; k < KEYS && n < WORLD_MAX_HELP; k++) {
        if (!takes(&kinds[i], k)) continue;
        double scale = pow(10.0, keys[k].digits);
        bool has = keys[k].def != NONE;
        n += (size_t)snprintf(ret + n, WORLD_MAX_HELP - n, has ? " %s=%g" : " %s", keys[k].name,
                              (double)keys[k].def / scale);
    }
    return kinds[i].name;
}
