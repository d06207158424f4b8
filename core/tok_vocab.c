/* Texts and pieces lie in two arenas, with one offset per token: two allocations whatever the
 * vocabulary, and no pointer per token. */
#include "core/tok_vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/tok.h"

enum {
    MAX_PROBES = 4096, /* far beyond chance at this load: only a crafted file gets there */
    N_SPELLED = 324,   /* code points that spell a byte: 0..255, and 68 that replace the rest */
};

#define FREE_SLOT UINT32_MAX

/* Bytes with a printable Latin-1 character stand for themselves; the 68 others, in their order, are
 * counted upwards from U+0100. */
static unsigned spell(unsigned b) {
    if (b <= 0x20) return 0x100 + b;
    if (b >= 0x7f && b <= 0xa0) return 0x121 + (b - 0x7f);
    return b == 0xad ? 0x143 : b;
}

size_t tok_vocab_spell(uint8_t byte, char ret[TOK_SPELL_BYTES]) {
    utf8proc_uint8_t buf[4];
    size_t n = (size_t)utf8proc_encode_char((utf8proc_int32_t)spell(byte), buf);
    ASSERT(n <= TOK_SPELL_BYTES);
    memcpy(ret, buf, n);
    return n;
}

/* ret[code point] is the byte it spells, or -1. */
static void unspell_table(int16_t ret[N_SPELLED]) {
    for (unsigned i = 0; i < N_SPELLED; i++) ret[i] = -1;
    for (unsigned b = 0; b < 256; b++) ret[spell(b)] = (int16_t)b;
}

/* Undoes the spelling; characters that spell no byte stay as they are. */
static size_t unspell(const int16_t *table, const char *text, size_t n, char *ret) {
    size_t n_ret = 0;
    for (size_t at = 0; at < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t got = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                (utf8proc_ssize_t)(n - at), &c);
        size_t len = got > 0 ? (size_t)got : 1;
        if (got > 0 && c < N_SPELLED && table[c] >= 0) {
            ret[n_ret++] = (char)table[c];
        } else {
            memcpy(ret + n_ret, text + at, len);
            n_ret += len;
        }
        at += len;
    }
    return n_ret;
}

static uint64_t hash(const char *s, size_t n) {
    uint64_t h = 0xcbf29ce484222325u ^ n;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return (h ^ (h >> 32)) * 0x9e3779b97f4a7c15u;
}

/* The slot that holds this text, or the free one where it belongs; SIZE_MAX: too many collide. */
static size_t slot_of(const struct tok_vocab *v, const char *text, size_t n) {
    size_t at = (size_t)(hash(text, n) >> 32) & (v->n_slots - 1);
    for (unsigned probe = 0; probe < MAX_PROBES; probe++, at = (at + 1) & (v->n_slots - 1)) {
        if (v->slots[at] == FREE_SLOT) return at;
        size_t n_other;
        const char *other = tok_vocab_text(v, v->slots[at], &n_other);
        if (n_other == n && memcmp(other, text, n) == 0) return at;
    }
    return SIZE_MAX;
}

const char *tok_vocab_text(const struct tok_vocab *v, uint32_t id, size_t *ret_n) {
    *ret_n = v->text_at[id + 1] - v->text_at[id];
    return v->texts + v->text_at[id];
}

const char *tok_vocab_piece(const struct tok_vocab *v, uint32_t id, size_t *ret_n) {
    *ret_n = v->piece_at[id + 1] - v->piece_at[id];
    return v->pieces + v->piece_at[id];
}

int64_t tok_vocab_find(const struct tok_vocab *v, const char *text, size_t n) {
    if (n == 0 || v->n == 0) return -1;
    size_t at = slot_of(v, text, n);
    return at == SIZE_MAX || v->slots[at] == FREE_SLOT ? -1 : (int64_t)v->slots[at];
}

static int read_types(struct tok_vocab *v, const struct gguf *g, struct err *e) {
    const char *key = "tokenizer.ggml.token_type";
    const struct gguf_value *types;
    if (!gguf_find(g, key)) {
        memset(v->types, TOK_NORMAL, v->n);
        return 0;
    }
    int r = gguf_get_array(g, key, GGUF_I32, &types, e);
    if (r < 0) return r;
    if (types->n != v->n)
        return err_set(e, -EBADMSG, "%s has %llu entries for %u tokens", key,
                       (unsigned long long)types->n, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        uint64_t type = gguf_elem_u64(types, i);
        if (type < TOK_NORMAL || type > TOK_BYTE)
            return err_set(e, -EBADMSG, "%s: token %u has type %lld, not 1 to 6", key, i,
                           (long long)type);
        v->types[i] = (uint8_t)type;
    }
    return 0;
}

static int allocate(struct tok_vocab *v, size_t text_bytes) {
    v->n_slots = 16;
    while (v->n_slots / 2 < v->n) v->n_slots *= 2;
    v->types = calloc(v->n, 1);
    v->text_at = calloc((size_t)v->n + 1, sizeof(*v->text_at));
    v->piece_at = calloc((size_t)v->n + 1, sizeof(*v->piece_at));
    v->texts = malloc(text_bytes + 1);
    v->pieces = malloc(text_bytes + 1); /* undoing the spelling never lengthens */
    v->slots = malloc(v->n_slots * sizeof(*v->slots));
    if (!v->types || !v->text_at || !v->piece_at || !v->texts || !v->pieces || !v->slots)
        return -ENOMEM;
    for (size_t i = 0; i < v->n_slots; i++) v->slots[i] = FREE_SLOT;
    return 0;
}

/* Control and user-defined tokens are stored as plain text, the others are spelled. Unused ones
 * stand for nothing. */
static size_t make_piece(enum tok_type type, const int16_t *table, struct gguf_str text,
                         char *ret) {
    switch (type) {
    case TOK_NORMAL:
    case TOK_BYTE: return unspell(table, text.p, text.n, ret);
    case TOK_UNUSED: return 0;
    case TOK_UNKNOWN:
    case TOK_CONTROL:
    case TOK_USER_DEFINED: break;
    }
    memcpy(ret, text.p, text.n);
    return text.n;
}

static int add_tokens(struct tok_vocab *v, const struct gguf_str *texts, struct err *e) {
    int16_t table[N_SPELLED];
    unspell_table(table);
    v->max_piece_bytes = 1;
    for (uint32_t i = 0; i < v->n; i++) {
        struct gguf_str t = texts[i];
        memcpy(v->texts + v->text_at[i], t.p, t.n);
        v->text_at[i + 1] = v->text_at[i] + (uint32_t)t.n;
        size_t n = make_piece(v->types[i], table, t, v->pieces + v->piece_at[i]);
        v->piece_at[i + 1] = v->piece_at[i] + (uint32_t)n;
        v->max_piece_bytes = MAX(v->max_piece_bytes, (uint32_t)n);
        if (t.n == 0) continue;
        size_t at = slot_of(v, t.p, t.n);
        if (at == SIZE_MAX)
            return err_set(e, -EBADMSG, "tokenizer.ggml.tokens: token %u collides with too many",
                           i);
        if (v->slots[at] == FREE_SLOT) v->slots[at] = i;
    }
    return 0;
}

static int check_texts(const struct gguf_str *texts, uint32_t n, size_t *ret_bytes, struct err *e) {
    size_t bytes = 0; /* <= TOK_MAX_VOCAB * TOK_MAX_TOKEN_BYTES: fits 32 bits */
    for (uint32_t i = 0; i < n; i++) {
        if (texts[i].n > TOK_MAX_TOKEN_BYTES)
            return err_set(e, -ENOTSUP, "tokenizer.ggml.tokens: token %u has %zu bytes, over %d", i,
                           texts[i].n, TOK_MAX_TOKEN_BYTES);
        bytes += texts[i].n;
    }
    *ret_bytes = bytes;
    return 0;
}

int tok_vocab_init(struct tok_vocab *v, const struct gguf *g, struct err *e) {
    const char *key = "tokenizer.ggml.tokens";
    const struct gguf_value *list;
    struct gguf_str *texts = NULL;
    size_t text_bytes = 0;
    *v = (struct tok_vocab){0};

    if (!gguf_find(g, key)) return err_set(e, -EBADMSG, "%s is missing", key);
    int r = gguf_get_array(g, key, GGUF_STRING, &list, e);
    if (r < 0) return r;
    if (list->n == 0) return err_set(e, -EBADMSG, "%s is empty", key);
    if (list->n > TOK_MAX_VOCAB)
        return err_set(e, -ENOTSUP, "%s has %llu tokens, over %d", key, (unsigned long long)list->n,
                       TOK_MAX_VOCAB);
    v->n = (uint32_t)list->n;
    texts = calloc(v->n, sizeof(*texts));
    if (!texts) return err_set(e, -ENOMEM, "no memory for %u tokens", v->n);
    gguf_strings(list, texts);

    r = check_texts(texts, v->n, &text_bytes, e);
    if (r < 0) goto out;
    r = allocate(v, text_bytes);
    if (r < 0) {
        err_set(e, r, "no memory for %u tokens", v->n);
        goto out;
    }
    r = read_types(v, g, e);
    if (r < 0) goto out;
    r = add_tokens(v, texts, e);
out:
    free(texts);
    if (r < 0) tok_vocab_fini(v);
    return r;
}

void tok_vocab_fini(struct tok_vocab *v) {
    free(v->types);
    free(v->text_at);
    free(v->piece_at);
    free(v->texts);
    free(v->pieces);
    free(v->slots);
    *v = (struct tok_vocab){0};
}
