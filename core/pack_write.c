/* The header's length depends on ladders and scores that are known last, but the extents come
 * first. So room for the header is set aside when the writer is made, from bounds on what may go
 * into it, and ebb.pad fills what is left: the data section begins where it was planned, without a
 * byte that no checksum covers. */
#include "core/pack_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "core/pack_temp.h"

enum {
    MAX_TEXT = 4096, /* of a string in pack_meta */
    /* What the header may hold per unit: 24 scores or masks, and 6 ladders of 3 steps of 18 bytes.
     */
    UNIT_META_BYTES = 24 * 4 + 6 * 3 * 18,
    MAX_GATE_NAME = 64,
    FIXED_META_BYTES = 28 << 10, /* three strings of MAX_TEXT, key names, forms, a gate */
    EXTENT_META_BYTES = 64,      /* a line of the tensor table, and a checksum */
    MOVE_BYTES = 1 << 20,        /* read and written at once when an extent moves */
};

struct pack_writer {
    struct pack_temp *temp;
    const struct gguf *src; /* borrowed */
    struct model_hparams h;
    bool has_swsc;
    struct swsc_form forms[MODEL_LAYER_MATS]; /* with has_swsc */
    uint64_t data_offset;
    size_t n_extents;
    struct pack_extent *extents; /* offset: from the data section */
    bool *is_written;
    XXH3_state_t *hash;
    bool is_finished;
};

/* --- A growing buffer for the header ---------------------------------------------------------- */

struct out {
    uint8_t *p; /* owned */
    size_t n, room;
    uint64_t n_keys;
    bool is_full; /* no memory; later puts do nothing */
};

static void put(struct out *o, const void *data, size_t n) {
    size_t need;
    if (o->is_full || n == 0) return;
    if (!size_add(o->n, n, &need)) goto full;
    if (need > o->room) {
        size_t room;
        if (!size_mul(need, 2, &room)) goto full;
        uint8_t *p = realloc(o->p, room);
        if (!p) goto full;
        o->p = p;
        o->room = room;
    }
    memcpy(o->p + o->n, data, n);
    o->n = need;
    return;
full:
    o->is_full = true;
}

static void put_u32(struct out *o, uint32_t v) {
    uint8_t b[4];
    bytes_put_u32(b, v);
    put(o, b, sizeof(b));
}

static void put_u64(struct out *o, uint64_t v) {
    uint8_t b[8];
    bytes_put_u64(b, v);
    put(o, b, sizeof(b));
}

static void put_text(struct out *o, const char *s, size_t n) {
    put_u64(o, n);
    put(o, s, n);
}

static void put_key(struct out *o, const char *key, enum gguf_type type) {
    put_text(o, key, strlen(key));
    put_u32(o, (uint32_t)type);
    o->n_keys++;
}

static void put_key_u32(struct out *o, const char *key, uint32_t v) {
    put_key(o, key, GGUF_U32);
    put_u32(o, v);
}

static void put_key_text(struct out *o, const char *key, const char *s) {
    put_key(o, key, GGUF_STRING);
    put_text(o, s, strlen(s));
}

static void put_key_array(struct out *o, const char *key, enum gguf_type elem, uint64_t n) {
    put_key(o, key, GGUF_ARRAY);
    put_u32(o, (uint32_t)elem);
    put_u64(o, n);
}

/* --- What is carried over from the source ----------------------------------------------------- */

static bool is_carried(const struct gguf_value *v) {
    static const char *const prefixes[] = {"general.", "llama.", "tokenizer."};
    static const char alignment[] = "general.alignment"; /* ours instead */
    if (v->key.n == sizeof(alignment) - 1 && memcmp(v->key.p, alignment, v->key.n) == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (v->key.n > n && memcmp(v->key.p, prefixes[i], n) == 0) return true;
    }
    return false;
}

static void put_carried(struct out *o, const struct gguf *src) {
    put_key_u32(o, "general.alignment", PACK_ALIGN);
    for (size_t i = 0; i < gguf_n_values(src); i++) {
        const struct gguf_value *v = gguf_value_at(src, i);
        if (!is_carried(v)) continue;
        put_text(o, v->key.p, v->key.n);
        put_u32(o, (uint32_t)v->type);
        if (v->type == GGUF_ARRAY) {
            put_u32(o, (uint32_t)v->elem);
            put_u64(o, v->n);
        }
        put(o, v->data, v->data_bytes);
        o->n_keys++;
    }
}

static void put_tensor_table(struct out *o, const struct pack_writer *w) {
    for (size_t i = 0; i < w->n_extents; i++) {
        const struct pack_extent *x = &w->extents[i];
        put_text(o, x->name, strlen(x->name));
        put_u32(o, 1);
        put_u64(o, x->bytes);
        put_u32(o, GGUF_T_I8);
        put_u64(o, x->offset);
    }
}

/* --- Creation --------------------------------------------------------------------------------- */

static int plan_header(struct pack_writer *w, struct err *e) {
    struct out o = {0};
    put_carried(&o, w->src);
    put_tensor_table(&o, w);
    /* One extent more a unit, as there may be a rung swsc and books. */
    uint64_t n = o.n + FIXED_META_BYTES + w->n_extents * sizeof(uint64_t) +
                 (uint64_t)model_n_units(&w->h) * (UNIT_META_BYTES + EXTENT_META_BYTES);
    bool is_full = o.is_full;
    free(o.p);
    if (is_full) return err_set(e, -ENOMEM, "no memory for the pack's header");
    w->data_offset = (n + PACK_ALIGN - 1) & ~(uint64_t)(PACK_ALIGN - 1);
    if (w->data_offset > GGUF_MAX_HEADER_BYTES)
        return err_set(e, -ENOTSUP, "the source's metadata is too long for a pack");
    return 0;
}

static int start(const char *path, const struct gguf *src, const struct model_hparams *h,
                 bool is_resumed, struct pack_writer **ret, struct err *e) {
    struct pack_writer *w = calloc(1, sizeof(*w));
    if (!w) return err_set(e, -ENOMEM, "%s: no memory", path);
    w->src = src;
    w->h = *h;
    w->n_extents = pack_plan_extents(h, NULL, NULL);
    w->extents = calloc(w->n_extents, sizeof(*w->extents));
    w->is_written = calloc(w->n_extents, sizeof(*w->is_written));
    w->hash = XXH3_createState();
    int r = -ENOMEM;
    if (!w->extents || !w->is_written || !w->hash) {
        r = err_set(e, r, "%s: no memory", path);
        goto out;
    }
    pack_plan_extents(h, NULL, w->extents);
    r = plan_header(w, e);
    if (r < 0) goto out;
    r = is_resumed ? pack_temp_adopt(path, &w->temp, e) : pack_temp_create(path, &w->temp, e);
    if (r < 0) goto out;
    *ret = w;
    w = NULL;
out:
    pack_writer_destroy(w);
    return r;
}

int pack_writer_create(const char *path, const struct gguf *src, const struct model_hparams *h,
                       struct pack_writer **ret, struct err *e) {
    return start(path, src, h, false, ret, e);
}

int pack_writer_resume(const char *path, const struct gguf *src, const struct model_hparams *h,
                       struct pack_writer **ret, struct err *e) {
    return start(path, src, h, true, ret, e);
}

void pack_writer_destroy(struct pack_writer *w) {
    if (!w) return;
    pack_temp_destroy(w->temp);
    XXH3_freeState(w->hash);
    free(w->extents);
    free(w->is_written);
    free(w);
}

/* --- The rung swsc ---------------------------------------------------------------------------- */

/* Bytes [from, from + n) of the data section to a higher place, back to front as they overlap. */
static int move_bytes(struct pack_writer *w, uint64_t from, uint64_t to, uint64_t n, void *buf,
                      struct err *e) {
    int r = 0;
    for (uint64_t left = n; r == 0 && left > 0;) {
        size_t k = (size_t)MIN(left, (uint64_t)MOVE_BYTES);
        left -= k;
        r = pack_temp_read(w->temp, w->data_offset + from + left, buf, k, e);
        if (r == 0) r = pack_temp_write(w->temp, w->data_offset + to + left, buf, k, e);
    }
    return r;
}

/* What is written goes from its old place to its new one; extents keep their order, and none comes
 * to lie before its old place, so the last goes first. */
static int move_extents(struct pack_writer *w, struct pack_extent *to, bool *is_written,
                        struct err *e) {
    void *buf = malloc(MOVE_BYTES);
    if (!buf) return err_set(e, -ENOMEM, "no memory to move extents");
    int r = 0;
    for (size_t i = w->n_extents; r == 0 && i-- > 0;) {
        const struct pack_extent *x = &w->extents[i];
        size_t k = pack_extent_index(&w->h, w->forms, x->part, x->unit);
        if (!w->is_written[i]) continue;
        if (to[k].offset != x->offset) r = move_bytes(w, x->offset, to[k].offset, x->bytes, buf, e);
        to[k].xxh3 = x->xxh3;
        is_written[k] = true;
    }
    free(buf);
    return r;
}

int pack_writer_swsc(struct pack_writer *w, const struct swsc_form forms[MODEL_LAYER_MATS],
                     struct err *e) {
    if (w->has_swsc || w->is_finished)
        return err_set(e, -EINVAL, "the pack's swsc forms are said already, or it is finished");
    int r = swsc_check(&w->h, forms, e);
    if (r < 0) return r;
    memcpy(w->forms, forms, sizeof(w->forms));
    size_t n = pack_plan_extents(&w->h, w->forms, NULL);
    struct pack_extent *to = calloc(n, sizeof(*to));
    bool *is_written = calloc(n, sizeof(*is_written));
    if (!to || !is_written) {
        r = err_set(e, -ENOMEM, "no memory for %zu extents", n);
        goto out;
    }
    pack_plan_extents(&w->h, w->forms, to);
    r = move_extents(w, to, is_written, e);
    if (r < 0) {
        w->is_finished = true; /* nobody knows any more what lies where */
        goto out;
    }
    free(w->extents);
    free(w->is_written);
    w->extents = to;
    w->is_written = is_written;
    w->n_extents = n;
    w->has_swsc = true;
    return 0;
out:
    free(to);
    free(is_written);
    return r;
}

/* --- Extents ---------------------------------------------------------------------------------- */

static uint64_t natural_bytes(const struct pack_writer *w, const struct pack_extent *x) {
    switch (x->part) {
    case PACK_CORE: return pack_core_bytes(&w->h);
    case PACK_EMBD: return pack_embd_bytes(&w->h);
    case PACK_HIGH:
    case PACK_LOW:
    case PACK_BOOKS:
    case PACK_SWSC: break;
    }
    return x->bytes;
}

static size_t find(const struct pack_writer *w, enum pack_part part, uint32_t unit) {
    size_t i = 0;
    while (i < w->n_extents && (w->extents[i].part != part || w->extents[i].unit != unit)) i++;
    return i;
}

/* A pack that would not bind later is not written now. */
static int check_data(const struct pack_writer *w, const struct pack_extent *x, const void *data,
                      struct err *e) {
    uint8_t dir[PACK_DIR_BYTES + MODEL_LAYER_MATS * PACK_DIR_ENTRY_BYTES];
    if (x->part == PACK_SWSC) return pack_check_swsc(&w->h, w->forms, x->unit, data, x->bytes, e);
    if (x->part == PACK_BOOKS) return pack_check_books(&w->h, w->forms, data, x->bytes, e);
    if (x->part != PACK_HIGH && x->part != PACK_LOW) return 0;
    bool is_head = x->unit == w->h.n_layers;
    size_t n = PACK_DIR_BYTES + (is_head ? 1u : MODEL_LAYER_MATS) * PACK_DIR_ENTRY_BYTES;
    pack_unit_dir(&w->h, x->unit, x->part, dir);
    if (memcmp(dir, data, n) == 0) return 0;
    return err_set(e, -EINVAL, "%s: does not begin with its directory", x->name);
}

int pack_writer_extent(struct pack_writer *w, enum pack_part part, uint32_t unit, const void *data,
                       uint64_t bytes, struct err *e) {
    static const uint8_t zeros[4096];
    size_t i = find(w, part, unit);
    if (i == w->n_extents || w->is_finished)
        return err_set(e, -EINVAL, "the pack has no such extent to write");
    struct pack_extent *x = &w->extents[i];
    if (w->is_written[i]) return err_set(e, -EINVAL, "%s: written twice", x->name);
    if (bytes != natural_bytes(w, x))
        return err_set(e, -EINVAL, "%s: %" PRIu64 " bytes, not %" PRIu64, x->name, bytes,
                       natural_bytes(w, x));
    int r = check_data(w, x, data, e);
    if (r < 0) return r;
    uint64_t at = w->data_offset + x->offset;
    r = pack_temp_write(w->temp, at, data, (size_t)bytes, e);
    XXH3_64bits_reset(w->hash);
    XXH3_64bits_update(w->hash, data, (size_t)bytes);
    for (uint64_t done = bytes; done < x->bytes && r == 0;) {
        size_t n = (size_t)MIN(x->bytes - done, (uint64_t)sizeof(zeros));
        r = pack_temp_write(w->temp, at + done, zeros, n, e);
        XXH3_64bits_update(w->hash, zeros, n);
        done += n;
    }
    if (r < 0) return r;
    x->xxh3 = XXH3_64bits_digest(w->hash);
    w->is_written[i] = true;
    return 0;
}

int pack_writer_keep(struct pack_writer *w, enum pack_part part, uint32_t unit, uint64_t xxh3,
                     struct err *e) {
    size_t i = find(w, part, unit);
    if (i == w->n_extents || w->is_written[i])
        return err_set(e, -EINVAL, "the pack has no such extent to keep");
    struct pack_extent *x = &w->extents[i];
    void *data = malloc((size_t)x->bytes);
    if (!data) return err_set(e, -ENOMEM, "%s: no memory to read it back", x->name);
    int r = pack_temp_read(w->temp, w->data_offset + x->offset, data, (size_t)x->bytes, e);
    if (r == 0 && XXH3_64bits(data, (size_t)x->bytes) != xxh3)
        r = err_set(e, -EBADMSG, "%s: the unfinished pack holds other bytes than were noted",
                    x->name);
    free(data);
    if (r < 0) return r;
    x->xxh3 = xxh3;
    w->is_written[i] = true;
    return 0;
}

int pack_writer_sync(struct pack_writer *w, struct err *e) {
    return pack_temp_sync(w->temp, e);
}

uint64_t pack_writer_xxh3(const struct pack_writer *w, enum pack_part part, uint32_t unit) {
    size_t i = find(w, part, unit);
    ASSERT(i < w->n_extents && w->is_written[i]);
    return w->extents[i].xxh3;
}

/* --- Header ----------------------------------------------------------------------------------- */

static int check_meta(const struct pack_writer *w, const struct pack_meta *m, struct err *e) {
    for (size_t i = 0; i < w->n_extents; i++)
        if (!w->is_written[i])
            return err_set(e, -EINVAL, "extent %s was not written", w->extents[i].name);
    if (strlen(m->source_sha256) != 64 || strspn(m->source_sha256, "0123456789abcdef") != 64)
        return err_set(e, -EINVAL, "the source's SHA-256 is not 64 hex digits");
    const char *texts[] = {m->source_name, m->calibration, m->method ? m->method : ""};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strlen(texts[i]) > MAX_TEXT || strpbrk(texts[i], "\r\n"))
            return err_set(e, -EINVAL, "a text for the header is longer than %d bytes or one line",
                           MAX_TEXT);
    for (size_t i = 0; i < m->n_scores; i++)
        if (strncmp(m->scores[i].key, "ebb.", 4) != 0)
            return err_set(e, -EINVAL, "score %s: its key must begin with ebb.", m->scores[i].key);
    if (m->gate && (m->gate->n == 0 || m->gate->n > PACK_GATE_MAX))
        return err_set(e, -EINVAL, "a gate of %u forms", m->gate->n);
    for (uint32_t i = 0; m->gate && i < m->gate->n; i++)
        if (strlen(m->gate->names[i]) > MAX_GATE_NAME)
            return err_set(e, -EINVAL, "the name of a form is longer than %d bytes", MAX_GATE_NAME);
    return 0;
}

static void put_ladder_key(struct out *o, const char *name, const char *field, enum gguf_type elem,
                           uint64_t n) {
    static const char prefix[] = "ebb.ladder.";
    put_u64(o, sizeof(prefix) - 1 + strlen(name) + 1 + strlen(field));
    put(o, prefix, sizeof(prefix) - 1);
    put(o, name, strlen(name));
    put(o, ".", 1);
    put(o, field, strlen(field));
    put_u32(o, GGUF_ARRAY);
    put_u32(o, (uint32_t)elem);
    put_u64(o, n);
    o->n_keys++;
}

static void put_ladder(struct out *o, const struct pack_ladder_in *l) {
    put_ladder_key(o, l->name, "unit", GGUF_U32, l->n_steps);
    for (uint32_t i = 0; i < l->n_steps; i++) put_u32(o, l->steps[i].unit);
    put_ladder_key(o, l->name, "from", GGUF_U8, l->n_steps);
    for (uint32_t i = 0; i < l->n_steps; i++) put(o, &(uint8_t){(uint8_t)l->steps[i].from}, 1);
    put_ladder_key(o, l->name, "to", GGUF_U8, l->n_steps);
    for (uint32_t i = 0; i < l->n_steps; i++) put(o, &(uint8_t){(uint8_t)l->steps[i].to}, 1);
    put_ladder_key(o, l->name, "bytes", GGUF_U64, l->n_steps);
    for (uint32_t i = 0; i < l->n_steps; i++) put_u64(o, l->steps[i].bytes);
    put_ladder_key(o, l->name, "cost", GGUF_F32, l->n_steps);
    for (uint32_t i = 0; i < l->n_steps; i++) put(o, &l->steps[i].cost, sizeof(float));
}

static void put_forms(struct out *o, const struct swsc_form *f) {
    static const struct {
        const char *key;
        enum gguf_type elem;
    } fields[] = {{"ebb.swsc.base", GGUF_U8},        {"ebb.swsc.len", GGUF_U8},
                  {"ebb.swsc.bits", GGUF_U8},        {"ebb.swsc.k", GGUF_U32},
                  {"ebb.swsc.shared", GGUF_U8},      {"ebb.swsc.rank", GGUF_U32},
                  {"ebb.swsc.factor_bits", GGUF_U8}, {"ebb.swsc.basis_shared", GGUF_U8}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        put_key_array(o, fields[i].key, fields[i].elem, MODEL_LAYER_MATS);
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            const uint32_t v[ARRAY_LEN(fields)] = {
                (uint32_t)f[m].base, f[m].len,  f[m].bits,        f[m].k,
                f[m].is_shared,      f[m].rank, f[m].factor_bits, f[m].is_basis_shared};
            uint8_t b[4];
            bytes_put_u32(b, v[i]); /* a u8 is its first byte */
            put(o, b, fields[i].elem == GGUF_U8 ? 1 : sizeof(b));
        }
    }
}

static void put_gate(struct out *o, const struct pack_gate_in *g) {
    size_t n = (size_t)g->n * MODEL_LAYER_MATS;
    put_key_array(o, "ebb.gate.names", GGUF_STRING, g->n);
    for (uint32_t i = 0; i < g->n; i++) put_text(o, g->names[i], strlen(g->names[i]));
    put_key(o, "ebb.gate.target", GGUF_F32);
    put(o, &g->target, sizeof(float));
    put_key_array(o, "ebb.gate.bits", GGUF_F32, n);
    put(o, g->bits, n * sizeof(float));
    put_key_array(o, "ebb.gate.error", GGUF_F32, n);
    put(o, g->error, n * sizeof(float));
    put_key_array(o, "ebb.gate.can_win", GGUF_U8, n);
    put(o, g->can_win, n);
    put_key_array(o, "ebb.gate.winner", GGUF_U32, MODEL_LAYER_MATS);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) put_u32(o, g->winner[m]);
    put_key_array(o, "ebb.gate.margin", GGUF_F32, MODEL_LAYER_MATS);
    put(o, g->margin, MODEL_LAYER_MATS * sizeof(float));
}

static void put_ours(struct out *o, const struct pack_writer *w, const struct pack_meta *m) {
    put_key_u32(o, "ebb.version", PACK_VERSION);
    put_key_text(o, "ebb.packer", EBB_VERSION);
    put_key_u32(o, "ebb.units", model_n_units(&w->h));
    put_key_text(o, "ebb.source.sha256", m->source_sha256);
    put_key_text(o, "ebb.source.name", m->source_name);
    put_key_text(o, "ebb.calibration", m->calibration);
    if (m->method) put_key_text(o, "ebb.method", m->method);
    if (m->fallback) {
        put_key_array(o, "ebb.fallback", GGUF_U32, model_n_units(&w->h));
        for (uint32_t u = 0; u < model_n_units(&w->h); u++) put_u32(o, m->fallback[u]);
    }
    if (w->has_swsc) put_forms(o, w->forms);
    if (m->gate) put_gate(o, m->gate);
    put_key_array(o, "ebb.extents.xxh3", GGUF_U64, w->n_extents);
    for (size_t i = 0; i < w->n_extents; i++) put_u64(o, w->extents[i].xxh3);
    for (size_t i = 0; i < m->n_scores; i++) {
        put_key_array(o, m->scores[i].key, GGUF_F32, model_n_units(&w->h));
        put(o, m->scores[i].v, model_n_units(&w->h) * sizeof(float));
    }
    put_key_array(o, "ebb.ladders", GGUF_STRING, m->n_ladders);
    for (size_t i = 0; i < m->n_ladders; i++)
        put_text(o, m->ladders[i].name, strlen(m->ladders[i].name));
    for (size_t i = 0; i < m->n_ladders; i++) put_ladder(o, &m->ladders[i]);
}

/* The pad's length follows from everything around it, so what comes after it is built first. */
static int build_header(const struct pack_writer *w, const struct pack_meta *m, struct out *o,
                        struct err *e) {
    static const char sum_key[] = "ebb.header.xxh3", pad_key[] = "ebb.pad";
    enum { FIXED = 24, PAD_HEAD = 8 + sizeof(pad_key) - 1 + 4 + 4 + 8 };
    struct out tail = {0};
    uint8_t fixed[FIXED] = "GGUF";
    int r = 0;
    put(o, fixed, sizeof(fixed));
    put_carried(o, w->src);
    put_ours(o, w, m);
    put_key(&tail, sum_key, GGUF_U64);
    size_t sum_in_tail = tail.n;
    put_u64(&tail, 0);
    put_tensor_table(&tail, w);
    uint64_t n = (uint64_t)o->n + PAD_HEAD + tail.n;
    if (n > w->data_offset) {
        r = err_set(e, -ENOSPC,
                    "scores and ladders need %" PRIu64 " bytes of header, %" PRIu64
                    " are set aside",
                    n, w->data_offset);
        goto out;
    }
    put_key_array(o, pad_key, GGUF_U8, w->data_offset - n);
    for (uint64_t i = n; i < w->data_offset; i++) put(o, &(uint8_t){0}, 1);
    size_t sum_at = o->n + sum_in_tail;
    put(o, tail.p, tail.n);
    if (o->is_full || tail.is_full) {
        r = err_set(e, -ENOMEM, "no memory for the pack's header");
        goto out;
    }
    ASSERT(o->n == w->data_offset);
    bytes_put_u32(o->p + 4, 3);
    bytes_put_u64(o->p + 8, w->n_extents);
    bytes_put_u64(o->p + 16, o->n_keys + 1); /* and the checksum, counted in the tail */
    bytes_put_u64(o->p + sum_at, XXH3_64bits(o->p, o->n));
out:
    free(tail.p);
    return r;
}

static int write_header(struct pack_writer *w, const struct pack_meta *meta, struct err *e) {
    struct out o = {0};
    if (w->is_finished) return err_set(e, -EINVAL, "the pack is finished already");
    int r = check_meta(w, meta, e);
    if (r == 0) r = build_header(w, meta, &o, e);
    if (r == 0) r = pack_temp_write(w->temp, 0, o.p, o.n, e);
    free(o.p);
    return r;
}

int pack_writer_preview(struct pack_writer *w, const struct pack_meta *meta, struct pack **ret,
                        struct err *e) {
    struct pack_meta bare = *meta;
    bare.scores = NULL;
    bare.ladders = NULL;
    bare.n_scores = bare.n_ladders = 0;
    int r = write_header(w, &bare, e);
    return r == 0 ? pack_open(pack_temp_path(w->temp), ret, e) : r;
}

int pack_writer_finish(struct pack_writer *w, const struct pack_meta *meta, struct err *e) {
    struct pack *p;
    int r = write_header(w, meta, e);
    w->is_finished = true;
    if (r == 0) r = pack_temp_sync(w->temp, e);
    if (r < 0) return r;
    /* What the daemon would refuse must not get the final name. */
    r = pack_open(pack_temp_path(w->temp), &p, e);
    if (r < 0) {
        err_prefix(e, "the new pack does not read back");
        return r;
    }
    pack_close(p);
    return pack_temp_publish(w->temp, e);
}
