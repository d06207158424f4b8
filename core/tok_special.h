/* Tokens that are found in text as a whole, before it is cut into words: the longest one that
 * begins at a place wins. Immutable once filled; any thread. */
#ifndef EBB_CORE_TOK_SPECIAL_H
#define EBB_CORE_TOK_SPECIAL_H

#include "core/defs.h"

struct tok_vocab;

struct tok_special { /* zeroed: none */
    uint32_t *ids;   /* owned; ordered by text, no two alike */
    uint32_t n;
    bool begins[256]; /* whether any begins with this byte */
};

/* Collects the tokens of the types in `types` (a bit per enum tok_type). 0 or -ENOMEM. */
int tok_special_init(struct tok_special *s, struct tok_vocab *v, unsigned types) MUST_CHECK;
void tok_special_fini(struct tok_special *s);

/* The longest token that text[n], n >= 1, begins with, or -1. */
int64_t tok_special_match(const struct tok_special *s, const struct tok_vocab *v, const char *text,
                          size_t n, size_t *ret_n);

#endif
