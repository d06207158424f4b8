/* Byte-pair merges: the ranked rules of a vocabulary, and their application to one word.
 *
 * The rule of lowest rank is always applied next, the leftmost place first, as the reference
 * tokenizers do. Time is O(n log n) in the symbols of the word. The rules are immutable once
 * filled and may be shared by threads; each thread brings its own work area. */
#ifndef EBB_CORE_TOK_BPE_H
#define EBB_CORE_TOK_BPE_H

#include "core/defs.h"

struct tok_bpe_rule {
    uint32_t left, right; /* token ids */
    uint32_t rank;        /* TOK_BPE_NO_RANK: free slot */
};

#define TOK_BPE_NO_RANK UINT32_MAX

struct tok_bpe {                /* zeroed: no rules */
    struct tok_bpe_rule *slots; /* owned; hash table by pair, n_slots is a power of two or 0 */
    size_t n_slots;
    uint32_t *merged; /* owned; [rank]: the token a rule makes */
    uint32_t n_rules, max_rules;
};

/* Room for max_rules. 0 or -ENOMEM. */
int tok_bpe_init(struct tok_bpe *b, uint32_t max_rules) MUST_CHECK;
void tok_bpe_fini(struct tok_bpe *b);

/* The next rule, in rank order. A pair that has a rule already keeps it. 0, or -EBADMSG for pairs
 * picked so that they all collide in the table. */
int tok_bpe_add(struct tok_bpe *b, uint32_t left, uint32_t right, uint32_t merged) MUST_CHECK;

struct tok_bpe_work;                                       /* grows to the longest word seen */
struct tok_bpe_work *tok_bpe_work_create(void) MUST_CHECK; /* NULL: no memory */
void tok_bpe_work_destroy(struct tok_bpe_work *w);         /* accepts NULL */

/* Merges ids[*n] in place and lowers *n. 0, -ENOMEM, or -E2BIG (no room to number the symbols);
 * ids is garbage after an error. */
int tok_bpe_merge(const struct tok_bpe *b, struct tok_bpe_work *w, uint32_t *ids,
                  size_t *n) MUST_CHECK;

#endif
