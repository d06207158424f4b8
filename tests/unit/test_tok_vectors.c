/* Token vectors made by the reference tokenizers: every id must match. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/tok.h"
#include "tests/t.h"

static char *slurp(const char *path, size_t *ret_n) {
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *p = malloc((size_t)n + 1);
    REQUIRE(p && fread(p, 1, (size_t)n, f) == (size_t)n);
    fclose(f);
    p[n] = '\0';
    *ret_n = (size_t)n;
    return p;
}

static struct tok *open_tok(const char *rel) {
    struct err e = {0};
    struct gguf *g;
    struct tok *t;
    REQUIRE_OK(gguf_open(t_shared(rel), &g, &e), &e);
    REQUIRE_OK(tok_create(g, &t, &e), &e);
    gguf_close(g);
    return t;
}

/* Encodes and compares; also joins the pieces again, which must give the text. */
static void check_text(const struct tok *t, const char *text, size_t n, const uint32_t *want,
                       size_t n_want) {
    struct tok_ids ids = {0};
    CHECK_EQ(tok_encode(t, text, n, false, 0, &ids), 0);
    bool is_same = ids.n == n_want;
    for (size_t i = 0; is_same && i < n_want; i++) is_same = ids.v[i] == want[i];
    if (!is_same) t_fail(__FILE__, __LINE__, "other ids for \"%.*s\"", (int)n, text);

    size_t at = 0;
    for (size_t i = 0; i < ids.n; i++) {
        size_t len;
        const char *p = tok_piece(t, ids.v[i], false, &len);
        REQUIRE(len <= n - at);
        CHECK_MEM(p, text + at, len);
        at += len;
    }
    CHECK_EQU(at, n);
    tok_ids_fini(&ids);
}

/* A JSON string without its opening quote, as UTF-8, in place; returns what follows it. */
static char *unescape(char *text, size_t *ret_n) {
    char *in = text, *out = text;
    while (*in != '"') {
        if (*in != '\\') {
            *out++ = *in++;
            continue;
        }
        in++;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        if (*in != 'u') {
            const char *which = strchr(from, *in++);
            REQUIRE(which);
            *out++ = to[which - from];
            continue;
        }
        unsigned c, low;
        REQUIRE(sscanf(in, "u%4x", &c) == 1);
        in += 5;
        if (c >= 0xd800 && c < 0xdc00) {
            REQUIRE(sscanf(in, "\\u%4x", &low) == 1);
            in += 6;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
        if (c < 0x80) {
            *out++ = (char)c;
        } else {
            unsigned n = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            *out++ = (char)((n == 1 ? 0xc0 : n == 2 ? 0xe0 : 0xf0) | c >> 6 * n);
            while (n-- > 0) *out++ = (char)(0x80 | (c >> 6 * n & 0x3f));
        }
    }
    *ret_n = (size_t)(out - text);
    return in + 1;
}

static void smollm2(void) {
    size_t n;
    char *file = slurp(t_shared("tokenizers/smollm2.jsonl"), &n);
    struct tok *t = open_tok("models/smollm2-135m-offgrid-q8_0.gguf");
    static uint32_t want[1 << 16];
    static const char key[] = "\"text\": \"";
    unsigned n_lines = 0;
    for (char *text = strstr(file, key); text; text = strstr(text, key)) {
        size_t n_text, n_want = 0;
        text += strlen(key);
        char *ids = strchr(unescape(text, &n_text), '[');
        REQUIRE(ids);
        for (ids++; *ids != ']';) {
            want[n_want++] = (uint32_t)strtoul(ids, &ids, 10);
            while (*ids == ',' || *ids == ' ') ids++;
        }
        check_text(t, text, n_text, want, n_want);
        text = ids;
        n_lines++;
    }
    CHECK_EQU(n_lines, 248);
    free(file);
    tok_destroy(t);
}

static void gpt2(void) {
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t n, n_out;
    char *in = slurp(t_shared("tokenizers/ggml-vocab-gpt-2.gguf.inp"), &n);
    char *out = slurp(t_shared("tokenizers/ggml-vocab-gpt-2.gguf.out"), &n_out);
    struct tok *t = open_tok("tokenizers/ggml-vocab-gpt-2.gguf");
    unsigned n_texts = 0;
    char *line = out;
    for (char *text = in, *end; (end = strstr(text, mark)) != NULL; text = end + strlen(mark)) {
        size_t n_text = (size_t)(end - text);
        char *eol = strchr(line, '\n');
        uint32_t want[1024];
        size_t n_want = 0;
        REQUIRE(eol);
        *eol = '\0';
        for (char *p = line, *next;; p = next) {
            unsigned long id = strtoul(p, &next, 10);
            if (next == p) break;
            want[n_want++] = (uint32_t)id;
        }
        check_text(t, text, n_text, want, n_want);
        n_texts++;
        line = eol + 1;
    }
    CHECK_EQU(*line, 0);
    CHECK_EQU(n_texts, 46);
    free(in);
    free(out);
    tok_destroy(t);
}

/* Every line of a real text, in both vocabularies, comes back from its pieces. */
static void round_trip(void) {
    static const char *const vocabs[] = {"models/smollm2-135m-offgrid-q8_0.gguf",
                                         "tokenizers/ggml-vocab-gpt-2.gguf"};
    size_t n;
    char *text = slurp(t_shared("text/wiki.valid.txt"), &n);
    for (size_t i = 0; i < 2; i++) {
        struct tok *t = open_tok(vocabs[i]);
        struct tok_ids ids = {0};
        CHECK_EQ(tok_encode(t, text, n, false, 0, &ids), 0);
        size_t at = 0;
        for (size_t k = 0; k < ids.n; k++) {
            size_t len;
            const char *p = tok_piece(t, ids.v[k], false, &len);
            REQUIRE(len <= n - at && memcmp(p, text + at, len) == 0);
            at += len;
        }
        CHECK_EQU(at, n);
        tok_ids_fini(&ids);
        tok_destroy(t);
    }
    free(text);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"smollm2", smollm2},
        {"gpt2", gpt2},
        {"round_trip", round_trip},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
