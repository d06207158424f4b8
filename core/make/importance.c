#include "core/make/importance.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/make/calib.h"
#include "core/make/source.h"
#include "core/make/topk.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/pool.h"

enum { VECTORS = 64 }; /* hidden states whose scores are made as one piece of work */

struct importance {
    struct mem *mem; /* borrowed, as are the next two */
    struct source *source;
    const struct calib *calib;
    uint32_t n_vectors; /* (n_layers + 1) * n_windows, boundary after boundary */
    uint32_t k, n_rows; /* n_rows: of the output matrix, seen so far */
    struct topk *tops;  /* owned: [n_vectors] */
    size_t tops_bytes;
};

int importance_create(struct mem *m, struct source *s, const struct calib *c,
                      struct importance **ret, struct err *e) {
    const struct model_hparams *h = source_hparams(s);
    struct importance *im = calloc(1, sizeof(*im));
    if (!im) return err_set(e, -ENOMEM, "no memory for the importance");
    im->mem = m;
    im->source = s;
    im->calib = c;
    im->k = MIN(h->n_vocab, (uint32_t)IMPORTANCE_TOP_K);
    im->n_vectors = (h->n_layers + 1) * calib_n_windows(c);
    im->tops_bytes = im->n_vectors * sizeof(struct topk);
    im->tops = mem_alloc(m, MEM_PACKER, im->tops_bytes);
    if (!im->tops) {
        free(im);
        return err_set(e, -ENOMEM, "no memory for the words of all hidden states");
    }
    *ret = im;
    return 0;
}

void importance_destroy(struct importance *im) {
    if (!im) return;
    mem_free(im->mem, MEM_PACKER, im->tops, im->tops_bytes);
    free(im);
}

struct rows {
    struct importance *im;
    const float *w;
    uint32_t n_rows;
    float *scores; /* [n_vectors][n_rows] */
};

static void score_chunk(void *ud, uint32_t chunk) {
    const struct rows *j = ud;
    struct importance *im = j->im;
    size_t d = source_hparams(im->source)->n_embd;
    uint32_t v0 = chunk * VECTORS, n = MIN(im->n_vectors - v0, (uint32_t)VECTORS);
    /* The boundaries' hidden states lie one after the other. */
    const float *hidden = calib_last_hidden(im->calib, 0) + v0 * d;
    float *scores = j->scores + (size_t)v0 * j->n_rows;
    gemm_nt(n, j->n_rows, d, hidden, d, j->w, d, scores, j->n_rows);
    for (uint32_t v = 0; v < n; v++)
        for (uint32_t i = 0; i < j->n_rows; i++)
            topk_add(&im->tops[v0 + v], im->k, scores[(size_t)v * j->n_rows + i], im->n_rows + i);
}

int importance_head_rows(struct importance *im, const float *rows, uint32_t n_rows, struct err *e) {
    size_t bytes = (size_t)im->n_vectors * n_rows * sizeof(float);
    float *scores = mem_alloc(im->mem, MEM_PACKER, bytes);
    if (!scores)
        return err_set(e, -ENOMEM, "no memory for the scores of %u hidden states", im->n_vectors);
    struct rows j = {im, rows, n_rows, scores};
    pool_run(source_pool(im->source), score_chunk, &j, (im->n_vectors + VECTORS - 1) / VECTORS);
    im->n_rows += n_rows;
    mem_free(im->mem, MEM_PACKER, scores, bytes);
    return 0;
}

float importance_jaccard_loss(const uint32_t *a, const uint32_t *b, uint32_t n) {
    uint32_t both = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) both += a[i] == b[j];
    return n ? 1.0f - (float)both / (float)(2 * n - both) : 0.0f;
}

void importance_lsaq(const struct importance *im, float *ret) {
    const struct model_hparams *h = source_hparams(im->source);
    ASSERT(im->n_rows == h->n_vocab);
    uint32_t n = calib_n_windows(im->calib);
    for (uint32_t l = 0; l < h->n_layers; l++) {
        const struct topk *before = im->tops + (size_t)l * n, *after = before + n;
        double sum = 0.0;
        for (uint32_t w = 0; w < n; w++)
            sum += (double)importance_jaccard_loss(before[w].id, after[w].id, im->k);
        ret[l] = (float)(sum / n);
    }
    ret[h->n_layers] = 1.0f; /* the head: see the header */
}
