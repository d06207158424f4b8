/* Pre-tokenizers: cut text into the words inside which byte pairs may merge.
 *
 * Each one equals a published regular expression (given in tok_pre.c), written out by hand: it
 * walks forward, never backtracks by more than one character and never recurses, so a hostile text
 * costs linear time and constant stack. Pure; any thread. */
#ifndef EBB_CORE_TOK_PRE_H
#define EBB_CORE_TOK_PRE_H

#include "core/defs.h"

enum tok_pre { TOK_PRE_GPT2, TOK_PRE_SMOLLM, TOK_PRE_LLAMA3, TOK_PRE_QWEN2 };

/* From the value of `tokenizer.ggml.pre`. 0 or -ENOTSUP. */
int tok_pre_find(const char *name, size_t n, enum tok_pre *ret) MUST_CHECK;

/* Length of the first word of text[n], n >= 1; the result is 1..n. A byte that is not part of
 * valid UTF-8 counts as one character that is neither letter, number nor space. */
size_t tok_pre_next(enum tok_pre pre, const char *text, size_t n);

#endif
