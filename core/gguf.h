/* GGUF v3: reader for untrusted files (llama.cpp's container; our packs are valid GGUF, too).
 *
 * gguf_open() reads and checks everything but the tensor data: every count, length, type, offset
 * and product, against the file's real size and the caps below, before anything is allocated for
 * it. Afterwards the object is immutable and may be used from any thread. Tensor data is read with
 * pread() into the caller's memory, never mapped. Errors give the file's byte offset. */
#ifndef EBB_CORE_GGUF_H
#define EBB_CORE_GGUF_H

#include "core/defs.h"

struct err;
struct gguf;

enum gguf_type { /* of a value; numbers are the file's */
                 GGUF_U8 = 0,
                 GGUF_I8,
                 GGUF_U16,
                 GGUF_I16,
                 GGUF_U32,
                 GGUF_I32,
                 GGUF_F32,
                 GGUF_BOOL,
                 GGUF_STRING,
                 GGUF_ARRAY,
                 GGUF_U64,
                 GGUF_I64,
                 GGUF_F64,
};

enum gguf_tensor_type { /* numbers are the file's; others are refused by name or number */
                        GGUF_T_F32 = 0,
                        GGUF_T_F16 = 1,
                        GGUF_T_Q4_0 = 2,
                        GGUF_T_Q4_1 = 3,
                        GGUF_T_Q5_0 = 6,
                        GGUF_T_Q5_1 = 7,
                        GGUF_T_Q8_0 = 8,
                        GGUF_T_Q4_K = 12,
                        GGUF_T_Q5_K = 13,
                        GGUF_T_Q6_K = 14,
                        GGUF_T_IQ4_NL = 20,
                        GGUF_T_I8 = 24,
                        GGUF_T_BF16 = 30,
};

enum {
    GGUF_MAX_TENSORS = 65536,
    GGUF_MAX_KEYS = 65536,
    GGUF_MAX_KEY_BYTES = 256,
    GGUF_MAX_STRING_BYTES = 1 << 20,
    GGUF_MAX_ARRAY = 1 << 24, /* elements */
    GGUF_MAX_HEADER_BYTES = 256 << 20,
};

struct gguf_str {
    const char *p; /* borrowed from the gguf; not NUL-terminated */
    size_t n;
};

struct gguf_value {
    struct gguf_str key;
    enum gguf_type type;
    enum gguf_type elem; /* of an array */
    uint64_t n;          /* elements of an array, else 1 */
    const uint8_t
        *data; /* raw value(s), little endian, not aligned; strings as u64 length + bytes */
    size_t data_bytes;
    uint64_t file_offset; /* of `data` in the file */
};

struct gguf_tensor {
    struct gguf_str name;
    enum gguf_tensor_type type;
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* fastest first; unused ones are 1 */
    uint64_t n_elems;
    uint64_t offset; /* in the file */
    uint64_t bytes;
};

/* `path`: a regular file (-EISDIR or -EINVAL otherwise; a FIFO does not hang). 0, -EBADMSG
 * (corrupt: message with offset), -ENOTSUP (version, tensor type), -ENOMEM, or the system's error.
 * *ret is owned by the caller until gguf_close(). */
int gguf_open(const char *path, struct gguf **ret, struct err *e) MUST_CHECK;
void gguf_close(struct gguf *g); /* accepts NULL */

/* The same over a header in memory (borrowed), as if it began a file of file_bytes; for fuzzing. */
int gguf_parse(const void *data, size_t size, uint64_t file_bytes, struct gguf **ret,
               struct err *e) MUST_CHECK;

int gguf_fd(const struct gguf *g); /* borrowed; -1 after gguf_parse() */
uint64_t gguf_file_bytes(const struct gguf *g);
uint64_t gguf_data_offset(const struct gguf *g); /* where tensor data begins */
uint32_t gguf_alignment(const struct gguf *g);
/* The file's bytes [0, gguf_data_offset()) as they were parsed; borrowed. */
const uint8_t *gguf_header(const struct gguf *g);

size_t gguf_n_values(const struct gguf *g);
const struct gguf_value *gguf_value_at(const struct gguf *g, size_t i);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key); /* NULL if absent */

/* Typed getters. 0, -ENOENT (absent; *ret untouched) or -EBADMSG (other type or out of range). */
int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret, struct err *e) MUST_CHECK;
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *ret, struct err *e) MUST_CHECK;
int gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct err *e) MUST_CHECK;
int gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *e) MUST_CHECK;
int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret,
                 struct err *e) MUST_CHECK;
/* An array of exactly this element type. */
int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type elem,
                   const struct gguf_value **ret, struct err *e) MUST_CHECK;
/* Fills ret[n] from a string array (n = v->n), which gguf_open() has already checked. */
void gguf_strings(const struct gguf_value *v, struct gguf_str *ret);
/* Element i of an array of numbers, as double / uint64; the element type must be numeric. */
double gguf_elem_f64(const struct gguf_value *v, uint64_t i);
uint64_t gguf_elem_u64(const struct gguf_value *v, uint64_t i);

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name); /* or NULL */

/* Reads bytes [from, from + n) of the tensor's data. 0, -EINVAL (outside the tensor), -EBADMSG
 * (file got shorter) or the system's error. Thread: any. */
int gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n,
              struct err *e) MUST_CHECK;

/* "Q8_0"; NULL for a type this reader does not know. */
const char *gguf_type_name(uint32_t type);

#endif
