/* The tokenizer proper: reads the metadata, and drives special tokens, words and merges over a
 * text. What a token is lives in tok_vocab, how text is cut in tok_pre, how bytes merge in
 * tok_bpe. */
#include "core/tok.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/tok_bpe.h"
#include "core/tok_pre.h"
#include "core/tok_special.h"
#include "core/tok_vocab.h"

enum { MAX_ENDS = 16 };

#define NO_ID UINT32_MAX

struct tok {
    struct tok_vocab vocab;
    struct tok_bpe bpe;
    struct tok_special user;    /* found in any text */
    struct tok_special special; /* found with parse_special: control tokens too */
    enum tok_pre pre;
    bool whole_words; /* a word that is a token is that token, whatever the merges say */
    bool adds_bos;
    uint32_t byte_ids[256]; /* NO_ID: the vocabulary cannot spell this byte */
    int64_t bos, eos;       /* -1: none */
    uint32_t ends[MAX_ENDS];
    unsigned n_ends;
};

/* The start of a text from the file, fit for a message: it may hold anything. */
static const char *shown(struct gguf_str s, char buf[48]) {
    size_t n = MIN(s.n, (size_t)47);
    for (size_t i = 0; i < n; i++) buf[i] = s.p[i] > 0x20 && s.p[i] < 0x7f ? s.p[i] : '?';
    buf[n] = '\0';
    return buf;
}

static int read_kind(struct tok *t, const struct gguf *g, struct err *e) {
    struct gguf_str s;
    char buf[48];
    const char *key = "tokenizer.ggml.model";
    if (!gguf_find(g, key)) return err_set(e, -ENOTSUP, "no tokenizer: %s is missing", key);
    int r = gguf_get_str(g, key, &s, e);
    if (r < 0) return r;
    if (s.n != 4 || memcmp(s.p, "gpt2", 4) != 0)
        return err_set(e, -ENOTSUP, "tokenizer '%s' is not supported, only gpt2 (byte-level BPE)",
                       shown(s, buf));

    key = "tokenizer.ggml.pre";
    if (!gguf_find(g, key))
        return err_set(e, -ENOTSUP,
                       "%s is missing: how the text is to be cut is not known; convert the model "
                       "again with a converter that writes it",
                       key);
    r = gguf_get_str(g, key, &s, e);
    if (r < 0) return r;
    if (tok_pre_find(s.p, s.n, &t->pre) < 0)
        return err_set(e, -ENOTSUP,
                       "pre-tokenizer '%s' is not supported, only smollm, gpt-2, llama-bpe, qwen2",
                       shown(s, buf));
    t->whole_words = t->pre == TOK_PRE_LLAMA3;
    return 0;
}

static void find_bytes(struct tok *t) {
    for (unsigned b = 0; b < 256; b++) {
        char s[TOK_SPELL_BYTES];
        size_t n = tok_vocab_spell((uint8_t)b, s);
        int64_t id = tok_vocab_find(&t->vocab, s, n);
        bool is_usable = id >= 0 && t->vocab.types[id] != TOK_CONTROL;
        t->byte_ids[b] = is_usable ? (uint32_t)id : NO_ID;
    }
}

/* "left right", where neither side is empty. */
static int add_merge(struct tok *t, uint32_t i, struct gguf_str m, struct err *e) {
    const char *key = "tokenizer.ggml.merges";
    char joined[2 * TOK_MAX_TOKEN_BYTES];
    char buf[48];
    if (m.n < 3 || m.n > sizeof(joined))
        return err_set(e, -EBADMSG, "%s: merge %u has %zu bytes", key, i, m.n);
    const char *space = memchr(m.p + 1, ' ', m.n - 2);
    if (!space)
        return err_set(e, -EBADMSG, "%s: merge %u is not two tokens: '%s'", key, i, shown(m, buf));
    size_t n_left = (size_t)(space - m.p), n_right = m.n - n_left - 1;
    memcpy(joined, m.p, n_left);
    memcpy(joined + n_left, space + 1, n_right);

    int64_t left = tok_vocab_find(&t->vocab, m.p, n_left);
    int64_t right = tok_vocab_find(&t->vocab, space + 1, n_right);
    int64_t both = tok_vocab_find(&t->vocab, joined, n_left + n_right);
    if (left < 0 || right < 0 || both < 0)
        return err_set(e, -EBADMSG, "%s: merge %u ('%s') %s a token that is not in the vocabulary",
                       key, i, shown(m, buf), both < 0 ? "makes" : "needs");
    /* Otherwise plain text could forge the end of a message. */
    if (t->vocab.types[both] == TOK_CONTROL)
        return err_set(e, -EBADMSG, "%s: merge %u ('%s') makes control token %lld", key, i,
                       shown(m, buf), (long long)both);
    int r = tok_bpe_add(&t->bpe, (uint32_t)left, (uint32_t)right, (uint32_t)both);
    return r < 0 ? err_set(e, r, "%s: merge %u collides with too many", key, i) : 0;
}

static int read_merges(struct tok *t, const struct gguf *g, struct err *e) {
    const char *key = "tokenizer.ggml.merges";
    const struct gguf_value *list;
    if (!gguf_find(g, key)) return err_set(e, -EBADMSG, "%s is missing", key);
    int r = gguf_get_array(g, key, GGUF_STRING, &list, e);
    if (r < 0) return r;
    if (list->n > TOK_MAX_MERGES)
        return err_set(e, -ENOTSUP, "%s has %llu merges, over %d", key, (unsigned long long)list->n,
                       TOK_MAX_MERGES);
    uint32_t n = (uint32_t)list->n;
    struct gguf_str *merges = calloc((size_t)n + 1, sizeof(*merges));
    if (!merges || tok_bpe_init(&t->bpe, n) < 0) {
        free(merges);
        return err_set(e, -ENOMEM, "no memory for %u merges", n);
    }
    gguf_strings(list, merges);
    for (uint32_t i = 0; i < n && r == 0; i++) r = add_merge(t, i, merges[i], e);
    free(merges);
    return r;
}

/* *ret is -1 if the file does not name the token. */
static int read_id(const struct tok *t, const struct gguf *g, const char *key, int64_t *ret,
                   struct err *e) {
    uint32_t id;
    *ret = -1;
    if (!gguf_find(g, key)) return 0;
    int r = gguf_get_u32(g, key, &id, e);
    if (r < 0) return r;
    if (id >= t->vocab.n)
        return err_set(e, -EBADMSG, "%s is %u, outside the vocabulary of %u", key, id, t->vocab.n);
    *ret = id;
    return 0;
}

static void add_end(struct tok *t, int64_t id) {
    if (id < 0 || tok_is_end(t, (uint32_t)id)) return;
    ASSERT(t->n_ends < MAX_ENDS);
    t->ends[t->n_ends++] = (uint32_t)id;
}

static int read_ids(struct tok *t, const struct gguf *g, struct err *e) {
    /* Many files name only one of the tokens that end an answer. */
    static const char *const common_ends[] = {"<|im_end|>",    "<|eot_id|>", "<|end_of_text|>",
                                              "<|endoftext|>", "</s>",       "<|eom_id|>"};
    int64_t eot = -1, eom = -1;
    int r = read_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, e);
    if (r == 0) r = read_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, e);
    if (r == 0) r = read_id(t, g, "tokenizer.ggml.eot_token_id", &eot, e);
    if (r == 0) r = read_id(t, g, "tokenizer.ggml.eom_token_id", &eom, e);
    if (r < 0) return r;
    add_end(t, t->eos);
    add_end(t, eot);
    add_end(t, eom);
    for (size_t i = 0; i < ARRAY_LEN(common_ends); i++) {
        int64_t id = tok_find(t, common_ends[i], strlen(common_ends[i]));
        if (id >= 0 && t->vocab.types[id] == TOK_CONTROL) add_end(t, id);
    }

    const char *key = "tokenizer.ggml.add_bos_token";
    t->adds_bos = t->pre == TOK_PRE_LLAMA3 && t->bos >= 0; /* unless the file says otherwise */
    if (!gguf_find(g, key)) return 0;
    r = gguf_get_bool(g, key, &t->adds_bos, e);
    if (r == 0 && t->adds_bos && t->bos < 0)
        r = err_set(e, -EBADMSG, "%s is set, but there is no tokenizer.ggml.bos_token_id", key);
    return r;
}

static int find_specials(struct tok *t, struct err *e) {
    int r = tok_special_init(&t->user, &t->vocab, 1u << TOK_USER_DEFINED);
    if (r == 0)
        r = tok_special_init(&t->special, &t->vocab, 1u << TOK_USER_DEFINED | 1u << TOK_CONTROL);
    return r < 0 ? err_set(e, r, "no memory for the special tokens") : 0;
}

int tok_create(const struct gguf *g, struct tok **ret, struct err *e) {
    struct tok *t = calloc(1, sizeof(*t));
    if (!t) return err_set(e, -ENOMEM, "no memory for the tokenizer");
    int r = read_kind(t, g, e);
    if (r == 0) r = tok_vocab_init(&t->vocab, g, e);
    if (r < 0) goto out;
    find_bytes(t);
    r = read_merges(t, g, e);
    if (r == 0) r = read_ids(t, g, e);
    if (r == 0) r = find_specials(t, e);
    if (r < 0) goto out;
    *ret = t;
    t = NULL; /* passed to the caller */
out:
    tok_destroy(t);
    return r;
}

void tok_destroy(struct tok *t) {
    if (!t) return;
    tok_special_fini(&t->user);
    tok_special_fini(&t->special);
    tok_bpe_fini(&t->bpe);
    tok_vocab_fini(&t->vocab);
    free(t);
}

/* --- lists of ids --- */

void tok_ids_fini(struct tok_ids *ids) {
    free(ids->v);
    *ids = (struct tok_ids){0};
}

static int ids_reserve(struct tok_ids *ids, size_t more) {
    size_t need, cap = MAX(ids->cap, (size_t)64), bytes;
    if (!size_add(ids->n, more, &need)) return -ENOMEM;
    if (need <= ids->cap) return 0;
    while (cap < need)
        if (!size_mul(cap, 2, &cap)) return -ENOMEM;
    if (!size_mul(cap, sizeof(*ids->v), &bytes)) return -ENOMEM;
    uint32_t *v = realloc(ids->v, bytes);
    if (!v) return -ENOMEM;
    ids->v = v;
    ids->cap = cap;
    return 0;
}

int tok_ids_push(struct tok_ids *ids, uint32_t id) {
    int r = ids_reserve(ids, 1);
    if (r < 0) return r;
    ids->v[ids->n++] = id;
    return 0;
}

/* --- text to ids --- */

struct encoder {
    const struct tok *t;
    struct tok_bpe_work *work;
    struct tok_ids *ids;
    size_t max_n; /* of ids */
};

static int emit(struct encoder *en, uint32_t id) {
    return en->ids->n >= en->max_n ? -E2BIG : tok_ids_push(en->ids, id);
}

/* The token that a whole word is, or -1. Control tokens do not count: they are not text. */
static int64_t whole_word(const struct tok *t, const char *text, size_t n) {
    char spelled[TOK_SPELL_BYTES * TOK_MAX_TOKEN_BYTES];
    size_t n_spelled = 0;
    if (n > TOK_MAX_TOKEN_BYTES) return -1;
    for (size_t i = 0; i < n; i++)
        n_spelled += tok_vocab_spell((uint8_t)text[i], spelled + n_spelled);
    int64_t id = tok_vocab_find(&t->vocab, spelled, n_spelled);
    return id >= 0 && t->vocab.types[id] == TOK_NORMAL ? id : -1;
}

static int encode_word(struct encoder *en, const char *text, size_t n) {
    const struct tok *t = en->t;
    int64_t whole = t->whole_words ? whole_word(t, text, n) : -1;
    if (whole >= 0) return emit(en, (uint32_t)whole);

    size_t n_syms = 0;
    for (size_t i = 0; i < n; i++) n_syms += t->byte_ids[(uint8_t)text[i]] != NO_ID;
    if (n_syms == 0) return 0;
    /* No merge makes a token longer than the longest: settle the hopeless without the work. */
    if (n_syms / t->vocab.max_piece_bytes > en->max_n - en->ids->n) return -E2BIG;
    int r = ids_reserve(en->ids, n_syms);
    if (r < 0) return r;
    uint32_t *ids = en->ids->v + en->ids->n;
    n_syms = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte_ids[(uint8_t)text[i]];
        if (id != NO_ID) ids[n_syms++] = id;
    }
    r = tok_bpe_merge(&t->bpe, en->work, ids, &n_syms);
    if (r < 0) return r;
    en->ids->n += n_syms;
    return en->ids->n > en->max_n ? -E2BIG : 0;
}

static int encode_plain(struct encoder *en, const char *text, size_t n) {
    int r = 0;
    for (size_t at = 0; at < n && r == 0;) {
        size_t len = tok_pre_next(en->t->pre, text + at, n - at);
        r = encode_word(en, text + at, len);
        at += len;
    }
    return r;
}

int tok_encode(const struct tok *t, const char *text, size_t n, bool parse_special, size_t max_ids,
               struct tok_ids *ret) {
    const struct tok_special *specials = parse_special ? &t->special : &t->user;
    struct encoder en = {.t = t, .ids = ret, .work = tok_bpe_work_create()};
    size_t n_before = ret->n, start = 0, at = 0;
    int r = 0;
    if (!en.work) return -ENOMEM;
    if (max_ids == 0 || !size_add(ret->n, max_ids, &en.max_n)) en.max_n = SIZE_MAX;

    while (specials->n > 0 && at < n && r == 0) {
        size_t len;
        int64_t id = tok_special_match(specials, &t->vocab, text + at, n - at, &len);
        if (id < 0) {
            at++;
            continue;
        }
        r = encode_plain(&en, text + start, at - start);
        if (r == 0) r = emit(&en, (uint32_t)id);
        at += len;
        start = at;
    }
    if (r == 0) r = encode_plain(&en, text + start, n - start);
    tok_bpe_work_destroy(en.work);
    if (r < 0) ret->n = n_before;
    return r;
}

/* --- ids to text, and questions --- */

const char *tok_piece(const struct tok *t, uint32_t id, bool special, size_t *ret_n) {
    *ret_n = 0;
    if (id >= t->vocab.n) return "";
    bool is_hidden = t->vocab.types[id] == TOK_CONTROL || t->vocab.types[id] == TOK_UNKNOWN;
    if (is_hidden && !special) return "";
    return tok_vocab_piece(&t->vocab, id, ret_n);
}

uint32_t tok_n_vocab(const struct tok *t) {
    return t->vocab.n;
}

int64_t tok_find(const struct tok *t, const char *s, size_t n) {
    return tok_vocab_find(&t->vocab, s, n);
}

bool tok_is_special(const struct tok *t, uint32_t id) {
    return id < t->vocab.n && t->vocab.types[id] == TOK_CONTROL;
}

bool tok_is_end(const struct tok *t, uint32_t id) {
    for (unsigned i = 0; i < t->n_ends; i++)
        if (t->ends[i] == id) return true;
    return false;
}

int64_t tok_bos(const struct tok *t) {
    return t->bos;
}

int64_t tok_eos(const struct tok *t) {
    return t->eos;
}

bool tok_adds_bos(const struct tok *t) {
    return t->adds_bos;
}
