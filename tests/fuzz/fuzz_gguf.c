/* A hostile GGUF file, as far as import goes without its weights: the header, the model's sizes,
 * the tokenizer, the chat format. */
#include <stdlib.h>
#include <string.h>

#include "core/chat.h"
#include "core/err.h"
#include "core/gguf.h"
#include "core/model.h"
#include "core/tok.h"
#include "tests/fuzz/fuzz.h"
#include "tests/golden/tiny.h"

/* Everything a reader may ask of a value. */
static uint64_t ask(const struct gguf_value *v) {
    uint64_t sum = 0;
    if (v->elem == GGUF_STRING && v->n > 0) {
        struct gguf_str *s = malloc(v->n * sizeof(*s));
        if (!s) return 0;
        gguf_strings(v, s);
        for (uint64_t i = 0; i < v->n; i++)
            for (size_t k = 0; k < s[i].n; k++) sum += (uint8_t)s[i].p[k];
        free(s);
    } else if (v->elem != GGUF_STRING) {
        for (uint64_t i = 0; i < v->n; i++)
            sum += gguf_elem_u64(v, i) + (gguf_elem_f64(v, i) > 0 ? 1 : 0);
    }
    return sum;
}

static volatile uint64_t sink; /* keeps the reads from being left out */

static void use(const struct gguf *g) {
    struct model_hparams h;
    struct err e = {0};
    struct tok *t = NULL;
    struct chat chat;
    uint64_t sum = 0;
    for (size_t i = 0; i < gguf_n_values(g); i++) sum += ask(gguf_value_at(g, i));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(g, i);
        if (x->offset + x->bytes > gguf_file_bytes(g) || x->offset < gguf_data_offset(g)) abort();
    }
    ignore_result(model_read_hparams(g, true, &h, &e)); /* any answer will do */
    ignore_result(model_read_hparams(g, false, &h, &e));
    if (tok_create(g, &t, &e) == 0) {
        struct tok_ids ids = {0};
        static const char text[] = "<|im_start|>user\nhello world 123 \xff\xc3\xa9<|im_end|>";
        ignore_result(tok_encode(t, text, sizeof(text) - 1, true, 100, &ids));
        for (size_t i = 0; i < ids.n; i++) {
            size_t n;
            tok_piece(t, ids.v[i], true, &n);
            sum += n;
        }
        tok_ids_fini(&ids);
        ignore_result(chat_detect(g, t, &chat, &e));
    }
    tok_destroy(t);
    sink = sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gguf *g = NULL;
    struct err e = {0};
    /* As the whole file, and as the head of a longer one, where tensors have room. */
    if (gguf_parse(data, size, size, &g, &e) == 0) {
        use(g);
        gguf_close(g);
    }
    if (gguf_parse(data, size, (uint64_t)size + (1 << 20), &g, &e) == 0) {
        use(g);
        gguf_close(g);
    }
    return 0;
}

/* The header alone, and tiny weights whole. */
uint8_t *fuzz_seed(unsigned i, size_t *ret_n) {
    struct tiny_opts o = tiny_defaults();
    struct gguf *g;
    o.n_layers = 1;
    o.is_untied = i == 1;
    o.has_rope_freqs = i == 1;
    if (i > 2) return NULL;
    if (i == 2) {
        o.n_embd = o.n_ff = 32;
        o.n_heads = 2;
        o.n_kv_heads = 1;
    }
    uint8_t *p = tiny_build(&o, ret_n);
    if (i < 2 && gguf_parse(p, *ret_n, *ret_n, &g, NULL) == 0) {
        *ret_n = gguf_data_offset(g);
        gguf_close(g);
    }
    return p;
}
