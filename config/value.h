/* Values as people write them, "1.5GiB" or "30s", to integers and back. Pure. Formatting what was
 * parsed and parsing it again gives the same number. */
#ifndef EBB_CONFIG_VALUE_H
#define EBB_CONFIG_VALUE_H

#include "core/defs.h"

struct err;

enum { VALUE_MAX_TEXT = 32 }; /* room that the value_format functions need */

/* s[n] need not be terminated. 0 or -EINVAL with a message that says what was wanted. */
int value_parse_u64(const char *s, size_t n, uint64_t *ret, struct err *e) MUST_CHECK;
int value_parse_octal(const char *s, size_t n, uint64_t *ret, struct err *e) MUST_CHECK;
/* A number and B, KiB, MiB, GiB or TiB; a bare number counts bytes. Fractions are cut to bytes. */
int value_parse_bytes(const char *s, size_t n, uint64_t *ret, struct err *e) MUST_CHECK;
/* A number and ms, s or min, in microseconds. The unit is required. */
int value_parse_time(const char *s, size_t n, uint64_t *ret_us, struct err *e) MUST_CHECK;

/* A number, not negative, and C: degrees Celsius, in thousandths. The unit is required. */
int value_parse_temp(const char *s, size_t n, uint64_t *ret_mc, struct err *e) MUST_CHECK;

/* In the largest unit that shows the value exactly. buf holds VALUE_MAX_TEXT bytes. */
void value_format_bytes(uint64_t bytes, char *buf);
void value_format_time(uint64_t us, char *buf);
void value_format_temp(uint64_t mc, char *buf);

/* True if s[n] is valid UTF-8 without control characters, line breaks of any kind or byte order
 * marks: safe in a path, in a log line and between YAML quotes. */
bool value_is_plain_text(const char *s, size_t n);

/* Copies s[n] for use in a message: cut to fit, bytes that are not printable ASCII as '?'. */
const char *value_shown(const char *s, size_t n, char *buf, size_t size);

#endif
