#include "core/make/calib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

struct calib {
    struct mem *mem;                    /* borrowed */
    struct source *source;              /* borrowed */
    uint32_t n_windows, n_rows, n_done; /* n_done: layers */
    float *x;      /* owned: [n_windows][n_rows][n_embd], the residual stream */
    float *last;   /* owned: [n_layers + 1][n_windows][n_embd] */
    float *sums;   /* owned: [n_windows][width of all inputs], of the layer in work */
    float *moment; /* owned: [width of all inputs] */
    size_t width;  /* of all inputs together */
    size_t at[SOURCE_INPUT_COUNT];
    size_t x_bytes, last_bytes, sums_bytes;
};

static void save_last(struct calib *c, uint32_t boundary) {
    size_t d = source_hparams(c->source)->n_embd;
    float *dst = c->last + (size_t)boundary * c->n_windows * d;
    for (size_t w = 0; w < c->n_windows; w++)
        memcpy(dst + w * d, c->x + ((w + 1) * c->n_rows - 1) * d, d * sizeof(float));
}

/* sum[i] = sum over rows of x[row][i]^2 */
static void square_sums(const float *x, size_t n_rows, size_t width, float *sum) {
    memset(sum, 0, width * sizeof(float));
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < width; i++) sum[i] += x[r * width + i] * x[r * width + i];
}

static void see(void *ud, uint32_t window, enum source_input in, const float *x, uint32_t n_rows,
                uint32_t width) {
    struct calib *c = ud;
    square_sums(x, n_rows, width, c->sums + window * c->width + c->at[in]);
}

/* Means over all windows of n columns, the windows added in order. */
static void means(struct calib *c, size_t n) {
    double n_tokens = (double)c->n_windows * c->n_rows;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t w = 0; w < c->n_windows; w++) sum += (double)c->sums[w * c->width + i];
        c->moment[i] = (float)(sum / n_tokens);
    }
}

int calib_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                 uint32_t n_rows, struct calib **ret, struct err *e) {
    ASSERT(n_windows >= 1 && n_rows >= 1 && n_rows <= SOURCE_WINDOW);
    const struct model_hparams *h = source_hparams(s);
    struct calib *c = calloc(1, sizeof(*c));
    if (!c) return err_set(e, -ENOMEM, "no memory for the calibration");
    c->mem = m;
    c->source = s;
    c->n_windows = n_windows;
    c->n_rows = n_rows;
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) {
        c->at[i] = c->width;
        c->width += source_input_width(h, (enum source_input)i);
    }
    size_t row_bytes = h->n_embd * sizeof(float), n_tokens;
    bool ok = size_mul(n_windows, n_rows, &n_tokens) &&
              size_mul(n_tokens, row_bytes, &c->x_bytes) &&
              size_mul((size_t)n_windows * (h->n_layers + 1u), row_bytes, &c->last_bytes) &&
              size_mul(n_windows, c->width * sizeof(float), &c->sums_bytes);
    if (ok) {
        c->x = mem_alloc(m, MEM_PACKER, c->x_bytes);
        c->last = mem_alloc(m, MEM_PACKER, c->last_bytes);
        c->sums = mem_alloc(m, MEM_PACKER, c->sums_bytes);
        c->moment = malloc(c->width * sizeof(float));
    }
    int r = 0;
    if (!c->x || !c->last || !c->sums || !c->moment)
        r = err_set(e, -ENOMEM, "no memory for the hidden states of %u windows: use fewer",
                    n_windows);
    if (r == 0) r = source_embed(s, ids, n_tokens, c->x, e);
    if (r < 0) {
        calib_destroy(c);
        return r;
    }
    save_last(c, 0);
    *ret = c;
    return 0;
}

void calib_destroy(struct calib *c) {
    if (!c) return;
    mem_free(c->mem, MEM_PACKER, c->x, c->x_bytes);
    mem_free(c->mem, MEM_PACKER, c->last, c->last_bytes);
    mem_free(c->mem, MEM_PACKER, c->sums, c->sums_bytes);
    free(c->moment);
    free(c);
}

int calib_next_layer(struct calib *c, const struct source_layer **ret, struct err *e) {
    ASSERT(c->n_done < source_hparams(c->source)->n_layers);
    const struct source_layer *w;
    int r = source_load_layer(c->source, c->n_done, &w, e);
    if (r < 0) return r;
    source_block(c->source, c->n_done, w, c->x, c->n_windows, c->n_rows, see, c);
    means(c, c->width);
    save_last(c, ++c->n_done);
    *ret = w;
    return 0;
}

static void finish_window(void *ud, uint32_t window) {
    struct calib *c = ud;
    const struct model_hparams *h = source_hparams(c->source);
    float *x = c->x + (size_t)window * c->n_rows * h->n_embd;
    for (size_t i = 0; i < c->n_rows; i++)
        source_ops(c->source)->rmsnorm(x + i * h->n_embd, source_vectors(c->source)->output_norm,
                                       h->n_embd, h->norm_eps, x + i * h->n_embd);
    square_sums(x, c->n_rows, h->n_embd, c->sums + window * c->width);
}

void calib_finish(struct calib *c) {
    ASSERT(c->n_done == source_hparams(c->source)->n_layers);
    pool_run(source_pool(c->source), finish_window, c, c->n_windows);
    means(c, source_hparams(c->source)->n_embd);
}

const float *calib_moments(const struct calib *c, enum source_input in) {
    return c->moment + c->at[in];
}

const float *calib_head_moments(const struct calib *c) {
    return c->moment;
}

const float *calib_last_hidden(const struct calib *c, uint32_t boundary) {
    return c->last + (size_t)boundary * c->n_windows * source_hparams(c->source)->n_embd;
}

uint32_t calib_n_windows(const struct calib *c) {
    return c->n_windows;
}
