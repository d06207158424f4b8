#include "daemon/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/buf.h"

size_t json_utf8_len(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0) return 0;
    if (p[0] < 0x80) return 1;
    /* The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF. */
    unsigned char lo = 0x80, hi = 0xbf;
    size_t len;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        len = 3;
        if (p[0] == 0xe0) lo = 0xa0;
        if (p[0] == 0xed) hi = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4;
        if (p[0] == 0xf0) lo = 0x90;
        if (p[0] == 0xf4) hi = 0x8f;
    } else {
        return 0;
    }
    if (n < len || p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xbf) return 0;
    return len;
}

/* ---- the check ---- */

struct scan {
    const char *p;
    size_t n;
    size_t at;
    size_t n_values;
    struct err *e;
};

static int bad(struct scan *s, const char *what) {
    return err_set(s->e, -EINVAL, "JSON, byte %zu: %s", s->at, what);
}

static void skip_space(struct scan *s) {
    while (s->at < s->n && s->p[s->at] && strchr(" \t\r\n", s->p[s->at])) s->at++;
}

static int scan_hex4(struct scan *s, unsigned *ret) {
    unsigned v = 0;
    if (s->n - s->at < 4) return bad(s, "a \\u escape is cut off");
    for (int i = 0; i < 4; i++) {
        char c = s->p[s->at];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 16;
        if (d == 16) return bad(s, "a \\u escape needs four hex digits");
        v = v << 4 | d;
        s->at++;
    }
    *ret = v;
    return 0;
}

static int scan_escape(struct scan *s) {
    unsigned u, low;
    if (s->at >= s->n) return bad(s, "an escape is cut off");
    char c = s->p[s->at++];
    if (c && strchr("\"\\/bfnrt", c)) return 0;
    if (c != 'u') return bad(s, "unknown escape");
    int r = scan_hex4(s, &u);
    if (r < 0) return r;
    if (u == 0) return bad(s, "a NUL character");
    if (u >= 0xdc00 && u <= 0xdfff) return bad(s, "a lone surrogate");
    if (u < 0xd800 || u > 0xdbff) return 0;
    if (s->n - s->at < 2 || s->p[s->at] != '\\' || s->p[s->at + 1] != 'u')
        return bad(s, "a lone surrogate");
    s->at += 2;
    r = scan_hex4(s, &low);
    if (r < 0) return r;
    if (low < 0xdc00 || low > 0xdfff) return bad(s, "a lone surrogate");
    return 0;
}

static int scan_string(struct scan *s) {
    s->at++; /* the quote */
    while (s->at < s->n) {
        unsigned char c = (unsigned char)s->p[s->at];
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c < 0x20) return bad(s, "a control character in a string");
        if (c == '\\') {
            s->at++;
            int r = scan_escape(s);
            if (r < 0) return r;
            continue;
        }
        size_t len = json_utf8_len(s->p + s->at, s->n - s->at);
        if (len == 0) return bad(s, "invalid UTF-8");
        s->at += len;
    }
    return bad(s, "a string is not closed");
}

static bool scan_digits(struct scan *s) {
    size_t from = s->at;
    while (s->at < s->n && s->p[s->at] >= '0' && s->p[s->at] <= '9') s->at++;
    return s->at > from;
}

static int scan_number(struct scan *s) {
    size_t from = s->at;
    if (s->p[s->at] == '-') s->at++;
    if (s->at < s->n && s->p[s->at] == '0') {
        s->at++;
    } else if (!scan_digits(s)) {
        return bad(s, "not a number");
    }
    if (s->at < s->n && s->p[s->at] == '.') {
        s->at++;
        if (!scan_digits(s)) return bad(s, "digits are missing after the point");
    }
    if (s->at < s->n && (s->p[s->at] == 'e' || s->p[s->at] == 'E')) {
        s->at++;
        if (s->at < s->n && (s->p[s->at] == '+' || s->p[s->at] == '-')) s->at++;
        if (!scan_digits(s)) return bad(s, "digits are missing in the exponent");
    }
    char text[JSON_MAX_NUMBER_BYTES + 1];
    size_t n = s->at - from;
    if (n > JSON_MAX_NUMBER_BYTES) return bad(s, "a number is too long");
    memcpy(text, s->p + from, n);
    text[n] = '\0';
    if (!isfinite(strtod(text, NULL))) return bad(s, "a number is too large");
    return 0;
}

static int scan_word(struct scan *s, const char *word) {
    size_t n = strlen(word);
    if (s->n - s->at < n || memcmp(s->p + s->at, word, n) != 0) return bad(s, "not a value");
    s->at += n;
    return 0;
}

static int scan_scalar(struct scan *s) {
    switch (s->p[s->at]) {
    case '"': return scan_string(s);
    case 't': return scan_word(s, "true");
    case 'f': return scan_word(s, "false");
    case 'n': return scan_word(s, "null");
    default: return scan_number(s);
    }
}

static int scan_key(struct scan *s) {
    skip_space(s);
    if (s->at >= s->n || s->p[s->at] != '"') return bad(s, "a key must be a string");
    if (++s->n_values > JSON_MAX_VALUES) return bad(s, "too many values");
    int r = scan_string(s);
    if (r < 0) return r;
    skip_space(s);
    if (s->at >= s->n || s->p[s->at] != ':') return bad(s, "a colon is missing");
    s->at++;
    return 0;
}

int json_check(const char *text, size_t n, struct err *e) {
    struct scan s = {.p = text, .n = n, .e = e};
    char closer[JSON_MAX_DEPTH]; /* of each open container */
    unsigned depth = 0;
    int r;

    for (;;) {
        /* Here a value begins. */
        skip_space(&s);
        if (s.at >= s.n) return bad(&s, "a value is missing");
        if (++s.n_values > JSON_MAX_VALUES) return bad(&s, "too many values");
        char c = s.p[s.at];
        bool is_open = false;
        if (c == '{' || c == '[') {
            if (depth == JSON_MAX_DEPTH) return bad(&s, "nested too deep (32 levels at most)");
            closer[depth++] = c == '{' ? '}' : ']';
            s.at++;
            skip_space(&s);
            is_open = !(s.at < s.n && s.p[s.at] == closer[depth - 1]);
            if (is_open && c == '{') {
                r = scan_key(&s);
                if (r < 0) return r;
            }
        } else {
            r = scan_scalar(&s);
            if (r < 0) return r;
        }
        if (is_open) continue;
        /* A value has ended, or an empty container is about to: close what closes here. */
        for (;;) {
            skip_space(&s);
            if (depth == 0) return s.at == s.n ? 0 : bad(&s, "something follows the value");
            if (s.at >= s.n) return bad(&s, "a bracket is not closed");
            if (s.p[s.at] == closer[depth - 1]) {
                s.at++;
                depth--;
                continue;
            }
            if (s.p[s.at] != ',') return bad(&s, "a comma or a closing bracket is missing");
            s.at++;
            break;
        }
        if (closer[depth - 1] == '}') {
            r = scan_key(&s);
            if (r < 0) return r;
        }
    }
}

/* ---- the escaper ---- */

void json_put_string(struct buf *b, const char *s, size_t n) {
    static const char hex[] = "0123456789abcdef";
    buf_add(b, "\"", 1);
    size_t from = 0, i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)s[i];
        size_t len = json_utf8_len(s + i, n - i);
        if (len > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += len;
            continue;
        }
        buf_add(b, s + from, i - from);
        char esc[6] = {'\\', 'u', '0', '0', 0, 0};
        if (len == 0) {
            buf_str(b, "\xef\xbf\xbd");
        } else if (c == '"' || c == '\\') {
            esc[1] = (char)c;
            buf_add(b, esc, 2);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            esc[1] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
            buf_add(b, esc, 2);
        } else {
            esc[4] = hex[c >> 4];
            esc[5] = hex[c & 15];
            buf_add(b, esc, 6);
        }
        from = ++i;
    }
    buf_add(b, s + from, n - from);
    buf_add(b, "\"", 1);
}

void json_put_cstr(struct buf *b, const char *s) {
    json_put_string(b, s, strlen(s));
}
