/* Bounded cursor over bytes that come from a file or a socket. The first error sticks, with its
 * offset; after it every getter returns 0, so a parser checks once per record. Little endian. */
#ifndef EBB_CORE_BYTES_H
#define EBB_CORE_BYTES_H

#include "core/defs.h"

struct err;

struct bytes {
    const uint8_t *data; /* borrowed, for the life of the cursor */
    size_t size;
    size_t pos;    /* <= size */
    bool bad;      /* an access went past the end, or bytes_fail() was called */
    size_t bad_at; /* offset of the first bad access */
};

void bytes_init(struct bytes *b, const void *data, size_t size);
size_t bytes_left(const struct bytes *b);

uint8_t bytes_u8(struct bytes *b);
uint16_t bytes_u16(struct bytes *b);
uint32_t bytes_u32(struct bytes *b);
uint64_t bytes_u64(struct bytes *b);
float bytes_f32(struct bytes *b);
double bytes_f64(struct bytes *b);

/* Borrows `n` bytes and steps over them; NULL (and bad) if fewer are left. */
const uint8_t *bytes_span(struct bytes *b, size_t n);

/* Marks the cursor bad at `at`. */
void bytes_fail(struct bytes *b, size_t at);

/* Little-endian stores for writers. */
void bytes_put_u16(uint8_t *p, uint16_t v);
void bytes_put_u32(uint8_t *p, uint32_t v);
void bytes_put_u64(uint8_t *p, uint64_t v);

#endif
