/* Base64 from any bytes: what is read is what an encoder makes of the result, byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/watch.h"
#include "tests/fuzz/fuzz.h"

static void encode(const uint8_t *p, size_t n, char *ret) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)p[i] << 16;
        if (left > 1) v |= (uint32_t)p[i + 1] << 8;
        if (left > 2) v |= p[i + 2];
        *ret++ = set[v >> 18];
        *ret++ = set[v >> 12 & 63];
        *ret++ = left > 1 ? set[v >> 6 & 63] : '=';
        *ret++ = left > 2 ? set[v & 63] : '=';
    }
    *ret = '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { CAP = 64 };
    size_t n = 77;
    struct err e = {0};
    char again[CAP / 3 * 4 + 8];
    char *text = calloc(1, size + 1);
    uint8_t *out = malloc(CAP);
    if (!text || !out) abort();
    if (size > 0) memcpy(text, data, size);
    int r = watch_decode(text, out, CAP, &n, &e);
    if (r < 0 && (n != 77 || e.code != r)) abort();
    if (r == 0) {
        if (n > CAP) abort();
        encode(out, n, again);
        if (strcmp(again, text) != 0) abort();
    }
    free(out);
    free(text);
    return 0;
}
