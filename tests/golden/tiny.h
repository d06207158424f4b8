/* A tiny but whole model: `llama` architecture, byte-level BPE with ChatML, seeded weights. For
 * every test that needs a model but not a good one.
 *
 * Deterministic in its options. Weights are scaled so that logits are lively (standard deviation
 * about 4, so greedy choices are rarely near ties) and so that what it writes is printable ASCII:
 * the output rows of other bytes and of the special tokens are a tenth as long. So it never ends
 * by itself: tests set max_tokens or a stop string. */
#ifndef EBB_TESTS_GOLDEN_TINY_H
#define EBB_TESTS_GOLDEN_TINY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/gguf.h"

struct tiny_opts {
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_ctx;
    enum gguf_tensor_type type; /* of the matrices: F32, F16 or Q8_0 */
    bool is_untied;
    bool has_rope_freqs;
    uint64_t seed;
};

enum { TINY_BOS = 1, TINY_EOS = 2, TINY_FIRST_BYTE = 3 };

struct tiny_opts tiny_defaults(void); /* 3 layers, 64, 96, 4, 2, 16, 2048, Q8_0, tied, seed 1 */
uint32_t tiny_n_vocab(void);
/* The GGUF file's bytes, malloc'd. */
uint8_t *tiny_build(const struct tiny_opts *o, size_t *ret_n);
/* The same into a file. 0 or a negative errno. */
int tiny_write(const struct tiny_opts *o, const char *path);

#endif
