/* GGUF reader. The header is pulled in as the parser asks for it, so that a huge file with a bad
 * beginning costs one small read, and every allocation is bounded by bytes that the file really
 * has. While parsing, the header buffer may move: entries hold file offsets, which are turned into
 * pointers once, at the end. Names are looked up, and duplicates found, in sorted arrays, so that
 * no choice of names makes opening quadratic.
 *
 * Immutable after gguf_open(); reads use pread() on the descriptor that was checked. */
#include "core/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"

enum {
    MAGIC = 0x46554747, /* "GGUF" */
    VERSION = 3,
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8,
    MAX_ALIGNMENT = 65536,
    MAX_TENSOR_NAME = 64,
    FIXED_HEADER_BYTES = 24,
    MIN_KEY_ENTRY_BYTES = 8 + 1 + 4 + 1,            /* name, type, smallest value */
    MIN_TENSOR_ENTRY_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name, n_dims, one dim, type, offset */
    FIRST_READ_BYTES = 64 << 10,
};

struct value_entry {
    struct gguf_value v; /* first: gguf_value_at() hands it out */
    uint64_t key_at;     /* file offset of the key's bytes */
};

struct tensor_entry {
    struct gguf_tensor t; /* first, as above */
    uint64_t name_at;
};

struct gguf {
    uint8_t *owned;      /* header bytes read from fd; NULL after gguf_parse() */
    const uint8_t *head; /* owned or the caller's */
    uint64_t have;       /* bytes at head */
    uint64_t room;       /* size of owned */
    int fd;
    uint64_t file_bytes;
    uint64_t data_offset;
    uint32_t alignment;
    size_t n_values, n_tensors;
    struct value_entry *values;
    struct tensor_entry *tensors;
    const struct value_entry **values_by_key;
    const struct tensor_entry **tensors_by_name;
};

/* --- Types ------------------------------------------------------------------------------------ */

struct tensor_type {
    const char *name;
    uint16_t elems, bytes; /* of a block; 0 for types that are known by name only */
};

/* clang-format off */
static const struct tensor_type tensor_types[] = {
    [0] = {"F32", 1, 4},       [1] = {"F16", 1, 2},       [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},    [6] = {"Q5_0", 32, 22},    [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},    [9] = {"Q8_1", 0, 0},      [10] = {"Q2_K", 0, 0},
    [11] = {"Q3_K", 0, 0},     [12] = {"Q4_K", 256, 144}, [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210}, [15] = {"Q8_K", 0, 0},     [16] = {"IQ2_XXS", 0, 0},
    [17] = {"IQ2_XS", 0, 0},   [18] = {"IQ3_XXS", 0, 0},  [19] = {"IQ1_S", 0, 0},
    [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 0, 0},    [22] = {"IQ2_S", 0, 0},
    [23] = {"IQ4_XS", 0, 0},   [24] = {"I8", 1, 1},       [25] = {"I16", 0, 0},
    [26] = {"I32", 0, 0},      [27] = {"I64", 0, 0},      [28] = {"F64", 0, 0},
    [29] = {"IQ1_M", 0, 0},    [30] = {"BF16", 1, 2},     [34] = {"TQ1_0", 0, 0},
    [35] = {"TQ2_0", 0, 0},    [39] = {"MXFP4", 0, 0},
};
/* clang-format on */

/* Bytes of a number; 0 for string and array. */
static const uint8_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

const char *gguf_type_name(uint32_t type) {
    if (type >= ARRAY_LEN(tensor_types) || tensor_types[type].elems == 0) return NULL;
    return tensor_types[type].name;
}

/* --- Pulling the header in -------------------------------------------------------------------- */

struct parser {
    struct gguf *g;
    uint64_t pos; /* <= g->have */
    struct err *e;
};

static int read_at(int fd, uint64_t at, void *dst, size_t n, struct err *e) {
    uint8_t *p = dst;
    if (at > INT64_MAX || n > (uint64_t)INT64_MAX - at)
        return err_set(e, -EBADMSG, "at byte %" PRIu64 ": beyond what a file can hold", at);
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_sys(e, -errno, "cannot read at byte %" PRIu64, at);
        if (got == 0)
            return err_set(e, -EBADMSG,
                           "at byte %" PRIu64 ": the file got shorter while it was read", at);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int grow(struct parser *p, uint64_t need) {
    struct gguf *g = p->g;
    uint64_t room = MAX(g->room, (uint64_t)FIRST_READ_BYTES);
    while (room < need) room *= 2; /* need <= GGUF_MAX_HEADER_BYTES */
    room = MIN(room, g->file_bytes);
    uint8_t *b = realloc(g->owned, (size_t)room);
    if (!b) return err_set(p->e, -ENOMEM, "no memory for a header of %" PRIu64 " bytes", room);
    g->owned = b;
    g->head = b;
    g->room = room;
    int r = read_at(g->fd, g->have, b + g->have, (size_t)(room - g->have), p->e);
    if (r < 0) return r;
    g->have = room;
    return 0;
}

/* Makes [pos, pos + n) available. */
static int want(struct parser *p, uint64_t n, const char *what) {
    struct gguf *g = p->g;
    if (n <= g->have - p->pos) return 0;
    if (n > g->file_bytes - p->pos)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": %s of %" PRIu64 " bytes runs past the end of the file "
                       "(%" PRIu64 " bytes)",
                       p->pos, what, n, g->file_bytes);
    if (n > GGUF_MAX_HEADER_BYTES - MIN(p->pos, (uint64_t)GGUF_MAX_HEADER_BYTES))
        return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": the header is longer than %d bytes",
                       p->pos, GGUF_MAX_HEADER_BYTES);
    if (g->fd < 0)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": the header goes on past the bytes given", p->pos);
    return grow(p, p->pos + n);
}

static int get(struct parser *p, size_t n, const char *what, uint64_t *ret) {
    int r = want(p, n, what);
    if (r < 0) return r;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p->g->head[p->pos + i] << (8 * i);
    p->pos += n;
    *ret = v;
    return 0;
}

/* A length-prefixed string of 0 .. max bytes; *ret_at is the file offset of its bytes. */
static int get_string(struct parser *p, uint64_t max, const char *what, uint64_t *ret_at,
                      uint64_t *ret_n) {
    uint64_t n, at = p->pos;
    int r = get(p, 8, what, &n);
    if (r < 0) return r;
    if (n > max)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": %s has length %" PRIu64 ", limit %" PRIu64, at, what,
                       n, max);
    r = want(p, n, what);
    if (r < 0) return r;
    *ret_at = p->pos;
    *ret_n = n;
    p->pos += n;
    return 0;
}

/* A name: not empty and printable ASCII without blanks, so that messages can show it. */
static int get_name(struct parser *p, uint64_t max, const char *what, uint64_t *ret_at,
                    uint64_t *ret_n) {
    uint64_t at, n;
    int r = get_string(p, max, what, &at, &n);
    if (r < 0) return r;
    if (n == 0) return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": %s is empty", at, what);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t c = p->g->head[at + i];
        if (c <= 0x20 || c >= 0x7f)
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": byte 0x%02x in %s", at + i, c,
                           what);
    }
    *ret_at = at;
    *ret_n = n;
    return 0;
}

/* --- Values ----------------------------------------------------------------------------------- */

static int get_value_type(struct parser *p, const char *what, enum gguf_type *ret) {
    uint64_t t, at = p->pos;
    int r = get(p, 4, what, &t);
    if (r < 0) return r;
    if (t >= ARRAY_LEN(value_bytes))
        return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": %s is %" PRIu64 ", not 0 .. 12", at,
                       what, t);
    *ret = (enum gguf_type)t;
    return 0;
}

static int check_bools(struct parser *p, uint64_t at, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (p->g->head[at + i] > 1)
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": a bool is %u, not 0 or 1", at + i,
                           p->g->head[at + i]);
    return 0;
}

/* Steps over n elements that lie one after the other. */
static int skip_elems(struct parser *p, enum gguf_type type, uint64_t n) {
    if (type == GGUF_STRING) {
        uint64_t at, len;
        for (uint64_t i = 0; i < n; i++) {
            int r = get_string(p, GGUF_MAX_STRING_BYTES, "a string", &at, &len);
            if (r < 0) return r;
        }
        return 0;
    }
    uint64_t total;
    if (__builtin_mul_overflow(n, (uint64_t)value_bytes[type], &total)) total = UINT64_MAX;
    int r = want(p, total, "a value");
    if (r < 0) return r;
    uint64_t at = p->pos;
    p->pos += total;
    return type == GGUF_BOOL ? check_bools(p, at, n) : 0;
}

static int parse_value(struct parser *p, struct value_entry *x) {
    uint64_t n_key, n = 1, at;
    int r = get_name(p, GGUF_MAX_KEY_BYTES, "a key", &x->key_at, &n_key);
    if (r < 0) return r;
    x->v.key.n = (size_t)n_key;
    r = get_value_type(p, "a value type", &x->v.type);
    if (r < 0) return r;
    enum gguf_type type = x->v.type;
    if (type == GGUF_ARRAY) {
        at = p->pos;
        r = get_value_type(p, "an element type", &type);
        if (r < 0) return r;
        if (type == GGUF_ARRAY)
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": an array of arrays", at);
        at = p->pos;
        r = get(p, 8, "an array's length", &n);
        if (r < 0) return r;
        if (n > GGUF_MAX_ARRAY)
            return err_set(p->e, -EBADMSG,
                           "at byte %" PRIu64 ": an array of %" PRIu64 " elements, limit %d", at, n,
                           GGUF_MAX_ARRAY);
    }
    x->v.elem = type;
    x->v.n = n;
    x->v.file_offset = p->pos;
    r = skip_elems(p, type, n);
    if (r < 0) return r;
    x->v.data_bytes = (size_t)(p->pos - x->v.file_offset);
    return 0;
}

/* --- Tensors ---------------------------------------------------------------------------------- */

static int name_type(struct parser *p, const struct tensor_entry *x, uint64_t at, uint64_t type) {
    const char *known = type < ARRAY_LEN(tensor_types) ? tensor_types[type].name : NULL;
    return err_set(p->e, -ENOTSUP,
                   "at byte %" PRIu64 ": tensor %.*s has type %s (%" PRIu64 "), which is not "
                   "supported; convert the file to Q8_0, say",
                   at, (int)x->t.name.n, (const char *)p->g->head + x->name_at,
                   known ? known : "unknown", type);
}

/* Elements and bytes of a tensor; every product is checked as it is formed. */
static int size_tensor(struct parser *p, struct tensor_entry *x, uint64_t at) {
    const struct tensor_type *type = &tensor_types[x->t.type];
    uint64_t n = 1;
    for (uint32_t i = 0; i < x->t.n_dims; i++)
        if (__builtin_mul_overflow(n, x->t.dims[i], &n) || n > INT64_MAX)
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": tensor %.*s has too many elements",
                           at, (int)x->t.name.n, (const char *)p->g->head + x->name_at);
    if (x->t.dims[0] % type->elems != 0)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": tensor %.*s has rows of %" PRIu64
                       " elements, not a multiple of the %u of a %s block",
                       at, (int)x->t.name.n, (const char *)p->g->head + x->name_at, x->t.dims[0],
                       type->elems, type->name);
    x->t.n_elems = n;
    if (__builtin_mul_overflow(n / type->elems, (uint64_t)type->bytes, &x->t.bytes))
        return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": tensor %.*s has too many bytes", at,
                       (int)x->t.name.n, (const char *)p->g->head + x->name_at);
    return 0;
}

static int parse_tensor(struct parser *p, struct tensor_entry *x) {
    uint64_t v, n_name, at;
    int r = get_name(p, MAX_TENSOR_NAME, "a tensor's name", &x->name_at, &n_name);
    if (r < 0) return r;
    x->t.name.n = (size_t)n_name;
    at = p->pos;
    r = get(p, 4, "a tensor's n_dims", &v);
    if (r < 0) return r;
    if (v < 1 || v > 4)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": a tensor of %" PRIu64 " dimensions, not 1 .. 4", at,
                       v);
    x->t.n_dims = (uint32_t)v;
    for (uint32_t i = 0; i < 4; i++) {
        x->t.dims[i] = 1;
        if (i >= x->t.n_dims) continue;
        at = p->pos;
        r = get(p, 8, "a tensor's dimension", &x->t.dims[i]);
        if (r < 0) return r;
        if (x->t.dims[i] == 0)
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": a tensor's dimension is 0", at);
    }
    at = p->pos;
    r = get(p, 4, "a tensor's type", &v);
    if (r < 0) return r;
    if (v >= ARRAY_LEN(tensor_types) || tensor_types[v].elems == 0) return name_type(p, x, at, v);
    x->t.type = (enum gguf_tensor_type)v;
    r = size_tensor(p, x, at);
    if (r < 0) return r;
    return get(p, 8, "a tensor's offset", &x->t.offset); /* relative; see place_tensors() */
}

static int by_offset(const void *a, const void *b) {
    const struct tensor_entry *x = *(const struct tensor_entry *const *)a;
    const struct tensor_entry *y = *(const struct tensor_entry *const *)b;
    return x->t.offset < y->t.offset ? -1 : x->t.offset > y->t.offset;
}

/* Offsets relative to the data section become file offsets that lie inside the file and do not
 * overlap. Leaves tensors_by_name sorted by offset. */
static int place_tensors(struct parser *p) {
    struct gguf *g = p->g;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i].t;
        if (t->offset % g->alignment != 0)
            return err_set(p->e, -EBADMSG,
                           "tensor %.*s: offset %" PRIu64 " is not a multiple of the alignment %u",
                           (int)t->name.n, t->name.p, t->offset, g->alignment);
        if (t->offset > g->file_bytes - g->data_offset ||
            t->bytes > g->file_bytes - g->data_offset - t->offset)
            return err_set(p->e, -EBADMSG,
                           "tensor %.*s: %" PRIu64 " bytes at byte %" PRIu64 " + %" PRIu64
                           " run past the end of the file (%" PRIu64 " bytes)",
                           (int)t->name.n, t->name.p, t->bytes, g->data_offset, t->offset,
                           g->file_bytes);
        t->offset += g->data_offset;
    }
    qsort(g->tensors_by_name, g->n_tensors, sizeof(*g->tensors_by_name), by_offset);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = &g->tensors_by_name[i - 1]->t, *b = &g->tensors_by_name[i]->t;
        if (a->offset + a->bytes > b->offset)
            return err_set(p->e, -EBADMSG, "tensors %.*s and %.*s overlap at byte %" PRIu64,
                           (int)a->name.n, a->name.p, (int)b->name.n, b->name.p, b->offset);
    }
    return 0;
}

/* --- The whole header ------------------------------------------------------------------------- */

static int str_cmp(const struct gguf_str *a, const char *p, size_t n) {
    int c = memcmp(a->p, p, MIN(a->n, n));
    if (c != 0) return c;
    return a->n < n ? -1 : a->n > n;
}

static int by_key(const void *a, const void *b) {
    const struct value_entry *x = *(const struct value_entry *const *)a;
    const struct value_entry *y = *(const struct value_entry *const *)b;
    return str_cmp(&x->v.key, y->v.key.p, y->v.key.n);
}

static int by_name(const void *a, const void *b) {
    const struct tensor_entry *x = *(const struct tensor_entry *const *)a;
    const struct tensor_entry *y = *(const struct tensor_entry *const *)b;
    return str_cmp(&x->t.name, y->t.name.p, y->t.name.n);
}

/* The buffer has stopped moving: file offsets become pointers, and keys can be compared. */
static int index_values(struct parser *p) {
    struct gguf *g = p->g;
    for (size_t i = 0; i < g->n_values; i++) {
        struct value_entry *x = &g->values[i];
        x->v.key.p = (const char *)g->head + x->key_at;
        x->v.data = g->head + x->v.file_offset;
        g->values_by_key[i] = x;
    }
    qsort(g->values_by_key, g->n_values, sizeof(*g->values_by_key), by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (by_key(&g->values_by_key[i - 1], &g->values_by_key[i]) == 0) {
            const struct value_entry *x = g->values_by_key[i];
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": key %.*s is there twice",
                           x->key_at, (int)x->v.key.n, x->v.key.p);
        }
    return 0;
}

static int index_tensors(struct parser *p) {
    struct gguf *g = p->g;
    for (size_t i = 0; i < g->n_tensors; i++) {
        g->tensors[i].t.name.p = (const char *)g->head + g->tensors[i].name_at;
        g->tensors_by_name[i] = &g->tensors[i];
    }
    int r = place_tensors(p);
    if (r < 0) return r;
    qsort(g->tensors_by_name, g->n_tensors, sizeof(*g->tensors_by_name), by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (by_name(&g->tensors_by_name[i - 1], &g->tensors_by_name[i]) == 0) {
            const struct tensor_entry *x = g->tensors_by_name[i];
            return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": tensor %.*s is there twice",
                           x->name_at, (int)x->t.name.n, x->t.name.p);
        }
    return 0;
}

/* A count is believed only if that many entries could still follow in the file. */
static int get_count(struct parser *p, uint64_t max, uint64_t entry_bytes, const char *what,
                     size_t *ret) {
    uint64_t n, at = p->pos;
    int r = get(p, 8, what, &n);
    if (r < 0) return r;
    if (n > max)
        return err_set(p->e, -EBADMSG, "at byte %" PRIu64 ": %" PRIu64 " %s, limit %" PRIu64, at, n,
                       what, max);
    if (n > (p->g->file_bytes - p->pos) / entry_bytes)
        return err_set(p->e, -EBADMSG,
                       "at byte %" PRIu64 ": %" PRIu64 " %s cannot be in a file of %" PRIu64
                       " bytes",
                       at, n, what, p->g->file_bytes);
    *ret = (size_t)n;
    return 0;
}

static int parse_fixed(struct parser *p) {
    struct gguf *g = p->g;
    uint64_t magic, version;
    if (g->file_bytes < FIXED_HEADER_BYTES)
        return err_set(p->e, -EBADMSG, "a file of %" PRIu64 " bytes is too short to be GGUF",
                       g->file_bytes);
    int r = get(p, 4, "the magic", &magic);
    if (r < 0) return r;
    if (magic != MAGIC)
        return err_set(p->e, -EBADMSG, "at byte 0: not a GGUF file (it begins with 0x%08x)",
                       (unsigned)magic);
    r = get(p, 4, "the version", &version);
    if (r < 0) return r;
    if (version == (uint64_t)VERSION << 24)
        return err_set(p->e, -ENOTSUP, "at byte 4: a big-endian GGUF file is not supported");
    if (version != VERSION)
        return err_set(p->e, -ENOTSUP, "at byte 4: GGUF version %u is not supported, only %d",
                       (unsigned)version, VERSION);
    r = get_count(p, GGUF_MAX_TENSORS, MIN_TENSOR_ENTRY_BYTES, "tensors", &g->n_tensors);
    if (r < 0) return r;
    r = get_count(p, GGUF_MAX_KEYS, MIN_KEY_ENTRY_BYTES, "keys", &g->n_values);
    if (r < 0) return r;
    /* One entry more, so that an empty table is not a NULL pointer. The counts are capped. */
    g->values = calloc(g->n_values + 1, sizeof(*g->values));
    g->tensors = calloc(g->n_tensors + 1, sizeof(*g->tensors));
    g->values_by_key = calloc(g->n_values + 1, sizeof(*g->values_by_key));
    g->tensors_by_name = calloc(g->n_tensors + 1, sizeof(*g->tensors_by_name));
    if (!g->values || !g->tensors || !g->values_by_key || !g->tensors_by_name)
        return err_set(p->e, -ENOMEM, "no memory for %zu keys and %zu tensors", g->n_values,
                       g->n_tensors);
    return 0;
}

/* The buffer may still move, so the key is looked for by its offset. A second one is refused later,
 * as every duplicate is. */
static int find_alignment(struct parser *p) {
    static const char key[] = "general.alignment";
    struct gguf *g = p->g;
    g->alignment = DEFAULT_ALIGNMENT;
    for (size_t i = 0; i < g->n_values; i++) {
        const struct value_entry *x = &g->values[i];
        if (x->v.key.n != sizeof(key) - 1 || memcmp(g->head + x->key_at, key, x->v.key.n) != 0)
            continue;
        uint32_t a = 0;
        if (x->v.type == GGUF_U32)
            for (unsigned k = 0; k < 4; k++)
                a |= (uint32_t)g->head[x->v.file_offset + k] << (8 * k);
        if (a < MIN_ALIGNMENT || a > MAX_ALIGNMENT || (a & (a - 1)) != 0)
            return err_set(p->e, -EBADMSG,
                           "at byte %" PRIu64 ": general.alignment must be a u32, a power of two "
                           "in %d .. %d",
                           x->v.file_offset, MIN_ALIGNMENT, MAX_ALIGNMENT);
        g->alignment = a;
    }
    return 0;
}

static int parse_header(struct parser *p) {
    struct gguf *g = p->g;
    int r = parse_fixed(p);
    if (r < 0) return r;
    for (size_t i = 0; i < g->n_values; i++)
        if ((r = parse_value(p, &g->values[i])) < 0) return r;
    for (size_t i = 0; i < g->n_tensors; i++)
        if ((r = parse_tensor(p, &g->tensors[i])) < 0) return r;
    if ((r = find_alignment(p)) < 0) return r;
    g->data_offset = (p->pos + g->alignment - 1) & ~((uint64_t)g->alignment - 1);
    if (g->n_tensors == 0) /* a vocabulary file may end with its last key */
        g->data_offset = MIN(g->data_offset, g->file_bytes);
    r = want(p, g->data_offset - p->pos, "the gap before the tensor data");
    if (r < 0) return r;
    r = index_values(p); /* the buffer moves no more */
    if (r < 0) return r;
    return index_tensors(p);
}

static int open_regular(const char *path, int *ret_fd, uint64_t *ret_bytes, struct err *e) {
    struct stat st;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return err_sys(e, -errno, "cannot open it");
    int r = 0;
    if (fstat(fd, &st) < 0)
        r = err_sys(e, -errno, "cannot stat it");
    else if (!S_ISREG(st.st_mode))
        r = err_set(e, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "not a regular file");
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int gguf_open(const char *path, struct gguf **ret, struct err *e) {
    struct gguf *g = calloc(1, sizeof(*g));
    if (!g) return err_set(e, -ENOMEM, "%s: no memory", path);
    g->fd = -1;
    int r = open_regular(path, &g->fd, &g->file_bytes, e);
    if (r < 0) goto out;
    struct parser p = {.g = g, .e = e};
    r = parse_header(&p);
    if (r < 0) goto out;
    *ret = g;
    g = NULL;
out:
    gguf_close(g);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}

int gguf_parse(const void *data, size_t size, uint64_t file_bytes, struct gguf **ret,
               struct err *e) {
    if (size > file_bytes) return err_set(e, -EINVAL, "more header than file");
    struct gguf *g = calloc(1, sizeof(*g));
    if (!g) return err_set(e, -ENOMEM, "no memory");
    g->fd = -1;
    g->head = data;
    g->have = size;
    g->file_bytes = file_bytes;
    struct parser p = {.g = g, .e = e};
    int r = parse_header(&p);
    if (r < 0)
        gguf_close(g);
    else
        *ret = g;
    return r;
}

void gguf_close(struct gguf *g) {
    if (!g) return;
    if (g->fd >= 0) close(g->fd);
    free(g->owned);
    free(g->values);
    free(g->tensors);
    free(g->values_by_key);
    free(g->tensors_by_name);
    free(g);
}

/* --- Access ----------------------------------------------------------------------------------- */

int gguf_fd(const struct gguf *g) {
    return g->fd;
}

uint64_t gguf_file_bytes(const struct gguf *g) {
    return g->file_bytes;
}

uint64_t gguf_data_offset(const struct gguf *g) {
    return g->data_offset;
}

uint32_t gguf_alignment(const struct gguf *g) {
    return g->alignment;
}

const uint8_t *gguf_header(const struct gguf *g) {
    return g->head;
}

size_t gguf_n_values(const struct gguf *g) {
    return g->n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *g, size_t i) {
    ASSERT(i < g->n_values);
    return &g->values[i].v;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key) {
    size_t lo = 0, hi = g->n_values, n = strlen(key);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(&g->values_by_key[mid]->v.key, key, n);
        if (c == 0) return &g->values_by_key[mid]->v;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

size_t gguf_n_tensors(const struct gguf *g) {
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i) {
    ASSERT(i < g->n_tensors);
    return &g->tensors[i].t;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name) {
    size_t lo = 0, hi = g->n_tensors, n = strlen(name);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(&g->tensors_by_name[mid]->t.name, name, n);
        if (c == 0) return &g->tensors_by_name[mid]->t;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

int gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n,
              struct err *e) {
    if (from > t->bytes || n > t->bytes - from)
        return err_set(e, -EINVAL,
                       "tensor %.*s: bytes %" PRIu64 " + %zu are outside its %" PRIu64 " bytes",
                       (int)t->name.n, t->name.p, from, n, t->bytes);
    if (g->fd < 0) return err_set(e, -EINVAL, "a header without a file has no tensor data");
    int r = read_at(g->fd, t->offset + from, dst, n, e);
    if (r < 0) err_prefix(e, "tensor %.*s", (int)t->name.n, t->name.p);
    return r;
}
