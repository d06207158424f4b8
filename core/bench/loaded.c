#include "tests/golden/loaded.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/slab.h"
#include "core/store.h"

/* "full", "high" or "swsc": all units, or as the head has no swsc all but it. */
static bool rung_of_word(const char *s, enum rung *ret) {
    return rung_parse(s, strlen(s), ret) == 0 && *ret != RUNG_PAGED;
}

static int position_of(const struct pack *p, const char *s, uint32_t *ret, struct err *e) {
    enum rung rung;
    if (rung_of_word(s, &rung)) {
        *ret = rung * model_n_units(pack_hparams(p));
        return 0;
    }
    char *end;
    unsigned long n = strtoul(s, &end, 10);
    if (pack_n_ladders(p) == 0 || end == s || *end || n > ladder_n_steps(pack_ladder_at(p, 0)))
        return err_set(e, -EINVAL, "position %s is not on the pack's ladder", s);
    *ret = (uint32_t)n;
    return 0;
}

static enum rung rung_of(const struct pack *p, const char *s, uint32_t position, uint32_t unit) {
    enum rung rung;
    if (!rung_of_word(s, &rung)) return ladder_rung(pack_ladder_at(p, 0), position, unit);
    return rung == RUNG_SWSC && unit == pack_hparams(p)->n_layers ? RUNG_HIGH : rung;
}

static int load(const struct loaded *l, enum pack_part part, uint32_t unit, struct slab **ret,
                struct err *e) {
    const struct pack_extent *x = pack_find(l->pack, part, unit);
    if (!x) return err_set(e, -EINVAL, "unit %u has no part %d", unit, (int)part);
    return slab_load(l->mem, l->pack, x, ret, e);
}

static int load_part(struct loaded *l, enum pack_part part, uint32_t unit, struct err *e) {
    struct slab *s;
    int r = load(l, part, unit, &s, e);
    if (r < 0) return r;
    l->weight_bytes += s->bytes;
    r = store_add(l->store, s, e);
    if (r < 0) slab_destroy(s);
    return r;
}

static int load_unit(struct loaded *l, uint32_t unit, enum rung rung, struct err *e) {
    if (rung == RUNG_PAGED) return err_set(e, -EINVAL, "unit %u would have no weights", unit);
    if (rung == RUNG_SWSC) return load_part(l, PACK_SWSC, unit, e);
    int r = load_part(l, PACK_HIGH, unit, e);
    return r == 0 && rung == RUNG_FULL ? load_part(l, PACK_LOW, unit, e) : r;
}

static int load_all(struct loaded *l, const char *path, const char *position, struct err *e) {
    uint32_t at = 0;
    int r = mem_create(&l->mem);
    if (r < 0) return err_set(e, r, "no memory");
    r = pack_open(path, &l->pack, e);
    if (r < 0) return r;
    const struct model_hparams *h = pack_hparams(l->pack);
    r = position_of(l->pack, position, &at, e);
    if (r == 0) r = store_create(h, &l->store, e);
    if (r == 0 && pack_find(l->pack, PACK_BOOKS, 0)) r = load(l, PACK_BOOKS, 0, &l->books, e);
    if (r == 0 && pack_has_swsc(l->pack)) store_set_swsc(l->store, pack_swsc(l->pack), l->books);
    for (uint32_t u = 0; r == 0 && u < model_n_units(h); u++)
        r = load_unit(l, u, rung_of(l->pack, position, at, u), e);
    if (r == 0) store_publish(l->store, at);
    if (r == 0) r = load(l, PACK_CORE, 0, &l->core, e);
    if (r == 0) l->plan = store_adopt(l->store, NULL);
    return r;
}

int loaded_open(const char *path, const char *position, struct loaded *ret, struct err *e) {
    *ret = (struct loaded){0};
    int r = load_all(ret, path, position, e);
    if (r < 0) loaded_close(ret);
    return r;
}

void loaded_close(struct loaded *l) {
    slab_destroy(l->core);
    store_destroy(l->store);
    slab_destroy(l->books);
    pack_close(l->pack);
    mem_destroy(l->mem);
    *l = (struct loaded){0};
}
