/* What session.c (one timeline) and batch.c (running several) share. Nobody else includes it. */
#ifndef EBB_CORE_SESSION_INTERNAL_H
#define EBB_CORE_SESSION_INTERNAL_H

#include "core/defs.h"
#include "core/session.h"

/* Written by batch.c only, once the session is made. */
struct session {
    struct batch *batch; /* the one it is in, or NULL */
    struct kv *kv;       /* owned */
    session_emit_fn emit;
    void *ud;
    struct sampler sampler;
    struct stream stream;
    bool ignore_end;
    bool is_paused;
    uint32_t max_tokens;
    uint32_t n_fed;
    uint32_t next;
    struct session_usage usage;
    uint32_t ids[]; /* [usage.n_prompt + max_tokens]: the prompt, then what was generated */
};

#endif
