/* The rung swsc in a pack: its forms in the header, the directories of its extents, and binding.
 * A directory is a function of the model's sizes and the forms, so it must be equal, byte for
 * byte, to the one that is computed here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "core/pack.h"

enum {
    DIR_BYTES = SWSC_DIR_BYTES + MODEL_LAYER_MATS * SWSC_DIR_ENTRY_BYTES,
    BOOKS_DIR_BYTES = SWSC_DIR_BYTES + MODEL_LAYER_MATS * SWSC_BOOKS_DIR_ENTRY_BYTES,
};

/* --- The forms in the header ------------------------------------------------------------------ */

/* One of the arrays, as numbers. -ENOENT if it is missing. */
static int read_field(const struct gguf *g, const char *name, enum gguf_type elem,
                      uint32_t ret[MODEL_LAYER_MATS], struct err *e) {
    char key[40];
    const struct gguf_value *v;
    snprintf(key, sizeof(key), "ebb.swsc.%s", name);
    int r = gguf_get_array(g, key, elem, &v, e);
    if (r < 0) return r;
    if (v->n != MODEL_LAYER_MATS)
        return err_set(e, -EBADMSG, "key %s: %" PRIu64 " numbers, not one for each of %d matrices",
                       key, v->n, MODEL_LAYER_MATS);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) ret[m] = (uint32_t)gguf_elem_u64(v, m);
    return 0;
}

int pack_read_forms(const struct gguf *g, const struct model_hparams *h,
                    struct swsc_form ret[MODEL_LAYER_MATS], bool *ret_has, struct err *e) {
    enum { BASE, LEN, BITS, K, SHARED, RANK, FACTOR_BITS, BASIS_SHARED, N_FIELDS };
    static const struct {
        const char *name;
        enum gguf_type elem;
    } fields[N_FIELDS] = {
        {"base", GGUF_U8},        {"len", GGUF_U8},          {"bits", GGUF_U8},
        {"k", GGUF_U32},          {"shared", GGUF_U8},       {"rank", GGUF_U32},
        {"factor_bits", GGUF_U8}, {"basis_shared", GGUF_U8},
    };
    uint32_t v[N_FIELDS][MODEL_LAYER_MATS];
    *ret_has = gguf_find(g, "ebb.swsc.base") != NULL;
    if (!*ret_has) return 0;
    for (size_t i = 0; i < N_FIELDS; i++) {
        int r = read_field(g, fields[i].name, fields[i].elem, v[i], e);
        if (r < 0) return r == -ENOENT ? -EBADMSG : r;
    }
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        if (v[BASE][m] >= SWSC_BASE_COUNT || v[SHARED][m] > 1 || v[BASIS_SHARED][m] > 1)
            return err_set(e, -EBADMSG,
                           "the swsc form of %s has a base or a mark that is not known",
                           model_mat_name((enum model_mat)m));
        ret[m] = (struct swsc_form){.base = (enum swsc_base)v[BASE][m],
                                    .len = (uint8_t)v[LEN][m],
                                    .bits = (uint8_t)v[BITS][m],
                                    .k = v[K][m],
                                    .is_shared = v[SHARED][m] == 1,
                                    .rank = v[RANK][m],
                                    .factor_bits = (uint8_t)v[FACTOR_BITS][m],
                                    .is_basis_shared = v[BASIS_SHARED][m] == 1};
    }
    return swsc_check(h, ret, e);
}

/* --- Sizes and directories -------------------------------------------------------------------- */

static uint64_t pad(uint64_t n) {
    return (n + PACK_ALIGN - 1) & ~(uint64_t)(PACK_ALIGN - 1);
}

uint64_t pack_swsc_bytes(const struct model_hparams *h,
                         const struct swsc_form forms[MODEL_LAYER_MATS]) {
    struct swsc_layout at[MODEL_LAYER_MATS];
    return pad(swsc_unit_layout(h, forms, at));
}

uint64_t pack_books_bytes(const struct model_hparams *h,
                          const struct swsc_form forms[MODEL_LAYER_MATS]) {
    struct swsc_books_layout at[MODEL_LAYER_MATS];
    return swsc_has_books(forms) ? pad(swsc_books_layout(h, forms, at)) : 0;
}

static uint8_t *put_head(uint8_t *p, const char *magic) {
    memcpy(p, magic, 8);
    bytes_put_u32(p + 8, MODEL_LAYER_MATS);
    bytes_put_u32(p + 12, 0);
    return p + SWSC_DIR_BYTES;
}

static uint8_t *put_offsets(uint8_t *p, const struct swsc_planes_at *at) {
    const uint64_t v[] = {at->rows, at->groups, at->high, at->low};
    for (size_t i = 0; i < ARRAY_LEN(v); i++) bytes_put_u64(p + 8 * i, v[i]);
    return p + sizeof(v);
}

void pack_swsc_dir(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                   void *extent) {
    struct swsc_layout at[MODEL_LAYER_MATS];
    swsc_unit_layout(h, forms, at);
    uint8_t *p = put_head(extent, "EBBSHARE");
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++, p += SWSC_DIR_ENTRY_BYTES) {
        const struct swsc_form *f = &forms[m];
        const struct swsc_layout *x = &at[m];
        const uint32_t words[] = {m,
                                  x->n_out,
                                  x->n_in,
                                  (uint32_t)f->base,
                                  f->len,
                                  f->bits,
                                  f->k,
                                  f->is_shared,
                                  f->rank,
                                  f->factor_bits,
                                  f->is_basis_shared,
                                  0};
        const uint64_t places[] = {x->gains, x->book, x->index, x->labels};
        memset(p, 0, SWSC_DIR_ENTRY_BYTES);
        for (size_t i = 0; i < ARRAY_LEN(words); i++) bytes_put_u32(p + 4 * i, words[i]);
        uint8_t *q = p + sizeof(words);
        for (size_t i = 0; i < ARRAY_LEN(places); i++) bytes_put_u64(q + 8 * i, places[i]);
        q = put_offsets(q + sizeof(places), &x->c);
        q = put_offsets(q, &x->a);
        put_offsets(q, &x->b);
    }
}

void pack_books_dir(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                    void *extent) {
    struct swsc_books_layout at[MODEL_LAYER_MATS];
    swsc_books_layout(h, forms, at);
    uint8_t *p = put_head(extent, "EBBBOOKS");
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++, p += SWSC_BOOKS_DIR_ENTRY_BYTES) {
        const struct swsc_books_layout *x = &at[m];
        const uint64_t places[] = {x->book,          x->basis,
                                   x->basis_stride,  x->basis_at.groups,
                                   x->basis_at.high, x->basis_at.low};
        memset(p, 0, SWSC_BOOKS_DIR_ENTRY_BYTES);
        bytes_put_u32(p, m);
        bytes_put_u32(p + 4, x->n_bases);
        for (size_t i = 0; i < ARRAY_LEN(places); i++) bytes_put_u64(p + 8 + 8 * i, places[i]);
    }
}

/* --- Checks ----------------------------------------------------------------------------------- */

static int check_dir(const char *name, const uint8_t *want, size_t n, const void *extent,
                     uint64_t bytes, uint64_t need, struct err *e) {
    const uint8_t *p = extent;
    if (bytes != need)
        return err_set(e, -EBADMSG, "%s: %" PRIu64 " bytes, the model's forms need %" PRIu64, name,
                       bytes, need);
    for (size_t i = 0; i < n; i++)
        if (p[i] != want[i])
            return err_set(e, -EBADMSG, "%s: byte %zu of its directory does not fit the forms",
                           name, i);
    return 0;
}

/* Kernels need entries of -127 and above. */
static int check_book(const char *name, int m, const void *extent, uint64_t book,
                      const struct swsc_form *f, struct err *e) {
    const int8_t *p = (const int8_t *)extent + book;
    for (uint32_t i = 0; i < f->k * f->len; i++)
        if (p[i] == INT8_MIN)
            return err_set(e, -EBADMSG, "%s: %s: entry %" PRIu32 " of its book holds -128", name,
                           model_mat_name((enum model_mat)m), i / f->len);
    return 0;
}

static int check_labels(const char *name, int m, const void *extent, const struct swsc_layout *at,
                        const struct swsc_form *f, struct err *e) {
    size_t n = (size_t)planes_row_tiles(at->n_out) * PLANE_ROWS;
    struct bytes b;
    bytes_init(&b, (const uint8_t *)extent + at->labels, n * sizeof(uint16_t));
    for (size_t i = 0; i < n; i++) {
        uint16_t label = bytes_u16(&b);
        if (label >= f->k)
            return err_set(e, -EBADMSG, "%s: %s: row %zu names channel %u of %" PRIu32, name,
                           model_mat_name((enum model_mat)m), i, label, f->k);
    }
    return 0;
}

int pack_check_swsc(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                    uint32_t layer, const void *swsc, uint64_t bytes, struct err *e) {
    uint8_t want[DIR_BYTES];
    struct swsc_layout at[MODEL_LAYER_MATS];
    char name[24];
    ASSERT(layer < h->n_layers);
    pack_extent_name(h, PACK_SWSC, layer, name, sizeof(name));
    pack_swsc_dir(h, forms, want);
    int r = check_dir(name, want, sizeof(want), swsc, bytes, pack_swsc_bytes(h, forms), e);
    if (r < 0) return r;
    swsc_unit_layout(h, forms, at);
    for (int m = 0; r == 0 && m < MODEL_LAYER_MATS; m++) {
        if (forms[m].base == SWSC_CHANNELS)
            r = check_labels(name, m, swsc, &at[m], &forms[m], e);
        else if (forms[m].base == SWSC_SEGMENTS && !forms[m].is_shared)
            r = check_book(name, m, swsc, at[m].book, &forms[m], e);
    }
    return r;
}

int pack_check_books(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                     const void *books, uint64_t bytes, struct err *e) {
    uint8_t want[BOOKS_DIR_BYTES];
    struct swsc_books_layout at[MODEL_LAYER_MATS];
    pack_books_dir(h, forms, want);
    int r = check_dir("books", want, sizeof(want), books, bytes, pack_books_bytes(h, forms), e);
    if (r < 0) return r;
    swsc_books_layout(h, forms, at);
    for (int m = 0; r == 0 && m < MODEL_LAYER_MATS; m++)
        if (forms[m].is_shared) r = check_book("books", m, books, at[m].book, &forms[m], e);
    return r;
}

/* --- Binding ---------------------------------------------------------------------------------- */

static void bind_mat(const struct swsc_form *f, const struct swsc_layout *own,
                     const struct swsc_books_layout *shared, uint32_t layer, const uint8_t *books,
                     const uint8_t *p, struct swsc_mat *ret) {
    *ret = (struct swsc_mat){
        .base = f->base, .n_out = own->n_out, .n_in = own->n_in, .rank = f->rank};
    if (f->base == SWSC_SEGMENTS) {
        const uint8_t *book = f->is_shared ? books + shared->book : p + own->book;
        ret->seg = (struct kern_seg){.gains = p + own->gains,
                                     .index = p + own->index,
                                     .book = (const int8_t *)book,
                                     .n_out = own->n_out,
                                     .n_in = own->n_in,
                                     .len = f->len,
                                     .bits = f->bits};
    } else if (f->base == SWSC_CHANNELS) {
        ret->c = swsc_planes(p, &own->c, f->k, own->n_in);
        ret->gains = (const uint16_t *)(const void *)(p + own->gains);
        ret->labels = (const uint16_t *)(const void *)(p + own->labels);
    }
    if (f->rank == 0) return;
    ret->a = swsc_planes(p, &own->a, own->n_out, f->rank);
    if (f->is_basis_shared)
        ret->b = swsc_planes(books + shared->basis + layer / 2 * shared->basis_stride,
                             &shared->basis_at, f->rank, own->n_in);
    else
        ret->b = swsc_planes(p, &own->b, f->rank, own->n_in);
}

int pack_bind_swsc(const struct model_hparams *h, const struct swsc_form forms[MODEL_LAYER_MATS],
                   uint32_t layer, const void *books, uint64_t books_bytes, const void *swsc,
                   uint64_t swsc_bytes, struct swsc_mat ret[MODEL_LAYER_MATS], struct err *e) {
    struct swsc_layout own[MODEL_LAYER_MATS];
    struct swsc_books_layout shared[MODEL_LAYER_MATS];
    ASSERT((uintptr_t)books % PACK_ARRAY_ALIGN == 0 && (uintptr_t)swsc % PACK_ARRAY_ALIGN == 0);
    ASSERT(books || !swsc_has_books(forms));
    int r = pack_check_swsc(h, forms, layer, swsc, swsc_bytes, e);
    if (r == 0 && books) r = pack_check_books(h, forms, books, books_bytes, e);
    if (r < 0) return r;
    swsc_unit_layout(h, forms, own);
    swsc_books_layout(h, forms, shared);
    for (int m = 0; m < MODEL_LAYER_MATS; m++)
        bind_mat(&forms[m], &own[m], &shared[m], layer, books, swsc, &ret[m]);
    return 0;
}
