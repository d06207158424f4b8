/* The hand-over of plans between the loop and the inference thread.
 *
 * A plan is in one of these states; the loop's ledger is `is_live`, the rest follows from two
 * atomics:
 *
 *   free --store_publish()--> offered --store_adopt()--> adopted --next store_adopt()--> old
 *    ^                          |                                                         |
 *    +------ store_publish(), which takes an offer back -- free_old_plans() --------------+
 *
 *   offered   the `offered` slot points at it: whoever exchanges it out owns it
 *   adopted   its epoch is `adopted_epoch`, or about to be
 *   old       its epoch is below `adopted_epoch`: inference will never look at it again
 *
 * Room for four plans is enough. When a fifth would be built, the live ones can be: one adopted,
 * one that inference has taken but not yet put its epoch down for, and one offered; the offer is
 * taken back by the exchange, and inference cannot take a second one before it puts down the first.
 * The ledger may show all four after that, when inference has put down one and taken the offer
 * meanwhile.
 *
 * The guard changes none of that: it publishes in place of the loop, and adopts in place of
 * inference, never beside them (see `publisher` and `reader`).
 *
 * A slab is freed when neither the next plan nor any live plan names it. Its bytes can go earlier,
 * when a plan that lacks it is adopted and it is retired: no plan to come names it, an older one
 * that was offered in between has been taken back, and the one adopted before has no user left. */
#include "core/store.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/err.h"
#include "core/slab.h"

enum { N_PLANS = 4 };

enum publisher { HELD, LENT, BORROWED };
enum reader { NOBODY, INFERENCE, GUARD };

/* What the next plan can say about one unit. */
struct next_unit {
    struct slab *high, *low, *swsc;           /* owned */
    struct kern_planes mats[MODEL_MAT_COUNT]; /* of high and low */
};

struct store {
    /* The publisher only. */
    const struct model_hparams *h; /* borrowed */
    uint32_t n_units;
    const struct swsc_form *forms; /* borrowed, as is `books`; NULL: no rung swsc */
    const struct slab *books;
    struct next_unit *next;      /* owned, [n_units] */
    struct plan *plans[N_PLANS]; /* owned */
    bool is_live[N_PLANS];
    struct slab *retired;   /* owned, by `link`: not in `next`, perhaps in a live plan */
    uint32_t position;      /* of the newest published plan */
    _Atomic uint64_t epoch; /* of the newest published plan; relaxed: others only show it */
    uint64_t bytes;         /* of all slabs owned */
    uint64_t next_bytes;    /* of those in `next` */

    /* The reader only. */
    const struct plan *adopted;

    /* Crossings. */
    _Atomic(struct plan *) offered; /* partners: the exchanges in store_publish() and store_adopt().
                                     * Release: the plan's contents are seen by its adopter. */
    _Atomic uint64_t adopted_epoch; /* store in store_adopt(), load in store_adopted_epoch().
                                     * Release: all reads of the plans before have ended. */
    /* Futexes. Acquire when a side is taken, release when it is left: the next one sees all that
     * this one wrote. */
    _Atomic uint32_t publisher;
    _Atomic uint32_t reader;
    _Atomic uint32_t is_halted;  /* relaxed, a futex, too: a step more or less */
    _Atomic uint64_t urgent;     /* relaxed: a block more or less */
    _Atomic uint64_t given_back; /* statistics: relaxed */
};

/* Takes `word` from `from` to `to`; false if it is something else. */
static bool store_take(_Atomic uint32_t *word, uint32_t from, uint32_t to) {
    return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void store_put(_Atomic uint32_t *word, uint32_t to) {
    atomic_store_explicit(word, to, memory_order_release);
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* While it is `value`. EAGAIN and EINTR are as good as a wake-up: every caller looks again. */
static void store_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

int store_create(const struct model_hparams *h, struct store **ret, struct err *e) {
    uint32_t n_units = model_n_units(h);
    size_t plan_bytes;
    struct store *s = calloc(1, sizeof(*s));
    if (!s) goto fail;
    s->h = h;
    s->n_units = n_units;
    atomic_init(&s->offered, NULL);
    atomic_init(&s->adopted_epoch, 0);
    atomic_init(&s->epoch, 0);
    atomic_init(&s->publisher, HELD);
    atomic_init(&s->reader, NOBODY);
    atomic_init(&s->is_halted, false);
    atomic_init(&s->urgent, 0);
    atomic_init(&s->given_back, 0);
    s->next = calloc(n_units, sizeof(*s->next));
    if (!s->next) goto fail;
    if (!size_mul(n_units, sizeof(struct plan_unit), &plan_bytes) ||
        !size_add(plan_bytes, sizeof(struct plan), &plan_bytes))
        goto fail;
    for (size_t i = 0; i < N_PLANS; i++) {
        s->plans[i] = malloc(plan_bytes);
        if (!s->plans[i]) goto fail;
        memset(s->plans[i], 0, plan_bytes); /* touched now, as publishing must not charge memory */
    }
    *ret = s;
    return 0;
fail:
    store_destroy(s);
    return err_set(e, -ENOMEM, "no memory for the plans of %u units", n_units);
}

static void free_retired(struct store *s) {
    while (s->retired) {
        struct slab *slab = s->retired;
        s->retired = slab->link;
        slab_destroy(slab);
    }
}

void store_destroy(struct store *s) {
    if (!s) return;
    for (uint32_t u = 0; s->next && u < s->n_units; u++) {
        slab_destroy(s->next[u].high);
        slab_destroy(s->next[u].low);
        slab_destroy(s->next[u].swsc);
    }
    free_retired(s);
    for (size_t i = 0; i < N_PLANS; i++) free(s->plans[i]);
    free(s->next);
    free(s);
}

/* The numbered invariants of the header, as far as the loop thread can see them. */
static void check_state(const struct store *s) {
    unsigned n_live = 0;
    uint64_t adopted = store_adopted_epoch(s);
    for (size_t i = 0; i < N_PLANS; i++) {
        const struct plan *p = s->plans[i];
        if (!s->is_live[i]) continue;
        n_live += p->epoch >= adopted;                /* the ledger may be behind */
        ASSERT(p->epoch <= store_published_epoch(s)); /* 2 */
        for (uint32_t u = 0; u < p->n_units; u++) {
            const struct plan_unit *x = &p->units[u];
            ASSERT((x->low != NULL) == (x->rung == RUNG_FULL)); /* 5 */
            ASSERT((x->high != NULL) == (x->rung <= RUNG_HIGH));
            ASSERT((x->swsc != NULL) == (x->rung == RUNG_SWSC));
        }
    }
    ASSERT(n_live < N_PLANS);                    /* 1 */
    ASSERT(adopted <= store_published_epoch(s)); /* 2 */
    ASSERT(s->next_bytes <= s->bytes);           /* 3 */
}

void store_set_swsc(struct store *s, const struct swsc_form forms[MODEL_LAYER_MATS],
                    const struct slab *books) {
    s->forms = forms;
    s->books = books;
}

static struct slab **place_of(struct next_unit *n, enum pack_part part) {
    switch (part) {
    case PACK_HIGH: return &n->high;
    case PACK_LOW: return &n->low;
    case PACK_SWSC: return &n->swsc;
    case PACK_CORE:
    case PACK_EMBD:
    case PACK_BOOKS: break;
    }
    return NULL;
}

static int bind_planes(struct store *s, struct next_unit *n, const struct slab *slab,
                       struct err *e) {
    const struct slab *high = slab->part == PACK_HIGH ? slab : n->high;
    const struct slab *low = slab->part == PACK_LOW ? slab : NULL;
    struct kern_planes mats[MODEL_MAT_COUNT] = {{0}};
    int r = pack_bind_unit(s->h, slab->unit, high->data, high->bytes, low ? low->data : NULL,
                           low ? low->bytes : 0, mats, e);
    if (r == 0) memcpy(n->mats, mats, sizeof(mats));
    return r;
}

int store_add(struct store *s, struct slab *slab, struct err *e) {
    uint32_t u = slab->unit;
    char name[16];
    if (u >= s->n_units)
        return err_set(e, -EINVAL, "unit %u: the model has only %u units", u, s->n_units);
    struct next_unit *n = &s->next[u];
    struct slab **place = place_of(n, slab->part);
    model_unit_name(s->h, u, name, sizeof(name));
    if (!place)
        return err_set(e, -EINVAL, "only units' weights can be stored, this slab is part %d",
                       slab->part);
    if (slab->part == PACK_LOW && !n->high)
        return err_set(e, -EINVAL, "%s: its high plane must come before its low one", name);
    if (*place) return err_set(e, -EINVAL, "%s: this part is already resident", name);
    if (slab->part == PACK_SWSC && !s->forms)
        return err_set(e, -EINVAL, "%s: the pack has no rung swsc", name);

    /* Bound here and not when publishing, so that a bad extent is refused while the plan in force
     * is still the better choice. */
    int r = slab->part == PACK_SWSC ? slab_bind_swsc(slab, s->h, s->forms, s->books, e)
                                    : bind_planes(s, n, slab, e);
    if (r < 0) return r;
    *place = slab;
    s->bytes += slab->bytes;
    s->next_bytes += slab->bytes;
    return 0;
}

static void retire(struct store *s, struct slab **place) {
    struct slab *slab = *place;
    if (!slab) return;
    *place = NULL;
    slab->link = s->retired;
    s->retired = slab;
    s->next_bytes -= slab->bytes;
    atomic_store_explicit(&slab->is_retired, true, memory_order_relaxed);
}

void store_drop(struct store *s, uint32_t unit, enum pack_part part) {
    ASSERT(unit < s->n_units);
    struct next_unit *n = &s->next[unit];
    struct slab **place = place_of(n, part);
    ASSERT(place);
    if (part == PACK_HIGH || part == PACK_LOW) {
        for (size_t i = 0; i < MODEL_MAT_COUNT; i++) n->mats[i].low = NULL;
        retire(s, &n->low);
    }
    if (part == PACK_HIGH) memset(n->mats, 0, sizeof(n->mats));
    retire(s, place);
}

uint32_t store_position(const struct store *s) {
    return s->position;
}

enum rung store_next_rung(const struct store *s, uint32_t unit) {
    ASSERT(unit < s->n_units);
    const struct next_unit *n = &s->next[unit];
    if (n->low) return RUNG_FULL;
    if (n->high) return RUNG_HIGH;
    return n->swsc ? RUNG_SWSC : RUNG_PAGED;
}

/* Frees the plans that inference has moved on from. */
static void free_old_plans(struct store *s) {
    uint64_t adopted = store_adopted_epoch(s);
    for (size_t i = 0; i < N_PLANS; i++)
        if (s->is_live[i] && s->plans[i]->epoch < adopted) s->is_live[i] = false;
}

static size_t plan_index(const struct store *s, const struct plan *p) {
    size_t i = 0;
    while (s->plans[i] != p) i++;
    return i;
}

static void plan_one(const struct store *s, uint32_t unit, struct plan_unit *ret) {
    const struct next_unit *n = &s->next[unit];
    bool has_planes = n->high != NULL;
    ret->rung = store_next_rung(s, unit);
    ret->high = n->high;
    ret->low = n->low;
    ret->swsc = has_planes ? NULL : n->swsc;
    memcpy(ret->mats, n->mats, sizeof(ret->mats));
    ret->forms = ret->swsc ? ret->swsc->forms : NULL;
}

void store_publish(struct store *s, uint32_t position) {
    free_old_plans(s);
    size_t i = 0;
    while (i < N_PLANS && s->is_live[i]) i++;
    ASSERT(i < N_PLANS); /* the head comment says why */

    struct plan *p = s->plans[i];
    p->epoch = store_published_epoch(s) + 1;
    atomic_store_explicit(&s->epoch, p->epoch, memory_order_relaxed);
    p->position = s->position = position;
    p->n_units = s->n_units;
    p->urgent = &s->urgent;
    for (uint32_t u = 0; u < s->n_units; u++) plan_one(s, u, &p->units[u]);
    s->is_live[i] = true;

    /* Release pairs with the acquire in store_adopt(): it sees the plan whole. Nothing has to be
     * acquired from a plan taken back, as inference never wrote to it. */
    struct plan *back = atomic_exchange_explicit(&s->offered, p, memory_order_release);
    if (back) s->is_live[plan_index(s, back)] = false;
    check_state(s);
}

uint64_t store_shed(struct store *s, const struct ladder *l, uint32_t position) {
    uint64_t before = s->next_bytes;
    for (uint32_t u = 0; u < s->n_units; u++) {
        enum rung r = ladder_rung(l, position, u);
        if (r > RUNG_FULL) store_drop(s, u, PACK_LOW);
        if (r > RUNG_HIGH) store_drop(s, u, PACK_HIGH);
        if (r > RUNG_SWSC) store_drop(s, u, PACK_SWSC);
    }
    store_publish(s, position);
    return before - s->next_bytes;
}

static bool is_in_use(const struct store *s, const struct slab *slab) {
    for (size_t i = 0; i < N_PLANS; i++) {
        if (!s->is_live[i]) continue;
        const struct plan_unit *u = &s->plans[i]->units[slab->unit];
        if (u->high == slab || u->low == slab || u->swsc == slab) return true;
    }
    return false;
}

/* Slabs that nobody can read any more, by their links. */
static struct slab *store_unlink_free(struct store *s, uint64_t *ret_bytes) {
    struct slab *ret = NULL;
    free_old_plans(s);
    *ret_bytes = 0;
    for (struct slab **at = &s->retired; *at;) {
        struct slab *slab = *at;
        if (is_in_use(s, slab)) {
            at = &slab->link;
            continue;
        }
        *at = slab->link;
        slab->link = ret;
        ret = slab;
        *ret_bytes += slab->bytes;
    }
    s->bytes -= *ret_bytes;
    check_state(s);
    return ret;
}

uint64_t store_reap(struct store *s) {
    uint64_t freed;
    bool was_lent = store_recall(s);
    struct slab *slab = store_unlink_free(s, &freed);
    /* What follows may charge memory, so it must not keep the guard waiting. */
    if (was_lent) store_lend(s);
    while (slab) {
        struct slab *next = slab->link;
        slab_destroy(slab);
        slab = next;
    }
    return freed;
}

uint64_t store_bytes(const struct store *s) {
    return s->bytes;
}

uint64_t store_next_bytes(const struct store *s) {
    return s->next_bytes;
}

uint64_t store_published_epoch(const struct store *s) {
    return atomic_load_explicit(&s->epoch, memory_order_relaxed);
}

uint64_t store_adopted_epoch(const struct store *s) {
    /* Acquire pairs with the release in store_adopt(): what older plans named may be unmapped. */
    return atomic_load_explicit(&s->adopted_epoch, memory_order_acquire);
}

/* ---- lending ---- */

void store_lend(struct store *s) {
    atomic_store_explicit(&s->publisher, LENT, memory_order_release); /* nobody waits for it */
}

bool store_recall(struct store *s) {
    for (;;) {
        if (store_take(&s->publisher, LENT, HELD)) return true;
        uint32_t now = atomic_load_explicit(&s->publisher, memory_order_relaxed);
        if (now == HELD) return false;
        if (now == BORROWED) store_wait(&s->publisher, BORROWED);
    }
}

bool store_borrow(struct store *s) {
    return store_take(&s->publisher, LENT, BORROWED);
}

void store_hand_back(struct store *s) {
    store_put(&s->publisher, LENT);
}

/* ---- adopting ---- */

static bool names(const struct plan_unit *u, const struct slab *slab) {
    return u->high == slab || u->low == slab || u->swsc == slab;
}

/* Invariant 6. */
static void store_give_back(struct store *s, const struct plan *old, const struct plan *now) {
    uint64_t bytes = 0;
    for (uint32_t u = 0; u < old->n_units; u++) {
        struct slab *const slabs[] = {old->units[u].high, old->units[u].low, old->units[u].swsc};
        for (size_t i = 0; i < ARRAY_LEN(slabs); i++) {
            if (!slabs[i] || names(&now->units[u], slabs[i])) continue;
            if (atomic_load_explicit(&slabs[i]->is_retired, memory_order_relaxed))
                bytes += slab_give_back(slabs[i]);
        }
    }
    atomic_fetch_add_explicit(&s->given_back, bytes, memory_order_relaxed);
}

const struct plan *store_adopt(struct store *s, bool *ret_changed) {
    /* Acquire pairs with the release in store_publish(). */
    const struct plan *p = atomic_exchange_explicit(&s->offered, NULL, memory_order_acquire);
    if (ret_changed) *ret_changed = p != NULL;
    if (p) {
        if (s->adopted) store_give_back(s, s->adopted, p);
        s->adopted = p;
        /* Release pairs with the acquire in store_adopted_epoch(): from here on the loop may free
         * what only older plans name. */
        atomic_store_explicit(&s->adopted_epoch, p->epoch, memory_order_release);
    }
    return s->adopted;
}

void store_enter(struct store *s) {
    while (atomic_load_explicit(&s->is_halted, memory_order_relaxed))
        store_wait(&s->is_halted, true);
    while (!store_take(&s->reader, NOBODY, INFERENCE)) store_wait(&s->reader, GUARD);
}

void store_leave(struct store *s) {
    atomic_store_explicit(&s->reader, NOBODY, memory_order_release); /* nobody waits for it */
}

bool store_adopt_idle(struct store *s) {
    if (!store_take(&s->reader, NOBODY, GUARD)) return false;
    store_adopt(s, NULL);
    store_put(&s->reader, NOBODY);
    return true;
}

void store_urge(struct store *s, uint64_t epoch) {
    atomic_store_explicit(&s->urgent, epoch, memory_order_relaxed);
}

void store_halt(struct store *s, bool on) {
    store_put(&s->is_halted, on);
}

uint64_t store_given_back(const struct store *s) {
    return atomic_load_explicit(&s->given_back, memory_order_relaxed);
}
