#include "tests/sim/fixed.h"

#include <errno.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int fixed_parse(const char *s, size_t n, unsigned digits, int64_t min, int64_t max, int64_t *ret) {
    int64_t v = 0;
    size_t i = 0;
    bool is_negative = n > 0 && s[0] == '-', is_over = false;
    if (is_negative) i++;
    if (i == n || !is_digit(s[i])) return -EINVAL;
    for (; i < n && is_digit(s[i]); i++)
        is_over |= __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s[i] - '0', &v);
    bool has_point = i < n && s[i] == '.';
    if (has_point && ++i == n) return -EINVAL;
    for (unsigned k = 0; k < digits; k++) {
        int64_t digit = i < n && is_digit(s[i]) ? s[i++] - '0' : 0;
        is_over |= __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digit, &v);
    }
    while (has_point && i < n && is_digit(s[i])) i++;
    if (i < n) return -EINVAL;
    if (is_negative) v = -v;
    if (is_over || v < min || v > max) return -ERANGE;
    *ret = v;
    return 0;
}
