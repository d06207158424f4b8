#include "core/make/build.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sha2.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/make/calib.h"
#include "core/make/feedback.h"
#include "core/make/importance.h"
#include "core/make/planes.h"
#include "core/make/selftext.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"
#include "core/tok.h"

enum { HEAD_ROWS = 4096 }; /* of the output matrix, as floats at a time; a multiple of 8 */
#define MAX_HALF 65504.0f  /* largest finite fp16 */

struct build {
    struct tools *t;            /* borrowed */
    const struct build_opts *o; /* borrowed */
    struct gguf *gguf;          /* owned, as is everything below */
    struct tok *tok;
    struct source *source;
    struct text text;
    struct calib *calib;
    struct pack_writer *writer;
    const struct model_hparams *h; /* the source's */
    struct planes_stats *stats;    /* [n_units] */
    char sha256[SHA256_DIGEST_STRING_LENGTH];
    char calibration[256];
};

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int hash_source(struct build *b, struct err *e) {
    enum { STEP = 1 << 20 };
    uint8_t *buf = malloc(STEP);
    if (!buf) return err_set(e, -ENOMEM, "no memory to hash the source");
    SHA2_CTX ctx;
    SHA256Init(&ctx);
    uint64_t total = gguf_file_bytes(b->gguf), at = 0;
    int r = 0;
    while (at < total) {
        ssize_t n = pread(gguf_fd(b->gguf), buf, (size_t)MIN((uint64_t)STEP, total - at),
                          (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            r = n < 0 ? err_sys(e, -errno, "%s: cannot read", b->o->source)
                      : err_set(e, -EBADMSG, "%s: the file got shorter", b->o->source);
            break;
        }
        SHA256Update(&ctx, buf, (size_t)n);
        at += (uint64_t)n;
        /* One less before the end: only the end may look like it. */
        progress_tell(&b->t->progress, "hashing the source", (at >> 10) - (at < total), total >> 10,
                      "KiB");
    }
    free(buf);
    if (r == 0) SHA256End(&ctx, b->sha256);
    return r;
}

static int get_text(struct build *b, struct err *e) {
    const struct build_opts *o = b->o;
    int r;
    if (o->calib) {
        r = text_read(b->tok, o->calib, o->n_windows, BUILD_WINDOW, &b->text, e);
        if (r < 0) err_prefix(e, "calibration text");
    } else {
        r = selftext_write(b->t, b->gguf, b->tok, o->n_windows, BUILD_WINDOW, SELFTEXT_SEED,
                           &b->text, e);
    }
    if (r < 0) return r;
    snprintf(b->calibration, sizeof(b->calibration),
             "text=%.100s windows=%u window=%u ids-xxh3=%016" PRIx64,
             o->calib ? base_name(o->calib) : "self", b->text.n_windows, b->text.window,
             b->text.xxh3);
    /* The line is read by people and by line-based tools: a strange file name must not break it. */
    for (char *c = b->calibration; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    return 0;
}

/* ---- units to extents --------------------------------------------------------------------------
 * A unit's two extents in memory, with their directories; the arrays are filled by planes.c. */

struct unit_buf {
    struct mem *mem;
    struct pack_mat_layout high[MODEL_MAT_COUNT], low[MODEL_MAT_COUNT];
    uint8_t *high_data, *low_data; /* owned */
    uint64_t high_bytes, low_bytes;
};

static void unit_fini(struct unit_buf *u) {
    mem_free(u->mem, MEM_PACKER, u->high_data, u->high_bytes);
    mem_free(u->mem, MEM_PACKER, u->low_data, u->low_bytes);
}

static int unit_init(struct unit_buf *u, struct mem *m, const struct model_hparams *h,
                     uint32_t unit, struct err *e) {
    *u = (struct unit_buf){.mem = m};
    u->high_bytes = pack_unit_layout(h, unit, PACK_HIGH, u->high);
    u->low_bytes = pack_unit_layout(h, unit, PACK_LOW, u->low);
    u->high_data = mem_alloc(m, MEM_PACKER, u->high_bytes);
    u->low_data = mem_alloc(m, MEM_PACKER, u->low_bytes);
    if (!u->high_data || !u->low_data) {
        unit_fini(u);
        return err_set(e, -ENOMEM, "no memory for %" PRIu64 " bytes of planes",
                       u->high_bytes + u->low_bytes);
    }
    pack_unit_dir(h, unit, PACK_HIGH, u->high_data);
    pack_unit_dir(h, unit, PACK_LOW, u->low_data);
    return 0;
}

/* Rows row0 .. of a matrix (row0 a multiple of 8) into the unit's planes. */
static int unit_rows(struct build *b, uint32_t unit, struct unit_buf *u, enum model_mat mat,
                     const float *w, uint32_t row0, uint32_t n_rows, const struct planes_inputs *in,
                     struct err *e) {
    const struct pack_mat_layout *hi = &u->high[mat], *lo = &u->low[mat];
    size_t tile = row0 / PLANE_ROWS, at = tile * (hi->n_in / PLANE_GROUP);
    struct planes_dst dst = {
        .rows = u->high_data + hi->rows + tile * PLANE_ROW_BYTES,
        .groups = u->high_data + hi->groups + at * PLANE_SCALE_BYTES,
        .high = u->high_data + hi->codes + at * PLANE_TILE_BYTES,
        .low = u->low_data + lo->codes + at * PLANE_TILE_BYTES,
    };
    int r = planes_quantise(b->t->mem, b->t->pool, &b->t->ops, w, n_rows, hi->n_in, in, &dst,
                            &b->stats[unit], e);
    if (r < 0) err_prefix(e, "%s", model_mat_name(mat));
    return r;
}

static int unit_write(struct build *b, const struct unit_buf *u, uint32_t unit, struct err *e) {
    int r = pack_writer_extent(b->writer, PACK_HIGH, unit, u->high_data, u->high_bytes, e);
    if (r < 0) return r;
    return pack_writer_extent(b->writer, PACK_LOW, unit, u->low_data, u->low_bytes, e);
}

/* What is known of some inputs: their energy and, unless it cannot be had, error feedback. */
struct known {
    struct planes_inputs in;
    struct feedback *feedback; /* owned */
    float *energy;             /* owned */
};

static void known_fini(struct known *k) {
    feedback_destroy(k->feedback);
    free(k->energy);
    *k = (struct known){0};
}

static int known_init(struct build *b, const float *moments, uint32_t n, struct known *ret,
                      struct err *e) {
    *ret = (struct known){.energy = malloc(n * sizeof(*ret->energy))};
    if (!ret->energy) return err_set(e, -ENOMEM, "no memory for the inputs' energies");
    for (size_t i = 0; i < n; i++) ret->energy[i] = moments[i * n + i];
    int r = feedback_create(b->t->mem, moments, n, &ret->feedback, e);
    if (r == -EDOM) r = 0;
    ret->in = (struct planes_inputs){.energy = ret->energy, .feedback = ret->feedback};
    if (r < 0) known_fini(ret);
    return r;
}

static int build_layer(struct build *b, uint32_t layer, struct err *e) {
    const struct source_layer *w;
    int r = calib_next_layer(b->calib, &w, e);
    if (r < 0) return r;
    struct unit_buf u;
    r = unit_init(&u, b->t->mem, b->h, layer, e);
    if (r < 0) return r;
    for (unsigned in = 0; r == 0 && in < SOURCE_INPUT_COUNT; in++) {
        struct known k;
        r = known_init(b, calib_moments(b->calib, (enum source_input)in),
                       source_input_width(b->h, (enum source_input)in), &k, e);
        if (r < 0) break;
        for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++)
            if (source_input_of((enum model_mat)m) == in)
                r = unit_rows(b, layer, &u, (enum model_mat)m, w->mats[m], 0, u.high[m].n_out,
                              &k.in, e);
        known_fini(&k);
    }
    if (r < 0) err_prefix(e, "layer %u", layer);
    if (r == 0) r = unit_write(b, &u, layer, e);
    unit_fini(&u);
    return r;
}

/* The head's planes and, from the same rows, the words that the layers' hidden states point at. */
static int build_head(struct build *b, struct importance *im, struct err *e) {
    uint32_t unit = b->h->n_layers, n_out = b->h->n_vocab;
    size_t block_bytes = (size_t)HEAD_ROWS * b->h->n_embd * sizeof(float);
    struct unit_buf u;
    int r = unit_init(&u, b->t->mem, b->h, unit, e);
    if (r < 0) return r;
    float *w = mem_alloc(b->t->mem, MEM_PACKER, block_bytes);
    if (!w) r = err_set(e, -ENOMEM, "no memory for rows of the head");
    struct known k = {0};
    if (r == 0) r = known_init(b, calib_head_moments(b->calib), b->h->n_embd, &k, e);
    for (uint32_t row0 = 0; r == 0 && row0 < n_out; row0 += HEAD_ROWS) {
        uint32_t n = MIN(n_out - row0, (uint32_t)HEAD_ROWS);
        r = source_head_rows(b->source, row0, n, w, e);
        if (r == 0) r = importance_head_rows(im, w, n, e);
        if (r == 0) r = unit_rows(b, unit, &u, MODEL_HEAD, w, row0, n, &k.in, e);
        progress_tell(&b->t->progress, "packing the head", row0 + n, n_out, "rows");
    }
    if (r == 0) r = unit_write(b, &u, unit, e);
    known_fini(&k);
    mem_free(b->t->mem, MEM_PACKER, w, block_bytes);
    unit_fini(&u);
    return r;
}

/* Rows of an untied token embedding, each fp16 with its own checksum, as they are read one by one.
 */
static int build_embd(struct build *b, struct err *e) {
    size_t d = b->h->n_embd, record = pack_embd_bytes(b->h) / b->h->n_vocab;
    uint8_t *data = mem_alloc(b->t->mem, MEM_PACKER, pack_embd_bytes(b->h));
    float *row = malloc(d * sizeof(*row));
    uint16_t *half = malloc(d * sizeof(*half));
    int r = 0;
    if (!data || !row || !half)
        r = err_set(e, -ENOMEM, "no memory for the token embedding: %" PRIu64 " bytes",
                    pack_embd_bytes(b->h));
    for (uint32_t i = 0; r == 0 && i < b->h->n_vocab; i++) {
        r = source_embed(b->source, &i, 1, row, e);
        if (r < 0) break;
        for (size_t j = 0; r == 0 && j < d; j++)
            if (fabsf(row[j]) > MAX_HALF)
                r = err_set(e, -ENOTSUP, "token embedding, row %u: beyond what fp16 holds", i);
        b->t->ops.to_f16(row, (uint32_t)d, half);
        pack_embd_record(b->h, half, data + i * record);
    }
    if (r == 0) r = pack_writer_extent(b->writer, PACK_EMBD, 0, data, pack_embd_bytes(b->h), e);
    mem_free(b->t->mem, MEM_PACKER, data, pack_embd_bytes(b->h));
    free(row);
    free(half);
    return r;
}

static int finish(struct build *b, const struct importance *im, struct err *e) {
    uint32_t n_units = model_n_units(b->h);
    float *v = calloc(3 * (size_t)n_units, sizeof(*v));
    struct ladder_step *steps = calloc(n_units, sizeof(*steps));
    int r;
    if (!v || !steps) {
        r = err_set(e, -ENOMEM, "no memory for the ladder");
        goto out;
    }
    float *lsaq = v, *full = v + n_units, *high = full + n_units;
    importance_lsaq(im, lsaq);
    importance_ladder(b->h, lsaq, steps);
    for (uint32_t u = 0; u < n_units; u++) {
        const struct planes_stats *s = &b->stats[u];
        /* What is never fed anything puts out nothing, and that rightly. */
        full[u] = s->output > 0.0 ? (float)(s->full_error / s->output) : 0.0f;
        high[u] = s->output > 0.0 ? (float)(s->high_error / s->output) : 0.0f;
    }
    const struct pack_score_in scores[] = {
        {"ebb.importance.lsaq", lsaq},
        {"ebb.distortion.full.error", full},
        {"ebb.distortion.high.error", high},
    };
    struct pack_ladder_in ladder = {"lsaq", steps, n_units};
    struct pack_meta meta = {.source_sha256 = b->sha256,
                             .source_name = base_name(b->o->source),
                             .calibration = b->calibration,
                             .scores = scores,
                             .n_scores = ARRAY_LEN(scores),
                             .ladders = &ladder,
                             .n_ladders = 1};
    r = pack_writer_finish(b->writer, &meta, e);
out:
    free(v);
    free(steps);
    return r;
}

static int open_source(struct build *b, struct err *e) {
    int r = gguf_open(b->o->source, &b->gguf, e);
    if (r < 0) return r; /* it names the file */
    r = tok_create(b->gguf, &b->tok, e);
    if (r == 0) r = source_create(b->t->mem, b->t->pool, &b->t->ops, b->gguf, 0, &b->source, e);
    if (r < 0) {
        err_prefix(e, "%s", b->o->source);
        return r;
    }
    b->h = source_hparams(b->source);
    b->stats = calloc(model_n_units(b->h), sizeof(*b->stats));
    if (!b->stats) return err_set(e, -ENOMEM, "no memory for the units' errors");
    if (tok_n_vocab(b->tok) > b->h->n_vocab)
        return err_set(e, -EBADMSG, "%s: the tokenizer has %u tokens, the model %u", b->o->source,
                       tok_n_vocab(b->tok), b->h->n_vocab);
    return 0;
}

static int write_core(struct build *b, struct err *e) {
    return pack_writer_extent(b->writer, PACK_CORE, 0, source_core(b->source),
                              pack_core_bytes(b->h), e);
}

static int build_units(struct build *b, struct err *e) {
    struct importance *im = NULL;
    int r = calib_create(b->t->mem, b->source, b->text.ids, b->text.n_windows, b->text.window,
                         &b->calib, e);
    for (uint32_t l = 0; r == 0 && l < b->h->n_layers; l++) {
        r = build_layer(b, l, e);
        progress_tell(&b->t->progress, "calibrating and packing", l + 1, b->h->n_layers, "layers");
    }
    if (r < 0) return r;
    calib_finish(b->calib);
    r = importance_create(b->t->mem, b->source, b->calib, &im, e);
    if (r == 0) r = build_head(b, im, e);
    if (r == 0) r = finish(b, im, e);
    importance_destroy(im);
    return r;
}

static void report(const struct build *b, struct build_report *ret) {
    *ret = (struct build_report){.n_windows = b->text.n_windows};
    for (uint32_t u = 0; u < model_n_units(b->h); u++) {
        struct pack_mat_layout layout[MODEL_MAT_COUNT];
        ret->n_weights += b->stats[u].n_weights;
        ret->n_clipped += b->stats[u].n_clipped;
        ret->high_bytes += pack_unit_layout(b->h, u, PACK_HIGH, layout);
        ret->full_bytes += pack_unit_layout(b->h, u, PACK_LOW, layout);
    }
    ret->full_bytes += ret->high_bytes;
}

int build_run(struct tools *t, const struct build_opts *o, struct build_report *ret,
              struct err *e) {
    struct build b = {.t = t, .o = o};
    /* The output is taken first: a second packer on it should not find out after minutes. */
    int r = open_source(&b, e);
    if (r == 0) r = pack_writer_create(o->out, b.gguf, b.h, &b.writer, e);
    if (r == 0) r = hash_source(&b, e);
    if (r == 0) r = get_text(&b, e);
    if (r == 0) r = write_core(&b, e);
    if (r == 0 && !b.h->is_tied) r = build_embd(&b, e);
    if (r == 0) r = build_units(&b, e);
    if (r == 0) report(&b, ret);
    pack_writer_destroy(b.writer);
    calib_destroy(b.calib);
    text_fini(&b.text);
    free(b.stats);
    source_destroy(b.source);
    tok_destroy(b.tok);
    gguf_close(b.gguf);
    return r;
}
