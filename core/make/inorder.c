#include "core/make/inorder.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/moments.h"
#include "core/make/segfit.h"
#include "core/mem.h"
#include "core/pool.h"

enum {
    BATCH = 8,      /* windows whose inputs are kept until they are added */
    TILE = 128,     /* of a sum of products, one piece of work */
    WANT_ROWS = 64, /* of a matrix, likewise */
};
#define SHARE 0.5f /* of the way to the source's outputs */

struct inorder {
    struct mem *mem; /* borrowed, as is the source */
    struct source *source;
    uint32_t n_windows, n_rows, n_done, len;
    size_t d, wide;    /* n_embd; the widest input of out and down */
    float *x, *y;      /* [n_windows * n_rows][d] the streams */
    float *kept;       /* [n_windows * n_rows][wide] inputs of out or down, of the changed stream */
    float *in;         /* [BATCH * n_rows][wide] inputs of a batch */
    float *out;        /* [BATCH * n_rows][d] what goes with them, see the stages below */
    float *cross;      /* [d][wide] sum of out^T in */
    float *now;        /* the changed layer: all its matrices */
    float *aim, *want; /* [largest matrix] */
    struct moments *moments[SOURCE_INPUT_COUNT];
    size_t stream_bytes, kept_bytes, in_bytes, out_bytes, cross_bytes, now_bytes, mat_bytes;
    const struct source_layer *is; /* the layer in work, as it is */
    struct source_layer becomes;   /* into `now` */
    uint32_t first;                /* window of the batch in work */
};

/* ---- what a stage sees -------------------------------------------------------------------------
 */

static float *window_of(const struct inorder *o, float *stream, uint32_t window, size_t width) {
    return stream + (size_t)window * o->n_rows * width;
}

/* Stages of the normed stream: in = norm(x), out = norm(y) - norm(x). */
static void see_normed(struct inorder *o, uint32_t piece, const float *gain) {
    uint32_t window = o->first + piece;
    float *in = window_of(o, o->in, piece, o->d), *out = window_of(o, o->out, piece, o->d);
    source_norm(o->source, gain, window_of(o, o->x, window, o->d), o->n_rows, in);
    source_norm(o->source, gain, window_of(o, o->y, window, o->d), o->n_rows, out);
    for (size_t i = 0; i < o->n_rows * o->d; i++) out[i] -= in[i];
}

/* Stages that end in the stream: y goes through the source's matrix; kept = the input x' of the
 * changed one; in = kept and out = y - x, both weighted. `part` is source_attn() or source_ffn().
 */
typedef void (*part_fn)(struct source *s, const struct source_layer *w, const float *h,
                        uint32_t n_rows, float *ret);

static void see_inner(struct inorder *o, uint32_t piece, const float *gain, part_fn part,
                      enum model_mat mat, size_t width) {
    uint32_t window = o->first + piece;
    float *x = window_of(o, o->x, window, o->d), *y = window_of(o, o->y, window, o->d);
    float *kept = window_of(o, o->kept, window, width);
    float *in = window_of(o, o->in, piece, width), *out = window_of(o, o->out, piece, o->d);
    source_norm(o->source, gain, x, o->n_rows, out);
    part(o->source, &o->becomes, out, o->n_rows, kept);
    source_norm(o->source, gain, y, o->n_rows, out);
    part(o->source, o->is, out, o->n_rows, in);
    source_add(o->source, o->is, mat, in, o->n_rows, y);
    for (size_t t = 0; t < o->n_rows; t++) {
        double sum = 0.0;
        for (size_t i = t * o->d; i < (t + 1) * o->d; i++) sum += (double)y[i] * (double)y[i];
        double eps = (double)source_hparams(o->source)->norm_eps;
        float weight = (float)(1.0 / sqrt(sum / (double)o->d + eps));
        for (size_t i = t * o->d; i < (t + 1) * o->d; i++) out[i] = weight * (y[i] - x[i]);
        for (size_t i = t * width; i < (t + 1) * width; i++) in[i] = weight * kept[i];
    }
}

static void see_attn_in(void *ud, uint32_t piece) {
    struct inorder *o = ud;
    see_normed(o, piece, source_vectors(o->source)->attn_norm + o->n_done * o->d);
}

static void see_attn_out(void *ud, uint32_t piece) {
    struct inorder *o = ud;
    const float *gain = source_vectors(o->source)->attn_norm + o->n_done * o->d;
    see_inner(o, piece, gain, source_attn, MODEL_OUT,
              source_input_width(source_hparams(o->source), SOURCE_ATTN_OUT));
}

static void see_ffn_in(void *ud, uint32_t piece) {
    struct inorder *o = ud;
    see_normed(o, piece, source_vectors(o->source)->ffn_norm + o->n_done * o->d);
}

static void see_ffn_down(void *ud, uint32_t piece) {
    struct inorder *o = ud;
    const float *gain = source_vectors(o->source)->ffn_norm + o->n_done * o->d;
    see_inner(o, piece, gain, source_ffn, MODEL_DOWN,
              source_input_width(source_hparams(o->source), SOURCE_FFN_DOWN));
}

/* The changed stream through the changed out or down. */
static void add_out(void *ud, uint32_t window) {
    struct inorder *o = ud;
    size_t width = source_input_width(source_hparams(o->source), SOURCE_ATTN_OUT);
    source_add(o->source, &o->becomes, MODEL_OUT, window_of(o, o->kept, window, width), o->n_rows,
               window_of(o, o->x, window, o->d));
}

static void add_down(void *ud, uint32_t window) {
    struct inorder *o = ud;
    size_t width = source_input_width(source_hparams(o->source), SOURCE_FFN_DOWN);
    source_add(o->source, &o->becomes, MODEL_DOWN, window_of(o, o->kept, window, width), o->n_rows,
               window_of(o, o->x, window, o->d));
}

/* ---- sums --------------------------------------------------------------------------------------
 */

struct addition {
    const struct inorder *o;
    size_t width, n_rows;
};

static void add_tile(void *ud, uint32_t piece) {
    const struct addition *a = ud;
    const struct inorder *o = a->o;
    size_t across = (a->width + TILE - 1) / TILE;
    size_t i = piece / across * TILE, j = piece % across * TILE;
    gemm_tn_add(MIN(o->d - i, (size_t)TILE), MIN(a->width - j, (size_t)TILE), a->n_rows, o->out + i,
                o->d, o->in + j, a->width, o->cross + i * a->width + j, a->width);
}

/* All windows through a stage: moments of its inputs, and `cross`. */
static void see_all(struct inorder *o, enum source_input in, pool_fn see) {
    struct pool *pool = source_pool(o->source);
    size_t width = source_input_width(source_hparams(o->source), in);
    uint32_t down = (uint32_t)((o->d + TILE - 1) / TILE);
    uint32_t across = (uint32_t)((width + TILE - 1) / TILE);
    moments_reset(o->moments[in]);
    memset(o->cross, 0, o->d * width * sizeof(float));
    for (o->first = 0; o->first < o->n_windows; o->first += BATCH) {
        uint32_t n = MIN(o->n_windows - o->first, (uint32_t)BATCH);
        struct addition a = {o, width, (size_t)n * o->n_rows};
        pool_run(pool, see, o, n);
        moments_add(o->moments[in], pool, o->in, a.n_rows);
        pool_run(pool, add_tile, &a, down * across);
    }
    float mean = 1.0f / ((float)o->n_windows * (float)o->n_rows);
    for (size_t i = 0; i < o->d * width; i++) o->cross[i] *= mean;
}

/* ---- changing ----------------------------------------------------------------------------------
 */

struct want {
    const struct inorder *o;
    const float *w;     /* [n_out][width], the source's */
    const float *by;    /* [width][width] */
    const float *whole; /* [n_out][width], or NULL */
    size_t n_out, width;
};

/* want = E[(wanted - w x') x'^T]: w E[(y - x') x'^T], or E[stream x'^T] - w E[x' x'^T]. */
static void want_rows(void *ud, uint32_t piece) {
    const struct want *k = ud;
    size_t row0 = (size_t)piece * WANT_ROWS, n = MIN(k->n_out - row0, (size_t)WANT_ROWS);
    float *ret = k->o->want + row0 * k->width;
    gemm_nn(n, k->width, k->width, k->w + row0 * k->width, k->width, k->by, k->width, ret,
            k->width);
    for (size_t i = 0; k->whole && i < n * k->width; i++)
        ret[i] = k->whole[row0 * k->width + i] - ret[i];
}

static int change(struct inorder *o, enum model_mat mat, const struct segfit *f,
                  const float *moments, bool is_aimed, inorder_fit_fn fit, void *ud,
                  struct err *e) {
    uint32_t n_out, n_in;
    model_mat_shape(source_hparams(o->source), mat, &n_out, &n_in);
    bool is_inner = mat == MODEL_OUT || mat == MODEL_DOWN;
    struct want k = {.o = o,
                     .w = o->is->mats[mat],
                     .by = is_inner ? moments : o->cross,
                     .whole = is_inner ? o->cross : NULL,
                     .n_out = n_out,
                     .width = n_in};
    float *ret = o->now + (o->becomes.mats[mat] - o->now);
    int r = 0;
    if (is_aimed) {
        pool_run(source_pool(o->source), want_rows, &k, (n_out + WANT_ROWS - 1) / WANT_ROWS);
        r = segfit_aim(f, source_pool(o->source), k.w, o->want, SHARE, n_out, o->aim, e);
    }
    if (r == 0) r = fit(ud, mat, f, is_aimed ? moments : NULL, is_aimed ? o->aim : k.w, ret, e);
    if (r < 0) err_prefix(e, "%s", model_mat_name(mat));
    return r;
}

/* The matrices that see an input, once all windows have shown it. Inputs that are never moved allow
 * no feedback and nothing to aim at: then they count as alike. */
static int change_all(struct inorder *o, enum source_input in, inorder_fit_fn fit, void *ud,
                      struct err *e) {
    const float *moments = moments_mean(o->moments[in]);
    uint32_t width = source_input_width(source_hparams(o->source), in);
    struct segfit *f;
    int r = segfit_create(o->mem, moments, width, o->len, &f, e);
    bool is_aimed = r == 0;
    if (r == -EDOM) r = segfit_create(o->mem, NULL, width, o->len, &f, e);
    if (r < 0) return r;
    for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++)
        if (source_input_of((enum model_mat)m) == in)
            r = change(o, (enum model_mat)m, f, moments, is_aimed, fit, ud, e);
    segfit_destroy(f);
    return r;
}

int inorder_next_layer(struct inorder *o, inorder_fit_fn fit, void *ud, struct err *e) {
    static const struct {
        enum source_input in;
        pool_fn see, after;
    } stages[] = {{SOURCE_ATTN_IN, see_attn_in, NULL},
                  {SOURCE_ATTN_OUT, see_attn_out, add_out},
                  {SOURCE_FFN_IN, see_ffn_in, NULL},
                  {SOURCE_FFN_DOWN, see_ffn_down, add_down}};
    ASSERT(o->n_done < source_hparams(o->source)->n_layers);
    int r = source_load_layer(o->source, o->n_done, &o->is, e);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(stages); i++) {
        see_all(o, stages[i].in, stages[i].see);
        r = change_all(o, stages[i].in, fit, ud, e);
        if (r == 0 && stages[i].after)
            pool_run(source_pool(o->source), stages[i].after, o, o->n_windows);
    }
    if (r < 0) err_prefix(e, "layer %u", o->n_done);
    o->n_done++;
    return r;
}

/* ---- life --------------------------------------------------------------------------------------
 */

static int alloc_all(struct inorder *o, struct err *e) {
    const struct model_hparams *h = source_hparams(o->source);
    size_t n_tokens, largest = 0, layer = 0, batch = BATCH * (size_t)o->n_rows * sizeof(float);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        largest = MAX(largest, (size_t)n_out * n_in);
        layer += (size_t)n_out * n_in;
    }
    bool ok = size_mul(o->n_windows, o->n_rows, &n_tokens) &&
              size_mul(n_tokens, o->d * sizeof(float), &o->stream_bytes) &&
              size_mul(n_tokens, o->wide * sizeof(float), &o->kept_bytes) &&
              size_mul(batch, MAX(o->wide, o->d), &o->in_bytes);
    o->out_bytes = batch * o->d;
    o->cross_bytes = o->d * MAX(o->wide, o->d) * sizeof(float);
    o->now_bytes = layer * sizeof(float);
    o->mat_bytes = largest * sizeof(float);
    if (ok) {
        o->x = mem_alloc(o->mem, MEM_PACKER, o->stream_bytes);
        o->y = mem_alloc(o->mem, MEM_PACKER, o->stream_bytes);
        o->kept = mem_alloc(o->mem, MEM_PACKER, o->kept_bytes);
        o->in = mem_alloc(o->mem, MEM_PACKER, o->in_bytes);
        o->out = mem_alloc(o->mem, MEM_PACKER, o->out_bytes);
        o->cross = mem_alloc(o->mem, MEM_PACKER, o->cross_bytes);
        o->now = mem_alloc(o->mem, MEM_PACKER, o->now_bytes);
        o->aim = mem_alloc(o->mem, MEM_PACKER, o->mat_bytes);
        o->want = mem_alloc(o->mem, MEM_PACKER, o->mat_bytes);
    }
    if (!o->x || !o->y || !o->kept || !o->in || !o->out || !o->cross || !o->now || !o->aim ||
        !o->want)
        return err_set(e, -ENOMEM, "no memory for the hidden states of %u windows: use fewer",
                       o->n_windows);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < SOURCE_INPUT_COUNT; i++)
        r = moments_create(o->mem, source_input_width(h, (enum source_input)i), &o->moments[i], e);
    return r;
}

int inorder_create(struct mem *m, struct source *s, const uint32_t *ids, uint32_t n_windows,
                   uint32_t n_rows, uint32_t len, struct inorder **ret, struct err *e) {
    ASSERT(n_windows >= 1 && n_rows >= 1 && n_rows <= SOURCE_WINDOW);
    const struct model_hparams *h = source_hparams(s);
    struct inorder *o = calloc(1, sizeof(*o));
    if (!o) return err_set(e, -ENOMEM, "no memory to change layers in order");
    o->mem = m;
    o->source = s;
    o->n_windows = n_windows;
    o->n_rows = n_rows;
    o->len = len;
    o->d = h->n_embd;
    o->wide = MAX(source_input_width(h, SOURCE_ATTN_OUT), source_input_width(h, SOURCE_FFN_DOWN));
    int r = alloc_all(o, e);
    if (r == 0) r = source_embed(s, ids, (size_t)n_windows * n_rows, o->x, e);
    if (r < 0) {
        inorder_destroy(o);
        return r;
    }
    memcpy(o->y, o->x, o->stream_bytes);
    float *at = o->now;
    for (uint32_t i = 0; i < MODEL_LAYER_MATS; i++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)i, &n_out, &n_in);
        o->becomes.mats[i] = at;
        at += (size_t)n_out * n_in;
    }
    *ret = o;
    return 0;
}

void inorder_destroy(struct inorder *o) {
    if (!o) return;
    mem_free(o->mem, MEM_PACKER, o->x, o->stream_bytes);
    mem_free(o->mem, MEM_PACKER, o->y, o->stream_bytes);
    mem_free(o->mem, MEM_PACKER, o->kept, o->kept_bytes);
    mem_free(o->mem, MEM_PACKER, o->in, o->in_bytes);
    mem_free(o->mem, MEM_PACKER, o->out, o->out_bytes);
    mem_free(o->mem, MEM_PACKER, o->cross, o->cross_bytes);
    mem_free(o->mem, MEM_PACKER, o->now, o->now_bytes);
    mem_free(o->mem, MEM_PACKER, o->aim, o->mat_bytes);
    mem_free(o->mem, MEM_PACKER, o->want, o->mat_bytes);
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) moments_destroy(o->moments[i]);
    free(o);
}
