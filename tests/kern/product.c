/* What the tests of all matrix products share: the activations, the comparison of a product with
 * the reference's, and a child process for what must end a program. */
#include "tests/kern/kern.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void batch_make(struct guarded_batch *a, uint32_t n_in, uint32_t n_tok, enum fill f, enum edge edge,
                uint64_t *rng) {
    size_t n_groups = n_in / PLANE_GROUP, n = n_tok * n_groups;
    a->x = (struct kern_acts){
        .q = guarded_get(&a->q, (size_t)n_tok * n_in, 1, edge),
        .scale = guarded_get(&a->scale, n * 4, 4, edge),
        .qsum = guarded_get(&a->qsum, n * 4, 4, edge),
        .psum = guarded_get(&a->psum, n * 4, 4, edge),
    };
    fill_bytes((uint8_t *)a->x.q, (size_t)n_tok * n_in, f, -PLANE_ACT_MAX, PLANE_ACT_MAX, rng);
    for (size_t i = 0; i < n; i++) {
        a->x.scale[i] = f == FILL_TINY ? 0x1p-140f : fabsf(rand_float(rng, 3));
        a->x.qsum[i] = 0;
        for (uint32_t k = 0; k < PLANE_GROUP; k++) a->x.qsum[i] += a->x.q[i * PLANE_GROUP + k];
        a->x.psum[i] = a->x.scale[i] * (float)a->x.qsum[i];
    }
}

void batch_free(struct guarded_batch *a) {
    guarded_free(&a->q);
    guarded_free(&a->scale);
    guarded_free(&a->qsum);
    guarded_free(&a->psum);
}

void output_free(struct output *o) {
    guarded_free(&o->y);
    guarded_free(&o->expected);
}

static bool check_range(struct output *o, product_fn *fn, const void *ud, const struct shape *s,
                        const float *want, const char *what) {
    size_t ld_want = (size_t)planes_row_tiles(s->n_out) * PLANE_ROWS;
    size_t ldy = ld_want + 3; /* odd, so that rows of y are not aligned */
    size_t n = (s->n_tok - 1) * ldy + (size_t)s->rt1 * PLANE_ROWS;
    float *y = guarded_get(&o->y, n * sizeof(float), sizeof(float), s->edge);
    float *expected = guarded_get(&o->expected, n * sizeof(float), sizeof(float), s->edge);
    for (uint32_t t = 0; t < s->n_tok; t++)
        for (size_t r = (size_t)s->rt0 * PLANE_ROWS; r < (size_t)s->rt1 * PLANE_ROWS; r++)
            expected[t * ldy + r] = want[t * ld_want + r];

    fn(ud, s->n_tok, y, ldy, s->rt0, s->rt1);
    bool ok = memcmp(y, expected, n * sizeof(float)) == 0 && guarded_intact(&o->y);
    if (ok || !what) return ok;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&y[i], &expected[i], sizeof(float)) == 0) continue;
        t_fail(__FILE__, __LINE__, "%s: token %zu row %zu is %a, not %a", what, i / ldy, i % ldy,
               (double)y[i], (double)expected[i]);
        break;
    }
    t_fail(__FILE__, __LINE__,
           "%s: %" PRIu32 " x %" PRIu32 ", %" PRIu32 " tokens, row tiles %" PRIu32 "..%" PRIu32
           ", codes %s, activations %s%s",
           what, s->n_out, s->n_in, s->n_tok, s->rt0, s->rt1, fill_name(s->codes),
           fill_name(s->acts), guarded_intact(&o->y) ? "" : ", written beyond y");
    return false;
}

bool product_check(struct output *o, product_fn *fn, const void *ud, struct shape s,
                   const float *want, const char *what, uint64_t *rng) {
    uint32_t n_rt = planes_row_tiles(s.n_out);
    s.rt0 = 0;
    s.rt1 = n_rt;
    if (!check_range(o, fn, ud, &s, want, what)) return false;
    s.rt0 = rand_below(rng, n_rt + 1);
    s.rt1 = s.rt0 + rand_below(rng, n_rt + 1 - s.rt0);
    if (s.rt1 == 0) return true; /* y would be empty */
    return check_range(o, fn, ud, &s, want, what);
}

float *product_all(product_fn *fn, const void *ud, uint32_t n_out, uint32_t n_tok) {
    size_t ld = (size_t)planes_row_tiles(n_out) * PLANE_ROWS;
    float *y = malloc(n_tok * ld * sizeof(float));
    if (!y) abort();
    fn(ud, n_tok, y, ld, 0, planes_row_tiles(n_out));
    return y;
}

bool child_survives(void (*fn)(void)) {
    enum { SURVIVED = 42 };
    fflush(stdout);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        close(STDERR_FILENO); /* where an emulator reports the signal */
        fn();
        _exit(SURVIVED);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED;
}
