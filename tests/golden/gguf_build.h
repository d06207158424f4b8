/* Builds small GGUF files in memory for tests. A growing buffer, then keys, then tensors, in the
 * order of the calls. No memory ends the program: it is for tests only. */
#ifndef EBB_TESTS_GOLDEN_GGUF_BUILD_H
#define EBB_TESTS_GOLDEN_GGUF_BUILD_H

#include <stddef.h>
#include <stdint.h>

struct gb_buf {
    uint8_t *p; /* owned */
    size_t n, room;
};
void gb_put(struct gb_buf *b, const void *data, size_t n);
void gb_put_u32(struct gb_buf *b, uint32_t v);
void gb_put_u64(struct gb_buf *b, uint64_t v);
void gb_put_text(struct gb_buf *b, const char *s); /* u64 length, bytes */

/* Zero it to start; `alignment` 0 means 32 and no key for it. */
struct gb {
    struct gb_buf keys, infos, data;
    uint64_t n_keys, n_tensors;
    uint32_t alignment;
};

void gb_u32(struct gb *g, const char *key, uint32_t v);
void gb_f32(struct gb *g, const char *key, float v);
void gb_bool(struct gb *g, const char *key, int v);
void gb_str(struct gb *g, const char *key, const char *v);
void gb_strs(struct gb *g, const char *key, const char *const *v, size_t n);
void gb_i32s(struct gb *g, const char *key, const int32_t *v, size_t n);
/* Any key and value: the bytes after the value type as they lie in the file. */
void gb_raw(struct gb *g, const char *key, uint32_t type, const void *data, size_t n);
/* Dims fastest first. */
void gb_tensor(struct gb *g, const char *name, uint32_t type, const uint64_t *dims, uint32_t n_dims,
               const void *data, size_t bytes);

/* The file's bytes, malloc'd; g is emptied. */
uint8_t *gb_finish(struct gb *g, size_t *ret_n);

/* Nearest-even fp16. */
uint16_t gb_half(float f);

#endif
