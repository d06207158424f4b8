/* The gate's sample: layers spread over the model, as floats, with the moments of their inputs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/gate.h"
#include "core/make/moments.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"

#define MAX_BYTES ((size_t)1 << 30)

struct gate_sample {
    struct mem *mem; /* borrowed */
    struct gate_layer layers[GATE_LAYERS];
    uint32_t at[GATE_LAYERS], n;
    float *data; /* owned: all that the layers point to */
    size_t bytes;
};

uint32_t gate_layers(uint32_t n_layers, uint32_t *ret) {
    uint32_t n_pairs = (n_layers + 1) / 2, take = MIN(n_pairs, (uint32_t)GATE_LAYERS / 2), n = 0;
    for (uint32_t i = 0; i < take; i++) {
        uint32_t pair = (2 * i + 1) * n_pairs / (2 * take);
        ret[n++] = 2 * pair;
        if (2 * pair + 1 < n_layers) ret[n++] = 2 * pair + 1;
    }
    return n;
}

static size_t layer_floats(const struct model_hparams *h) {
    size_t n = 0;
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        n += (size_t)n_out * n_in;
    }
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) {
        size_t width = source_input_width(h, (enum source_input)i);
        n += width * width;
    }
    return n;
}

static int sample_init(struct gate_sample *g, const struct model_hparams *h, struct err *e) {
    size_t each = layer_floats(h) * sizeof(float);
    g->n = gate_layers(h->n_layers, g->at);
    if (g->n * each > MAX_BYTES && g->n > 2) {
        /* The pair in the middle; a last layer may be without its fellow. */
        uint32_t pair = (h->n_layers + 1) / 2 / 2;
        g->at[0] = 2 * pair;
        g->at[1] = 2 * pair + 1;
        g->n = MIN(2u, h->n_layers - 2 * pair);
    }
    g->bytes = g->n * each;
    g->data = mem_alloc(g->mem, MEM_PACKER, g->bytes);
    if (!g->data) return err_set(e, -ENOMEM, "no memory for a sample of %u layers", g->n);
    return 0;
}

/* What one window shows of a layer's inputs, kept until it is added. */
struct seen {
    float *x[SOURCE_INPUT_COUNT]; /* [n_windows * n_rows][width] */
};

static void see(void *ud, uint32_t window, enum source_input in, const float *x, uint32_t n_rows,
                uint32_t width) {
    const struct seen *s = ud;
    memcpy(s->x[in] + (size_t)window * n_rows * width, x, (size_t)n_rows * width * sizeof(*x));
}

/* Everything that goes through the layers. */
struct passage {
    struct tools *t;
    struct source *s;
    const struct model_hparams *h;
    uint32_t n_windows, n_rows;
    float *x; /* [n_windows][n_rows][n_embd] */
    struct seen seen;
    size_t x_bytes, seen_bytes[SOURCE_INPUT_COUNT];
    struct moments *moments[SOURCE_INPUT_COUNT];
};

static void passage_fini(struct passage *p) {
    mem_free(p->t->mem, MEM_PACKER, p->x, p->x_bytes);
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) {
        mem_free(p->t->mem, MEM_PACKER, p->seen.x[i], p->seen_bytes[i]);
        moments_destroy(p->moments[i]);
    }
}

static int passage_init(struct passage *p, const struct text *text, struct err *e) {
    size_t rows = (size_t)p->n_windows * p->n_rows;
    uint32_t *ids = calloc(rows, sizeof(*ids));
    p->x_bytes = rows * p->h->n_embd * sizeof(float);
    p->x = mem_alloc(p->t->mem, MEM_PACKER, p->x_bytes);
    int r = ids && p->x ? 0 : err_set(e, -ENOMEM, "no memory for %u windows", p->n_windows);
    for (unsigned i = 0; r == 0 && i < SOURCE_INPUT_COUNT; i++) {
        uint32_t width = source_input_width(p->h, (enum source_input)i);
        p->seen_bytes[i] = rows * width * sizeof(float);
        p->seen.x[i] = mem_alloc(p->t->mem, MEM_PACKER, p->seen_bytes[i]);
        if (!p->seen.x[i]) r = err_set(e, -ENOMEM, "no memory for %u windows", p->n_windows);
        if (r == 0) r = moments_create(p->t->mem, width, &p->moments[i], e);
    }
    for (uint32_t w = 0; r == 0 && w < p->n_windows; w++) /* evenly spread over the text */
        memcpy(ids + (size_t)w * p->n_rows,
               text->ids + (uint64_t)w * text->n_windows / p->n_windows * text->window,
               p->n_rows * sizeof(*ids));
    if (r == 0) r = source_embed(p->s, ids, rows, p->x, e);
    free(ids);
    return r;
}

/* The layer's weights and moments to the sample, whose arrays begin at `at`. */
static void keep(struct passage *p, const struct source_layer *w, float *at,
                 struct gate_layer *ret) {
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(p->h, (enum model_mat)m, &n_out, &n_in);
        memcpy(at, w->mats[m], (size_t)n_out * n_in * sizeof(*at));
        ret->mats[m] = at;
        at += (size_t)n_out * n_in;
    }
    for (unsigned i = 0; i < SOURCE_INPUT_COUNT; i++) {
        size_t width = source_input_width(p->h, (enum source_input)i);
        moments_reset(p->moments[i]);
        moments_add(p->moments[i], p->t->pool, p->seen.x[i], (size_t)p->n_windows * p->n_rows);
        memcpy(at, moments_mean(p->moments[i]), width * width * sizeof(*at));
        ret->moments[i] = at;
        at += width * width;
    }
}

static int pass(struct passage *p, struct gate_sample *g, struct err *e) {
    int r = 0;
    for (uint32_t l = 0, next = 0; r == 0 && next < g->n; l++) {
        const struct source_layer *w;
        r = source_load_layer(p->s, l, &w, e);
        if (r < 0) break;
        bool is_taken = l == g->at[next];
        source_block(p->s, l, w, p->x, p->n_windows, p->n_rows, is_taken ? see : NULL, &p->seen);
        if (is_taken) {
            keep(p, w, g->data + next * layer_floats(p->h), &g->layers[next]);
            next++;
        }
        progress_tell(&p->t->progress, "sampling layers", l + 1, g->at[g->n - 1] + 1, "layers");
    }
    return r;
}

int gate_sample_create(struct tools *t, struct source *s, const struct text *text,
                       struct gate_sample **ret, struct err *e) {
    struct passage p = {.t = t, .s = s, .h = source_hparams(s), .n_rows = text->window};
    struct gate_sample *g = calloc(1, sizeof(*g));
    if (!g) return err_set(e, -ENOMEM, "no memory for a sample of layers");
    g->mem = t->mem;
    p.n_windows = MIN(text->n_windows, (uint32_t)GATE_WINDOWS);
    int r = sample_init(g, p.h, e);
    if (r == 0) r = passage_init(&p, text, e);
    if (r == 0) r = pass(&p, g, e);
    passage_fini(&p);
    if (r < 0) {
        gate_sample_destroy(g);
        return r;
    }
    *ret = g;
    return 0;
}

void gate_sample_destroy(struct gate_sample *g) {
    if (!g) return;
    mem_free(g->mem, MEM_PACKER, g->data, g->bytes);
    free(g);
}

const struct gate_layer *gate_sample_layers(const struct gate_sample *g, uint32_t *ret_n) {
    *ret_n = g->n;
    return g->layers;
}
