/* The four pre-tokenizers. Their regular expressions, which this file must equal:
 *
 *   gpt-2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   smollm     cut out every single \p{N} first, then gpt-2 in each piece between
 *   llama-bpe  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *              | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *   qwen2      as llama-bpe with \p{N} for \p{N}{1,3}
 *
 * \s is Unicode's White_Space. A run of spaces is read at most three times before it is used up
 * (once for its newlines, once for the rest, once for its last character), so the whole is
 * linear. */
#include "core/tok_pre.h"

#include <errno.h>
#include <string.h>
#include <utf8proc.h>

enum kind { LETTER, NUMBER, SPACE, OTHER };

struct ch { /* one character of the text */
    enum kind kind;
    size_t n;        /* bytes; 0 at the end, whose kind is SPACE */
    bool is_newline; /* CR or LF */
};

static bool is_space(utf8proc_int32_t c) {
    if (c <= 0x20) return c == 0x20 || (c >= 0x09 && c <= 0x0d);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static enum kind kind_of(utf8proc_int32_t c) {
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return LETTER;
        if (c >= '0' && c <= '9') return NUMBER;
        return is_space(c) ? SPACE : OTHER;
    }
    if (is_space(c)) return SPACE;
    utf8proc_category_t cat = utf8proc_category(c);
    if (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) return LETTER;
    if (cat >= UTF8PROC_CATEGORY_ND && cat <= UTF8PROC_CATEGORY_NO) return NUMBER;
    return OTHER;
}

static struct ch char_at(const char *s, size_t n, size_t at) {
    if (at >= n) return (struct ch){.kind = SPACE};
    utf8proc_int32_t c = (uint8_t)s[at];
    size_t bytes = 1;
    if (c >= 0x80) {
        size_t left = MIN(n - at, (size_t)4);
        utf8proc_ssize_t got = utf8proc_iterate((const utf8proc_uint8_t *)s + at,
                                                (utf8proc_ssize_t)left, &c);
        if (got <= 0) return (struct ch){.kind = OTHER, .n = 1};
        bytes = (size_t)got;
    }
    return (struct ch){.kind = kind_of(c), .n = bytes, .is_newline = c == '\r' || c == '\n'};
}

/* Where the run of `kind` characters that begins at `at` ends. */
static size_t skip_run(const char *s, size_t n, size_t at, enum kind kind) {
    for (;;) {
        struct ch c = char_at(s, n, at);
        if (c.n == 0 || c.kind != kind) return at;
        at += c.n;
    }
}

/* Length of an English contraction ('s 't 're 've 'm 'll 'd) at the start, or 0. */
static size_t contraction(const char *s, size_t n, bool is_caseless) {
    if (n < 2 || s[0] != '\'') return 0;
    char a = s[1];
    char b = n > 2 ? s[2] : '\0';
    if (is_caseless) {
        /* U+017F, the long s, folds to s. */
        if (n > 2 && memcmp(s + 1, "\xc5\xbf", 2) == 0) return 3;
        if (a >= 'A' && a <= 'Z') a = (char)(a - 'A' + 'a');
        if (b >= 'A' && b <= 'Z') b = (char)(b - 'A' + 'a');
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' || a == 'v') && b == 'e') return 3;
    return a == 'l' && b == 'l' ? 3 : 0;
}

/* The tail both families share, at a space: \s+(?!\S)|\s+ , that is, the whole run at the end of
 * the text, else all but its last character, which may lead the next word. `cuts_number` is
 * smollm's: a number ends the piece. */
static size_t space_run(const char *s, size_t n, bool cuts_number) {
    size_t at = 0, last = 0;
    struct ch c;
    for (c = char_at(s, n, 0); c.n > 0 && c.kind == SPACE; c = char_at(s, n, at)) {
        last = at;
        at += c.n;
    }
    if (c.n == 0 || (cuts_number && c.kind == NUMBER)) return at;
    return last > 0 ? last : at;
}

static size_t next_gpt2(const char *s, size_t n, bool cuts_number) {
    size_t at = contraction(s, n, false);
    if (at > 0) return at;

    struct ch c = char_at(s, n, 0);
    if (cuts_number && c.kind == NUMBER) return c.n;
    if (s[0] == ' ') { /* ` ?`: one blank may lead any kind of word */
        struct ch after = char_at(s, n, 1);
        if (after.kind == SPACE || (cuts_number && after.kind == NUMBER))
            return space_run(s, n, cuts_number);
        return skip_run(s, n, 1, after.kind);
    }
    if (c.kind == SPACE) return space_run(s, n, cuts_number);
    return skip_run(s, n, 0, c.kind);
}

/* \p{N}{1,max} */
static size_t numbers(const char *s, size_t n, unsigned max) {
    size_t at = 0;
    for (unsigned i = 0; i < max; i++) {
        struct ch c = char_at(s, n, at);
        if (c.n == 0 || c.kind != NUMBER) break;
        at += c.n;
    }
    return at;
}

static size_t next_llama3(const char *s, size_t n, unsigned max_numbers) {
    size_t at = contraction(s, n, true);
    if (at > 0) return at;

    struct ch c = char_at(s, n, 0);
    if (c.kind == LETTER) return skip_run(s, n, 0, LETTER);
    if (c.kind == NUMBER) return numbers(s, n, max_numbers);

    struct ch after = char_at(s, n, c.n);
    if (!c.is_newline && after.n > 0 && after.kind == LETTER) return skip_run(s, n, c.n, LETTER);

    if (c.kind == OTHER || (s[0] == ' ' && after.n > 0 && after.kind == OTHER)) {
        at = skip_run(s, n, c.kind == OTHER ? 0 : 1, OTHER);
        while (at < n && (s[at] == '\r' || s[at] == '\n')) at++;
        return at;
    }
    size_t newline_end = 0; /* \s*[\r\n]+ : up to the last newline of the run */
    at = 0;
    for (c = char_at(s, n, 0); c.n > 0 && c.kind == SPACE; c = char_at(s, n, at)) {
        at += c.n;
        if (c.is_newline) newline_end = at;
    }
    return newline_end > 0 ? newline_end : space_run(s, n, false);
}

size_t tok_pre_next(enum tok_pre pre, const char *text, size_t n) {
    ASSERT(n > 0);
    switch (pre) {
    case TOK_PRE_GPT2: return next_gpt2(text, n, false);
    case TOK_PRE_SMOLLM: return next_gpt2(text, n, true);
    case TOK_PRE_LLAMA3: return next_llama3(text, n, 3);
    case TOK_PRE_QWEN2: return next_llama3(text, n, 1);
    }
    return n;
}

int tok_pre_find(const char *name, size_t n, enum tok_pre *ret) {
    static const struct {
        const char *name;
        enum tok_pre pre;
    } known[] = {
        {"gpt-2", TOK_PRE_GPT2},
        {"smollm", TOK_PRE_SMOLLM},
        {"llama-bpe", TOK_PRE_LLAMA3},
        {"llama3", TOK_PRE_LLAMA3},
        {"llama-v3", TOK_PRE_LLAMA3},
        {"qwen2", TOK_PRE_QWEN2},
        {"deepseek-r1-qwen", TOK_PRE_QWEN2},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strlen(known[i].name) != n || memcmp(known[i].name, name, n) != 0) continue;
        *ret = known[i].pre;
        return 0;
    }
    return -ENOTSUP;
}
