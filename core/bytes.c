#include "core/bytes.h"

#include <string.h>

void bytes_init(struct bytes *b, const void *data, size_t size) {
    *b = (struct bytes){.data = data, .size = size};
}

size_t bytes_left(const struct bytes *b) {
    return b->bad ? 0 : b->size - b->pos;
}

void bytes_fail(struct bytes *b, size_t at) {
    if (b->bad) return;
    b->bad = true;
    b->bad_at = at;
}

const uint8_t *bytes_span(struct bytes *b, size_t n) {
    if (bytes_left(b) < n || b->bad) {
        bytes_fail(b, b->pos);
        return NULL;
    }
    const uint8_t *p = b->data + b->pos;
    b->pos += n;
    return p;
}

static uint64_t get_le(struct bytes *b, size_t n) {
    const uint8_t *p = bytes_span(b, n);
    uint64_t v = 0;
    if (!p) return 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t bytes_u8(struct bytes *b) {
    return (uint8_t)get_le(b, 1);
}

uint16_t bytes_u16(struct bytes *b) {
    return (uint16_t)get_le(b, 2);
}

uint32_t bytes_u32(struct bytes *b) {
    return (uint32_t)get_le(b, 4);
}

uint64_t bytes_u64(struct bytes *b) {
    return get_le(b, 8);
}

float bytes_f32(struct bytes *b) {
    uint32_t u = bytes_u32(b);
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

double bytes_f64(struct bytes *b) {
    uint64_t u = bytes_u64(b);
    double f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static void put_le(uint8_t *p, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(v >> (8 * i));
}

void bytes_put_u16(uint8_t *p, uint16_t v) {
    put_le(p, v, 2);
}

void bytes_put_u32(uint8_t *p, uint32_t v) {
    put_le(p, v, 4);
}

void bytes_put_u64(uint8_t *p, uint64_t v) {
    put_le(p, v, 8);
}
