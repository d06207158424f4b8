/* A session's memory: what it was asked, its sampler and stream, and its KV cache. What happens to
 * it while it runs is batch.c's business. */
#include "core/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/kv.h"
#include "core/session_internal.h"

int session_create(const struct session_params *p, struct kv *kv, session_emit_fn emit, void *ud,
                   struct session **ret, struct err *e) {
    if (p->n_prompt == 0) return err_set(e, -EINVAL, "the prompt has no tokens");
    if (p->max_tokens == 0) return err_set(e, -EINVAL, "max_tokens is 0: must be 1 or more");
    if ((uint64_t)p->n_prompt + p->max_tokens > kv_capacity(kv))
        return err_set(e, -EINVAL, "%u prompt tokens and %u to come do not fit %u positions",
                       p->n_prompt, p->max_tokens, kv_capacity(kv));
    if (p->n_kept >= p->n_prompt)
        return err_set(e, -EINVAL,
                       "%u of %u prompt tokens are known: the last one must be computed", p->n_kept,
                       p->n_prompt);
    size_t bytes;
    struct session *s = NULL;
    if (size_mul((size_t)p->n_prompt + p->max_tokens, sizeof(s->ids[0]), &bytes) &&
        size_add(bytes, sizeof(*s), &bytes))
        s = malloc(bytes);
    if (!s) return err_set(e, -ENOMEM, "no memory for a session of %u tokens", p->n_prompt);
    *s = (struct session){
        .kv = kv,
        .emit = emit,
        .ud = ud,
        .ignore_end = p->ignore_end,
        .max_tokens = p->max_tokens,
        .n_fed = p->n_kept,
        .usage.n_prompt = p->n_prompt,
        .usage.n_kept = p->n_kept,
    };
    sample_init(&s->sampler, &p->sample);
    if (p->stops) s->stream = *p->stops;
    memcpy(s->ids, p->prompt, (size_t)p->n_prompt * sizeof(s->ids[0]));
    /* Touched now, as a step must not fault. */
    memset(s->ids + p->n_prompt, 0, (size_t)p->max_tokens * sizeof(s->ids[0]));
    *ret = s;
    return 0;
}

void session_destroy(struct session *s) {
    if (!s) return;
    ASSERT(!s->batch);
    kv_destroy(s->kv);
    free(s);
}

struct kv *session_take_kv(struct session *s, const uint32_t **ret_ids, uint32_t *ret_n) {
    struct kv *kv = s->kv;
    ASSERT(!s->batch);
    s->kv = NULL;
    *ret_ids = s->ids;
    *ret_n = s->n_fed;
    return kv;
}

void session_usage(const struct session *s, struct session_usage *ret) {
    *ret = s->usage;
}
