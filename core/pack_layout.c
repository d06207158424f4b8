/* Where everything lies in a pack: pure arithmetic on a model's sizes, shared by reader and writer
 * so that they cannot disagree. MODEL_MAX_* keep every product below 2^40. */
#include "core/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/err.h"

static uint64_t align_up(uint64_t n, uint64_t align) {
    return (n + align - 1) & ~(align - 1);
}

/* The matrices of a unit are first .. last in enum model_mat. */
static void unit_mats(const struct model_hparams *h, uint32_t unit, int *ret_first, int *ret_last) {
    ASSERT(unit <= h->n_layers);
    *ret_first = unit == h->n_layers ? MODEL_HEAD : MODEL_Q;
    *ret_last = unit == h->n_layers ? MODEL_HEAD : MODEL_DOWN;
}

uint64_t pack_unit_layout(const struct model_hparams *h, uint32_t unit, enum pack_part part,
                          struct pack_mat_layout ret[MODEL_MAT_COUNT]) {
    int first, last;
    ASSERT(part == PACK_HIGH || part == PACK_LOW);
    unit_mats(h, unit, &first, &last);
    uint64_t n_mats = (uint64_t)(last - first + 1);
    uint64_t at = align_up(PACK_DIR_BYTES + n_mats * PACK_DIR_ENTRY_BYTES, PACK_ARRAY_ALIGN);
    memset(ret, 0, MODEL_MAT_COUNT * sizeof(*ret));
    for (int m = first; m <= last; m++) {
        struct pack_mat_layout *x = &ret[m];
        model_mat_shape(h, (enum model_mat)m, &x->n_out, &x->n_in);
        uint64_t row_tiles = planes_row_tiles(x->n_out),
                 tiles = row_tiles * (x->n_in / PLANE_GROUP);
        if (part == PACK_HIGH) {
            x->rows_bytes = row_tiles * PLANE_ROW_BYTES;
            x->rows = at;
            at = align_up(at + x->rows_bytes, PACK_ARRAY_ALIGN);
            x->groups_bytes = tiles * PLANE_SCALE_BYTES;
            x->groups = at;
            at = align_up(at + x->groups_bytes, PACK_ARRAY_ALIGN);
        }
        x->codes_bytes = tiles * PLANE_TILE_BYTES;
        x->codes = at;
        at = align_up(at + x->codes_bytes, PACK_ARRAY_ALIGN);
    }
    return align_up(at, PACK_ALIGN);
}

void pack_unit_dir(const struct model_hparams *h, uint32_t unit, enum pack_part part,
                   void *extent) {
    struct pack_mat_layout mats[MODEL_MAT_COUNT];
    int first, last;
    unit_mats(h, unit, &first, &last);
    pack_unit_layout(h, unit, part, mats);
    uint8_t *p = extent;
    memcpy(p, "EBBPLANE", 8);
    bytes_put_u32(p + 8, (uint32_t)(last - first + 1));
    bytes_put_u32(p + 12, 0);
    p += PACK_DIR_BYTES;
    for (int m = first; m <= last; m++, p += PACK_DIR_ENTRY_BYTES) {
        memset(p, 0, PACK_DIR_ENTRY_BYTES);
        bytes_put_u32(p, (uint32_t)m);
        bytes_put_u32(p + 4, mats[m].n_out);
        bytes_put_u32(p + 8, mats[m].n_in);
        bytes_put_u64(p + 16, mats[m].rows);
        bytes_put_u64(p + 24, mats[m].groups);
        bytes_put_u64(p + 32, mats[m].codes);
    }
}

uint64_t pack_core_bytes(const struct model_hparams *h) {
    return (uint64_t)model_core_floats(h) * sizeof(float);
}

static uint64_t embd_record_bytes(const struct model_hparams *h) {
    return (uint64_t)h->n_embd * sizeof(uint16_t) + sizeof(uint64_t);
}

uint64_t pack_embd_bytes(const struct model_hparams *h) {
    return h->is_tied ? 0 : h->n_vocab * embd_record_bytes(h);
}

void pack_embd_record(const struct model_hparams *h, const uint16_t *row, uint8_t *ret) {
    size_t n = (size_t)h->n_embd * sizeof(*row);
    memcpy(ret, row, n);
    bytes_put_u64(ret + n, XXH3_64bits(ret, n));
}

uint64_t pack_extent_bytes(const struct model_hparams *h, enum pack_part part, uint32_t unit) {
    struct pack_mat_layout mats[MODEL_MAT_COUNT];
    switch (part) {
    case PACK_CORE: return align_up(pack_core_bytes(h), PACK_ALIGN);
    case PACK_EMBD: return align_up(pack_embd_bytes(h), PACK_ALIGN);
    case PACK_HIGH:
    case PACK_LOW:
    case PACK_BOOKS:
    case PACK_SWSC: break;
    }
    return pack_unit_layout(h, unit, part, mats); /* which asserts that they are planes */
}

const char *pack_extent_name(const struct model_hparams *h, enum pack_part part, uint32_t unit,
                             char *buf, size_t n) {
    static const char *const names[] = {
        [PACK_CORE] = "core", [PACK_EMBD] = "embd", [PACK_HIGH] = "high",
        [PACK_LOW] = "low",   [PACK_SWSC] = "swsc", [PACK_BOOKS] = "books"};
    if (part == PACK_CORE || part == PACK_EMBD || part == PACK_BOOKS)
        snprintf(buf, n, "%s", names[part]);
    else if (unit == h->n_layers)
        snprintf(buf, n, "unit.head.%s", names[part]);
    else
        snprintf(buf, n, "unit.%03" PRIu32 ".%s", unit, names[part]);
    return buf;
}

/* --- The order of the extents ----------------------------------------------------------------- */

struct order {
    size_t n_shared; /* extents before the first unit's */
    size_t n_layer;  /* of a layer; the head has two */
    bool has_books;
};

static struct order order_of(const struct model_hparams *h, const struct swsc_form *forms) {
    struct order o = {.has_books = forms && swsc_has_books(forms), .n_layer = forms ? 3 : 2};
    o.n_shared = 1u + (h->is_tied ? 0u : 1u) + (o.has_books ? 1u : 0u);
    return o;
}

size_t pack_extent_index(const struct model_hparams *h, const struct swsc_form *forms,
                         enum pack_part part, uint32_t unit) {
    struct order o = order_of(h, forms);
    size_t in_unit = 0;
    switch (part) {
    case PACK_CORE: return 0;
    case PACK_EMBD: return h->is_tied ? SIZE_MAX : 1;
    case PACK_BOOKS: return o.has_books ? o.n_shared - 1 : SIZE_MAX;
    case PACK_HIGH: break;
    case PACK_LOW: in_unit = 1; break;
    case PACK_SWSC:
        if (!forms || unit >= h->n_layers) return SIZE_MAX;
        in_unit = 2;
        break;
    }
    return unit < model_n_units(h) ? o.n_shared + o.n_layer * unit + in_unit : SIZE_MAX;
}

static void plan_extent(const struct model_hparams *h, const struct swsc_form *forms,
                        enum pack_part part, uint32_t unit, struct pack_extent *ret) {
    uint64_t bytes;
    size_t i = pack_extent_index(h, forms, part, unit);
    if (i == SIZE_MAX) return;
    if (part == PACK_BOOKS)
        bytes = pack_books_bytes(h, forms);
    else if (part == PACK_SWSC)
        bytes = pack_swsc_bytes(h, forms);
    else
        bytes = pack_extent_bytes(h, part, unit);
    ret[i] = (struct pack_extent){.part = part, .unit = unit, .bytes = bytes};
    pack_extent_name(h, part, unit, ret[i].name, sizeof(ret[i].name));
}

size_t pack_plan_extents(const struct model_hparams *h, const struct swsc_form *forms,
                         struct pack_extent *ret) {
    struct order o = order_of(h, forms);
    size_t n = o.n_shared + o.n_layer * h->n_layers + 2;
    uint64_t at = 0;
    if (!ret) return n;
    plan_extent(h, forms, PACK_CORE, 0, ret);
    plan_extent(h, forms, PACK_EMBD, 0, ret);
    plan_extent(h, forms, PACK_BOOKS, 0, ret);
    for (uint32_t u = 0; u < model_n_units(h); u++) {
        plan_extent(h, forms, PACK_HIGH, u, ret);
        plan_extent(h, forms, PACK_LOW, u, ret);
        plan_extent(h, forms, PACK_SWSC, u, ret);
    }
    for (size_t i = 0; i < n; i++) {
        ret[i].offset = at;
        at += ret[i].bytes; /* below 2^50 each, at most 1541 of them */
    }
    return n;
}

/* --- Binding ---------------------------------------------------------------------------------- */

/* The directory is a function of the model's sizes, so it must be equal, byte for byte. */
static int check_dir(const struct model_hparams *h, uint32_t unit, enum pack_part part,
                     const void *extent, uint64_t bytes, struct err *e) {
    uint8_t want[PACK_DIR_BYTES + MODEL_LAYER_MATS * PACK_DIR_ENTRY_BYTES];
    char name[24];
    pack_extent_name(h, part, unit, name, sizeof(name));
    uint64_t need = pack_extent_bytes(h, part, unit);
    if (bytes != need)
        return err_set(e, -EBADMSG, "%s: %" PRIu64 " bytes, the model's sizes need %" PRIu64, name,
                       bytes, need);
    pack_unit_dir(h, unit, part, want);
    size_t n = PACK_DIR_BYTES +
               (unit == h->n_layers ? 1u : MODEL_LAYER_MATS) * PACK_DIR_ENTRY_BYTES;
    const uint8_t *p = extent;
    for (size_t i = 0; i < n; i++)
        if (p[i] != want[i])
            return err_set(e, -EBADMSG, "%s: byte %zu of its directory does not fit the model",
                           name, i);
    return 0;
}

int pack_bind_unit(const struct model_hparams *h, uint32_t unit, const void *high,
                   uint64_t high_bytes, const void *low, uint64_t low_bytes,
                   struct kern_planes ret[MODEL_MAT_COUNT], struct err *e) {
    struct pack_mat_layout hi[MODEL_MAT_COUNT], lo[MODEL_MAT_COUNT];
    int first, last;
    ASSERT((uintptr_t)high % PACK_ARRAY_ALIGN == 0 && (uintptr_t)low % PACK_ARRAY_ALIGN == 0);
    int r = check_dir(h, unit, PACK_HIGH, high, high_bytes, e);
    if (r == 0 && low) r = check_dir(h, unit, PACK_LOW, low, low_bytes, e);
    if (r < 0) return r;
    unit_mats(h, unit, &first, &last);
    pack_unit_layout(h, unit, PACK_HIGH, hi);
    pack_unit_layout(h, unit, PACK_LOW, lo);
    const uint8_t *p = high, *q = low;
    for (int m = first; m <= last; m++)
        ret[m] = (struct kern_planes){
            .rows = p + hi[m].rows,
            .groups = p + hi[m].groups,
            .high = p + hi[m].codes,
            .low = q ? q + lo[m].codes : NULL,
            .n_out = hi[m].n_out,
            .n_in = hi[m].n_in,
        };
    return 0;
}
