#include "core/make/calib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/moments.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"

/* Windows whose inputs are kept until they are added to the moments: 53 MB for a layer of 576 and
 * 1536 inputs, and long enough sums for the products to run at full speed. */
enum { BATCH = 8 };

struct calib {
    struct mem *mem;                    /* borrowed */
    struct source *source;              /* borrowed */
    uint32_t n_windows, n_rows, n_done; /* n_done: layers */
    float *x;    /* owned: [n_windows][n_rows][n_embd], the residual stream */
    float *last; /* owned: [n_layers + 1][n_windows][n_embd] */
    float *seen; /* owned: for each input [BATCH][seen_rows][width], of the batch in work */
    struct moments *moments[SOURCE_INPUT_COUNT]; /* owned: of the layer in work; NULL if diagonal */
    const float *mean[SOURCE_INPUT_COUNT];       /* borrowed from those: of the layer done */
    double *sums;                                /* owned: [width], of x^2 so far */
    float *energy;                               /* owned: [width], E[x^2] of the layer done */
    size_t width;                                /* of all inputs together */
    size_t at[SOURCE_INPUT_COUNT];               /* widths of the inputs before */
    size_t seen_rows;                            /* n_rows; or 1, the sums of x^2 of a window */
    size_t x_bytes, last_bytes, seen_bytes;
    bool is_diagonal;
};

static void save_last(struct calib *c, uint32_t boundary) {
    size_t d = source_hparams(c->source)->n_embd;
    float *dst = c->last + (size_t)boundary * c->n_windows * d;
    for (size_t w = 0; w < c->n_windows; w++)
        memcpy(dst + w * d, c->x + ((w + 1) * c->n_rows - 1) * d, d * sizeof(float));
}

static float *seen_at(const struct calib *c, enum source_input in, size_t window) {
    size_t width = source_input_width(source_hparams(c->source), in);
    return c->seen + (c->at[in] * BATCH + window * width) * c->seen_rows;
}

/* The squares of a window, added row by row. */
static void square(const float *x, size_t n_rows, size_t width, float *ret) {
    memset(ret, 0, width * sizeof(*ret));
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < width; k++) ret[k] += x[i * width + k] * x[i * width + k];
}

/* Thread: pool; each window of a batch has its own place. */
static void see(void *ud, uint32_t window, enum source_input in, const float *x, uint32_t n_rows,
                uint32_t width) {
    const struct calib *c = ud;
    if (c->is_diagonal)
        square(x, n_rows, width, seen_at(c, in, window));
    else
        memcpy(seen_at(c, in, window), x, (size_t)n_rows * width * sizeof(*x));
}

/* What n windows of a batch showed of an input. */
static void add_seen(struct calib *c, enum source_input in, size_t n) {
    if (!c->is_diagonal) {
        moments_add(c->moments[in], source_pool(c->source), seen_at(c, in, 0), n * c->n_rows);
        return;
    }
    size_t width = source_input_width(source_hparams(c->source), in);
    for (size_t w = 0; w < n; w++)
        for (size_t k = 0; k < width; k++) c->sums[c->at[in] + k] += (double)seen_at(c, in, w)[k];
}

static void reset_seen(struct calib *c) {
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++)
        if (c->moments[i]) moments_reset(c->moments[i]);
    memset(c->sums, 0, c->width * sizeof(*c->sums));
}

static void finish_seen(struct calib *c, enum source_input in) {
    size_t width = source_input_width(source_hparams(c->source), in);
    double n_tokens = (double)c->n_windows * c->n_rows;
    if (!c->is_diagonal) c->mean[in] = moments_mean(c->moments[in]);
    for (size_t k = 0; k < width; k++)
        c->energy[c->at[in] + k] = c->is_diagonal ? (float)(c->sums[c->at[in] + k] / n_tokens)
                                                  : c->mean[in][k * width + k];
}

int calib_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                 uint32_t n_rows, bool is_diagonal, struct calib **ret, struct err *e) {
    ASSERT(n_windows >= 1 && n_rows >= 1 && n_rows <= SOURCE_WINDOW);
    const struct model_hparams *h = source_hparams(s);
    struct calib *c = calloc(1, sizeof(*c));
    if (!c) return err_set(e, -ENOMEM, "no memory for the calibration");
    c->mem = m;
    c->source = s;
    c->n_windows = n_windows;
    c->n_rows = n_rows;
    c->is_diagonal = is_diagonal;
    c->seen_rows = is_diagonal ? 1 : n_rows;
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) {
        c->at[i] = c->width;
        c->width += source_input_width(h, (enum source_input)i);
    }
    size_t row_bytes = h->n_embd * sizeof(float), n_tokens;
    bool ok = size_mul(n_windows, n_rows, &n_tokens) &&
              size_mul(n_tokens, row_bytes, &c->x_bytes) &&
              size_mul((size_t)n_windows * (h->n_layers + 1u), row_bytes, &c->last_bytes) &&
              size_mul(c->width * BATCH * sizeof(float), c->seen_rows, &c->seen_bytes);
    c->sums = calloc(c->width, sizeof(*c->sums));
    c->energy = calloc(c->width, sizeof(*c->energy));
    if (ok) {
        c->x = mem_alloc(m, MEM_PACKER, c->x_bytes);
        c->last = mem_alloc(m, MEM_PACKER, c->last_bytes);
        c->seen = mem_alloc(m, MEM_PACKER, c->seen_bytes);
    }
    int r = 0;
    if (!c->x || !c->last || !c->seen || !c->sums || !c->energy)
        r = err_set(e, -ENOMEM, "no memory for the hidden states of %u windows: use fewer",
                    n_windows);
    for (unsigned i = 0; r == 0 && !is_diagonal && i < SOURCE_INPUT_COUNT; i++)
        r = moments_create(m, source_input_width(h, (enum source_input)i), &c->moments[i], e);
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
    mem_free(c->mem, MEM_PACKER, c->seen, c->seen_bytes);
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) moments_destroy(c->moments[i]);
    free(c->sums);
    free(c->energy);
    free(c);
}

int calib_next_layer(struct calib *c, const struct source_layer **ret, struct err *e) {
    ASSERT(c->n_done < source_hparams(c->source)->n_layers);
    const struct source_layer *w;
    int r = source_load_layer(c->source, c->n_done, &w, e);
    if (r < 0) return r;
    size_t window_floats = (size_t)c->n_rows * source_hparams(c->source)->n_embd;
    reset_seen(c);
    for (uint32_t at = 0; at < c->n_windows; at += BATCH) {
        uint32_t n = MIN(c->n_windows - at, (uint32_t)BATCH);
        source_block(c->source, c->n_done, w, c->x + at * window_floats, n, c->n_rows, see, c);
        for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) add_seen(c, (enum source_input)i, n);
    }
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) finish_seen(c, (enum source_input)i);
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
}

void calib_finish(struct calib *c) {
    ASSERT(c->n_done == source_hparams(c->source)->n_layers);
    enum source_input in = SOURCE_ATTN_IN; /* as wide as the head's input */
    size_t d = source_hparams(c->source)->n_embd, window_floats = c->n_rows * d;
    pool_run(source_pool(c->source), finish_window, c, c->n_windows);
    reset_seen(c);
    for (uint32_t at = 0; at < c->n_windows; at += BATCH) {
        uint32_t n = MIN(c->n_windows - at, (uint32_t)BATCH);
        for (uint32_t w = 0; w < n; w++)
            see(c, w, in, c->x + (at + w) * window_floats, c->n_rows, (uint32_t)d);
        add_seen(c, in, n);
    }
    finish_seen(c, in);
}

const float *calib_moments(const struct calib *c, enum source_input in) {
    return c->mean[in];
}

const float *calib_energy(const struct calib *c, enum source_input in) {
    return c->energy + c->at[in];
}

const float *calib_head_moments(const struct calib *c) {
    return c->mean[SOURCE_ATTN_IN];
}

const float *calib_head_energy(const struct calib *c) {
    return c->energy + c->at[SOURCE_ATTN_IN];
}

const float *calib_last_hidden(const struct calib *c, uint32_t boundary) {
    return c->last + (size_t)boundary * c->n_windows * source_hparams(c->source)->n_embd;
}

uint32_t calib_n_windows(const struct calib *c) {
    return c->n_windows;
}

void calib_parts(struct calib *c, uint32_t n_done, struct calib_part ret[CALIB_PARTS]) {
    ASSERT(n_done <= source_hparams(c->source)->n_layers);
    size_t boundary_bytes = c->n_windows * (size_t)source_hparams(c->source)->n_embd *
                            sizeof(float);
    ret[0] = (struct calib_part){c->x, c->x_bytes};
    ret[1] = (struct calib_part){c->last, (n_done + 1u) * boundary_bytes};
}

void calib_go_on(struct calib *c, uint32_t n_done) {
    ASSERT(n_done <= source_hparams(c->source)->n_layers);
    c->n_done = n_done;
}
