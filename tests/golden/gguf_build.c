#include "tests/golden/gguf_build.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/gguf.h"

void gb_put(struct gb_buf *b, const void *data, size_t n) {
    if (b->room - b->n < n) {
        b->room = (b->n + n) * 2;
        b->p = realloc(b->p, b->room);
        if (!b->p) abort();
    }
    if (n > 0) memcpy(b->p + b->n, data, n);
    b->n += n;
}

void gb_put_u32(struct gb_buf *b, uint32_t v) {
    uint8_t p[4];
    bytes_put_u32(p, v);
    gb_put(b, p, sizeof(p));
}

void gb_put_u64(struct gb_buf *b, uint64_t v) {
    uint8_t p[8];
    bytes_put_u64(p, v);
    gb_put(b, p, sizeof(p));
}

void gb_put_text(struct gb_buf *b, const char *s) {
    gb_put_u64(b, strlen(s));
    gb_put(b, s, strlen(s));
}

void gb_raw(struct gb *g, const char *key, uint32_t type, const void *data, size_t n) {
    gb_put_text(&g->keys, key);
    gb_put_u32(&g->keys, type);
    gb_put(&g->keys, data, n);
    g->n_keys++;
}

void gb_u32(struct gb *g, const char *key, uint32_t v) {
    uint8_t p[4];
    bytes_put_u32(p, v);
    gb_raw(g, key, GGUF_U32, p, sizeof(p));
}

void gb_f32(struct gb *g, const char *key, float v) {
    gb_raw(g, key, GGUF_F32, &v, sizeof(v));
}

void gb_bool(struct gb *g, const char *key, int v) {
    uint8_t b = v != 0;
    gb_raw(g, key, GGUF_BOOL, &b, 1);
}

void gb_str(struct gb *g, const char *key, const char *v) {
    gb_raw(g, key, GGUF_STRING, NULL, 0);
    gb_put_text(&g->keys, v);
}

void gb_strs(struct gb *g, const char *key, const char *const *v, size_t n) {
    gb_raw(g, key, GGUF_ARRAY, NULL, 0);
    gb_put_u32(&g->keys, GGUF_STRING);
    gb_put_u64(&g->keys, n);
    for (size_t i = 0; i < n; i++) gb_put_text(&g->keys, v[i]);
}

void gb_i32s(struct gb *g, const char *key, const int32_t *v, size_t n) {
    gb_raw(g, key, GGUF_ARRAY, NULL, 0);
    gb_put_u32(&g->keys, GGUF_I32);
    gb_put_u64(&g->keys, n);
    gb_put(&g->keys, v, n * sizeof(*v));
}

static uint32_t alignment(const struct gb *g) {
    return g->alignment ? g->alignment : 32;
}

static void pad(struct gb_buf *b, uint32_t align) {
    while (b->n % align != 0) gb_put(b, "", 1);
}

void gb_tensor(struct gb *g, const char *name, uint32_t type, const uint64_t *dims, uint32_t n_dims,
               const void *data, size_t bytes) {
    pad(&g->data, alignment(g));
    gb_put_text(&g->infos, name);
    gb_put_u32(&g->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) gb_put_u64(&g->infos, dims[i]);
    gb_put_u32(&g->infos, type);
    gb_put_u64(&g->infos, g->data.n);
    gb_put(&g->data, data, bytes);
    g->n_tensors++;
}

uint8_t *gb_finish(struct gb *g, size_t *ret_n) {
    struct gb_buf b = {0};
    if (g->alignment) gb_u32(g, "general.alignment", g->alignment);
    gb_put(&b, "GGUF", 4);
    gb_put_u32(&b, 3);
    gb_put_u64(&b, g->n_tensors);
    gb_put_u64(&b, g->n_keys);
    gb_put(&b, g->keys.p, g->keys.n);
    gb_put(&b, g->infos.p, g->infos.n);
    if (g->n_tensors) pad(&b, alignment(g));
    gb_put(&b, g->data.p, g->data.n);
    free(g->keys.p);
    free(g->infos.p);
    free(g->data.p);
    *g = (struct gb){.alignment = g->alignment};
    *ret_n = b.n;
    return b.p;
}

uint16_t gb_half(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    float a = fabsf(f);
    if (a >= 65520) return sign | 0x7c00;
    if (a < 0x1p-14f) return sign | (uint16_t)lrintf(a * 0x1p24f); /* lrintf: to nearest even */
    int exp;
    float m = frexpf(a, &exp); /* m in [0.5, 1) */
    /* A mantissa that rounds up to 2048 carries into the exponent, as it should. */
    return sign | (uint16_t)(((exp + 14) << 10) + (lrintf(m * 2048) - 1024));
}
