#include "core/bench/loaded.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/slab.h"
#include "core/store.h"

struct place {
    bool is_rung;
    enum rung rung;    /* is_rung: of all units */
    uint32_t position; /* on the first ladder; is_rung: if it is there */
    bool is_on_ladder;
};

/* "full", "high" or "swsc": all units, or as the head has no swsc all but it. */
static bool rung_of_word(const char *s, enum rung *ret) {
    return rung_parse(s, strlen(s), ret) == 0 && *ret != RUNG_PAGED;
}

static bool number_of(const char *s, uint32_t *ret) {
    char *end;
    errno = 0;
    unsigned long n = strtoul(s, &end, 10);
    if (errno || *s < '0' || *s > '9' || *end || n > UINT32_MAX) return false;
    *ret = (uint32_t)n;
    return true;
}

bool loaded_is_position(const char *s) {
    enum rung rung;
    uint32_t n;
    return rung_of_word(s, &rung) || number_of(s, &n);
}

static enum rung rung_of(const struct pack *p, const struct place *at, uint32_t unit) {
    if (!at->is_rung) return ladder_rung(pack_ladder_at(p, 0), at->position, unit);
    return pack_has_rung(p, unit, at->rung) ? at->rung : RUNG_HIGH;
}

/* Looks for a rung's position. */
static void find_position(const struct pack *p, struct place *at) {
    uint32_t n_units = model_n_units(pack_hparams(p));
    const struct ladder *l = pack_n_ladders(p) ? pack_ladder_at(p, 0) : NULL;
    for (uint32_t pos = 0; l && pos <= ladder_n_steps(l); pos++) {
        uint32_t u = 0;
        while (u < n_units && ladder_rung(l, pos, u) == rung_of(p, at, u)) u++;
        if (u < n_units) continue;
        at->position = pos;
        at->is_on_ladder = true;
        return;
    }
}

/* Refuses a position with units on disk. */
static int check_paged(const struct ladder *l, uint32_t position, struct err *e) {
    for (uint32_t i = 0; i < position; i++)
        if (ladder_step_at(l, i)->to == RUNG_PAGED)
            return err_set(e, -ENOTSUP, "position %u has units on disk; the last one without is %u",
                           position, i);
    return 0;
}

static int place_of(const struct pack *p, const char *s, struct place *ret, struct err *e) {
    *ret = (struct place){0};
    if (rung_of_word(s, &ret->rung)) {
        ret->is_rung = true;
        if (ret->rung == RUNG_SWSC && !pack_has_swsc(p))
            return err_set(e, -ENOTSUP, "the pack has no rung swsc");
        find_position(p, ret);
        return 0;
    }
    if (!number_of(s, &ret->position)) return err_set(e, -EINVAL, "'%s' is no position", s);
    if (pack_n_ladders(p) == 0) return err_set(e, -EINVAL, "the pack has no ladder");
    const struct ladder *l = pack_ladder_at(p, 0);
    if (ret->position > ladder_n_steps(l))
        return err_set(e, -EINVAL, "position %u: the ladder has positions 0 to %u", ret->position,
                       ladder_n_steps(l));
    ret->is_on_ladder = true;
    return check_paged(l, ret->position, e);
}

/* The name of the rung that all units are at, NULL if they are at several. */
static const char *common_rung(const struct pack *p, const struct place *at) {
    uint32_t n_units = model_n_units(pack_hparams(p));
    struct place all = {.is_rung = true, .rung = rung_of(p, at, 0)};
    for (uint32_t u = 0; u < n_units; u++)
        if (rung_of(p, at, u) != rung_of(p, &all, u)) return NULL;
    return rung_name(all.rung);
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
    struct place at;
    int r = mem_create(&l->mem);
    if (r < 0) return err_set(e, r, "no memory");
    r = pack_open(path, &l->pack, e);
    if (r < 0) return r;
    const struct model_hparams *h = pack_hparams(l->pack);
    r = place_of(l->pack, position, &at, e);
    if (r == 0) r = store_create(h, &l->store, e);
    if (r == 0 && pack_find(l->pack, PACK_BOOKS, 0)) r = load(l, PACK_BOOKS, 0, &l->books, e);
    if (r == 0 && pack_has_swsc(l->pack)) store_set_swsc(l->store, pack_swsc(l->pack), l->books);
    for (uint32_t u = 0; r == 0 && u < model_n_units(h); u++)
        r = load_unit(l, u, rung_of(l->pack, &at, u), e);
    if (r == 0) r = load(l, PACK_CORE, 0, &l->core, e);
    if (r < 0) {
        err_prefix(e, "%s", path);
        return r;
    }
    store_publish(l->store, at.position);
    l->plan = store_adopt(l->store, NULL);
    l->rung = common_rung(l->pack, &at);
    l->is_on_ladder = at.is_on_ladder;
    return 0;
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
