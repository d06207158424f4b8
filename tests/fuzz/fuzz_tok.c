/* Fuzz entry of the tokenizer. The first byte picks the pre-tokenizer and what the rest is:
 *
 *   text     encoded by a vocabulary that spells every byte; the pieces must give it back
 *   patches  of three bytes (offset, value) to that vocabulary's file; if it is still accepted, it
 *            must encode and stay in its bounds */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/tok.h"
#include "core/tok_vocab.h"
#include "tests/golden/gguf_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

static void must(bool ok) {
    if (!ok) abort();
}

/* Every byte, merges that text is full of, and tokens that are found whole. */
static uint8_t *make_file(const char *pre, size_t *ret_n) {
    static const char *const merges[] = {"a a",           "aa aa",    "a b",          "e r",
                                         "\u0120 \u0120", "\u0120 a", "\u010a \u010a"};
    static const char *const made[] = {"aa",      "aaaa",         "ab",  "er",     "\u0120\u0120",
                                       "\u0120a", "\u010a\u010a", "<s>", "<s><s>", "<t>"};
    char spelled[256][TOK_SPELL_BYTES + 1] = {{0}};
    const char *texts[300];
    int32_t types[300];
    struct gb b = {0};
    size_t n = 0;
    for (; n < 256; n++) {
        tok_vocab_spell((uint8_t)n, spelled[n]);
        texts[n] = spelled[n];
        types[n] = TOK_NORMAL;
    }
    for (size_t i = 0; i < ARRAY_LEN(made); i++, n++) {
        texts[n] = made[i];
        types[n] = TOK_NORMAL;
        if (made[i][0] == '<') types[n] = made[i][1] == 's' ? TOK_CONTROL : TOK_USER_DEFINED;
    }
    gb_str(&b, "tokenizer.ggml.model", "gpt2");
    gb_str(&b, "tokenizer.ggml.pre", pre);
    gb_u32(&b, "tokenizer.ggml.eos_token_id", 263);
    gb_strs(&b, "tokenizer.ggml.merges", merges, ARRAY_LEN(merges));
    gb_i32s(&b, "tokenizer.ggml.token_type", types, n);
    gb_strs(&b, "tokenizer.ggml.tokens", texts, n);
    return gb_finish(&b, ret_n);
}

static struct tok *make_tok(const char *pre) {
    struct gguf *g;
    struct tok *t;
    size_t n;
    uint8_t *file = make_file(pre, &n);
    must(gguf_parse(file, n, n, &g, NULL) == 0);
    must(tok_create(g, &t, NULL) == 0);
    gguf_close(g);
    free(file);
    return t;
}

static void try_text(const struct tok *t, const char *text, size_t n, bool parse_special) {
    struct tok_ids ids = {0};
    size_t at = 0;
    must(tok_encode(t, text, n, parse_special, 0, &ids) == 0);
    for (size_t i = 0; i < ids.n; i++) {
        size_t len;
        const char *p = tok_piece(t, ids.v[i], true, &len);
        must(len <= n - at && memcmp(p, text + at, len) == 0);
        at += len;
    }
    must(at == n);
    if (ids.n > 1) must(tok_encode(t, text, n, parse_special, ids.n - 1, &ids) == -E2BIG);
    tok_ids_fini(&ids);
}

static void try_patches(const char *pre, const uint8_t *data, size_t n) {
    static const char text[] = "The year 2024 isn't <s> over.\n\n aaa \xe4\xb8\xad\xff";
    struct gguf *g;
    struct tok *t;
    struct err e = {0};
    size_t n_file;
    uint8_t *file = make_file(pre, &n_file);
    for (size_t i = 0; i + 3 <= n; i += 3)
        file[((size_t)data[i] << 8 | data[i + 1]) % n_file] = data[i + 2];
    if (gguf_parse(file, n_file, n_file, &g, &e) == 0) {
        if (tok_create(g, &t, &e) == 0) {
            struct tok_ids ids = {0};
            must(tok_encode(t, text, sizeof(text) - 1, true, 0, &ids) == 0);
            for (size_t i = 0; i < ids.n; i++) must(ids.v[i] < tok_n_vocab(t));
            tok_ids_fini(&ids);
            tok_destroy(t);
        } else {
            must(e.code < 0 && e.msg[0]);
        }
        gguf_close(g);
    }
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct tok *toks[ARRAY_LEN(pres)]; /* made once, kept until the process ends */
    if (n == 0) return 0;
    size_t which = data[0] % ARRAY_LEN(pres);
    if (data[0] & 0x20) { /* lower case letters: patches; capitals: text */
        try_patches(pres[which], data + 1, n - 1);
        return 0;
    }
    if (!toks[which]) toks[which] = make_tok(pres[which]);
    try_text(toks[which], (const char *)data + 1, n - 1, data[0] & 4);
    return 0;
}
