/* Source tensors as floats: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q4_K Q5_K Q6_K (block
 * formats of ggml, written from their published layout). */
#ifndef EBB_CORE_DEQUANT_H
#define EBB_CORE_DEQUANT_H

#include "core/defs.h"
#include "core/gguf.h"

struct err;

/* Elements per block and bytes per block of a type; false if the type is not importable. */
bool dequant_block(enum gguf_tensor_type type, uint32_t *ret_elems, uint32_t *ret_bytes);

/* n elements (a multiple of the block) from `src` into ret[n]. The type must be importable. */
void dequant_blocks(enum gguf_tensor_type type, const void *src, size_t n, float *ret);

/* Rows [row0, row0 + n_rows) of a 2-D (or 1-D: one row) tensor into ret[n_rows * dims[0]].
 * 0, -ENOTSUP, -EINVAL, -EBADMSG (NaN or infinity in the weights, or a short file), -ENOMEM. */
int dequant_rows(const struct gguf *g, const struct gguf_tensor *t, uint64_t row0, uint64_t n_rows,
                 float *ret, struct err *e) MUST_CHECK;

#endif
