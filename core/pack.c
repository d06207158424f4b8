/* Opens and reads packs. pack_open() believes nothing: the header's checksum first, then that the
 * extents are exactly those of the model's sizes, in order, from the data section to the end of
 * the file. So a reader of an extent knows its size without asking the file.
 *
 * Immutable after pack_open(); the descriptor stays the file that was checked, whatever happens to
 * its name, and every read is verified, whatever happens to its bytes. */
#include "core/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/dequant.h"
#include "core/err.h"
#include "core/gguf.h"

enum { MAX_LADDERS = 16, MAX_MODEL_NAME = 64, MAX_LADDER_KEY = 96 };

struct pack {
    struct gguf *g;
    struct model_hparams h;
    bool has_swsc;
    struct swsc_form forms[MODEL_LAYER_MATS]; /* with has_swsc */
    struct stat st; /* at open; tells a damaged disk from a file written over */
    char name[MAX_MODEL_NAME + 1];
    size_t n_extents;
    struct pack_extent *extents;
    size_t n_ladders;
    struct ladder *ladders[MAX_LADDERS];
};

/* A required key: its absence is corruption, not a question. */
static int required(int r) {
    return r == -ENOENT ? -EBADMSG : r;
}

/* --- Header ----------------------------------------------------------------------------------- */

static int check_version(const struct gguf *g, struct err *e) {
    uint32_t version = 0;
    int r = gguf_get_u32(g, "ebb.version", &version, e);
    if (r == -ENOENT)
        return err_set(
            e, -EBADMSG,
            "not an ebb pack (key ebb.version is missing); make one with ebb-pack build");
    if (r < 0) return r;
    if (version != PACK_VERSION)
        return err_set(e, -ENOTSUP,
                       "pack version %" PRIu32 " is not supported, only %d; build it again",
                       version, PACK_VERSION);
    if (gguf_alignment(g) != PACK_ALIGN)
        return err_set(e, -EBADMSG, "general.alignment is %" PRIu32 ", not %d", gguf_alignment(g),
                       PACK_ALIGN);
    return 0;
}

static int check_header_sum(const struct gguf *g, struct err *e) {
    static const uint8_t zeros[8];
    const struct gguf_value *v = gguf_find(g, "ebb.header.xxh3");
    size_t n = gguf_n_values(g);
    if (!v || v->type != GGUF_U64 || v != gguf_value_at(g, n - 1))
        return err_set(e, -EBADMSG, "header: the last key is not ebb.header.xxh3");
    XXH3_state_t *x = XXH3_createState();
    if (!x) return err_set(e, -ENOMEM, "no memory");
    const uint8_t *head = gguf_header(g);
    uint64_t at = v->file_offset, end = at + sizeof(zeros);
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, head, (size_t)at);
    XXH3_64bits_update(x, zeros, sizeof(zeros));
    XXH3_64bits_update(x, head + end, (size_t)(gguf_data_offset(g) - end));
    uint64_t sum = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    if (sum != gguf_elem_u64(v, 0))
        return err_set(e, -EBADMSG, "header: checksum differs (bytes 0 .. %" PRIu64 ")",
                       gguf_data_offset(g));
    return 0;
}

/* Scores have one number a unit; nothing here reads them, but what shows them may rely on it. */
static int check_scores(const struct pack *p, struct err *e) {
    static const char *const prefixes[] = {"ebb.importance.", "ebb.distortion."};
    for (size_t i = 0; i < gguf_n_values(p->g); i++) {
        const struct gguf_value *v = gguf_value_at(p->g, i);
        for (size_t k = 0; k < ARRAY_LEN(prefixes); k++) {
            size_t n = strlen(prefixes[k]);
            if (v->key.n < n || memcmp(v->key.p, prefixes[k], n) != 0) continue;
            if (v->type != GGUF_ARRAY || v->elem != GGUF_F32 || v->n != model_n_units(&p->h))
                return err_set(e, -EBADMSG, "key %.*s is not one f32 a unit", (int)v->key.n,
                               v->key.p);
        }
    }
    return 0;
}

static int check_fallback(const struct pack *p, struct err *e) {
    const struct gguf_value *v = gguf_find(p->g, "ebb.fallback");
    if (v && (v->type != GGUF_ARRAY || v->elem != GGUF_U32 || v->n != model_n_units(&p->h)))
        return err_set(e, -EBADMSG, "key ebb.fallback is not one u32 a unit");
    return 0;
}

static void make_name(struct pack *p) {
    struct gguf_str s;
    size_t n = 0;
    if (gguf_get_str(p->g, "general.name", &s, NULL) == 0)
        for (size_t i = 0; i < s.n && n < MAX_MODEL_NAME; i++) {
            char c = s.p[i];
            bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_';
            if (is_word)
                p->name[n++] = c;
            else if (n > 0 && p->name[n - 1] != '-')
                p->name[n++] = '-';
        }
    while (n > 0 && p->name[n - 1] == '-') n--;
    p->name[n] = '\0';
    /* Dots alone would be a folder to whoever makes a file name of it. */
    if (strspn(p->name, ".") == n) strcpy(p->name, "model");
}

/* --- Extents ---------------------------------------------------------------------------------- */

static int check_extent(const struct gguf_tensor *t, const struct pack_extent *x, struct err *e) {
    if (t->name.n != strlen(x->name) || memcmp(t->name.p, x->name, t->name.n) != 0)
        return err_set(e, -EBADMSG, "extent %s is expected where %.*s is listed", x->name,
                       (int)t->name.n, t->name.p);
    if (t->type != GGUF_T_I8 || t->n_dims != 1 || t->bytes != x->bytes)
        return err_set(e, -EBADMSG, "%s: not one I8 row of %" PRIu64 " bytes", x->name, x->bytes);
    if (t->offset != x->offset)
        return err_set(e, -EBADMSG, "%s: at byte %" PRIu64 ", not at byte %" PRIu64, x->name,
                       t->offset, x->offset);
    return 0;
}

static int read_extents(struct pack *p, struct err *e) {
    const struct gguf_value *sums;
    size_t n = pack_plan_extents(&p->h, pack_swsc(p), NULL);
    if (gguf_n_tensors(p->g) != n)
        return err_set(e, -EBADMSG, "%zu extents, the model's sizes need %zu", gguf_n_tensors(p->g),
                       n);
    int r = gguf_get_array(p->g, "ebb.extents.xxh3", GGUF_U64, &sums, e);
    if (r < 0) return required(r);
    if (sums->n != n)
        return err_set(e, -EBADMSG, "ebb.extents.xxh3: %" PRIu64 " checksums for %zu extents",
                       sums->n, n);
    p->extents = calloc(n, sizeof(*p->extents));
    if (!p->extents) return err_set(e, -ENOMEM, "no memory for %zu extents", n);
    p->n_extents = n;
    pack_plan_extents(&p->h, pack_swsc(p), p->extents);
    uint64_t at = gguf_data_offset(p->g);
    for (size_t i = 0; i < n; i++) {
        struct pack_extent *x = &p->extents[i];
        x->offset = at;
        x->xxh3 = gguf_elem_u64(sums, i);
        r = check_extent(gguf_tensor_at(p->g, i), x, e);
        if (r < 0) return r;
        at += x->bytes;
    }
    if (at != gguf_file_bytes(p->g))
        return err_set(e, -EBADMSG, "the file has %" PRIu64 " bytes, its extents end at %" PRIu64,
                       gguf_file_bytes(p->g), at);
    return 0;
}

/* --- Ladders ---------------------------------------------------------------------------------- */

static int ladder_array(const struct pack *p, const char *name, const char *field,
                        enum gguf_type elem, const struct gguf_value **ret, struct err *e) {
    char key[MAX_LADDER_KEY];
    snprintf(key, sizeof(key), "ebb.ladder.%s.%s", name, field);
    return required(gguf_get_array(p->g, key, elem, ret, e));
}

/* Each step must free exactly what its unit's extents say, or the ledger would drift. */
static int check_step(const struct pack *p, const char *name, uint32_t i,
                      const struct ladder_step *s, struct err *e) {
    if (s->unit >= model_n_units(&p->h) || (unsigned)s->from >= RUNG_COUNT ||
        (unsigned)s->to >= RUNG_COUNT)
        return err_set(e, -EBADMSG, "ladder %s: step %" PRIu32 " names no unit or no rung", name,
                       i);
    if (!pack_has_rung(p, s->unit, s->from) || !pack_has_rung(p, s->unit, s->to))
        return err_set(e, -EBADMSG,
                       "ladder %s: step %" PRIu32 " goes from %s to %s, but its unit has no swsc",
                       name, i, rung_name(s->from), rung_name(s->to));
    uint64_t from = pack_unit_bytes(p, s->unit, s->from), to = pack_unit_bytes(p, s->unit, s->to);
    if (s->from < s->to && (from < to || s->bytes != from - to))
        return err_set(e, -EBADMSG,
                       "ladder %s: step %" PRIu32 " frees %" PRIu64
                       " bytes, its extents have %" PRIu64 " before and %" PRIu64 " after",
                       name, i, s->bytes, from, to);
    return 0;
}

static int read_ladder(struct pack *p, const struct gguf_str *title, struct ladder **ret,
                       struct err *e) {
    const struct gguf_value *unit, *from, *to, *bytes, *cost;
    char name[40];
    if (title->n >= sizeof(name) || memchr(title->p, '\0', title->n))
        return err_set(e, -EBADMSG, "ebb.ladders: a name of %zu bytes", title->n);
    memcpy(name, title->p, title->n);
    name[title->n] = '\0';
    int r = ladder_array(p, name, "unit", GGUF_U32, &unit, e);
    if (r == 0) r = ladder_array(p, name, "from", GGUF_U8, &from, e);
    if (r == 0) r = ladder_array(p, name, "to", GGUF_U8, &to, e);
    if (r == 0) r = ladder_array(p, name, "bytes", GGUF_U64, &bytes, e);
    if (r == 0) r = ladder_array(p, name, "cost", GGUF_F32, &cost, e);
    if (r < 0) return r;
    uint64_t n = unit->n, most = (uint64_t)model_n_units(&p->h) * (RUNG_COUNT - 1);
    if (n > most || from->n != n || to->n != n || bytes->n != n || cost->n != n)
        return err_set(e, -EBADMSG, "ladder %s: its arrays differ in length or are too long", name);
    struct ladder_step *steps = calloc((size_t)n + 1, sizeof(*steps));
    if (!steps) return err_set(e, -ENOMEM, "ladder %s: no memory", name);
    uint64_t full_bytes = 0;
    for (uint32_t u = 0; u < model_n_units(&p->h); u++)
        full_bytes += pack_unit_bytes(p, u, RUNG_FULL);
    for (uint32_t i = 0; i < n && r == 0; i++) {
        steps[i] = (struct ladder_step){
            .unit = (uint32_t)gguf_elem_u64(unit, i),
            .from = (enum rung)gguf_elem_u64(from, i),
            .to = (enum rung)gguf_elem_u64(to, i),
            .bytes = gguf_elem_u64(bytes, i),
            .cost = (float)gguf_elem_f64(cost, i),
        };
        r = check_step(p, name, i, &steps[i], e);
    }
    if (r == 0)
        r = ladder_create(name, model_n_units(&p->h), full_bytes, steps, (uint32_t)n, ret, e);
    free(steps);
    return r;
}

static int read_ladders(struct pack *p, struct err *e) {
    const struct gguf_value *v;
    struct gguf_str titles[MAX_LADDERS];
    int r = gguf_get_array(p->g, "ebb.ladders", GGUF_STRING, &v, e);
    if (r < 0) return required(r);
    if (v->n > MAX_LADDERS)
        return err_set(e, -EBADMSG, "%" PRIu64 " ladders, limit %d", v->n, MAX_LADDERS);
    gguf_strings(v, titles);
    for (size_t i = 0; i < v->n; i++) {
        struct ladder *l;
        r = read_ladder(p, &titles[i], &l, e);
        if (r < 0) return r;
        p->ladders[p->n_ladders++] = l;
        for (size_t k = 0; k + 1 < p->n_ladders; k++)
            if (strcmp(ladder_name(p->ladders[k]), ladder_name(l)) == 0)
                return err_set(e, -EBADMSG, "ebb.ladders names %s twice", ladder_name(l));
    }
    return 0;
}

/* --- Open and close --------------------------------------------------------------------------- */

static int read_header(struct pack *p, struct err *e) {
    uint32_t n_units = 0;
    int r = check_version(p->g, e);
    if (r < 0) return r;
    r = check_header_sum(p->g, e);
    if (r < 0) return r;
    r = model_read_hparams(p->g, false, &p->h, e);
    if (r < 0) return r;
    r = gguf_get_u32(p->g, "ebb.units", &n_units, e);
    if (r < 0) return required(r);
    if (n_units != model_n_units(&p->h))
        return err_set(e, -EBADMSG, "ebb.units is %" PRIu32 ", the model has %" PRIu32, n_units,
                       model_n_units(&p->h));
    r = pack_read_forms(p->g, &p->h, p->forms, &p->has_swsc, e);
    if (r < 0) return r;
    r = read_extents(p, e);
    if (r < 0) return r;
    r = check_scores(p, e);
    if (r == 0) r = check_fallback(p, e);
    if (r == 0) r = pack_check_gate(p->g, e);
    if (r < 0) return r;
    make_name(p);
    return read_ladders(p, e);
}

int pack_open(const char *path, struct pack **ret, struct err *e) {
    struct pack *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "%s: no memory", path);
    int r = gguf_open(path, &p->g, e); /* names the path itself */
    if (r < 0) goto out;
    if (fstat(gguf_fd(p->g), &p->st) < 0)
        r = err_sys(e, -errno, "cannot stat it");
    else
        r = read_header(p, e);
    if (r < 0) {
        err_prefix(e, "%s", path);
        goto out;
    }
    *ret = p;
    p = NULL;
out:
    pack_close(p);
    return r;
}

void pack_close(struct pack *p) {
    if (!p) return;
    for (size_t i = 0; i < p->n_ladders; i++) ladder_destroy(p->ladders[i]);
    free(p->extents);
    gguf_close(p->g);
    free(p);
}

/* --- Access ----------------------------------------------------------------------------------- */

const struct gguf *pack_gguf(const struct pack *p) {
    return p->g;
}

const struct model_hparams *pack_hparams(const struct pack *p) {
    return &p->h;
}

const char *pack_model_name(const struct pack *p) {
    return p->name;
}

size_t pack_n_extents(const struct pack *p) {
    return p->n_extents;
}

const struct pack_extent *pack_extent_at(const struct pack *p, size_t i) {
    ASSERT(i < p->n_extents);
    return &p->extents[i];
}

const struct pack_extent *pack_find(const struct pack *p, enum pack_part part, uint32_t unit) {
    size_t i = pack_extent_index(&p->h, pack_swsc(p), part, unit);
    return i < p->n_extents ? &p->extents[i] : NULL;
}

static uint64_t part_bytes(const struct pack *p, enum pack_part part, uint32_t unit) {
    const struct pack_extent *x = pack_find(p, part, unit);
    return x ? x->bytes : 0;
}

uint64_t pack_unit_bytes(const struct pack *p, uint32_t unit, enum rung rung) {
    switch (rung) {
    case RUNG_FULL: return part_bytes(p, PACK_HIGH, unit) + part_bytes(p, PACK_LOW, unit);
    case RUNG_HIGH: return part_bytes(p, PACK_HIGH, unit);
    case RUNG_SWSC: return part_bytes(p, PACK_SWSC, unit);
    case RUNG_PAGED: break;
    }
    return 0;
}

bool pack_has_rung(const struct pack *p, uint32_t unit, enum rung rung) {
    if (unit >= model_n_units(&p->h) || (unsigned)rung >= RUNG_COUNT) return false;
    return rung != RUNG_SWSC || pack_find(p, PACK_SWSC, unit) != NULL;
}

const struct swsc_form *pack_swsc(const struct pack *p) {
    return p->has_swsc ? p->forms : NULL;
}

bool pack_has_swsc(const struct pack *p) {
    return p->has_swsc;
}

double pack_score(const struct pack *p, const char *key, uint32_t unit) {
    const struct gguf_value *v;
    /* As long as there are units: checked by pack_open(). */
    if (gguf_get_array(p->g, key, GGUF_F32, &v, NULL) < 0 || unit >= v->n) return (double)NAN;
    return gguf_elem_f64(v, unit);
}

uint32_t pack_fallback(const struct pack *p, uint32_t unit) {
    const struct gguf_value *v = gguf_find(p->g, "ebb.fallback");
    return v && unit < v->n ? (uint32_t)gguf_elem_u64(v, unit) : 0;
}

size_t pack_n_ladders(const struct pack *p) {
    return p->n_ladders;
}

const struct ladder *pack_ladder_at(const struct pack *p, size_t i) {
    ASSERT(i < p->n_ladders);
    return p->ladders[i];
}

const struct ladder *pack_ladder(const struct pack *p, const char *name) {
    for (size_t i = 0; i < p->n_ladders; i++)
        if (strcmp(ladder_name(p->ladders[i]), name) == 0) return p->ladders[i];
    return NULL;
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* The message of a checksum that differs: a file written over in place is another fault than a
 * disk that returns wrong bytes, and another remedy. */
static int bad_sum(const struct pack *p, const char *what, uint64_t at, struct err *e) {
    struct stat now;
    bool is_changed = fstat(gguf_fd(p->g), &now) == 0 &&
                      (now.st_size != p->st.st_size || now.st_mtim.tv_sec != p->st.st_mtim.tv_sec ||
                       now.st_mtim.tv_nsec != p->st.st_mtim.tv_nsec);
    return err_set(e, -EBADMSG, "%s: checksum differs (at byte %" PRIu64 ")%s", what, at,
                   is_changed ? "; the file was changed after it was opened" : "");
}

void pack_announce(const struct pack *p, const struct pack_extent *x) {
    ignore_result(
        posix_fadvise(gguf_fd(p->g), (off_t)x->offset, (off_t)x->bytes, POSIX_FADV_WILLNEED));
}

void pack_forget(const struct pack *p) {
    ignore_result(posix_fadvise(gguf_fd(p->g), 0, 0, POSIX_FADV_DONTNEED));
}

int pack_read_extent(const struct pack *p, const struct pack_extent *x, void *dst, struct err *e) {
    size_t i = (size_t)(x - p->extents);
    ASSERT(i < p->n_extents);
    int r = gguf_read(p->g, gguf_tensor_at(p->g, i), 0, dst, (size_t)x->bytes, e);
    if (r < 0) return r;
    if (XXH3_64bits(dst, (size_t)x->bytes) != x->xxh3) return bad_sum(p, x->name, x->offset, e);
    return 0;
}

int pack_read_embd(const struct pack *p, uint32_t row, float *ret, struct err *e) {
    if (p->h.is_tied) return err_set(e, -EINVAL, "a tied model has no embd extent");
    if (row >= p->h.n_vocab)
        return err_set(e, -EINVAL, "embd: row %" PRIu32 " of %" PRIu32, row, p->h.n_vocab);
    const struct gguf_tensor *t = gguf_tensor_at(p->g, 1);
    size_t n = p->h.n_embd, half_bytes = n * sizeof(uint16_t);
    uint64_t at = row * (uint64_t)(half_bytes + sizeof(uint64_t));
    uint8_t sum[sizeof(uint64_t)];
    /* Nothing may be allocated in a step: the fp16 values wait in the upper half of ret, where
     * widening them from the front never overtakes the reading. */
    uint8_t *halves = (uint8_t *)ret + half_bytes;
    int r = gguf_read(p->g, t, at, halves, half_bytes, e);
    if (r < 0) return r;
    r = gguf_read(p->g, t, at + half_bytes, sum, sizeof(sum), e);
    if (r < 0) return r;
    struct bytes b;
    bytes_init(&b, sum, sizeof(sum));
    if (XXH3_64bits(halves, half_bytes) != bytes_u64(&b)) {
        char what[32];
        snprintf(what, sizeof(what), "embd: row %" PRIu32, row);
        return bad_sum(p, what, pack_find(p, PACK_EMBD, 0)->offset + at, e);
    }
    dequant_blocks(GGUF_T_F16, halves, n, ret);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(ret[i]))
            return err_set(e, -EBADMSG, "embd: row %" PRIu32 " holds a number that is not finite",
                           row);
    return 0;
}
