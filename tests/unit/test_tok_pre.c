/* The pre-tokenizers: explicit cases, random text against their regular expressions run by PCRE2.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#if EBB_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

#include "core/tok_pre.h"
#include "tests/t.h"

/* The words of the text, joined by '|'. */
static void check_words(enum tok_pre pre, const char *text, const char *want) {
    char got[1024];
    size_t n = strlen(text), at = 0, n_got = 0;
    while (at < n) {
        size_t len = tok_pre_next(pre, text + at, n - at);
        REQUIRE(len > 0 && len <= n - at);
        if (at > 0) got[n_got++] = '|';
        memcpy(got + n_got, text + at, len);
        n_got += len;
        at += len;
    }
    got[n_got] = '\0';
    CHECK_STR(got, want);
}

static void names(void) {
    static const struct {
        const char *name;
        enum tok_pre pre;
    } known[] = {
        {"smollm", TOK_PRE_SMOLLM},          {"gpt-2", TOK_PRE_GPT2},
        {"llama-bpe", TOK_PRE_LLAMA3},       {"llama3", TOK_PRE_LLAMA3},
        {"llama-v3", TOK_PRE_LLAMA3},        {"qwen2", TOK_PRE_QWEN2},
        {"deepseek-r1-qwen", TOK_PRE_QWEN2},
    };
    enum tok_pre pre;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        CHECK_EQ(tok_pre_find(known[i].name, strlen(known[i].name), &pre), 0);
        CHECK_EQ(pre, known[i].pre);
    }
    CHECK_EQ(tok_pre_find("tekken", 6, &pre), -ENOTSUP);
    CHECK_EQ(tok_pre_find("", 0, &pre), -ENOTSUP);
    CHECK_EQ(tok_pre_find("gpt-2x", 6, &pre), -ENOTSUP);
}

static void gpt2(void) {
    check_words(TOK_PRE_GPT2, "Hello world", "Hello| world");
    check_words(TOK_PRE_GPT2, "it's we'll they've I'M", "it|'s| we|'ll| they|'ve| I|'|M");
    check_words(TOK_PRE_GPT2, "a  b", "a| | b");
    check_words(TOK_PRE_GPT2, "a \n b", "a| \n| b");
    check_words(TOK_PRE_GPT2, "a\tb", "a|\t|b");
    check_words(TOK_PRE_GPT2, "end   ", "end|   ");
    check_words(TOK_PRE_GPT2, "x 2024, y", "x| 2024|,| y");
    check_words(TOK_PRE_GPT2, " !? ...", " !?| ...");
    check_words(TOK_PRE_GPT2, "a\xff\xffz", "a|\xff\xff|z");
}

static void smollm(void) {
    check_words(TOK_PRE_SMOLLM, "x 2024, y", "x| |2|0|2|4|,| y");
    check_words(TOK_PRE_SMOLLM, "a  12",
                "a|  |1|2"); /* a number ends the piece: both blanks stay */
    check_words(TOK_PRE_SMOLLM, "a  b1", "a| | b|1");
    check_words(TOK_PRE_SMOLLM, "\xc2\xbd\xe2\x85\xa7", "\xc2\xbd|\xe2\x85\xa7"); /* No and Nl */
    check_words(TOK_PRE_SMOLLM, "it's", "it|'s");
}

static void llama3(void) {
    check_words(TOK_PRE_LLAMA3, "We'Ve a'lL I'M don'T", "We|'Ve| a|'lL| I|'M| don|'T");
    check_words(TOK_PRE_LLAMA3, "it'\xc5\xbf!", "it|'\xc5\xbf|!"); /* the long s folds to s */
    check_words(TOK_PRE_LLAMA3, "1234567 12", "123|456|7| |12");
    check_words(TOK_PRE_LLAMA3, "(foo) !!bar", "(foo|)| !!|bar");
    check_words(TOK_PRE_LLAMA3, "a\n\n\n b", "a|\n\n\n| b");
    check_words(TOK_PRE_LLAMA3, "a \n \n  b", "a| \n \n| | b");
    check_words(TOK_PRE_LLAMA3, "x;\r\n\r\ny", "x|;\r\n\r\n|y");
    check_words(TOK_PRE_LLAMA3, "\tfoo\t\tbar", "\tfoo|\t|\tbar");
    check_words(TOK_PRE_LLAMA3, "\nfoo", "\n|foo");
    check_words(TOK_PRE_LLAMA3, "  \n", "  \n");
    check_words(TOK_PRE_LLAMA3, "tail   ", "tail|   ");
}

static void qwen2(void) {
    check_words(TOK_PRE_QWEN2, "v1234 x", "v|1|2|3|4| x");
    check_words(TOK_PRE_QWEN2, "We'Ve", "We|'Ve");
    check_words(TOK_PRE_QWEN2, "a \xe2\x82\xac!\n\nb", "a| \xe2\x82\xac!\n\n|b");
}

#if EBB_HAVE_PCRE2

/* PCRE2's own \s adds U+180E, which is no longer White_Space. */
#define S                                                                                          \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define SPACES "[" S "]+(?![^" S "])|[" S "]+"
#define GPT2   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+|" SPACES
#define LLAMA3(numbers)                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^" S                \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" S "]*[\\r\\n]+|" SPACES

struct oracle {
    pcre2_code *code;
    pcre2_match_data *match;
};

static struct oracle compile(const char *pattern) {
    int code;
    PCRE2_SIZE at;
    struct oracle o;
    o.code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    REQUIRE(o.code);
    o.match = pcre2_match_data_create_from_pattern(o.code, NULL);
    REQUIRE(o.match);
    return o;
}

static void release(struct oracle *o) {
    pcre2_match_data_free(o->match);
    pcre2_code_free(o->code);
}

/* Length of the match at `at`, in text that ends at n. */
static size_t match(const struct oracle *o, const char *text, size_t n, size_t at) {
    int r = pcre2_match(o->code, (PCRE2_SPTR)text, n, at, PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK,
                        o->match, NULL);
    REQUIRE(r > 0);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(o->match);
    REQUIRE(v[0] == at && v[1] > at);
    return v[1] - at;
}

/* smollm in its own two steps: cut out each number, then gpt-2 between two of them. */
static size_t match_smollm(const struct oracle *o, const struct oracle *number, const char *text,
                           size_t n, size_t at) {
    int r = pcre2_match(number->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, number->match,
                        NULL);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(number->match);
    if (r > 0 && v[0] == at) return v[1] - at;
    return match(o, text, r > 0 ? v[0] : n, at);
}

static size_t put_char(uint32_t c, char *ret) {
    unsigned n = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    ret[0] = (char)(lead[n] | c >> 6 * n);
    for (unsigned i = 1; i <= n; i++) ret[i] = (char)(0x80 | (c >> 6 * (n - i) & 0x3f));
    return n + 1;
}

/* The two libraries may know different versions of Unicode: a character that is assigned in one of
 * them only says nothing about the splitters. */
static bool is_news(const struct oracle *unassigned, uint32_t c) {
    char s[4];
    size_t n = put_char(c, s);
    bool is_ours = utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_CN;
    return is_ours ==
           (pcre2_match(unassigned->code, (PCRE2_SPTR)s, n, 0, 0, unassigned->match, NULL) > 0);
}

/* Mostly the characters the patterns care about, the rest from all of Unicode. */
static size_t random_text(const struct oracle *unassigned, uint64_t *rand, char *ret) {
    static const uint32_t usual[] = {
        ' ',    ' ',   ' ',    '\n',    '\r',   '\t',   '\'',   '\'',  's',  't',   'T',    'r',
        'e',    'v',   'l',    'L',     'm',    'D',    'a',    'Z',   '0',  '9',   '1',    '!',
        '.',    '_',   0xe9,   0x17f,   0x212a, 0xbd,   0x2167, 0x661, 0xa0, 0x85,  0x2028, 0x3000,
        0x180e, 0x300, 0x4e2d, 0x1f600, 0x200b, 0x200d, 0x0b,   0x0c,  0x1c, 0xfb06};
    size_t n = 0;
    for (unsigned i = 1 + t_rand(rand) % 24; i > 0; i--) {
        uint32_t c = usual[t_rand(rand) % (sizeof(usual) / sizeof(usual[0]))];
        if (t_rand(rand) % 5 == 0) {
            static const uint32_t tops[] = {0x250, 0x3000, 0x20000, 0x110000};
            do c = (uint32_t)(t_rand(rand) % tops[t_rand(rand) % 4]);
            while ((c >= 0xd800 && c < 0xe000) || is_news(unassigned, c));
        }
        n += put_char(c, ret + n);
    }
    return n;
}

static void against_regex(void) {
    struct oracle number = compile("\\p{N}");
    struct oracle unassigned = compile("\\p{Cn}");
    struct oracle oracles[4];
    oracles[TOK_PRE_GPT2] = compile(GPT2);
    oracles[TOK_PRE_SMOLLM] = compile(GPT2);
    oracles[TOK_PRE_LLAMA3] = compile(LLAMA3("\\p{N}{1,3}"));
    oracles[TOK_PRE_QWEN2] = compile(LLAMA3("\\p{N}"));
    uint64_t rand = t_seed();
    unsigned n_words = 0;
    for (unsigned i = 0; i < 40000; i++) {
        char text[128];
        enum tok_pre pre = (enum tok_pre)(i % 4);
        size_t n = random_text(&unassigned, &rand, text);
        for (size_t at = 0, len; at < n; at += len, n_words++) {
            size_t want = pre == TOK_PRE_SMOLLM ? match_smollm(&oracles[pre], &number, text, n, at)
                                                : match(&oracles[pre], text, n, at);
            len = tok_pre_next(pre, text + at, n - at);
            if (len == want) continue;
            t_fail(__FILE__, __LINE__, "case %u, pattern %d, byte %zu: %zu, not %zu bytes", i, pre,
                   at, len, want);
            fwrite(text, 1, n, stdout);
            puts("");
            t_stop();
        }
    }
    CHECK(n_words > 200000);
    for (unsigned i = 0; i < 4; i++) release(&oracles[i]);
    release(&number);
    release(&unassigned);
}
#else
static void against_regex(void) {
    t_skip("libpcre2-dev was not there when this was built");
}
#endif

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"names", names},   {"gpt2", gpt2},   {"smollm", smollm},
        {"llama3", llama3}, {"qwen2", qwen2}, {"against_regex", against_regex},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
