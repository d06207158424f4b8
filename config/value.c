/* Values as people write them. Everything here works on text that may hold any bytes, so no
 * function of the C library that needs a terminator or reads the locale is used. */
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"

struct unit {
    const char *name;
    uint64_t scale;
};

/* clang-format off */
static const struct unit byte_units[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
    {"B", 1},
};

static const struct unit time_units[] = {
    {"min", UINT64_C(60000000)},
    {"s", UINT64_C(1000000)},
    {"ms", UINT64_C(1000)},
};

static const struct unit temp_units[] = {{"C", 1000}};
/* clang-format on */

/* Six digits times the largest unit, 10^6 * 2^40, still fits 64 bits. */
enum { MAX_FRACTION_DIGITS = 6, MAX_SHOWN = 40 };

const char *value_shown(const char *s, size_t n, char *buf, size_t size) {
    size_t k = MIN(n, size - 1);
    for (size_t i = 0; i < k; i++) buf[i] = s[i] < 0x20 || s[i] > 0x7e ? '?' : s[i];
    if (k < n && k >= 3) memcpy(buf + k - 3, "...", 3);
    buf[k] = '\0';
    return buf;
}

static int refuse(const char *s, size_t n, const char *wanted, struct err *e) {
    char buf[MAX_SHOWN];
    return err_set(e, -EINVAL, "'%s' is not %s", value_shown(s, n, buf, sizeof(buf)), wanted);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Reads digits of s[n] from *pos on. False if there is none or the number does not fit. */
static bool scan_digits(const char *s, size_t n, unsigned base, size_t *pos, uint64_t *ret) {
    uint64_t v = 0;
    size_t i = *pos;
    for (; i < n && is_digit(s[i]) && (unsigned)(s[i] - '0') < base; i++) {
        if (__builtin_mul_overflow(v, (uint64_t)base, &v)) return false;
        if (__builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v)) return false;
    }
    if (i == *pos) return false;
    *pos = i;
    *ret = v;
    return true;
}

int value_parse_u64(const char *s, size_t n, uint64_t *ret, struct err *e) {
    size_t pos = 0;
    uint64_t v;
    /* YAML 1.1 reads 010 as eight, most people as ten: it is refused rather than guessed. */
    bool is_ambiguous = n > 1 && s[0] == '0';
    if (is_ambiguous || !scan_digits(s, n, 10, &pos, &v) || pos != n)
        return refuse(s, n, "a whole number, such as 4", e);
    *ret = v;
    return 0;
}

int value_parse_octal(const char *s, size_t n, uint64_t *ret, struct err *e) {
    size_t pos = n > 2 && s[0] == '0' && s[1] == 'o' ? 2 : 0;
    uint64_t v;
    if (!scan_digits(s, n, 8, &pos, &v) || pos != n)
        return refuse(s, n, "an octal file mode, such as 0660", e);
    *ret = v;
    return 0;
}

/* number[.fraction][space]unit; `bare` is the scale without a unit, 0 to require one. */
static bool scan_quantity(const char *s, size_t n, const struct unit *units, size_t n_units,
                          uint64_t bare, uint64_t *ret) {
    size_t pos = 0;
    uint64_t whole, fraction = 0, divisor = 1;
    if (!scan_digits(s, n, 10, &pos, &whole)) return false;
    if (pos < n && s[pos] == '.') {
        size_t start = ++pos;
        if (!scan_digits(s, n, 10, &pos, &fraction)) return false;
        if (pos - start > MAX_FRACTION_DIGITS) return false;
        for (size_t i = start; i < pos; i++) divisor *= 10;
    }
    if (pos + 1 < n && s[pos] == ' ') pos++;

    uint64_t scale = pos == n ? bare : 0;
    for (size_t i = 0; i < n_units && pos < n; i++) {
        size_t len = strlen(units[i].name);
        if (len == n - pos && memcmp(s + pos, units[i].name, len) == 0) scale = units[i].scale;
    }
    if (scale == 0 || (scale == 1 && divisor > 1)) return false;
    uint64_t v;
    if (__builtin_mul_overflow(whole, scale, &v)) return false;
    if (__builtin_add_overflow(v, fraction * scale / divisor, &v)) return false;
    *ret = v;
    return true;
}

int value_parse_bytes(const char *s, size_t n, uint64_t *ret, struct err *e) {
    uint64_t v;
    if (!scan_quantity(s, n, byte_units, ARRAY_LEN(byte_units), 1, &v))
        return refuse(s, n, "a size, such as 512MiB (units: B KiB MiB GiB TiB)", e);
    *ret = v;
    return 0;
}

int value_parse_time(const char *s, size_t n, uint64_t *ret_us, struct err *e) {
    uint64_t v;
    if (!scan_quantity(s, n, time_units, ARRAY_LEN(time_units), 0, &v))
        return refuse(s, n, "a time, such as 30s (units: ms s min)", e);
    *ret_us = v;
    return 0;
}

int value_parse_temp(const char *s, size_t n, uint64_t *ret_mc, struct err *e) {
    uint64_t v;
    if (!scan_quantity(s, n, temp_units, ARRAY_LEN(temp_units), 0, &v))
        return refuse(s, n, "a temperature, such as 80C", e);
    *ret_mc = v;
    return 0;
}

void value_format_bytes(uint64_t bytes, char *buf) {
    size_t i = 0;
    while (bytes == 0 ? i + 1 < ARRAY_LEN(byte_units) : bytes % byte_units[i].scale != 0) i++;
    snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 "%s", bytes / byte_units[i].scale, byte_units[i].name);
}

void value_format_time(uint64_t us, char *buf) {
    if (us != 0 && us % time_units[0].scale == 0)
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 "min", us / time_units[0].scale);
    else if (us % time_units[1].scale == 0)
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 "s", us / time_units[1].scale);
    else if (us % 1000 == 0)
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 "ms", us / 1000);
    else
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 ".%03" PRIu64 "ms", us / 1000, us % 1000);
}

void value_format_temp(uint64_t mc, char *buf) {
    if (mc % 1000 == 0)
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 "C", mc / 1000);
    else
        snprintf(buf, VALUE_MAX_TEXT, "%" PRIu64 ".%03" PRIu64 "C", mc / 1000, mc % 1000);
}

/* Length of the UTF-8 sequence at s[0..n), and its code point; 0 if it is not a valid one. */
static size_t decode(const unsigned char *s, size_t n, uint32_t *ret) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (len == 0 || len > n || s[0] > 0xf4) return 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
    *ret = c;
    return len;
}

bool value_is_plain_text(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = decode((const unsigned char *)s + i, n - i, &c);
        if (len == 0) return false;
        if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
        if (c == 0x2028 || c == 0x2029 || c == 0xfeff || (c & 0xfffe) == 0xfffe) return false;
        i += len;
    }
    return true;
}
