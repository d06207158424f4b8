/* The tokens of a vocabulary: their texts as stored, the bytes they stand for, their types.
 *
 * Byte-level vocabularies spell each byte as one printable character (a blank is U+0120); the
 * texts keep that spelling, the pieces undo it. Immutable once filled; any thread. */
#ifndef EBB_CORE_TOK_VOCAB_H
#define EBB_CORE_TOK_VOCAB_H

#include "core/defs.h"

struct err;
struct gguf;

enum {
    TOK_MAX_VOCAB = 1 << 20,
    TOK_SPELL_BYTES = 2, /* the most one byte takes when spelled */
};

enum tok_type { /* numbers are the file's */
                TOK_NORMAL = 1,
                TOK_UNKNOWN,
                TOK_CONTROL,
                TOK_USER_DEFINED,
                TOK_UNUSED,
                TOK_BYTE,
};

struct tok_vocab { /* zeroed: empty */
    uint32_t n;
    uint8_t *types;     /* owned; [n] enum tok_type */
    uint32_t *text_at;  /* owned; [n + 1] offsets into texts */
    uint32_t *piece_at; /* owned; [n + 1] offsets into pieces */
    char *texts;        /* owned */
    char *pieces;       /* owned */
    uint32_t *slots;    /* owned; hash table of ids by text, n_slots is a power of two */
    size_t n_slots;
    uint32_t max_piece_bytes; /* of the longest piece, >= 1 */
};

/* From tokenizer.ggml.tokens and .token_type (absent: all normal). Of equal texts the first one is
 * found. 0, -EBADMSG, -ENOTSUP (more tokens, or longer ones, than we take) or -ENOMEM. */
int tok_vocab_init(struct tok_vocab *v, const struct gguf *g, struct err *e) MUST_CHECK;
void tok_vocab_fini(struct tok_vocab *v);

/* Borrowed; id < n. */
const char *tok_vocab_text(const struct tok_vocab *v, uint32_t id, size_t *ret_n);
const char *tok_vocab_piece(const struct tok_vocab *v, uint32_t id, size_t *ret_n);

/* -1: no such token. The empty text is never found. */
int64_t tok_vocab_find(const struct tok_vocab *v, const char *text, size_t n);

/* Writes the spelling of a byte; returns its length. */
size_t tok_vocab_spell(uint8_t byte, char ret[TOK_SPELL_BYTES]);

#endif
