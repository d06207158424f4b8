/* JSON at the daemon's border: a strict check of text that clients send, before any parser sees it,
 * and an escaper for text that we send. Pure. */
#ifndef EBB_DAEMON_JSON_H
#define EBB_DAEMON_JSON_H

#include "core/defs.h"

struct buf;
struct err;

enum {
    JSON_MAX_DEPTH = 32,
    JSON_MAX_VALUES = 1 << 16, /* values and keys: what a parser makes a node of */
    JSON_MAX_NUMBER_BYTES = 40,
};

/* Checks that text[n] is one RFC 8259 value and nothing else: valid UTF-8, no BOM, no NUL (escaped
 * or not), no lone surrogates, numbers finite and short, within the limits above. 0 or -EINVAL with
 * the byte offset. Constant stack. */
int json_check(const char *text, size_t n, struct err *e) MUST_CHECK;

/* Appends s[n] as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD. */
void json_put_string(struct buf *b, const char *s, size_t n);
void json_put_cstr(struct buf *b, const char *s);

/* Length of the valid UTF-8 character at s (1..4), 0 if there is none within n bytes. */
size_t json_utf8_len(const char *s, size_t n);

#endif
