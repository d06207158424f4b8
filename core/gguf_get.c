/* Typed access to GGUF values: what the file says a value is decides, never the reader's wish.
 * Built on gguf_find() alone. Pure; any thread. */
#include "core/gguf.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/err.h"

static const char *const value_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                          "bool", "string", "array", "u64", "i64", "f64"};

/* Bytes of a number; 0 for string and array. */
static const uint8_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

double gguf_elem_f64(const struct gguf_value *v, uint64_t i) {
    uint64_t raw = 0;
    ASSERT(i < v->n && value_bytes[v->elem] != 0);
    size_t w = value_bytes[v->elem];
    memcpy(&raw, v->data + i * w, w);
    switch (v->elem) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_BOOL:
    case GGUF_U64: return (double)raw;
    case GGUF_I8: return (int8_t)raw;
    case GGUF_I16: return (int16_t)raw;
    case GGUF_I32: return (int32_t)raw;
    case GGUF_I64: return (double)(int64_t)raw;
    case GGUF_F32: {
        float f;
        memcpy(&f, &raw, sizeof(f));
        return (double)f;
    }
    case GGUF_F64: {
        double f;
        memcpy(&f, &raw, sizeof(f));
        return f;
    }
    case GGUF_STRING:
    case GGUF_ARRAY: break;
    }
    return 0;
}

uint64_t gguf_elem_u64(const struct gguf_value *v, uint64_t i) {
    uint64_t raw = 0;
    ASSERT(i < v->n && value_bytes[v->elem] != 0);
    size_t w = value_bytes[v->elem];
    memcpy(&raw, v->data + i * w, w);
    switch (v->elem) {
    case GGUF_I8: return (uint64_t)(int8_t)raw;
    case GGUF_I16: return (uint64_t)(int16_t)raw;
    case GGUF_I32: return (uint64_t)(int32_t)raw;
    case GGUF_F32:
    case GGUF_F64: {
        double d = gguf_elem_f64(v, i);
        return d >= 0 && d < 0x1p64 ? (uint64_t)d : 0;
    }
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_BOOL:
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_STRING:
    case GGUF_ARRAY: break;
    }
    return raw;
}

static bool is_integer(enum gguf_type t) {
    return t != GGUF_F32 && t != GGUF_F64 && t != GGUF_BOOL && value_bytes[t] != 0;
}

static int wrong_type(const struct gguf_value *v, const char *want_s, struct err *e) {
    return err_set(e, -EBADMSG, "at byte %" PRIu64 ": key %.*s is of type %s%s, not %s",
                   v->file_offset, (int)v->key.n, v->key.p,
                   v->type == GGUF_ARRAY ? "array of " : "", value_names[v->elem], want_s);
}

static int absent(const char *key, struct err *e) {
    return err_set(e, -ENOENT, "key %s is missing", key);
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *ret, struct err *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return absent(key, e);
    if (!is_integer(v->type)) return wrong_type(v, "an integer", e);
    if (gguf_elem_f64(v, 0) < 0)
        return err_set(e, -EBADMSG, "at byte %" PRIu64 ": key %s is negative", v->file_offset, key);
    *ret = gguf_elem_u64(v, 0);
    return 0;
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret, struct err *e) {
    uint64_t u = 0;
    int r = gguf_get_u64(g, key, &u, e);
    if (r < 0) return r;
    if (u > UINT32_MAX)
        return err_set(e, -EBADMSG, "key %s: %" PRIu64 " is more than 32 bits hold", key, u);
    *ret = (uint32_t)u;
    return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct err *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return absent(key, e);
    if (v->type != GGUF_F32 && v->type != GGUF_F64) return wrong_type(v, "f32", e);
    double d = gguf_elem_f64(v, 0);
    if (!isfinite(d) || fabs(d) > (double)3.4028234e38f)
        return err_set(e, -EBADMSG, "at byte %" PRIu64 ": key %s is not a finite f32",
                       v->file_offset, key);
    *ret = (float)d;
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return absent(key, e);
    if (v->type != GGUF_BOOL) return wrong_type(v, "bool", e);
    *ret = v->data[0] != 0;
    return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return absent(key, e);
    if (v->type != GGUF_STRING) return wrong_type(v, "string", e);
    *ret = (struct gguf_str){.p = (const char *)v->data + 8, .n = v->data_bytes - 8};
    return 0;
}

int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type elem,
                   const struct gguf_value **ret, struct err *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return absent(key, e);
    if (v->type != GGUF_ARRAY || v->elem != elem) {
        char want_s[32] = "array of ";
        strcat(want_s, value_names[elem]);
        return wrong_type(v, want_s, e);
    }
    *ret = v;
    return 0;
}

void gguf_strings(const struct gguf_value *v, struct gguf_str *ret) {
    struct bytes b;
    ASSERT(v->elem == GGUF_STRING);
    bytes_init(&b, v->data, v->data_bytes);
    for (uint64_t i = 0; i < v->n; i++) {
        size_t n = (size_t)bytes_u64(&b);
        ret[i] = (struct gguf_str){.p = (const char *)bytes_span(&b, n), .n = n};
    }
    ASSERT(!b.bad);
}
