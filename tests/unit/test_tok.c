/* The tokenizer on vocabularies made here: what it refuses, special tokens, the merge order
 * against a naive oracle, and words of ten million characters. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/tok.h"
#include "core/tok_vocab.h"
#include "tests/golden/gguf_build.h"
#include "tests/t.h"

enum { MAX_TOKENS = 1024 };

/* --- a vocabulary in the making --- */

struct vocab {
    const char *model, *pre;
    char text[MAX_TOKENS][TOK_MAX_TOKEN_BYTES + 2];
    int32_t type[MAX_TOKENS];
    size_t n;
    char merge[MAX_TOKENS][64];
    size_t n_merges;
    struct gb keys; /* more of them */
    bool has_no_types, has_no_tokens, has_no_merges;
    size_t n_types; /* 0: as many as tokens */
};

static uint32_t add(struct vocab *v, const char *text, int32_t type) {
    REQUIRE(v->n < MAX_TOKENS);
    snprintf(v->text[v->n], sizeof(v->text[0]), "%s", text);
    v->type[v->n] = type;
    return (uint32_t)v->n++;
}

/* The rule, and the token it makes if that is not there yet. */
static void merge(struct vocab *v, const char *left, const char *right) {
    char both[128];
    REQUIRE(v->n_merges < MAX_TOKENS);
    snprintf(both, sizeof(both), "%s%s", left, right);
    snprintf(v->merge[v->n_merges++], sizeof(v->merge[0]), "%s %s", left, right);
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->text[i], both) == 0) return;
    add(v, both, TOK_NORMAL);
}

/* Token b is byte b. */
static struct vocab *bytes_vocab(const char *pre) {
    struct vocab *v = calloc(1, sizeof(*v));
    REQUIRE(v);
    v->model = "gpt2";
    v->pre = pre;
    for (unsigned b = 0; b < 256; b++) {
        char s[TOK_SPELL_BYTES + 1] = {0};
        tok_vocab_spell((uint8_t)b, s);
        add(v, s, TOK_NORMAL);
    }
    return v;
}

static int build(struct vocab *v, struct tok **ret, struct err *e) {
    static const char *texts[MAX_TOKENS];
    struct gguf *g;
    struct gb b = v->keys;
    size_t n;
    if (v->model) gb_str(&b, "tokenizer.ggml.model", v->model);
    if (v->pre) gb_str(&b, "tokenizer.ggml.pre", v->pre);
    for (size_t i = 0; i < v->n; i++) texts[i] = v->text[i];
    if (!v->has_no_tokens) gb_strs(&b, "tokenizer.ggml.tokens", texts, v->n);
    if (!v->has_no_types)
        gb_i32s(&b, "tokenizer.ggml.token_type", v->type, v->n_types ? v->n_types : v->n);
    for (size_t i = 0; i < v->n_merges; i++) texts[i] = v->merge[i];
    if (!v->has_no_merges) gb_strs(&b, "tokenizer.ggml.merges", texts, v->n_merges);
    uint8_t *file = gb_finish(&b, &n);
    free(v);
    REQUIRE_OK(gguf_parse(file, n, n, &g, e), e);
    int r = tok_create(g, ret, e);
    gguf_close(g); /* the tokenizer must not need it any more */
    free(file);
    return r;
}

static struct tok *built(struct vocab *v) {
    struct err e = {0};
    struct tok *t;
    REQUIRE_OK(build(v, &t, &e), &e);
    return t;
}

/* The refusal and a part of its sentence. */
static void check_refused(struct vocab *v, int code, const char *says) {
    struct err e = {0};
    struct tok *t = NULL;
    CHECK_EQ(build(v, &t, &e), code);
    CHECK(t == NULL);
    if (!strstr(e.msg, says)) t_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", e.msg, says);
    tok_destroy(t);
}

/* The ids of the text as "1 2 3". */
static void check_ids(const struct tok *t, const char *text, bool parse_special, const char *want) {
    struct tok_ids ids = {0};
    char got[1024] = "";
    CHECK_EQ(tok_encode(t, text, strlen(text), parse_special, 0, &ids), 0);
    for (size_t i = 0, at = 0; i < ids.n && at < sizeof(got) - 16; i++)
        at += (size_t)snprintf(got + at, sizeof(got) - at, i ? " %u" : "%u", ids.v[i]);
    CHECK_STR(got, want);
    tok_ids_fini(&ids);
}

/* --- what is refused --- */

static void refuses_kind(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    v->model = NULL;
    check_refused(v, -ENOTSUP, "tokenizer.ggml.model is missing");
    v = bytes_vocab("gpt-2");
    v->model = "llama";
    check_refused(v, -ENOTSUP, "'llama'");
    check_refused(bytes_vocab(NULL), -ENOTSUP, "tokenizer.ggml.pre is missing");
    check_refused(bytes_vocab("tekken"), -ENOTSUP, "'tekken'");
    check_refused(bytes_vocab("\033[2Jx"), -ENOTSUP, "'?[2Jx'"); /* nothing for a terminal to run */
}

static void refuses_vocab(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    v->has_no_tokens = true;
    check_refused(v, -EBADMSG, "tokenizer.ggml.tokens is missing");
    v = bytes_vocab("gpt-2");
    v->n = v->n_types = 0;
    v->has_no_types = true;
    check_refused(v, -EBADMSG, "tokenizer.ggml.tokens is empty");
    v = bytes_vocab("gpt-2");
    v->n_types = 255;
    check_refused(v, -EBADMSG, "255 entries for 256 tokens");
    v = bytes_vocab("gpt-2");
    v->type[7] = 0;
    check_refused(v, -EBADMSG, "token 7 has type 0");
    v = bytes_vocab("gpt-2");
    v->type[9] = -1;
    check_refused(v, -EBADMSG, "token 9 has type -1");
    v = bytes_vocab("gpt-2");
    memset(v->text[v->n], 'x', TOK_MAX_TOKEN_BYTES + 1);
    v->type[v->n++] = TOK_NORMAL;
    check_refused(v, -ENOTSUP, "token 256 has 1025 bytes");
}

static void refuses_merges(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    v->has_no_merges = true;
    check_refused(v, -EBADMSG, "tokenizer.ggml.merges is missing");

    static const struct {
        const char *merge, *says;
    } bad[] = {
        {"ab", "merge 1 has 2 bytes"},      {"abc", "merge 1 is not two tokens"},
        {" ab", "merge 1 is not"},          {"ab ", "merge 1 is not"},
        {"xy z", "merge 1 ('xy?z') makes"}, {"x yz", "merge 1"},
        {"e nd", "merge 1 ('e?nd') needs"}, {"a c", "makes control token"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        v = bytes_vocab("gpt-2");
        merge(v, "a", "b");
        add(v, "end", TOK_NORMAL);
        add(v, "ac", TOK_CONTROL);
        snprintf(v->merge[v->n_merges++], sizeof(v->merge[0]), "%s", bad[i].merge);
        check_refused(v, -EBADMSG, bad[i].says);
    }
}

static void refuses_ids(void) {
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < 4; i++) {
        struct vocab *v = bytes_vocab("gpt-2");
        gb_u32(&v->keys, keys[i], 256);
        check_refused(v, -EBADMSG, "is 256, outside the vocabulary of 256");
        v = bytes_vocab("gpt-2");
        gb_str(&v->keys, keys[i], "0");
        check_refused(v, -EBADMSG, keys[i]);
    }
    struct vocab *v = bytes_vocab("gpt-2");
    gb_bool(&v->keys, "tokenizer.ggml.add_bos_token", 1);
    check_refused(v, -EBADMSG, "no tokenizer.ggml.bos_token_id");
}

/* --- tokens --- */

static void ends_and_bos(void) {
    struct vocab *v = bytes_vocab("llama-bpe");
    uint32_t bos = add(v, "<|begin|>", TOK_CONTROL), eot = add(v, "<|eot_id|>", TOK_CONTROL);
    uint32_t text = add(v, "<|im_end|>", TOK_NORMAL), other = add(v, "<|x|>", TOK_CONTROL);
    gb_u32(&v->keys, "tokenizer.ggml.bos_token_id", bos);
    gb_u32(&v->keys, "tokenizer.ggml.eos_token_id", 10);
    gb_u32(&v->keys, "tokenizer.ggml.eom_token_id", 11);
    struct tok *t = built(v);
    CHECK_EQU(tok_n_vocab(t), 260);
    CHECK_EQ(tok_bos(t), bos);
    CHECK_EQ(tok_eos(t), 10);
    CHECK(tok_adds_bos(t)); /* the habit of this pre-tokenizer's models */
    CHECK(tok_is_end(t, 10) && tok_is_end(t, 11) && tok_is_end(t, eot));
    CHECK(!tok_is_end(t, text)); /* the text of an end, but an ordinary token */
    CHECK(!tok_is_end(t, other) && !tok_is_end(t, 1u << 30));
    CHECK(tok_is_special(t, other) && !tok_is_special(t, text) && !tok_is_special(t, 1u << 30));
    tok_destroy(t);

    v = bytes_vocab("llama-bpe");
    gb_u32(&v->keys, "tokenizer.ggml.bos_token_id", 1);
    gb_bool(&v->keys, "tokenizer.ggml.add_bos_token", 0);
    t = built(v);
    CHECK(!tok_adds_bos(t));
    CHECK_EQ(tok_eos(t), -1);
    tok_destroy(t);
    tok_destroy(NULL);
}

static void check_piece(const struct tok *t, uint32_t id, bool special, const char *want) {
    size_t n;
    const char *p = tok_piece(t, id, special, &n);
    CHECK_EQU(n, strlen(want));
    if (n == strlen(want)) CHECK_MEM(p, want, n);
}

static void pieces(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    uint32_t word = add(v, "\xc4\xa0hi\xc4\x8a", TOK_NORMAL); /* a blank, "hi", a newline */
    uint32_t control = add(v, "<|x|>", TOK_CONTROL), unknown = add(v, "<unk>", TOK_UNKNOWN);
    uint32_t user = add(v, "\xc4\xa0raw", TOK_USER_DEFINED), unused = add(v, "pad", TOK_UNUSED);
    uint32_t raw = add(v, "\xe4\xb8\xad\xff", TOK_NORMAL); /* spells nothing: kept as it is */
    add(v, "", TOK_NORMAL);
    uint32_t twin = add(v, "<|x|>", TOK_NORMAL);
    struct tok *t = built(v);
    check_piece(t, word, false, " hi\n");
    check_piece(t, 0xe9, false, "\xe9");
    check_piece(t, control, false, "");
    check_piece(t, control, true, "<|x|>");
    check_piece(t, unknown, false, "");
    check_piece(t, user, false, "\xc4\xa0raw");
    check_piece(t, unused, true, "");
    check_piece(t, raw, false, "\xe4\xb8\xad\xff");
    check_piece(t, tok_n_vocab(t), true, "");
    check_piece(t, UINT32_MAX, true, "");
    CHECK_EQ(tok_find(t, "<|x|>", 5), control); /* of two alike, the first */
    check_piece(t, twin, false, "<|x|>");
    CHECK_EQ(tok_find(t, "", 0), -1);
    CHECK_EQ(tok_find(t, "<|y|>", 5), -1);
    tok_destroy(t);
}

static void specials(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    add(v, "<s>", TOK_CONTROL);      /* 256 */
    add(v, "<s><s>", TOK_CONTROL);   /* 257 */
    add(v, "<t>", TOK_USER_DEFINED); /* 258 */
    add(v, "<s", TOK_CONTROL);       /* 259 */
    struct tok *t = built(v);
    check_ids(t, "<s>", false, "60 115 62");
    check_ids(t, "<s>", true, "256");
    check_ids(t, "<s><s><s>", true, "257 256"); /* the longest at each place */
    check_ids(t, "a<s><t><s<", true, "97 256 258 259 60");
    check_ids(t, "a<t><s>", false, "97 258 60 115 62");
    check_ids(t, "<t", true, "60 116");
    check_ids(t, "", true, "");
    tok_destroy(t);
}

/* Bytes without a token vanish before the merges. */
static void missing_bytes(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    merge(v, "!", "!"); /* 256 */
    strcpy(v->text[0x04], "no longer byte 4");
    strcpy(v->text[0xff], "no longer byte 255");
    v->type[0x05] = TOK_CONTROL; /* nor may text give a control token */
    struct tok *t = built(v);
    check_ids(t, "!\x04!\xff\x05", false, "256");
    check_ids(t, "\x04", false, "");
    tok_destroy(t);
}

static void whole_words(void) {
    for (int is_llama = 0; is_llama < 2; is_llama++) {
        struct vocab *v = bytes_vocab(is_llama ? "llama-bpe" : "qwen2");
        add(v, "\xc4\xa0word", TOK_NORMAL); /* 256: no merges lead to it */
        add(v, "end", TOK_CONTROL);         /* 257: no word is a control token */
        struct tok *t = built(v);
        check_ids(t, " word", false, is_llama ? "256" : "32 119 111 114 100");
        check_ids(t, "end", false, "101 110 100");
        tok_destroy(t);
    }
}

static void limits(void) {
    struct vocab *v = bytes_vocab("gpt-2");
    add(v, "<s>", TOK_CONTROL);
    struct tok *t = built(v);
    struct tok_ids ids = {0};
    CHECK_EQ(tok_ids_push(&ids, 7), 0);
    CHECK_EQ(tok_encode(t, "abc", 3, false, 3, &ids), 0);
    CHECK_EQU(ids.n, 4);
    CHECK_EQ(tok_encode(t, "abc", 3, false, 2, &ids), -E2BIG);
    CHECK_EQ(tok_encode(t, "ab<s>", 5, true, 2, &ids), -E2BIG);
    CHECK_EQ(tok_encode(t, "a b c", 5, true, 2, &ids), -E2BIG);
    CHECK_EQU(ids.n, 4); /* as before */
    CHECK_EQU(ids.v[0], 7);
    tok_ids_fini(&ids);
    tok_destroy(t);
}

/* --- the order of merges --- */

struct part {
    char s[64];
};

/* ret may be a. */
static void join(char *ret, const char *a, const char *between, const char *b) {
    size_t n_a = strlen(a), n_between = strlen(between);
    memmove(ret, a, n_a);
    memcpy(ret + n_a, between, n_between);
    memmove(ret + n_a + n_between, b, strlen(b) + 1);
}

/* By the definition: of all pairs with a rule, the lowest rank, the leftmost; again until none. */
static size_t naive(const struct vocab *v, const char *text, size_t n, struct part *part) {
    for (size_t i = 0; i < n; i++) part[i] = (struct part){{text[i]}};
    for (;;) {
        size_t best_at = n, best_rank = v->n_merges;
        for (size_t i = 0; i + 1 < n; i++) {
            char pair[130];
            join(pair, part[i].s, " ", part[i + 1].s);
            size_t rank = 0;
            while (rank < best_rank && strcmp(v->merge[rank], pair) != 0) rank++;
            if (rank >= best_rank) continue;
            best_rank = rank;
            best_at = i;
        }
        if (best_at == n) return n;
        join(part[best_at].s, part[best_at].s, "", part[best_at + 1].s);
        memmove(part + best_at + 1, part + best_at + 2, (n - best_at - 2) * sizeof(part[0]));
        n--;
    }
}

/* Rules over three letters in random order: a later token may be needed by an earlier rule, and
 * rules may repeat. */
static struct vocab *random_vocab(uint64_t *rand) {
    struct vocab *v = bytes_vocab("gpt-2");
    size_t first[MAX_TOKENS], n = 3;
    for (size_t i = 0; i < 3; i++) first[i] = 'a' + i;
    for (unsigned i = 4 + t_rand(rand) % 40; i > 0; i--) {
        const char *left = v->text[first[t_rand(rand) % n]];
        const char *right = v->text[first[t_rand(rand) % n]];
        if (strlen(left) + strlen(right) > 12) continue;
        size_t n_before = v->n;
        merge(v, left, right);
        if (v->n > n_before) first[n++] = n_before;
    }
    for (size_t i = v->n_merges; i > 1; i--) {
        char tmp[64];
        size_t k = t_rand(rand) % i;
        memcpy(tmp, v->merge[i - 1], sizeof(tmp));
        memcpy(v->merge[i - 1], v->merge[k], sizeof(tmp));
        memcpy(v->merge[k], tmp, sizeof(tmp));
    }
    return v;
}

static void merge_order(void) {
    static struct part part[300];
    uint64_t rand = t_seed();
    for (unsigned i = 0; i < 400; i++) {
        struct vocab *v = random_vocab(&rand), *copy = malloc(sizeof(*copy));
        REQUIRE(copy);
        memcpy(copy, v, sizeof(*copy));
        struct tok *t = built(v);
        for (unsigned k = 0; k < 8; k++) {
            char text[300];
            size_t n = 1 + t_rand(&rand) % (k == 0 ? sizeof(text) - 1 : 30);
            unsigned letters = 1 + t_rand(&rand) % 3;
            for (size_t c = 0; c < n; c++) text[c] = (char)('a' + t_rand(&rand) % letters);
            struct tok_ids ids = {0};
            CHECK_EQ(tok_encode(t, text, n, false, 0, &ids), 0);
            size_t n_want = naive(copy, text, n, part);
            bool is_same = ids.n == n_want;
            for (size_t c = 0; is_same && c < n_want; c++) {
                size_t len;
                const char *p = tok_piece(t, ids.v[c], false, &len);
                is_same = len == strlen(part[c].s) && memcmp(p, part[c].s, len) == 0;
            }
            if (!is_same) t_fail(__FILE__, __LINE__, "vocabulary %u, text %u: other merges", i, k);
            tok_ids_fini(&ids);
        }
        tok_destroy(t);
        free(copy);
    }
}

/* Any bytes come back, whatever the pre-tokenizer. */
static void any_bytes(void) {
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    uint64_t rand = t_seed();
    for (unsigned i = 0; i < 4; i++) {
        struct vocab *v = bytes_vocab(pres[i]);
        merge(v, "a", "a");
        merge(v, "\xc4\xa0", "\xc4\xa0");
        merge(v, "\xc3\xa4", "\xc2\xb8"); /* the bytes e4 b8 */
        add(v, "<s>", TOK_CONTROL);
        struct tok *t = built(v);
        for (unsigned k = 0; k < 2000; k++) {
            static const char usual[] = "a \n's1.\xe4\xb8\xad\xc3";
            char text[200];
            size_t n = t_rand(&rand) % sizeof(text), at = 0;
            bool is_usual = t_rand(&rand) % 2;
            for (size_t c = 0; c < n; c++)
                text[c] = (char)(is_usual ? usual[t_rand(&rand) % (sizeof(usual) - 1)]
                                          : (int)t_rand(&rand));
            struct tok_ids ids = {0};
            CHECK_EQ(tok_encode(t, text, n, k % 2, 0, &ids), 0);
            for (size_t c = 0; c < ids.n; c++) {
                size_t len;
                const char *p = tok_piece(t, ids.v[c], true, &len);
                REQUIRE(len <= n - at && memcmp(p, text + at, len) == 0);
                at += len;
            }
            CHECK_EQU(at, n);
            tok_ids_fini(&ids);
        }
        tok_destroy(t);
    }
}

/* --- ten megabytes of one character --- */

/* Doubling rules for each character, so that every word has many rounds of merges. */
static struct vocab *doubling_vocab(const char *pre) {
    static const char *const spelled[] = {"A", "\xc4\xa0", "\xc4\x8a", "7", "\xc3\xa4"};
    struct vocab *v = bytes_vocab(pre);
    for (size_t i = 0; i < 5; i++) {
        char s[64];
        snprintf(s, sizeof(s), "%s", spelled[i]);
        for (unsigned k = 0; k < 4; k++) {
            merge(v, s, s);
            size_t n = strlen(s);
            memmove(s + n, s, n + 1);
        }
    }
    merge(v, "\xc3\xa4", "\xc2\xb8");         /* e4 b8 */
    merge(v, "\xc3\xa4\xc2\xb8", "\xc5\x83"); /* e4 b8 ad */
    return v;
}

static void long_runs(void) {
    static const char *const chars[] = {"A", " ", "\n", "7", "\xe4\xb8\xad"};
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe"};
    enum { BYTES = 10 * 1000 * 1000 };
    char *text = malloc(BYTES + 4);
    REQUIRE(text);
    for (size_t i = 0; i < 5; i++) {
        size_t n = strlen(chars[i]), n_text = 0;
        for (; n_text < BYTES; n_text += n) memcpy(text + n_text, chars[i], n);
        struct tok *t = built(doubling_vocab(pres[i % 3]));
        struct tok_ids ids = {0};
        CHECK_EQ(tok_encode(t, text, n_text, false, 0, &ids), 0);
        size_t n_got = 0;
        for (size_t k = 0; k < ids.n; k++) {
            size_t len;
            (void)tok_piece(t, ids.v[k], false, &len);
            n_got += len;
        }
        CHECK_EQU(n_got, n_text);
        ids.n = 0;
        CHECK_EQ(tok_encode(t, text, n_text, false, 8192, &ids), -E2BIG);
        tok_ids_fini(&ids);
        tok_destroy(t);
    }
    free(text);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"refuses_kind", refuses_kind},
        {"refuses_vocab", refuses_vocab},
        {"refuses_merges", refuses_merges},
        {"refuses_ids", refuses_ids},
        {"ends_and_bos", ends_and_bos},
        {"pieces", pieces},
        {"specials", specials},
        {"missing_bytes", missing_bytes},
        {"whole_words", whole_words},
        {"limits", limits},
        {"merge_order", merge_order},
        {"any_bytes", any_bytes},
        {"long_runs", long_runs},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
