/* The formats, written out. Text between two special tokens is put together first and encoded in
 * one go, as the reference does with the rendered template: "user\n" followed by a message that
 * begins with a newline gives the one token for two newlines. */
#include "core/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"

static const char *const role_names[] = {
    [CHAT_SYSTEM] = "system",
    [CHAT_USER] = "user",
    [CHAT_ASSISTANT] = "assistant",
};

const char *chat_format_name(enum chat_format f) {
    switch (f) {
    case CHAT_CHATML: return "chatml";
    case CHAT_LLAMA3: return "llama3";
    case CHAT_ZEPHYR: return "zephyr";
    }
    return "unknown";
}

/* --- recognising the template --- */

static const char *find(const char *from, const char *end, const char *what) {
    return memmem(from, (size_t)(end - from), what, strlen(what));
}

static bool has(struct gguf_str s, const char *what) {
    return find(s.p, s.p + s.n, what) != NULL;
}

/* Zephyr's mark is a user turn that ends with the end token: `<|user|>`, and that token before the
 * next mark or branch. Phi-3 and Falcon 3 share the marks but end a turn otherwise. */
static bool is_zephyr(struct gguf_str s) {
    const char *end = s.p + s.n;
    const char *at = find(s.p, end, "<|user|>");
    if (!at || !has(s, "<|assistant|>")) return false;
    at += strlen("<|user|>");
    static const char *const turn_ends[] = {"{%", "<|"};
    for (size_t i = 0; i < ARRAY_LEN(turn_ends); i++) {
        const char *p = find(at, end, turn_ends[i]);
        if (p) end = p;
    }
    return find(at, end, "eos_token") || find(at, end, "</s>");
}

static int detect_format(struct gguf_str s, enum chat_format *ret) {
    if (has(s, "<|im_start|>") && has(s, "<|im_end|>") && !has(s, "<|im_sep|>"))
        *ret = CHAT_CHATML;
    else if (has(s, "<|start_header_id|>") && has(s, "<|eot_id|>"))
        *ret = CHAT_LLAMA3;
    else if (is_zephyr(s))
        *ret = CHAT_ZEPHYR;
    else
        return -ENOTSUP;
    return 0;
}

/* Copies the text p[n] of a template's literal, with "\n" as two characters made one; false if it
 * is more than plain text, or too long. */
static bool copy_literal(const char *p, size_t n, char *ret, size_t ret_bytes) {
    size_t n_ret = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i], after = i + 1 < n ? p[i + 1] : '\0';
        if (c == '\'' || c == '"' || c == '\0' || n_ret + 1 >= ret_bytes) return false;
        if ((c == '{' && (after == '{' || after == '%')) || (c == '}' && after == '}'))
            return false;
        if (c == '\\') {
            if (after != 'n') return false;
            c = '\n';
            i++;
        }
        ret[n_ret++] = c;
    }
    ret[n_ret] = '\0';
    return n_ret > 0;
}

/* The system text a ChatML template adds by itself stands in it as a quoted literal,
 * '<|im_start|>system\nTEXT<|im_end|>...'. It is taken as data; nothing is evaluated. */
static void find_default_system(struct gguf_str s, char *ret, size_t ret_bytes) {
    static const char *const opens[] = {"<|im_start|>system\n", "<|im_start|>system\\n"};
    const char *end = s.p + s.n;
    for (size_t i = 0; i < ARRAY_LEN(opens); i++) {
        for (const char *at = s.p; (at = find(at, end, opens[i])) != NULL;) {
            bool is_quoted = at > s.p && (at[-1] == '\'' || at[-1] == '"');
            at += strlen(opens[i]);
            const char *close = find(at, end, "<|im_end|>");
            if (is_quoted && close && copy_literal(at, (size_t)(close - at), ret, ret_bytes))
                return;
        }
    }
    ret[0] = '\0';
}

static int need_special(const struct tok *t, const char *format, const char *text, struct err *e) {
    int64_t id = tok_find(t, text, strlen(text));
    if (id >= 0 && tok_is_special(t, (uint32_t)id)) return 0;
    return err_set(e, -ENOTSUP, "chat format %s needs the control token %s, not in the vocabulary",
                   format, text);
}

static int check_specials(const struct tok *t, enum chat_format f, struct err *e) {
    static const char *const chatml[] = {"<|im_start|>", "<|im_end|>", NULL};
    static const char *const llama3[] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                         NULL};
    static const char *const none[] = {NULL};
    const char *const *need = none;
    switch (f) {
    case CHAT_CHATML: need = chatml; break;
    case CHAT_LLAMA3: need = llama3; break;
    case CHAT_ZEPHYR:
        if (tok_eos(t) < 0)
            return err_set(e, -ENOTSUP, "chat format zephyr needs tokenizer.ggml.eos_token_id");
        break;
    }
    for (; *need; need++) {
        int r = need_special(t, chat_format_name(f), *need, e);
        if (r < 0) return r;
    }
    return 0;
}

int chat_detect(const struct gguf *g, const struct tok *t, struct chat *ret, struct err *e) {
    const char *key = "tokenizer.chat_template";
    struct chat c = {0};
    struct gguf_str s;
    if (!gguf_find(g, key))
        return err_set(e, -ENODATA, "no chat template in the file (%s); use plain completions",
                       key);
    int r = gguf_get_str(g, key, &s, e);
    if (r < 0) return r;
    r = detect_format(s, &c.format);
    if (r < 0)
        return err_set(e, r,
                       "chat template not recognised: ChatML, Llama 3 and Zephyr are supported, "
                       "others are not guessed; use plain completions");
    r = check_specials(t, c.format, e);
    if (r < 0) return r;
    if (c.format == CHAT_CHATML) find_default_system(s, c.default_system, sizeof(c.default_system));
    *ret = c;
    return 0;
}

/* --- writing a conversation --- */

struct writer {
    const struct tok *t;
    struct tok_ids *ids;
    size_t max_n; /* of ids */
    char *text;   /* owned; ordinary text since the last special token */
    size_t n, cap;
    int code; /* the first error; later calls do nothing */
};

static void put_text(struct writer *w, const char *s, size_t n) {
    size_t need;
    if (w->code < 0 || n == 0) return;
    if (!size_add(w->n, n, &need)) {
        w->code = -ENOMEM;
        return;
    }
    if (need > w->cap) {
        size_t cap = MAX(need, w->cap + w->cap / 2);
        char *text = realloc(w->text, cap);
        if (!text) {
            w->code = -ENOMEM;
            return;
        }
        w->text = text;
        w->cap = cap;
    }
    memcpy(w->text + w->n, s, n);
    w->n = need;
}

static void put_str(struct writer *w, const char *s) {
    put_text(w, s, strlen(s));
}

static void flush(struct writer *w) {
    if (w->code < 0 || w->n == 0) return;
    size_t room = w->max_n - w->ids->n;
    /* To the tokenizer, no room would mean no limit. */
    w->code = room == 0 ? -E2BIG : tok_encode(w->t, w->text, w->n, false, room, w->ids);
    w->n = 0;
}

static void put_id(struct writer *w, int64_t id) {
    flush(w);
    if (w->code < 0) return;
    w->code = w->ids->n >= w->max_n ? -E2BIG : tok_ids_push(w->ids, (uint32_t)id);
}

/* A mark of the format: one token where the vocabulary has it as a control token, else its text. */
static void put_mark(struct writer *w, const char *s) {
    int64_t id = tok_find(w->t, s, strlen(s));
    if (id >= 0 && tok_is_special(w->t, (uint32_t)id))
        put_id(w, id);
    else
        put_str(w, s);
}

/* The marks of a Zephyr turn, by role. */
static const char *const zephyr_marks[] = {
    [CHAT_SYSTEM] = "<|system|>",
    [CHAT_USER] = "<|user|>",
    [CHAT_ASSISTANT] = "<|assistant|>",
};

static void put_opening(struct writer *w, enum chat_format f, enum chat_role role) {
    switch (f) {
    case CHAT_CHATML:
        put_mark(w, "<|im_start|>");
        put_str(w, role_names[role]);
        put_str(w, "\n");
        break;
    case CHAT_LLAMA3:
        put_mark(w, "<|start_header_id|>");
        put_str(w, role_names[role]);
        put_mark(w, "<|end_header_id|>");
        put_str(w, "\n\n");
        break;
    case CHAT_ZEPHYR:
        put_mark(w, zephyr_marks[role]);
        put_str(w, "\n");
        break;
    }
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void put_message(struct writer *w, enum chat_format f, const struct chat_message *m) {
    const char *text = m->text;
    size_t n = m->n;
    put_opening(w, f, m->role);
    switch (f) {
    case CHAT_CHATML:
        put_text(w, text, n);
        put_mark(w, "<|im_end|>");
        put_str(w, "\n");
        break;
    case CHAT_LLAMA3: /* its template trims */
        while (n > 0 && is_blank(text[n - 1])) n--;
        while (n > 0 && is_blank(text[0])) {
            text++;
            n--;
        }
        put_text(w, text, n);
        put_mark(w, "<|eot_id|>");
        break;
    case CHAT_ZEPHYR:
        put_text(w, text, n);
        put_id(w, tok_eos(w->t));
        put_str(w, "\n");
        break;
    }
}

int chat_encode(const struct chat *c, const struct tok *t, const struct chat_message *msgs,
                size_t n_msgs, size_t max_ids, struct tok_ids *ret, struct err *e) {
    struct writer w = {.t = t, .ids = ret};
    size_t n_before = ret->n;
    if (max_ids == 0 || !size_add(ret->n, max_ids, &w.max_n)) w.max_n = SIZE_MAX;

    /* Llama 3's template writes BOS itself, whatever the tokenizer's habit. */
    if (tok_bos(t) >= 0 && (tok_adds_bos(t) || c->format == CHAT_LLAMA3)) put_id(&w, tok_bos(t));
    if (c->default_system[0] && n_msgs > 0 && msgs[0].role != CHAT_SYSTEM) {
        struct chat_message m = {CHAT_SYSTEM, c->default_system, strlen(c->default_system)};
        put_message(&w, c->format, &m);
    }
    for (size_t i = 0; i < n_msgs; i++) put_message(&w, c->format, &msgs[i]);
    put_opening(&w, c->format, CHAT_ASSISTANT);
    flush(&w);
    free(w.text);
    if (w.code == 0) return 0;
    ret->n = n_before;
    if (w.code == -E2BIG)
        return err_set(e, w.code, "the conversation has more than %zu tokens", max_ids);
    return err_set(e, w.code, "no memory for the conversation's tokens");
}
