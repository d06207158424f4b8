/* Ways to hold a kind of matrix in about three bits a weight, measured against each other.
 *
 * One function for all: matrices of one kind (of a few layers) with the moments of their inputs and
 * a target of average bits in, out come the form that the way takes to meet the target, its bits,
 * and the output error E|(W - Q) x|^2 / E|W x|^2 that it leaves. Compared are
 *
 * - groups: of 2 and 3 bits, clip search and error feedback (groups.h); to be compared with only,
 *   the runtime has no kernel for them
 *
 * - svd: the whitened truncated SVD alone (lowrank.h), factors of 4 or 8 bits
 *
 * - basis: Basis Sharing between two adjacent layers (basis.h), likewise
 *
 * - channels: whole channels, SWSC as published (channels.h), alone or, half of the bits each, with
 *   a pair
 *
 * - segments: of 4 or 8 inputs (segfit.h), books of 256 to 4096 entries of the matrix's own or one
 *   for the kind, alone or with a pair that takes up what bits are left
 *
 * A way that is too coarse or too fine for the target takes what comes nearest below it, or its
 * smallest form, which then is beyond the target; if that is far beyond it is not measured.
 *
 * All are measured on the same rows and by the same moments; activations count as exact. The book
 * of a kind is made from other rows than those, so that few layers here tell of many later. */
#ifndef EBB_CORE_MAKE_RIVAL_H
#define EBB_CORE_MAKE_RIVAL_H

#include "core/defs.h"
#include "core/make/codebook.h"
#include "core/swsc.h"

struct err;
struct feedback;
struct segfit;
struct tools;

enum {
    RIVAL_COUNT = 22,
    RIVAL_NAME = 48, /* bytes of a name, with its end */
    RIVAL_MATS = 4,  /* of a task, at most */
    RIVAL_BOOKS = 6, /* segments of 4 and 8, indices of 8, 10 and 12 bits */
};

struct rival_mat {
    const float *w;       /* [n_out][n_in] */
    const float *moments; /* [n_in][n_in] symmetric, of its inputs; or NULL: all alike */
};

/* What several rivals have in common, kept from one rival_run() to the next of the same task: books
 * of the kind and, unless they are large, what follows from the moments. All zero to begin with. */
struct rival_kept {
    bool is_finite;                     /* weights and moments, all of them: found once */
    struct codebook books[RIVAL_BOOKS]; /* owned, as is the rest */
    struct segfit *fits[RIVAL_MATS][2]; /* for segments of 4 and of 8 */
    struct feedback *feedbacks[RIVAL_MATS];
};
void rival_kept_fini(struct rival_kept *k);

struct rival_task { /* all borrowed */
    uint32_t n_out, n_in;
    uint32_t n_layers; /* of the model: what a kind shares counts by its share */
    /* Of layers 2i and 2i + 1 in turn; an odd number only if the last one has no fellow. */
    const struct rival_mat *mats;
    uint32_t n_mats;   /* 1 .. RIVAL_MATS */
    double target;     /* average bits a weight */
    uint32_t max_rows; /* of each matrix that are measured, at most; 0: half of all */
    struct rival_kept *kept;
};

struct rival_result {
    char name[RIVAL_NAME];
    bool is_form;          /* `form` is one that the runtime multiplies */
    struct swsc_form form; /* all 0 if not */
    double bits;           /* as stored, paddings and all */
    double error;          /* mean over the matrices; NaN: not measured */
};

/* "segments-4-4096-shared", "svd-8", ...; rival < RIVAL_COUNT. */
void rival_name(unsigned rival, char name[RIVAL_NAME]);
unsigned rival_find(const char *name); /* RIVAL_COUNT: there is none */
/* The form that a rival takes to meet the target; of the task only sizes and target count. False if
 * the runtime does not multiply it. */
bool rival_form(const struct rival_task *task, unsigned rival, struct swsc_form *ret);
/* Measures one. 0, -EDOM (not finite), -ENOTSUP (beyond what planes hold) or
 * -ENOMEM. The same for any thread count. */
int rival_run(struct tools *t, const struct rival_task *task, unsigned rival,
              struct rival_result *ret, struct err *e) MUST_CHECK;

#endif
