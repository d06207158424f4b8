/* Chat formats, recognised from the template text in the file and written in code; no template is
 * ever run. ChatML, Llama 3 and Zephyr; anything else is -ENOTSUP, never a guess.
 *
 * What a template does beyond its format is not reproduced: tools, dates that Llama 3.1 puts into
 * the system message, thinking switches. */
#ifndef EBB_CORE_CHAT_H
#define EBB_CORE_CHAT_H

#include "core/defs.h"
#include "core/tok.h"

struct err;
struct gguf;

enum chat_format { CHAT_CHATML, CHAT_LLAMA3, CHAT_ZEPHYR };
const char *chat_format_name(enum chat_format f);

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    const char *text; /* borrowed */
    size_t n;
};

struct chat {
    enum chat_format format;
    char default_system[512]; /* a system text the template adds when none is given; "" = none */
};

/* Reads tokenizer.chat_template. 0, -ENOTSUP (unknown template, or its special tokens are not in
 * the vocabulary; the message says which), -ENODATA (no template in the file), -EBADMSG. */
int chat_detect(const struct gguf *g, const struct tok *t, struct chat *ret,
                struct err *e) MUST_CHECK;

/* Appends the ids of the whole conversation and the assistant's opening, with BOS where the model
 * wants one. Special tokens come from the format only: those in message texts are ordinary text.
 * 0, -E2BIG (over max_ids; 0 = no limit), -ENOMEM; the list is as before after an error. */
int chat_encode(const struct chat *c, const struct tok *t, const struct chat_message *msgs,
                size_t n_msgs, size_t max_ids, struct tok_ids *ret, struct err *e) MUST_CHECK;

#endif
