#include "core/make/rival.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"
#include "core/make/basis.h"
#include "core/make/channels.h"
#include "core/make/feedback.h"
#include "core/make/groups.h"
#include "core/make/lowrank.h"
#include "core/make/output.h"
#include "core/make/rival_internal.h"
#include "core/make/tools.h"
#include "core/mem.h"

enum {
    LLOYD_ROUNDS = 5, /* 25 in a build */
    K_STEP = 8,
};
/* Bits beyond the target from which on a way is not worth measuring. */
#define FAR_BEYOND 0.1
/* Moments up to this size (2048 inputs) are worth keeping in a few forms. */
#define KEEP_BYTES ((size_t)16 << 20)

enum way { GROUPS, SVD, BASIS, CHANNELS, SEGMENTS };

struct rival {
    enum way way;
    uint8_t len;  /* segments */
    uint8_t bits; /* of a group's codes, of factors, of an index */
    bool is_shared, has_pair;
};

static const struct rival rivals[RIVAL_COUNT] = {
    {GROUPS, 0, 2, false, false},   {GROUPS, 0, 3, false, false},
    {SVD, 0, 4, false, true},       {SVD, 0, 8, false, true},
    {BASIS, 0, 4, true, true},      {BASIS, 0, 8, true, true},
    {CHANNELS, 0, 4, false, false}, {CHANNELS, 0, 4, false, true},
    {CHANNELS, 0, 8, false, true},  {SEGMENTS, 4, 8, false, false},
    {SEGMENTS, 4, 8, false, true},  {SEGMENTS, 4, 10, false, false},
    {SEGMENTS, 4, 10, false, true}, {SEGMENTS, 4, 12, false, false},
    {SEGMENTS, 4, 8, true, false},  {SEGMENTS, 4, 8, true, true},
    {SEGMENTS, 4, 10, true, false}, {SEGMENTS, 4, 10, true, true},
    {SEGMENTS, 4, 12, true, false}, {SEGMENTS, 8, 10, true, true},
    {SEGMENTS, 8, 12, true, false}, {SEGMENTS, 8, 12, true, true},
};

void rival_name(unsigned rival, char name[RIVAL_NAME]) {
    ASSERT(rival < RIVAL_COUNT);
    const struct rival *v = &rivals[rival];
    const char *pair = v->has_pair ? "+pair" : "";
    switch (v->way) {
    case GROUPS: snprintf(name, RIVAL_NAME, "groups-%u", v->bits); return;
    case SVD: snprintf(name, RIVAL_NAME, "svd-%u", v->bits); return;
    case BASIS: snprintf(name, RIVAL_NAME, "basis-%u", v->bits); return;
    case CHANNELS: snprintf(name, RIVAL_NAME, "channels-%u%s", v->bits, pair); return;
    case SEGMENTS:
        snprintf(name, RIVAL_NAME, "segments-%u-%u%s%s", v->len, 1u << v->bits,
                 v->is_shared ? "-shared" : "", pair);
        return;
    }
}

/* ---- forms for a target ------------------------------------------------------------------------
 */

static double bits_of(const struct rival_task *k, const struct swsc_form *f) {
    return swsc_form_bits(f, k->n_out, k->n_in, k->n_layers);
}

/* The largest rank that keeps a form within the target; the smallest one if none does. */
static void set_rank(const struct rival_task *k, struct swsc_form *f) {
    uint32_t smaller = MIN(k->n_out, k->n_in),
             most = (smaller + SWSC_RANK_STEP - 1) / SWSC_RANK_STEP * SWSC_RANK_STEP;
    f->rank = SWSC_RANK_STEP;
    while (f->rank < most) {
        f->rank += SWSC_RANK_STEP;
        if (bits_of(k, f) > k->target) {
            f->rank -= SWSC_RANK_STEP;
            return;
        }
    }
}

/* The most centroids within some bits; at least one. */
static void set_channels(const struct rival_task *k, double target, struct swsc_form *f) {
    uint32_t most = MIN(k->n_out, (uint32_t)SWSC_MAX_CHANNELS), lo = 0, hi = most / K_STEP;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        f->k = mid * K_STEP;
        if (bits_of(k, f) <= target)
            lo = mid;
        else
            hi = mid - 1;
    }
    f->k = lo > 0 ? lo * K_STEP : 1;
}

static void set_form(const struct rival_task *k, const struct rival *v, struct rival_result *ret) {
    struct swsc_form f = {0};
    ret->is_form = v->way != GROUPS;
    switch (v->way) {
    case GROUPS: ret->bits = groups_bits(k->n_in, v->bits); return;
    case SVD:
    case BASIS:
        f.factor_bits = v->bits;
        f.is_basis_shared = v->is_shared;
        set_rank(k, &f);
        break;
    case CHANNELS:
        f.base = SWSC_CHANNELS;
        f.factor_bits = v->bits;
        set_channels(k, v->has_pair ? k->target / 2 : k->target, &f);
        if (v->has_pair) {
            set_rank(k, &f);
            set_channels(k, k->target, &f); /* what a rank's step leaves */
        }
        break;
    case SEGMENTS:
        f.base = SWSC_SEGMENTS;
        f.len = v->len;
        f.bits = v->bits;
        f.k = 1u << v->bits;
        f.is_shared = v->is_shared;
        if (v->has_pair) {
            f.factor_bits = 4;
            set_rank(k, &f);
        }
        break;
    }
    ret->form = f;
    ret->bits = bits_of(k, &f);
}

unsigned rival_find(const char *name) {
    for (unsigned i = 0; i < RIVAL_COUNT; i++) {
        char it[RIVAL_NAME];
        rival_name(i, it);
        if (strcmp(it, name) == 0) return i;
    }
    return RIVAL_COUNT;
}

bool rival_form(const struct rival_task *task, unsigned rival, struct swsc_form *ret) {
    struct rival_result r = {.is_form = false};
    ASSERT(rival < RIVAL_COUNT);
    set_form(task, &rivals[rival], &r);
    *ret = r.form;
    return r.is_form;
}

/* ---- measuring ---------------------------------------------------------------------------------
 */

/* The rows measured are even ones, so that the odd ones can teach a kind's book. */
static uint32_t n_measured(const struct rival_task *k) {
    uint32_t even = (k->n_out + 1) / 2;
    return k->max_rows > 0 ? MIN(even, k->max_rows) : even;
}

uint32_t rival_row(const struct rival_work *k, uint32_t i) {
    uint64_t even = (k->task->n_out + 1) / 2;
    return (uint32_t)(i * even / k->n_some * 2);
}

static void gather(const struct rival_work *k, const float *from, float *to) {
    size_t n = k->task->n_in;
    for (uint32_t i = 0; i < k->n_some; i++)
        memcpy(to + i * n, from + rival_row(k, i) * n, n * sizeof(*to));
}

void rival_take(struct rival_work *k, uint32_t mat) {
    gather(k, k->task->mats[mat].w, k->some);
}

int rival_measure(struct rival_work *k, uint32_t mat, const float *q, struct err *e) {
    const struct rival_mat *m = &k->task->mats[mat];
    uint32_t n_in = k->task->n_in;
    double left, all;
    if (q) {
        rival_take(k, mat);
        gather(k, q, k->some_q);
    }
    int r = output_energy(k->t, k->some, k->some_q, k->n_some, n_in, m->moments, &left, e);
    if (r == 0) r = output_energy(k->t, k->some, NULL, k->n_some, n_in, m->moments, &all, e);
    /* What is never fed anything puts out nothing, and that rightly. */
    if (r == 0 && all > 0.0) k->error += left / all;
    return r;
}

struct factor_inputs rival_inputs(struct rival_work *k, uint32_t mat) {
    struct factor_inputs in = {.moments = k->task->mats[mat].moments};
    struct feedback **kept = &k->task->kept->feedbacks[mat];
    /* If it cannot be had, whoever needs it tries again and says why. */
    if (k->is_kept && in.moments && !*kept)
        ignore_result(feedback_create(k->t->mem, in.moments, k->task->n_in, kept, NULL));
    in.feedback = *kept;
    return in;
}

int rival_add_pair(struct rival_work *k, uint32_t mat, struct err *e) {
    struct lowrank_rest rest = {.w = k->task->mats[mat].w,
                                .q = k->q,
                                .n_out = k->task->n_out,
                                .n_in = k->task->n_in,
                                .in = rival_inputs(k, mat),
                                .rank = k->form.rank,
                                .bits = k->form.factor_bits};
    struct lowrank l = {0};
    int r = lowrank_add(k->t, &rest, &l, e);
    lowrank_fini(&l);
    return r == 0 ? rival_measure(k, mat, k->q, e) : r;
}

static int run_groups(struct rival_work *k, unsigned bits, struct err *e) {
    const struct rival_task *t = k->task;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < t->n_mats; i++) {
        struct factor_inputs in = rival_inputs(k, i);
        rival_take(k, i);
        r = groups_read(k->t, k->some, k->n_some, t->n_in, &in, bits, k->some_q, e);
        if (r == 0) r = rival_measure(k, i, NULL, e);
    }
    return r;
}

/* Without a base all of the matrix is left for the pair. */
static int run_svd(struct rival_work *k, struct err *e) {
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < k->task->n_mats; i++) {
        memset(k->q, 0, k->all_bytes);
        r = rival_add_pair(k, i, e);
    }
    return r;
}

static int run_basis(struct rival_work *k, struct err *e) {
    const struct rival_task *t = k->task;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < t->n_mats; i += BASIS_LAYERS) {
        uint32_t n = MIN(t->n_mats - i, (uint32_t)BASIS_LAYERS);
        struct basis_layer layers[BASIS_LAYERS] = {0};
        struct basis b = {0};
        for (uint32_t j = 0; j < n; j++)
            layers[j] = (struct basis_layer){t->mats[i + j].w, t->mats[i + j].moments};
        r = basis_fit(k->t, layers, n, t->n_out, t->n_in, k->form.rank, k->form.factor_bits, &b, e);
        for (uint32_t j = 0; r == 0 && j < n; j++) {
            r = basis_read(k->t, &b, j, k->q, e);
            if (r == 0) r = rival_measure(k, i + j, k->q, e);
        }
        basis_fini(&b);
    }
    return r;
}

static int run_channels(struct rival_work *k, struct err *e) {
    const struct rival_task *t = k->task;
    struct channels_opts o = {.k = k->form.k, .bits = k->form.factor_bits, .rounds = LLOYD_ROUNDS};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < t->n_mats; i++) {
        struct channels c = {0};
        struct factor_inputs in = rival_inputs(k, i);
        r = channels_fit(k->t, t->mats[i].w, t->n_out, t->n_in, &in, &o, &c, e);
        if (r == 0) r = channels_read(k->t, &c, k->q, e);
        channels_fini(&c);
        if (r == 0) r = k->form.rank > 0 ? rival_add_pair(k, i, e) : rival_measure(k, i, k->q, e);
    }
    return r;
}

static int work_init(struct rival_work *k, struct err *e) {
    struct mem *m = k->t->mem;
    bool is_by_rows = k->form.rank == 0 && k->form.base != SWSC_CHANNELS;
    size_t square = (size_t)k->task->n_in * k->task->n_in * sizeof(float);
    k->is_kept = square <= KEEP_BYTES;
    k->n_some = n_measured(k->task);
    k->some_bytes = (size_t)k->n_some * k->task->n_in * sizeof(float);
    k->all_bytes = is_by_rows ? 0 : (size_t)k->task->n_out * k->task->n_in * sizeof(float);
    k->some = mem_alloc(m, MEM_PACKER, k->some_bytes);
    k->some_q = mem_alloc(m, MEM_PACKER, k->some_bytes);
    k->q = mem_alloc(m, MEM_PACKER, k->all_bytes);
    if (!k->some || !k->some_q || (!is_by_rows && !k->q))
        return err_set(e, -ENOMEM, "no memory to compare forms of %u rows", k->task->n_out);
    return 0;
}

static void work_fini(struct rival_work *k) {
    struct mem *m = k->t->mem;
    mem_free(m, MEM_PACKER, k->some, k->some_bytes);
    mem_free(m, MEM_PACKER, k->some_q, k->some_bytes);
    mem_free(m, MEM_PACKER, k->q, k->all_bytes);
}

static int check_task(const struct rival_task *k, struct err *e) {
    for (uint32_t m = 0; !k->kept->is_finite && m < k->n_mats; m++) {
        const struct rival_mat *x = &k->mats[m];
        for (size_t i = 0; i < (size_t)k->n_out * k->n_in; i++)
            if (!isfinite(x->w[i])) return err_set(e, -EDOM, "a weight is not finite");
        for (size_t i = 0; x->moments && i < (size_t)k->n_in * k->n_in; i++)
            if (!isfinite(x->moments[i])) return err_set(e, -EDOM, "a moment is not finite");
    }
    k->kept->is_finite = true;
    return 0;
}

static int measure(struct rival_work *k, const struct rival *v, struct err *e) {
    switch (v->way) {
    case GROUPS: return run_groups(k, v->bits, e);
    case SVD: return run_svd(k, e);
    case BASIS: return run_basis(k, e);
    case CHANNELS: return run_channels(k, e);
    case SEGMENTS: return rival_segments(k, e);
    }
    ASSERT(false);
    return -EINVAL;
}

int rival_run(struct tools *t, const struct rival_task *task, unsigned rival,
              struct rival_result *ret, struct err *e) {
    ASSERT(rival < RIVAL_COUNT && task->n_mats > 0 && task->n_mats <= RIVAL_MATS);
    ASSERT(task->n_in % PLANE_GROUP == 0);
    const struct rival *v = &rivals[rival];
    *ret = (struct rival_result){.error = (double)NAN};
    rival_name(rival, ret->name);
    set_form(task, v, ret);
    struct rival_work k = {.t = t, .task = task, .form = ret->form};
    /* Groups are what all is compared with, whatever they take. */
    if (ret->bits > task->target + FAR_BEYOND && v->way != GROUPS) return 0;
    int r = check_task(task, e);
    if (r == 0) r = work_init(&k, e);
    if (r == 0) r = measure(&k, v, e);
    work_fini(&k);
    if (r < 0) {
        err_prefix(e, "%s", ret->name);
        return r;
    }
    ret->error = k.error / task->n_mats;
    return 0;
}
