/* Bodies of generation requests: checked, understood and tokenised. Pure, and safe on any thread,
 * as a long prompt takes longer than the loop may stand still. */
#ifndef EBB_DAEMON_API_BODY_H
#define EBB_DAEMON_API_BODY_H

#include "core/defs.h"
#include "core/err.h"
#include "core/sample.h"
#include "core/stream.h"
#include "core/tok.h"

struct chat;

enum { API_MAX_MESSAGES = 4096 };

struct api_body_opts {
    const struct tok *tok;    /* borrowed, as all here */
    const struct chat *chat;  /* NULL: the model has no chat format we know ... */
    const char *chat_missing; /* ... for this reason */
    uint32_t n_ctx;           /* positions a request may use */
    uint32_t max_tokens;      /* when the request names none */
    uint64_t seed;            /* when the request names none */
};

struct api_body {
    bool is_stream;
    bool include_usage;
    bool ignore_end;
    uint32_t max_tokens; /* >= 1; prompt and these fit n_ctx */
    struct sample_params sample;
    struct stream stops;
    struct tok_ids prompt; /* owned; >= 1 */
};

struct api_fault {
    int status;
    const char *type;  /* static */
    const char *code;  /* static; NULL = none */
    char param[64];    /* name of the field; "" = none */
    struct err e;      /* the sentence */
    uint32_t n_prompt; /* of a prompt that is too long, else 0 */
    uint32_t n_ctx;
};

/* Fills *ret (api_body_fini()) and returns 0, or fills *fault and returns a negative errno. */
int api_body_parse(bool is_chat, const char *text, size_t n, const struct api_body_opts *o,
                   struct api_body *ret, struct api_fault *fault) MUST_CHECK;
void api_body_fini(struct api_body *b); /* accepts a zeroed one */

/* {"bytes": N | "auto"} of POST /ebb/limit. */
int api_body_limit(const char *text, size_t n, uint64_t *ret, struct api_fault *fault) MUST_CHECK;

#endif
