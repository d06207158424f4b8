/* Bodies of generation requests from any bytes, for the tiny model: ids and settings in their
 * ranges, or a refusal that says why. */
#include <stdlib.h>

#include "core/chat.h"
#include "core/gguf.h"
#include "daemon/api_body.h"
#include "tests/golden/tiny.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_CTX = 200 };

static struct tok *tok;
static struct chat chat;

static void set_up(void) {
    struct tiny_opts o = tiny_defaults();
    struct gguf *g;
    size_t n;
    uint8_t *model = tiny_build(&o, &n);
    if (!model || gguf_parse(model, n, n, &g, NULL) < 0) abort();
    if (tok_create(g, &tok, NULL) < 0 || chat_detect(g, tok, &chat, NULL) < 0) abort();
    gguf_close(g);
    free(model);
}

static void check(const struct api_body *b) {
    if (b->prompt.n == 0 || b->prompt.n + b->max_tokens > N_CTX || b->max_tokens == 0) abort();
    for (size_t i = 0; i < b->prompt.n; i++)
        if (b->prompt.v[i] >= tok_n_vocab(tok)) abort();
    const struct sample_params *p = &b->sample;
    if (!(p->temperature >= 0 && p->temperature <= 2 && p->top_p > 0 && p->top_p <= 1)) abort();
    if (p->top_k > SAMPLE_MAX_TOP_K || b->stops.n_stops > STREAM_MAX_STOPS) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!tok) set_up();
    const struct api_body_opts o = {
        .tok = tok, .chat = &chat, .n_ctx = N_CTX, .max_tokens = 16, .seed = 1};
    for (int is_chat = 0; is_chat <= 1; is_chat++) {
        struct api_body b = {0};
        struct api_fault f;
        if (api_body_parse(is_chat, (const char *)data, size, &o, &b, &f) == 0)
            check(&b);
        else if (f.status < 400 || f.status > 599 || !f.type || !f.e.msg[0])
            abort();
        api_body_fini(&b);
    }
    return 0;
}
