/* Tokenizer: text <-> token ids, as the model's GGUF metadata defines it.
 *
 * Byte-level BPE (`tokenizer.ggml.model` = gpt2) with the pre-tokenizers smollm, gpt-2, llama-bpe
 * and qwen2; others are refused by name. Immutable after tok_create(); any thread. Linear in the
 * text but for an O(n log n) merge inside one word.
 *
 * Bytes that no token spells are left out before merging, as the reference does (SmolLM2 has no
 * token for 21 bytes: those that never occur in UTF-8, two leads of unassigned planes and six
 * control characters). With a vocabulary that spells all bytes, the pieces of the ids joined are
 * the text again. */
#ifndef EBB_CORE_TOK_H
#define EBB_CORE_TOK_H

#include "core/defs.h"

struct err;
struct gguf;
struct tok;

enum { TOK_MAX_TOKEN_BYTES = 1024, TOK_MAX_MERGES = 1 << 21 };

/* Copies what it needs from `g`. 0, -ENOTSUP, -EBADMSG, -ENOMEM. */
int tok_create(const struct gguf *g, struct tok **ret, struct err *e) MUST_CHECK;
void tok_destroy(struct tok *t); /* accepts NULL */

uint32_t tok_n_vocab(const struct tok *t);

struct tok_ids { /* growing list; zero it to start */
    uint32_t *v; /* owned; tok_ids_fini() */
    size_t n, cap;
};
void tok_ids_fini(struct tok_ids *ids);
int tok_ids_push(struct tok_ids *ids, uint32_t id) MUST_CHECK; /* 0 or -ENOMEM */

/* Appends the ids of text[n] (any bytes; invalid UTF-8 is encoded byte by byte). Text that looks
 * like a control token is ordinary text unless `parse_special`; user-defined tokens are part of
 * the ordinary vocabulary and always found whole. No BOS is added. Fails with -E2BIG once more
 * than max_ids would be appended (0 = no limit), so that a hostile prompt costs no more than its
 * length. 0, -E2BIG or -ENOMEM; the list is as before after an error. */
int tok_encode(const struct tok *t, const char *text, size_t n, bool parse_special, size_t max_ids,
               struct tok_ids *ret) MUST_CHECK;

/* Bytes of one token (borrowed; *ret_n may be 0): its text, with byte-level coding undone. Control
 * tokens give "" unless `special`. An id outside the vocabulary gives "". */
const char *tok_piece(const struct tok *t, uint32_t id, bool special, size_t *ret_n);

/* Id of the token whose text is exactly s[n] (special or not, as stored), or -1. */
int64_t tok_find(const struct tok *t, const char *s, size_t n);
bool tok_is_special(const struct tok *t, uint32_t id); /* a control token */
/* Generation stops: eos, eot, eom, or a control token that is commonly used so. */
bool tok_is_end(const struct tok *t, uint32_t id);
int64_t tok_bos(const struct tok *t); /* -1: none */
int64_t tok_eos(const struct tok *t); /* -1: none */
bool tok_adds_bos(const struct tok *t);

#endif
