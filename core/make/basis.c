#include "core/make/basis.h"

#include <errno.h>
#include <string.h>

#include "core/err.h"
#include "core/make/lowrank.h"
#include "core/make/tools.h"
#include "core/mem.h"

/* What the layers have in common. */
struct stack {
    float *w;       /* [n * n_out][n_in] */
    float *moments; /* [n_in][n_in], the mean; inputs that nothing is known of count as alike */
    float *b;       /* [rank][n_in] */
    size_t w_bytes, moments_bytes, b_bytes;
};

static void stack_fini(struct tools *t, struct stack *s) {
    mem_free(t->mem, MEM_PACKER, s->w, s->w_bytes);
    mem_free(t->mem, MEM_PACKER, s->moments, s->moments_bytes);
    mem_free(t->mem, MEM_PACKER, s->b, s->b_bytes);
}

static int stack_init(struct tools *t, struct stack *s, const struct basis_layer *layers,
                      uint32_t n, uint32_t n_out, uint32_t n_in, uint32_t rank, struct err *e) {
    size_t each = (size_t)n_out * n_in, square = (size_t)n_in * n_in;
    s->w_bytes = n * each * sizeof(float);
    s->moments_bytes = square * sizeof(float);
    s->b_bytes = (size_t)rank * n_in * sizeof(float);
    s->w = mem_alloc(t->mem, MEM_PACKER, s->w_bytes);
    s->moments = mem_alloc(t->mem, MEM_PACKER, s->moments_bytes);
    s->b = mem_alloc(t->mem, MEM_PACKER, s->b_bytes);
    if (!s->w || !s->moments || !s->b) {
        stack_fini(t, s);
        return err_set(e, -ENOMEM, "no memory for the matrices of %u layers", n);
    }
    for (uint32_t l = 0; l < n; l++) {
        memcpy(s->w + l * each, layers[l].w, each * sizeof(float));
        for (size_t i = 0; layers[l].moments && i < square; i++)
            s->moments[i] += layers[l].moments[i] / (float)n;
    }
    return 0;
}

int basis_shared(struct tools *t, const struct basis_layer *layers, uint32_t n, uint32_t n_out,
                 uint32_t n_in, uint32_t rank, uint8_t bits, struct factor *ret, struct err *e) {
    ASSERT(n >= 1 && n <= BASIS_LAYERS);
    struct stack s = {0};
    int r = stack_init(t, &s, layers, n, n_out, n_in, rank, e);
    if (r < 0) return r;
    struct factor_inputs in = {.moments = s.moments};
    r = lowrank_basis(t, s.w, n * n_out, n_in, s.moments, rank, s.b, e);
    if (r == 0) r = factor_quantise(t, s.b, rank, n_in, bits, &in, ret, e);
    stack_fini(t, &s);
    return r;
}

int basis_fit(struct tools *t, const struct basis_layer *layers, uint32_t n, uint32_t n_out,
              uint32_t n_in, uint32_t rank, uint8_t bits, struct basis *ret, struct err *e) {
    struct basis x = {0};
    int r = basis_shared(t, layers, n, n_out, n_in, rank, bits, &x.b, e);
    for (uint32_t l = 0; r == 0 && l < n; l++)
        r = lowrank_coefficients(t, layers[l].w, n_out, layers[l].moments, &x.b, n == 1, &x.a[l],
                                 e);
    if (r < 0) {
        basis_fini(&x);
        return r;
    }
    *ret = x;
    return 0;
}

void basis_fini(struct basis *b) {
    factor_fini(&b->b);
    for (uint32_t i = 0; i < BASIS_LAYERS; i++) factor_fini(&b->a[i]);
}

int basis_read(struct tools *t, const struct basis *b, uint32_t i, float *ret, struct err *e) {
    struct lowrank l = {b->a[i], b->b}; /* borrowed, not to be ended */
    return lowrank_read(t, &l, ret, e);
}
