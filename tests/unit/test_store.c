/* Slabs and the store: what is refused, what is freed when, and two threads at full speed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"
#include "core/slab.h"
#include "core/store.h"
#include "tests/golden/swsc_draw.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"
#include "tests/unit/small.h"

/* The mark of a whole slab, or 0 if its words differ. */
static uint64_t read_mark(const struct slab *s) {
    const uint64_t *w = s->data;
    uint64_t at = small_body_at(s->unit) / 8, mark = w[at];
    for (uint64_t i = at; i < s->bytes / 8; i++)
        if (w[i] != mark) return 0;
    return mark;
}

static void add_all(struct store *s, struct mem *m, enum pack_part part) {
    for (uint32_t u = 0; u < SMALL_UNITS; u++) {
        struct err e = {0};
        REQUIRE_OK(store_add(s, small_slab(m, part, u, u + 1), &e), &e);
    }
}

static void adding_is_checked(void) {
    struct mem *m;
    struct store *s;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    REQUIRE_OK(store_create(&small, &s, &e), &e);
    CHECK_EQU(store_published_epoch(s), 0);
    CHECK(store_adopt(s, NULL) == NULL);

    struct slab *low = small_slab(m, PACK_LOW, 1, 7);
    CHECK_EQ(store_add(s, low, &e), -EINVAL);
    CHECK_STR(e.msg, "layer 1: its high plane must come before its low one");
    low->part = PACK_CORE;
    CHECK_EQ(store_add(s, low, &e), -EINVAL);
    CHECK_STR(e.msg, "only units' weights can be stored, this slab is part 0");
    low->part = PACK_LOW;
    low->unit = SMALL_UNITS;
    CHECK_EQ(store_add(s, low, &e), -EINVAL);
    CHECK_STR(e.msg, "unit 3: the model has only 3 units");
    low->unit = 1;

    add_all(s, m, PACK_HIGH);
    ((uint8_t *)low->data)[20] ^= 1; /* the first matrix's height */
    CHECK_EQ(store_add(s, low, &e), -EBADMSG);
    ((uint8_t *)low->data)[20] ^= 1;
    uint64_t before = store_bytes(s);
    REQUIRE_OK(store_add(s, low, &e), &e);
    CHECK_EQU(store_bytes(s), before + low->bytes);
    CHECK_EQU(store_next_bytes(s), before + low->bytes);
    struct slab *again = small_slab(m, PACK_LOW, 1, 8);
    CHECK_EQ(store_add(s, again, &e), -EINVAL);
    CHECK_STR(e.msg, "layer 1: this part is already resident");
    again->part = PACK_HIGH;
    CHECK_EQ(store_add(s, again, &e), -EINVAL);
    slab_destroy(again);
    slab_destroy(NULL);
    store_destroy(s);
    store_destroy(NULL);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    mem_destroy(m);
}

static void plans_bind_both_planes(void) {
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    struct store *s = small_store(m);
    CHECK(store_adopt(s, NULL) == NULL);
    store_drop(s, 2, PACK_LOW);
    store_publish(s, 1);
    bool changed = false;
    const struct plan *p = store_adopt(s, &changed);
    REQUIRE(p);
    CHECK(changed);
    CHECK(store_adopt(s, &changed) == p);
    CHECK(!changed);
    CHECK_EQU(p->epoch, 1);
    CHECK_EQU(p->position, 1);
    CHECK_EQU(p->n_units, SMALL_UNITS);
    for (uint32_t u = 0; u < SMALL_UNITS; u++) {
        const struct plan_unit *x = &p->units[u];
        enum model_mat mat = u == small.n_layers ? MODEL_HEAD : MODEL_DOWN;
        const struct kern_planes *k = &x->mats[mat];
        uint32_t n_out, n_in;
        model_mat_shape(&small, mat, &n_out, &n_in);
        CHECK_EQU(k->n_out, n_out);
        CHECK_EQU(k->n_in, n_in);
        CHECK(k->high > (const uint8_t *)x->high->data);
        CHECK(k->high < (const uint8_t *)x->high->data + x->high->bytes);
        CHECK_EQ(x->low == NULL, u == 2);
        CHECK_EQ(k->low == NULL, u == 2);
    }
    store_destroy(s);
    mem_destroy(m);
}

static void a_slab_lives_until_no_plan_names_it(void) {
    struct mem *m;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    struct store *s = small_store(m);
    store_publish(s, 0);
    const struct plan *p = store_adopt(s, NULL);
    uint64_t all = store_bytes(s), low = p->units[0].low->bytes;
    CHECK_EQU(all, mem_bytes(m, MEM_SLAB));

    store_drop(s, 0, PACK_LOW);
    store_drop(s, 0, PACK_LOW); /* nothing left to drop */
    CHECK_EQU(store_next_bytes(s), all - low);
    CHECK_EQU(store_reap(s), 0); /* not even published */
    store_publish(s, 1);
    CHECK_EQU(store_reap(s), 0); /* published, not adopted */
    CHECK_EQU(read_mark(p->units[0].low), 1);
    CHECK_EQU(store_published_epoch(s), 2);
    CHECK_EQU(store_adopted_epoch(s), 1);
    store_adopt(s, NULL);
    CHECK_EQU(store_adopted_epoch(s), 2);
    CHECK_EQU(store_bytes(s), all);
    CHECK_EQU(store_reap(s), low);
    CHECK_EQU(store_bytes(s), all - low);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), all - low);

    /* Offered and taken back before anybody looked: the slab that only it named goes at once. */
    REQUIRE_OK(store_add(s, small_slab(m, PACK_LOW, 0, 9), &e), &e);
    store_publish(s, 0);
    store_drop(s, 0, PACK_LOW);
    CHECK_EQU(store_reap(s), 0);
    store_publish(s, 1);
    CHECK_EQU(store_reap(s), low);
    CHECK_EQU(store_adopted_epoch(s), 2);
    CHECK_EQU(store_adopt(s, NULL)->epoch, 4);
    store_destroy(s);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    mem_destroy(m);
}

static void the_best_form_resident_is_planned(void) {
    struct mem *m;
    struct store *s;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    REQUIRE_OK(store_create(&small, &s, &e), &e);
    struct slab *books = small_books(m), *form = small_swsc(m, 0, 1);
    CHECK_EQ(store_add(s, form, &e), -EINVAL);
    CHECK_STR(e.msg, "layer 0: the pack has no rung swsc");
    store_set_swsc(s, small_forms, books);
    form->unit = 2; /* the head has none */
    CHECK_EQ(store_add(s, form, &e), -EINVAL);
    form->unit = 0;
    ((uint8_t *)form->data)[20] ^= 1;
    CHECK_EQ(store_add(s, form, &e), -EBADMSG);
    ((uint8_t *)form->data)[20] ^= 1;
    REQUIRE_OK(store_add(s, form, &e), &e);
    struct slab *again = small_swsc(m, 0, 2);
    CHECK_EQ(store_add(s, again, &e), -EINVAL);
    slab_destroy(again);

    /* With nothing but one form; then planes beside it; then they go again. */
    CHECK_EQ(store_next_rung(s, 0), RUNG_SWSC);
    CHECK_EQ(store_next_rung(s, 1), RUNG_PAGED);
    store_publish(s, 9);
    const struct plan *p = store_adopt(s, NULL);
    CHECK(p->units[0].rung == RUNG_SWSC && p->units[0].swsc == form && !p->units[0].high);
    REQUIRE(p->units[0].forms);
    for (int i = 0; i < MODEL_LAYER_MATS; i++)
        CHECK_EQ(p->units[0].forms[i].base, small_forms[i].base);
    CHECK(p->units[1].rung == RUNG_PAGED && !p->units[1].high && !p->units[1].forms);
    CHECK_EQU(p->units[1].mats[MODEL_Q].n_out, 0);
    add_all(s, m, PACK_HIGH);
    REQUIRE_OK(store_add(s, small_slab(m, PACK_LOW, 0, 4), &e), &e);
    store_publish(s, 0);
    p = store_adopt(s, NULL);
    CHECK(p->units[0].rung == RUNG_FULL && !p->units[0].swsc && !p->units[0].forms);
    CHECK(p->units[1].rung == RUNG_HIGH && p->units[1].high);
    uint64_t all = store_bytes(s), low = p->units[0].low->bytes, high = p->units[0].high->bytes;
    CHECK_EQU(store_next_bytes(s), all);

    store_drop(s, 0, PACK_HIGH); /* and the low one */
    CHECK_EQ(store_next_rung(s, 0), RUNG_SWSC);
    CHECK_EQU(store_next_bytes(s), all - low - high);
    CHECK_EQU(store_reap(s), 0);
    store_publish(s, 1);
    CHECK_EQU(read_mark(p->units[0].high), 1);
    CHECK_EQU(store_reap(s), 0);
    p = store_adopt(s, NULL);
    CHECK(p->units[0].rung == RUNG_SWSC && !p->units[0].high && !p->units[0].low);
    CHECK_EQU(store_reap(s), low + high);

    /* Up again: the form may go as soon as planes are planned, and not before they are adopted. */
    REQUIRE_OK(store_add(s, small_slab(m, PACK_HIGH, 0, 5), &e), &e);
    store_drop(s, 0, PACK_SWSC);
    store_drop(s, 0, PACK_SWSC);
    store_publish(s, 0);
    CHECK_EQU(store_reap(s), 0);
    CHECK_EQ(p->units[0].forms[0].base, small_forms[0].base);
    store_adopt(s, NULL);
    CHECK(store_reap(s) > 0);
    store_drop(s, 0, PACK_HIGH);
    store_publish(s, 12);
    CHECK_EQ(store_adopt(s, NULL)->units[0].rung, RUNG_PAGED);
    CHECK(store_reap(s) > 0);
    CHECK_EQU(store_bytes(s), mem_bytes(m, MEM_SLAB) - books->bytes);
    store_destroy(s);
    slab_destroy(books);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    mem_destroy(m);
}

/* Publishing again and again without a reader must neither fail nor hold memory. */
static void publishing_needs_no_reader_and_no_memory(void) {
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    struct store *s = small_store(m);
    uint64_t all = store_bytes(s);
    mem_fail_at(m, 1, true);
    for (uint32_t i = 0; i < 1000; i++) {
        if (i % 100 == 99) store_drop(s, i / 100 % SMALL_UNITS, PACK_LOW);
        store_publish(s, i);
    }
    CHECK_EQU(store_bytes(s) > store_next_bytes(s), 1);
    CHECK_EQU(store_adopt(s, NULL)->position, 999);
    for (uint32_t i = 0; i < 1000; i++) {
        store_publish(s, i);
        if (i % 3 == 0) CHECK_EQU(store_adopt(s, NULL)->position, i);
    }
    CHECK_EQU(store_bytes(s), all);
    store_destroy(s);
    mem_destroy(m);
}

struct shared {
    struct store *s;
    _Atomic bool stop;      /* relaxed: only ends the loop */
    _Atomic unsigned n_bad; /* relaxed: read after the join */
    _Atomic unsigned n_adopted;
};

/* The position is the sum of the units' rungs. */
static unsigned count_faults(const struct plan *p) {
    unsigned n_bad = 0, sum = 0;
    for (uint32_t u = 0; u < p->n_units; u++) {
        const struct plan_unit *x = &p->units[u];
        sum += x->rung;
        n_bad += (x->high != NULL) != (x->rung <= RUNG_HIGH);
        n_bad += (x->low != NULL) != (x->rung == RUNG_FULL);
        n_bad += (x->forms != NULL) != (x->rung == RUNG_SWSC);
        if (x->high) n_bad += read_mark(x->high) == 0 || x->high->unit != u;
        if (x->low) n_bad += read_mark(x->low) == 0 || x->low->unit != u;
        for (int i = 0; i < MODEL_MAT_COUNT; i++) {
            const struct kern_planes *k = &x->mats[i];
            n_bad += !x->high && k->n_out > 0;
            if (k->n_out) n_bad += (k->low != NULL) != (x->low != NULL);
        }
        for (int i = 0; x->forms && i < MODEL_LAYER_MATS; i++) {
            const struct swsc_mat *w = &x->forms[i];
            n_bad += w->base != small_forms[i].base;
            if (w->base == SWSC_CHANNELS) n_bad += w->labels[w->n_out - 1] >= small_forms[i].k;
        }
    }
    return n_bad + (sum != p->position);
}

static void *inference(void *ud) {
    struct shared *sh = ud;
    uint64_t last = 0;
    while (!atomic_load_explicit(&sh->stop, memory_order_relaxed)) {
        bool changed;
        const struct plan *p = store_adopt(sh->s, &changed);
        unsigned n_bad = count_faults(p) + (p->epoch < last) + (changed != (p->epoch > last));
        last = p->epoch;
        atomic_fetch_add_explicit(&sh->n_bad, n_bad, memory_order_relaxed);
        atomic_fetch_add_explicit(&sh->n_adopted, changed, memory_order_relaxed);
    }
    return NULL;
}

/* One unit to any rung: what it needs first, then what it does not. */
static void move(struct store *s, struct mem *m, uint32_t unit, enum rung to, uint64_t mark) {
    struct err e = {0};
    enum rung from = store_next_rung(s, unit);
    if (to == RUNG_SWSC && from != RUNG_SWSC)
        REQUIRE_OK(store_add(s, small_swsc(m, unit, mark), &e), &e);
    if (to <= RUNG_HIGH && from > RUNG_HIGH)
        REQUIRE_OK(store_add(s, small_slab(m, PACK_HIGH, unit, mark), &e), &e);
    if (to == RUNG_FULL && from != RUNG_FULL)
        REQUIRE_OK(store_add(s, small_slab(m, PACK_LOW, unit, mark), &e), &e);
    if (to != RUNG_FULL) store_drop(s, unit, PACK_LOW);
    if (to > RUNG_HIGH) store_drop(s, unit, PACK_HIGH);
    if (to != RUNG_SWSC && unit < small.n_layers) store_drop(s, unit, PACK_SWSC);
    CHECK_EQ(store_next_rung(s, unit), to);
}

static void two_threads_never_tear_or_leak(void) {
    enum { N_PUBLISH = 4000 };
    uint64_t rng = t_seed(), mark = 1000;
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    struct shared sh = {.s = small_store(m)};
    struct slab *books = small_books(m);
    store_set_swsc(sh.s, small_forms, books);
    store_publish(sh.s, 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, inference, &sh) == 0);
    for (int i = 0; i < N_PUBLISH; i++) {
        uint32_t sum = 0;
        for (uint32_t u = 0; u < SMALL_UNITS; u++) {
            enum rung to = (enum rung)(t_rand(&rng) % RUNG_COUNT);
            bool can = to != RUNG_SWSC || u < small.n_layers;
            if (t_rand(&rng) % 2 == 0 && can) move(sh.s, m, u, to, mark++);
            sum += store_next_rung(sh.s, u);
        }
        store_publish(sh.s, sum);
        /* Wait for the adoption now and then; at other times race ahead of it. */
        while (i % 2 && store_adopted_epoch(sh.s) != store_published_epoch(sh.s)) sched_yield();
        if (t_rand(&rng) % 2) store_reap(sh.s);
        /* What is adopted may have given back bytes that are still owned. */
        uint64_t held = mem_bytes(m, MEM_SLAB) - books->bytes;
        CHECK(held <= store_bytes(sh.s));
        CHECK(held >= store_next_bytes(sh.s));
    }
    while (store_adopted_epoch(sh.s) != store_published_epoch(sh.s)) sched_yield();
    store_reap(sh.s);
    CHECK_EQU(store_bytes(sh.s), store_next_bytes(sh.s));
    CHECK_EQU(store_bytes(sh.s), mem_bytes(m, MEM_SLAB) - books->bytes);
    atomic_store_explicit(&sh.stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    CHECK_EQU(sh.n_bad, 0);
    CHECK(sh.n_adopted >= N_PUBLISH / 2);
    store_destroy(sh.s);
    slab_destroy(books);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    mem_destroy(m);
}

/* ---- the guard ---- */

static bool is_zero(const struct slab *s) {
    const uint8_t *p = s->data;
    for (uint64_t i = 0; i < s->bytes; i++)
        if (p[i]) return false;
    return true;
}

/* While the inference thread sleeps the guard publishes, adopts and returns the bytes; what the new
 * plan needs stays as it was. */
static void the_guard_sheds_for_a_thread_that_sleeps(void) {
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    struct store *s = small_store(m);
    struct ladder *l = small_ladder(store_next_bytes(s), 16);
    store_publish(s, 0);
    store_enter(s);
    const struct plan *p = store_adopt(s, NULL);
    struct slab *low = p->units[0].low, *high = p->units[0].high, *other = p->units[1].low;
    uint64_t before = mem_bytes(m, MEM_SLAB);

    CHECK(!store_borrow(s)); /* not lent */
    store_lend(s);
    REQUIRE(store_borrow(s));
    CHECK_EQU(store_shed(s, l, 1), low->bytes);
    store_hand_back(s);
    CHECK(!store_adopt_idle(s)); /* a step may be running */
    CHECK(!is_zero(low));
    store_leave(s);
    CHECK(store_adopt_idle(s));
    CHECK_EQU(store_adopted_epoch(s), 2);
    CHECK(is_zero(low));
    CHECK(!is_zero(high) && !is_zero(other));
    CHECK_EQU(mem_bytes(m, MEM_SLAB), before - low->bytes);
    CHECK_EQU(store_given_back(s), low->bytes);

    CHECK(store_recall(s));
    CHECK(!store_recall(s));
    CHECK_EQU(store_position(s), 1);
    CHECK_EQ(store_next_rung(s, 0), RUNG_HIGH);
    uint64_t freed = low->bytes;
    CHECK_EQU(store_reap(s), freed); /* only the addresses were left */
    store_enter(s);
    bool changed;
    p = store_adopt(s, &changed);
    CHECK(!changed && p->position == 1 && !p->units[0].low && p->units[1].low == other);
    store_leave(s);
    ladder_destroy(l);
    store_destroy(s);
    mem_destroy(m);
}

/* What is not retired stays: a plan to come may name it although the one adopted does not. */
static void only_what_is_retired_is_given_back(void) {
    struct mem *m;
    struct err e = {0};
    REQUIRE(mem_create(&m) == 0);
    struct store *s = small_store(m);
    struct slab *books = small_books(m), *swsc = small_swsc(m, 0, 5);
    store_set_swsc(s, small_forms, books);
    store_drop(s, 0, PACK_HIGH);
    REQUIRE_OK(store_add(s, swsc, &e), &e);
    store_publish(s, 2);
    store_enter(s);
    CHECK_EQ(store_adopt(s, NULL)->units[0].rung, RUNG_SWSC);
    /* Going up the planes join before the extent leaves. */
    REQUIRE_OK(store_add(s, small_slab(m, PACK_HIGH, 0, 9), &e), &e);
    store_publish(s, 1);
    CHECK(store_adopt(s, NULL)->units[0].swsc == NULL);
    CHECK(!is_zero(swsc));
    store_drop(s, 0, PACK_SWSC);
    store_publish(s, 1);
    store_adopt(s, NULL);
    CHECK(!is_zero(swsc)); /* the plan before did not name it: it goes when it is reaped */
    store_reap(s);
    store_leave(s);
    store_destroy(s);
    slab_destroy(books);
    mem_destroy(m);
}

struct trio {
    struct shared sh;
    struct ladder *l;
    _Atomic unsigned n_shed, n_idle; /* relaxed: read after the join */
};

/* No unit better than the position says, every slab whole. */
static unsigned count_guard_faults(const struct trio *t, const struct plan *p) {
    unsigned n_bad = 0;
    for (uint32_t u = 0; u < p->n_units; u++) {
        const struct plan_unit *x = &p->units[u];
        n_bad += x->rung < ladder_rung(t->l, p->position, u);
        if (x->high) n_bad += read_mark(x->high) == 0;
        if (x->low) n_bad += read_mark(x->low) == 0;
        if (x->swsc) n_bad += is_zero(x->swsc);
    }
    return n_bad;
}

static void *sleepy_inference(void *ud) {
    struct trio *t = ud;
    uint64_t last = 0;
    while (!atomic_load_explicit(&t->sh.stop, memory_order_relaxed)) {
        store_enter(t->sh.s);
        const struct plan *p = store_adopt(t->sh.s, NULL);
        unsigned n_bad = count_guard_faults(t, p) + (p->epoch < last);
        last = p->epoch;
        atomic_fetch_add_explicit(&t->sh.n_bad, n_bad, memory_order_relaxed);
        store_leave(t->sh.s);
        if (last % 3 == 0) sched_yield();
    }
    return NULL;
}

static void *guard(void *ud) {
    struct trio *t = ud;
    unsigned n = 0;
    while (!atomic_load_explicit(&t->sh.stop, memory_order_relaxed)) {
        store_halt(t->sh.s, n++ % 4 == 0);
        if (store_borrow(t->sh.s)) {
            uint32_t at = store_position(t->sh.s);
            if (at < ladder_n_steps(t->l)) {
                store_shed(t->sh.s, t->l, at + 1);
                atomic_fetch_add_explicit(&t->n_shed, 1, memory_order_relaxed);
            }
            store_hand_back(t->sh.s);
        }
        if (store_adopt_idle(t->sh.s))
            atomic_fetch_add_explicit(&t->n_idle, 1, memory_order_relaxed);
        sched_yield();
    }
    store_halt(t->sh.s, false);
    return NULL;
}

/* Back up to a position: what the units need is added first. */
static void raise(struct trio *t, struct mem *m, uint32_t position, uint64_t mark) {
    for (uint32_t u = 0; u < SMALL_UNITS; u++) {
        enum rung to = ladder_rung(t->l, position, u), from = store_next_rung(t->sh.s, u);
        if (to < from) move(t->sh.s, m, u, to, mark);
    }
    store_publish(t->sh.s, position);
}

static void three_threads_never_tear_or_leak(void) {
    enum { N_RAISES = 1500, MAX_RAISES = 1000000 }; /* until all three had their turns */
    uint64_t rng = t_seed();
    struct mem *m;
    REQUIRE(mem_create(&m) == 0);
    struct trio t = {.sh = {.s = small_store(m)}};
    struct slab *books = small_books(m);
    t.l = small_ladder(store_next_bytes(t.sh.s), 16);
    store_set_swsc(t.sh.s, small_forms, books);
    store_publish(t.sh.s, 0);
    pthread_t threads[2];
    REQUIRE(pthread_create(&threads[0], NULL, sleepy_inference, &t) == 0);
    REQUIRE(pthread_create(&threads[1], NULL, guard, &t) == 0);
    store_lend(t.sh.s);
    for (int i = 0; i < MAX_RAISES && (i < N_RAISES || t.n_shed < 10 || t.n_idle < 10); i++) {
        sched_yield();
        CHECK(store_recall(t.sh.s));
        uint32_t at = store_position(t.sh.s);
        if (at > 0) raise(&t, m, (uint32_t)(t_rand(&rng) % at), (uint64_t)i + 1);
        if (t_rand(&rng) % 2) store_reap(t.sh.s);
        CHECK(mem_bytes(m, MEM_SLAB) - books->bytes <= store_bytes(t.sh.s));
        store_lend(t.sh.s);
        if (t_rand(&rng) % 4 == 0) store_reap(t.sh.s);
    }
    atomic_store_explicit(&t.sh.stop, true, memory_order_relaxed);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) pthread_join(threads[i], NULL);
    CHECK_EQU(t.sh.n_bad, 0);
    CHECK(t.n_shed >= 10 && t.n_idle >= 10);
    store_adopt(t.sh.s, NULL);
    store_reap(t.sh.s);
    CHECK_EQU(store_bytes(t.sh.s), store_next_bytes(t.sh.s));
    CHECK_EQU(store_bytes(t.sh.s), mem_bytes(m, MEM_SLAB) - books->bytes);
    store_destroy(t.sh.s);
    slab_destroy(books);
    ladder_destroy(t.l);
    mem_destroy(m);
}

/* A pack of the tiny model with random codes. */
static const char *write_pack(void) {
    static char path[400];
    char src[400];
    struct err e = {0};
    struct tiny_opts o = tiny_defaults();
    struct gguf *g;
    struct model_hparams h;
    struct pack_writer *w;
    snprintf(src, sizeof(src), "%s/tiny.gguf", t_tmpdir());
    snprintf(path, sizeof(path), "%s/tiny.ebb", t_tmpdir());
    REQUIRE(tiny_write(&o, src) == 0);
    REQUIRE_OK(gguf_open(src, &g, &e), &e);
    REQUIRE_OK(model_read_hparams(g, true, &h, &e), &e);
    REQUIRE_OK(pack_writer_create(path, g, &h, &w, &e), &e);
    uint64_t rng = t_seed();
    static const enum pack_part parts[] = {PACK_CORE, PACK_HIGH, PACK_LOW};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint32_t n = parts[i] == PACK_CORE ? 1 : model_n_units(&h);
        for (uint32_t u = 0; u < n; u++) {
            uint64_t bytes = parts[i] == PACK_CORE ? pack_core_bytes(&h)
                                                   : pack_extent_bytes(&h, parts[i], u);
            uint8_t *data = calloc(1, bytes);
            REQUIRE(data);
            for (uint64_t b = 0; b < bytes && i > 0; b++) data[b] = (uint8_t)t_rand(&rng);
            if (i > 0) pack_unit_dir(&h, u, parts[i], data);
            REQUIRE_OK(pack_writer_extent(w, parts[i], u, data, bytes, &e), &e);
            free(data);
        }
    }
    struct ladder_step steps[1] = {{.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH}};
    steps[0].bytes = pack_extent_bytes(&h, PACK_LOW, 0);
    struct pack_ladder_in ladder = {"lsaq", steps, 1};
    char sha[65];
    memset(sha, 'a', 64);
    sha[64] = '\0';
    struct pack_meta meta = {.source_sha256 = sha,
                             .source_name = "tiny.gguf",
                             .calibration = "none",
                             .ladders = &ladder,
                             .n_ladders = 1};
    REQUIRE_OK(pack_writer_finish(w, &meta, &e), &e);
    pack_writer_destroy(w);
    gguf_close(g);
    return path;
}

static void slabs_load_from_a_pack(void) {
    struct mem *m;
    struct pack *p;
    struct store *s;
    struct err e = {0};
    const char *path = write_pack();
    REQUIRE(mem_create(&m) == 0);
    REQUIRE_OK(pack_open(path, &p, &e), &e);
    const struct model_hparams *h = pack_hparams(p);
    REQUIRE_OK(store_create(h, &s, &e), &e);
    uint64_t sum = 0;
    for (size_t i = 0; i < pack_n_extents(p); i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        if (x->part != PACK_HIGH && x->part != PACK_LOW) continue;
        struct slab *slab = NULL;
        /* No memory at the first attempt, an intact store and another try after it. */
        mem_fail_at(m, 1, i % 2);
        CHECK_EQ(slab_load(m, p, x, &slab, &e), -ENOMEM);
        CHECK(slab == NULL);
        CHECK(strstr(e.msg, x->name));
        CHECK_EQU(mem_bytes(m, MEM_SLAB), sum);
        mem_fail_at(m, 0, false);
        REQUIRE_OK(slab_load(m, p, x, &slab, &e), &e);
        CHECK_EQU(slab->bytes, x->bytes);
        sum += slab->bytes;
        REQUIRE_OK(store_add(s, slab, &e), &e);
    }
    CHECK_EQU(store_bytes(s), sum);
    store_publish(s, 0);
    CHECK_EQU(store_adopt(s, NULL)->n_units, h->n_layers + 1);
    store_destroy(s);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);

    /* A byte flipped under the open pack is found when the extent is read. */
    const struct pack_extent *x = pack_find(p, PACK_LOW, 1);
    int fd = open(path, O_RDWR);
    uint8_t byte;
    off_t at = (off_t)(x->offset + x->bytes / 2);
    REQUIRE(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x10;
    REQUIRE(pwrite(fd, &byte, 1, at) == 1);
    struct slab *slab = NULL;
    CHECK_EQ(slab_load(m, p, x, &slab, &e), -EBADMSG);
    CHECK(strstr(e.msg, "unit.001.low"));
    CHECK(slab == NULL);
    REQUIRE(ftruncate(fd, at) == 0);
    CHECK_EQ(slab_load(m, p, x, &slab, &e), -EBADMSG);
    close(fd);
    CHECK_EQU(mem_bytes(m, MEM_SLAB), 0);
    pack_close(p);
    mem_destroy(m);
}

static const struct t_case cases[] = {
    {"adding_is_checked", adding_is_checked},
    {"plans_bind_both_planes", plans_bind_both_planes},
    {"a_slab_lives_until_no_plan_names_it", a_slab_lives_until_no_plan_names_it},
    {"the_best_form_resident_is_planned", the_best_form_resident_is_planned},
    {"publishing_needs_no_reader_and_no_memory", publishing_needs_no_reader_and_no_memory},
    {"two_threads_never_tear_or_leak", two_threads_never_tear_or_leak},
    {"the_guard_sheds_for_a_thread_that_sleeps", the_guard_sheds_for_a_thread_that_sleeps},
    {"only_what_is_retired_is_given_back", only_what_is_retired_is_given_back},
    {"three_threads_never_tear_or_leak", three_threads_never_tear_or_leak},
    {"slabs_load_from_a_pack", slabs_load_from_a_pack},
};

int main(int argc, char **argv) {
    small_init();
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
