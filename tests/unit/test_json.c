/* The JSON check before the parser, and the escaper. */
#include "daemon/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/defs.h"
#include "core/err.h"
#include "daemon/buf.h"
#include "tests/t.h"

static int check(const char *s) {
    struct err e = {0};
    int r = json_check(s, strlen(s), &e);
    if (r < 0) CHECK(e.msg[0] != '\0');
    return r;
}

static void accepted(void) {
    static const char *const good[] = {
        "{}",
        "[]",
        " [ ] ",
        "\"\"",
        "0",
        "-0",
        "-0.5e-3",
        "1E+2",
        "true",
        "false",
        "null",
        "{\"a\":[1,2,{\"b\":null}],\"c\":\"\\u00e9\\ud83d\\ude00\\n\"}",
        "[[],[[]],{}]",
        "\t\r\n1\n",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\x7f\"",
        "123456789012345678901234567890",
        "{\"a\":1,\"a\":2}",
        "[1e300]",
        "1e-999",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (check(good[i]) != 0) t_fail(__FILE__, __LINE__, "refused: %s", good[i]);
}

static void refused(void) {
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "nul",
        "True",
        "'a'",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"\x80\"",
        "\"\xc0\x80\"",
        "\"\xc1\xbf\"",
        "\"\xe0\x80\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf0\x80\x80\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xc3\"",
        "\"\xe2\x82\"",
        "\xef\xbb\xbf{}",
        "{} x",
        "1 1",
        "[] []",
        "// c\n1",
        "[1]/* */",
        "\xff",
        "[\v1]",
        "[\f1]",
        "1234567890123456789012345678901234567890123456789012345678901234567890",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (check(bad[i]) != -EINVAL) t_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
    CHECK_EQ(json_check("\"a\0b\"", 5, NULL), -EINVAL);
    CHECK_EQ(json_check("1\0", 2, NULL), -EINVAL);
    CHECK_EQ(json_check("[\0]", 3, NULL), -EINVAL);
}

static void limits(void) {
    char deep[2 * (JSON_MAX_DEPTH + 1) + 1];
    for (int d = JSON_MAX_DEPTH; d <= JSON_MAX_DEPTH + 1; d++) {
        memset(deep, '[', (size_t)d);
        memset(deep + d, ']', (size_t)d);
        deep[2 * d] = '\0';
        CHECK_EQ(check(deep), d <= JSON_MAX_DEPTH ? 0 : -EINVAL);
    }
    size_t n = 10 << 20;
    char *big = malloc(n);
    REQUIRE(big);
    memset(big, '[', n);
    CHECK_EQ(json_check(big, n, NULL), -EINVAL);
    /* "[0,0,...]": the array and n_v numbers. */
    for (size_t n_v = JSON_MAX_VALUES - 1; n_v <= JSON_MAX_VALUES; n_v++) {
        size_t k = 0;
        big[k++] = '[';
        for (size_t i = 0; i < n_v; i++) {
            big[k++] = '0';
            big[k++] = i + 1 == n_v ? ']' : ',';
        }
        CHECK_EQ(json_check(big, k, NULL), n_v < JSON_MAX_VALUES ? 0 : -EINVAL);
    }
    free(big);
}

/* What the check lets through, the parser must understand; and no input may break the check. */
static void against_parser(void) {
    static const char alphabet[] = "{}[]\",:0123456789.eE+-truefalsn\\u \xc3\xa9";
    uint64_t st = t_seed();
    unsigned n_good = 0;
    for (int i = 0; i < 300000; i++) {
        char s[24];
        size_t n = 1 + t_rand(&st) % sizeof(s);
        for (size_t k = 0; k < n; k++) s[k] = alphabet[t_rand(&st) % (sizeof(alphabet) - 1)];
        if (json_check(s, n, NULL) != 0) continue;
        n_good++;
        const char *end = NULL;
        cJSON *j = cJSON_ParseWithLengthOpts(s, n, &end, false);
        if (!j) t_fail(__FILE__, __LINE__, "the parser refuses %.*s", (int)n, s);
        cJSON_Delete(j);
    }
    CHECK(n_good > 100);
}

static void escape(void) {
    struct buf b = {0};
    json_put_cstr(&b, "a\"b\\c\n\r\t\x01\x1f\x7f/\xc3\xa9\xf0\x9f\x98\x80\xff\xc3");
    buf_add(&b, "", 1);
    CHECK_STR(b.p, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\\u007f/\xc3\xa9\xf0\x9f\x98\x80"
                   "\xef\xbf\xbd\xef\xbf\xbd\"");
    buf_fini(&b);

    /* Any bytes come out as JSON that reads back to the same text, if they were valid. */
    uint64_t st = t_seed();
    for (int i = 0; i < 20000; i++) {
        char s[64];
        size_t n = t_rand(&st) % sizeof(s);
        bool is_utf8 = i % 2;
        for (size_t k = 0; k < n; k++) s[k] = (char)(is_utf8 ? 1 + t_rand(&st) % 127 : t_rand(&st));
        buf_clear(&b);
        json_put_string(&b, s, n);
        if (memchr(s, 0, n)) continue; /* we may send NUL, but take none */
        CHECK_EQ(json_check(b.p, b.n, NULL), 0);
        if (!is_utf8) continue;
        cJSON *j = cJSON_ParseWithLength(b.p, b.n);
        REQUIRE(cJSON_IsString(j));
        CHECK(strlen(j->valuestring) == n && memcmp(j->valuestring, s, n) == 0);
        cJSON_Delete(j);
    }
    buf_fini(&b);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"accepted", accepted}, {"refused", refused},
        {"limits", limits},     {"against_parser", against_parser},
        {"escape", escape},
    };
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
