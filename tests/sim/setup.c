#include "tests/sim/setup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"
#include "core/err.h"
#include "core/ladder.h"
#include "core/pack.h"

/* Sizes of the made-up pack, in the 16 KiB that extents are multiples of. */
enum {
    LAYERS = 30,
    UNITS = LAYERS + 1,
    STEPS = UNITS + 2 * LAYERS,
    ALIGN = PACK_ALIGN,
    LAYER_HIGH = 122,
    LAYER_LOW = 108,
    LAYER_SWSC = 83,
    HEAD_HIGH = 971,
    HEAD_LOW = 864,
    STRIDE = 11, /* no common factor with 30: layers one after the other would be too orderly */
};

static struct ladder_step make_step(uint32_t unit, enum rung from, enum rung to, uint32_t n) {
    return (struct ladder_step){
        .unit = unit, .from = from, .to = to, .bytes = (uint64_t)n * ALIGN, .cost = 1};
}

int setup_make(struct setup *ret, struct err *e) {
    struct ladder_step steps[STEPS];
    struct setup s = {.units = calloc(UNITS, sizeof(s.units[0]))};
    uint64_t full = 0;
    uint32_t n = 0;
    if (!s.units) return err_set(e, -ENOMEM, "no memory for a ladder");
    for (uint32_t u = 0; u < UNITS; u++) {
        bool is_head = u == LAYERS;
        s.units[u].bytes[PAGER_HIGH] = (uint64_t)(is_head ? HEAD_HIGH : LAYER_HIGH) * ALIGN;
        s.units[u].bytes[PAGER_LOW] = (uint64_t)(is_head ? HEAD_LOW : LAYER_LOW) * ALIGN;
        s.units[u].bytes[PAGER_SWSC] = (uint64_t)(is_head ? 0 : LAYER_SWSC) * ALIGN;
        full += s.units[u].bytes[PAGER_HIGH] + s.units[u].bytes[PAGER_LOW];
    }
    for (uint32_t i = 0; i < LAYERS; i++)
        steps[n++] = make_step(i * STRIDE % LAYERS, RUNG_FULL, RUNG_HIGH, LAYER_LOW);
    steps[n++] = make_step(LAYERS, RUNG_FULL, RUNG_HIGH, HEAD_LOW);
    for (uint32_t i = 0; i < LAYERS; i++)
        steps[n++] = make_step(i * STRIDE % LAYERS, RUNG_HIGH, RUNG_SWSC, LAYER_HIGH - LAYER_SWSC);
    for (uint32_t i = 0; i < LAYERS; i++)
        steps[n++] = make_step(i * STRIDE % LAYERS, RUNG_SWSC, RUNG_PAGED, LAYER_SWSC);
    int r = ladder_create("made-up", UNITS, full, steps, n, &s.made, e);
    if (r < 0) {
        free(s.units);
        return r;
    }
    s.ladder = s.made;
    *ret = s;
    return 0;
}

int setup_open(const char *path, const char *name, struct setup *ret, struct err *e) {
    static const enum pack_part parts[PAGER_PARTS] = {
        [PAGER_HIGH] = PACK_HIGH, [PAGER_LOW] = PACK_LOW, [PAGER_SWSC] = PACK_SWSC};
    struct setup s = {0};
    int r = pack_open(path, &s.pack, e);
    if (r < 0) {
        err_prefix(e, "%s", path);
        return r;
    }
    s.ladder = pack_ladder(s.pack, name);
    if (!s.ladder && pack_n_ladders(s.pack) > 0)
        r = err_set(e, -EINVAL,
                    "%s: there is no ladder '%s'; the first one is '%s' (--set precision.ladder=)",
                    path, name, ladder_name(pack_ladder_at(s.pack, 0)));
    else if (!s.ladder)
        r = err_set(e, -EINVAL, "%s: the pack has no ladder", path);
    if (r < 0) goto out;
    uint32_t n_units = ladder_n_units(s.ladder);
    s.units = calloc((size_t)n_units + 1, sizeof(s.units[0]));
    if (!s.units) {
        r = err_set(e, -ENOMEM, "%s: no memory for %u units", path, n_units);
        goto out;
    }
    for (uint32_t u = 0; u < n_units; u++)
        for (unsigned k = 0; k < PAGER_PARTS; k++) {
            const struct pack_extent *x = pack_find(s.pack, parts[k], u);
            s.units[u].bytes[k] = x ? x->bytes : 0;
        }
    *ret = s;
    s = (struct setup){0};
out:
    setup_fini(&s);
    return r;
}

void setup_fini(struct setup *s) {
    free(s->units);
    ladder_destroy(s->made);
    pack_close(s->pack);
    *s = (struct setup){0};
}

/* ---- settings ---- */

static bool is_used(const char *name) {
    static const char *const others[] = {"sense.interval", "sense.stale", "serve.threads",
                                         "precision.ladder"};
    if (strncmp(name, "memory.", 7) == 0) return true;
    if (strncmp(name, "heat.", 5) == 0) return strcmp(name, "heat.zones") != 0;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(name, others[i]) == 0) return true;
    return false;
}

int setup_set(const char *text, struct config *c, struct err *e) {
    const char *eq = strchr(text, '=');
    size_t n = eq ? (size_t)(eq - text) : 0;
    for (size_t i = 0; eq && i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        if (strlen(k->name) != n || memcmp(k->name, text, n) != 0 || !is_used(k->name)) continue;
        int r = schema_set(k, eq + 1, strlen(eq + 1), c, e);
        if (r < 0) err_prefix(e, "%s", k->name);
        return r;
    }
    return err_set(e, -EINVAL,
                   "'%.60s': settings are KEY=VALUE, with the keys memory.*, heat.*, "
                   "sense.interval, sense.stale, serve.threads and precision.ladder",
                   text);
}
