#include "core/make/build.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sha2.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/calib.h"
#include "core/make/calibtext.h"
#include "core/make/distortion.h"
#include "core/make/feedback.h"
#include "core/make/gate.h"
#include "core/make/importance.h"
#include "core/make/planes.h"
#include "core/make/resume.h"
#include "core/make/source.h"
#include "core/make/third.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pack_write.h"
#include "core/tok.h"

enum { HEAD_ROWS = 4096 }; /* of the output matrix, as floats at a time; a multiple of 8 */
#define MAX_HALF 65504.0f  /* largest finite fp16 */

/* Layers between two saves, unless the options say: at most SAVE_LAYERS, and each one from
 * SAVE_WIDTH on. A save writes 4 * width bytes for each token and a layer takes some 60 * width^2
 * operations: wide models save often at little cost, and it is their layers that take long. */
enum { SAVE_LAYERS = 4, SAVE_WIDTH = 2048 };

struct build {
    struct tools *t;            /* borrowed */
    const struct build_opts *o; /* borrowed */
    struct gguf *gguf;          /* owned, as is everything below */
    struct tok *tok;
    struct source *source;
    struct calibtext_opts text_opts;
    struct calibtext text;
    struct calib *calib;
    struct pack_writer *writer;
    struct resume *resume;         /* the state of an interrupted build, or NULL */
    struct resume_unit *units;     /* [n_units] */
    const struct model_hparams *h; /* the source's */
    struct resume_field fields[RESUME_MAX_FIELDS];
    size_t n_fields;
    uint32_t n_resumed; /* layers */
    struct score_result scored;
    struct swsc_form forms[MODEL_LAYER_MATS];
    struct gate *gate; /* NULL: nothing was compared */
    struct third_result third;
    char sha256[SHA256_DIGEST_STRING_LENGTH];
};

static bool has_swsc(const struct build *b) {
    return !b->o->is_fast && !b->o->is_without_swsc;
}

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
                            &b->units[unit].stats, e);
    if (r < 0) err_prefix(e, "%s", model_mat_name(mat));
    return r;
}

static int unit_write(struct build *b, const struct unit_buf *u, uint32_t unit, struct err *e) {
    int r = pack_writer_extent(b->writer, PACK_HIGH, unit, u->high_data, u->high_bytes, e);
    if (r == 0) r = pack_writer_extent(b->writer, PACK_LOW, unit, u->low_data, u->low_bytes, e);
    if (r < 0) return r;
    b->units[unit].high = pack_writer_xxh3(b->writer, PACK_HIGH, unit);
    b->units[unit].low = pack_writer_xxh3(b->writer, PACK_LOW, unit);
    return 0;
}

/* What is known of some inputs: their energy and, unless it cannot be had, error feedback. */
struct known {
    struct planes_inputs in;
    struct feedback *feedback; /* owned */
    bool is_fallback;          /* it was wanted, and the moments are singular */
};

static void known_fini(struct known *k) {
    feedback_destroy(k->feedback);
    *k = (struct known){0};
}

/* moments: NULL in a fast build. `energy` is borrowed until known_fini(). */
static int known_init(struct build *b, const float *moments, const float *energy, uint32_t n,
                      struct known *ret, struct err *e) {
    int r = 0;
    *ret = (struct known){0};
    if (moments) r = feedback_create(b->t->mem, moments, n, &ret->feedback, e);
    if (r < 0 && r != -EDOM) return r;
    ret->is_fallback = r == -EDOM;
    ret->in = (struct planes_inputs){.energy = energy, .feedback = ret->feedback};
    return 0;
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
                       calib_energy(b->calib, (enum source_input)in),
                       source_input_width(b->h, (enum source_input)in), &k, e);
        if (r < 0) break;
        for (uint32_t m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
            if (source_input_of((enum model_mat)m) != in) continue;
            b->units[layer].fallback |= (uint32_t)k.is_fallback << m;
            r = unit_rows(b, layer, &u, (enum model_mat)m, w->mats[m], 0, u.high[m].n_out, &k.in,
                          e);
        }
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
    if (r == 0)
        r = known_init(b, calib_head_moments(b->calib), calib_head_energy(b->calib), b->h->n_embd,
                       &k, e);
    b->units[unit].fallback = (uint32_t)k.is_fallback << MODEL_HEAD;
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

/* What the header tells of the units. */
struct told {
    float *lsaq, *full, *high, *swsc; /* owned by lsaq: [n_units] each */
    uint32_t *fallback;               /* owned: [n_units] */
    struct distortion losses;
    struct pack_score_in scores[DISTORTION_SCORES + 3];
    struct gate_table gate;
};

static int told_init(struct told *t, const struct build *b, const struct importance *im,
                     struct err *e) {
    uint32_t n_units = model_n_units(b->h);
    t->lsaq = calloc(4 * (size_t)n_units, sizeof(*t->lsaq));
    t->fallback = calloc(n_units, sizeof(*t->fallback));
    if (!t->lsaq || !t->fallback) return err_set(e, -ENOMEM, "no memory for the units' scores");
    t->full = t->lsaq + n_units;
    t->high = t->full + n_units;
    t->swsc = t->high + n_units;
    importance_lsaq(im, t->lsaq);
    for (uint32_t u = 0; u < n_units; u++) {
        const struct planes_stats *s = &b->units[u].stats;
        /* What is never fed anything puts out nothing, and that rightly. */
        t->full[u] = s->output > 0.0 ? (float)(s->full_error / s->output) : 0.0f;
        t->high[u] = s->output > 0.0 ? (float)(s->high_error / s->output) : 0.0f;
        t->fallback[u] = b->units[u].fallback;
    }
    return 0;
}

static void told_fini(struct told *t) {
    distortion_fini(&t->losses);
    free(t->lsaq);
    free(t->fallback);
}

static bool has_fallback(const struct build *b) {
    for (uint32_t u = 0; u < model_n_units(b->h); u++)
        if (b->units[u].fallback) return true;
    return false;
}

/* Scores what is written, through a pack of it that has no scores yet. */
static int measure(struct build *b, struct told *t, const struct pack_meta *meta, struct err *e) {
    struct pack *p;
    int r = pack_writer_preview(b->writer, meta, &p, e);
    if (r < 0) return r;
    r = distortion_measure(b->t, p, &b->text.text, b->o->is_fast, t->lsaq, &t->losses, e);
    pack_close(p);
    b->scored = t->losses.result;
    return r;
}

static int finish(struct build *b, struct told *t, struct err *e) {
    struct pack_meta meta = {
        .source_sha256 = b->sha256,
        .source_name = base_name(b->o->source),
        .calibration = b->text.description,
        .method = b->o->is_fast ? "fast" : "feedback",
        .fallback = has_fallback(b) ? t->fallback : NULL,
        .scores = t->scores,
    };
    if (b->gate) {
        gate_table(b->gate, &t->gate);
        meta.gate = &t->gate.in;
    }
    int r = measure(b, t, &meta, e);
    if (r < 0) return r;
    memcpy(t->scores, t->losses.scores, t->losses.n_scores * sizeof(t->scores[0]));
    meta.n_scores = t->losses.n_scores;
    if (!b->o->is_fast) { /* without the full moments the errors are not known */
        t->scores[meta.n_scores++] = (struct pack_score_in){"ebb.distortion.full.error", t->full};
        t->scores[meta.n_scores++] = (struct pack_score_in){"ebb.distortion.high.error", t->high};
    }
    if (has_swsc(b)) {
        memcpy(t->swsc, b->third.error, b->h->n_layers * sizeof(float));
        t->swsc[b->h->n_layers] = NAN; /* the head keeps to its planes */
        t->scores[meta.n_scores++] = (struct pack_score_in){"ebb.distortion.swsc.error", t->swsc};
    }
    meta.ladders = t->losses.ladders;
    meta.n_ladders = DISTORTION_LADDERS;
    return pack_writer_finish(b->writer, &meta, e);
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
    b->units = calloc(model_n_units(b->h), sizeof(*b->units));
    if (!b->units) return err_set(e, -ENOMEM, "no memory for the units' errors");
    if (tok_n_vocab(b->tok) > b->h->n_vocab)
        return err_set(e, -EBADMSG, "%s: the tokenizer has %u tokens, the model %u", b->o->source,
                       tok_n_vocab(b->tok), b->h->n_vocab);
    return 0;
}

static int write_core(struct build *b, struct err *e) {
    return pack_writer_extent(b->writer, PACK_CORE, 0, source_core(b->source),
                              pack_core_bytes(b->h), e);
}

/* ---- interruptions ---------------------------------------------------------------------------
 */

static void set_field(struct build *b, const char *what, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void set_field(struct build *b, const char *what, const char *fmt, ...) {
    ASSERT(b->n_fields < RESUME_MAX_FIELDS);
    struct resume_field *f = &b->fields[b->n_fields++];
    va_list ap;
    f->what = what;
    va_start(ap, fmt);
    vsnprintf(f->value, sizeof(f->value), fmt, ap);
    va_end(ap);
}

/* All that the pack's bytes depend on, but for the model's own samples, which follow from it. */
static void set_fields(struct build *b) {
    const struct build_opts *o = b->o;
    set_field(b, "ebb-pack's version", "%s", EBB_VERSION);
    set_field(b, "the source's SHA-256", "%s", b->sha256);
    set_field(b, "the source's name", "%.200s", base_name(o->source));
    set_field(b, "--calib", "%.200s%s", o->calib ? base_name(o->calib) : "self",
              o->is_mixed ? ",self" : "");
    set_field(b, "--windows", "%" PRIu32, b->text_opts.n_windows);
    set_field(b, "--fast", "%s", o->is_fast ? "on" : "off");
    set_field(b, "--no-swsc", "%s", o->is_without_swsc ? "on" : "off");
    set_field(b, "--form", "%.40s",
              o->form              ? o->form
              : o->is_without_gate ? "default"
                                   : "by the gate");
    set_field(b, "the kind of CPU", "%s, %s", b->t->ops.name, gemm_cpu_name());
    set_field(b, "the calibration text's hash", "%016" PRIx64, b->text.file_xxh3);
}

/* The named form for every kind, at the gate's target. */
static int forced_forms(struct build *b, struct err *e) {
    unsigned rival = rival_find(b->o->form);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        struct rival_task k = {.n_layers = b->h->n_layers, .target = GATE_TARGET};
        model_mat_shape(b->h, (enum model_mat)m, &k.n_out, &k.n_in);
        if (rival == RIVAL_COUNT || !rival_form(&k, rival, &b->forms[m]))
            return err_set(e, -EINVAL, "'%.40s' is no form that layers can take", b->o->form);
    }
    return 0;
}

/* The forms of the third rung, by what source and text say of them; and tells the writer before
 * anything is written or kept: then nothing need move. */
static int choose_forms(struct build *b, struct err *e) {
    int r = 0;
    if (!has_swsc(b)) return 0;
    third_forms(b->h, b->forms);
    if (b->o->form)
        r = forced_forms(b, e);
    else if (!b->o->is_without_gate)
        r = gate_decide(b->t, b->source, &b->text.text, b->forms, &b->gate, e);
    return r == 0 ? pack_writer_swsc(b->writer, b->forms, e) : r;
}

static int start_anew(struct build *b, struct err *e) {
    int r = pack_writer_create(b->o->out, b->gguf, b->h, &b->writer, e);
    if (r == 0) r = resume_clear(b->o->out, e);
    return r;
}

/* Takes the output, with what a killed build left in it if there is any. What does not fit is left
 * alone: it may be the options that are wrong. */
static int take_up(struct build *b, struct err *e) {
    int r = resume_open(b->o->out, &b->resume, e);
    if (r == 0) r = resume_check(b->resume, b->fields, b->n_fields, e);
    if (r == 0) r = pack_writer_resume(b->o->out, b->gguf, b->h, &b->writer, e);
    if (r != -ENOENT) return r;
    resume_close(b->resume);
    b->resume = NULL;
    return start_anew(b, e);
}

/* The layers that the interrupted build had done. */
static int go_on(struct build *b, struct err *e) {
    const struct resume_state *s = resume_get(b->resume);
    struct calib_part parts[CALIB_PARTS];
    if (s->n_done == 0) return 0;
    if (s->n_done > b->h->n_layers)
        return err_set(e, -EBADMSG,
                       "cannot resume: %" PRIu32 " layers are done, the model has %" PRIu32,
                       s->n_done, b->h->n_layers);
    calib_parts(b->calib, s->n_done, parts);
    int r = resume_read(b->resume, parts, CALIB_PARTS, e);
    for (uint32_t u = 0; r == 0 && u < s->n_done; u++) {
        b->units[u] = s->units[u];
        r = pack_writer_keep(b->writer, PACK_HIGH, u, s->units[u].high, e);
        if (r == 0) r = pack_writer_keep(b->writer, PACK_LOW, u, s->units[u].low, e);
    }
    if (r < 0) return r;
    calib_go_on(b->calib, s->n_done);
    b->n_resumed = s->n_done;
    return 0;
}

/* n_done: layers. The planes go to the disk before the state that counts on them. */
static int save(struct build *b, uint32_t n_done, struct err *e) {
    const struct text *t = &b->text.text;
    size_t n_own = (size_t)b->text.n_own * t->window;
    struct resume_state s = {.fields = b->fields,
                             .n_fields = b->n_fields,
                             .own = t->ids + (size_t)t->n_windows * t->window - n_own,
                             .n_own = n_own,
                             .units = b->units,
                             .n_done = n_done};
    struct calib_part parts[CALIB_PARTS];
    if (n_done > 0) calib_parts(b->calib, n_done, parts);
    int r = pack_writer_sync(b->writer, e);
    if (r == 0) r = resume_save(b->o->out, &s, parts, n_done > 0 ? CALIB_PARTS : 0, e);
    return r;
}

static bool is_save_due(const struct build *b, uint32_t n_done) {
    uint32_t step = b->o->save_layers;
    if (step == 0) step = MAX(1u, MIN((uint32_t)SAVE_LAYERS, SAVE_WIDTH / b->h->n_embd));
    return n_done % step == 0 || n_done == b->h->n_layers;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int complete_text(struct build *b, struct err *e) {
    const struct resume_state *s = b->resume ? resume_get(b->resume) : NULL;
    for (size_t i = 0; s && i < s->n_own; i++)
        if (s->own[i] >= b->h->n_vocab)
            return err_set(e, -EBADMSG, "cannot resume: own sample %zu is no token of the model",
                           i);
    int r = calibtext_complete(&b->text_opts, b->t, b->gguf, b->tok, s ? s->own : NULL,
                               s ? s->n_own : 0, &b->text, e);
    /* Own samples take long; a file is soon read again. */
    if (r == 0 && b->text.n_own > 0 && !s) r = save(b, 0, e);
    return r;
}

static int build_layers(struct build *b, struct err *e) {
    const struct text *t = &b->text.text;
    int r = calib_create(b->t->mem, b->source, t->ids, t->n_windows, t->window, b->o->is_fast,
                         &b->calib, e);
    if (r == 0 && b->resume) r = go_on(b, e);
    for (uint32_t l = b->n_resumed; r == 0 && l < b->h->n_layers; l++) {
        r = build_layer(b, l, e);
        if (r == 0 && is_save_due(b, l + 1)) r = save(b, l + 1, e);
        progress_tell(&b->t->progress, "calibrating and packing", l + 1, b->h->n_layers, "layers");
    }
    return r;
}

static int build_units(struct build *b, struct err *e) {
    struct importance *im = NULL;
    struct told told = {0};
    int r = build_layers(b, e);
    if (r < 0) return r;
    calib_finish(b->calib);
    r = importance_create(b->t->mem, b->source, b->calib, &im, e);
    if (r == 0) r = build_head(b, im, e);
    if (r == 0) r = told_init(&told, b, im, e);
    importance_destroy(im);
    /* What is measured last needs memory more than the hidden states do. */
    calib_destroy(b->calib);
    b->calib = NULL;
    if (r == 0 && has_swsc(b))
        r = third_run(b->t, b->source, &b->text.text, b->forms, b->writer, &b->third, e);
    if (r == 0) r = finish(b, &told, e);
    told_fini(&told);
    return r;
}

static void report(const struct build *b, struct build_report *ret) {
    *ret = (struct build_report){.n_windows = b->text.text.n_windows,
                                 .n_asked = b->text_opts.n_windows,
                                 .window = b->text.text.window,
                                 .n_own = b->text.n_own,
                                 .n_resumed = b->n_resumed,
                                 .n_scored = b->scored.n_positions,
                                 .hparams = *b->h};
    for (uint32_t u = 0; u < model_n_units(b->h); u++) {
        struct pack_mat_layout layout[MODEL_MAT_COUNT];
        const struct resume_unit *x = &b->units[u];
        ret->n_weights += x->stats.n_weights;
        ret->n_clipped += x->stats.n_clipped;
        ret->fallback[u] = x->fallback;
        ret->n_fallbacks += (uint32_t)__builtin_popcount(x->fallback);
        ret->high_bytes += pack_unit_layout(b->h, u, PACK_HIGH, layout);
        ret->full_bytes += pack_unit_layout(b->h, u, PACK_LOW, layout);
    }
    ret->full_bytes += ret->high_bytes;
    if (!has_swsc(b)) return;
    ret->n_fitted = b->third.n_windows;
    ret->swsc_bytes = b->h->n_layers * pack_swsc_bytes(b->h, b->forms) +
                      pack_books_bytes(b->h, b->forms);
    ret->n_layer_weights = ret->n_weights - b->units[b->h->n_layers].stats.n_weights;
}

static void set_text_opts(struct build *b) {
    const struct build_opts *o = b->o;
    uint32_t n = o->is_fast    ? BUILD_FAST_WINDOWS
                 : o->is_mixed ? BUILD_MIXED_WINDOWS
                 : o->calib    ? BUILD_WINDOWS
                               : BUILD_SELF_WINDOWS;
    b->text_opts = (struct calibtext_opts){
        .path = o->calib,
        .is_mixed = o->is_mixed,
        .n_windows = o->n_windows ? o->n_windows : n,
        .window = o->is_fast ? BUILD_FAST_WINDOW : BUILD_WINDOW,
    };
}

int build_run(struct tools *t, const struct build_opts *o, struct build_report *ret,
              struct err *e) {
    struct build b = {.t = t, .o = o};
    set_text_opts(&b);
    int r = open_source(&b, e);
    /* The output is taken first: a second packer on it should not find out after minutes. Only
     * what is resumed must be known to be the same before. */
    if (r == 0 && !o->is_resumed) r = start_anew(&b, e);
    if (r == 0) r = hash_source(&b, e);
    if (r == 0) r = calibtext_read(&b.text_opts, b.tok, &b.text, e);
    if (r == 0) set_fields(&b);
    if (r == 0 && o->is_resumed) r = take_up(&b, e);
    if (r == 0) r = complete_text(&b, e);
    if (r == 0) r = choose_forms(&b, e);
    if (r == 0) r = write_core(&b, e);
    if (r == 0 && !b.h->is_tied) r = build_embd(&b, e);
    if (r == 0) r = build_units(&b, e);
    if (r == 0) report(&b, ret);
    /* The state is of no use without the temporary file, which goes with the writer. */
    int cleared = b.writer ? resume_clear(o->out, r < 0 ? NULL : e) : 0;
    if (r == 0) r = cleared;
    pack_writer_destroy(b.writer);
    resume_close(b.resume);
    calib_destroy(b.calib);
    calibtext_fini(&b.text);
    free(b.units);
    free(b.gate);
    source_destroy(b.source);
    tok_destroy(b.tok);
    gguf_close(b.gguf);
    return r;
}
