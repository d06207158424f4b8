/* The texts are sorted; a match walks down the text byte by byte and keeps the range of those that
 * agree so far. */
#include "core/tok_special.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/tok_vocab.h"

static int compare(const void *a, const void *b, void *vocab) {
    size_t n_a, n_b;
    const char *s_a = tok_vocab_text(vocab, *(const uint32_t *)a, &n_a);
    const char *s_b = tok_vocab_text(vocab, *(const uint32_t *)b, &n_b);
    int c = memcmp(s_a, s_b, MIN(n_a, n_b));
    if (c != 0) return c;
    return n_a != n_b ? (n_a < n_b ? -1 : 1) : 0;
}

/* Stores the ids that qualify, unless `ret` is NULL; returns their number. Of equal texts only the
 * one that is found by its text counts. */
static uint32_t collect(const struct tok_vocab *v, unsigned types, uint32_t *ret) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        size_t len;
        const char *text = tok_vocab_text(v, id, &len);
        if (!(types & 1u << v->types[id]) || tok_vocab_find(v, text, len) != (int64_t)id) continue;
        if (ret) ret[n] = id;
        n++;
    }
    return n;
}

int tok_special_init(struct tok_special *s, struct tok_vocab *v, unsigned types) {
    *s = (struct tok_special){0};
    uint32_t n = collect(v, types, NULL);
    if (n == 0) return 0;
    s->ids = calloc(n, sizeof(*s->ids));
    if (!s->ids) return -ENOMEM;
    s->n = collect(v, types, s->ids);
    qsort_r(s->ids, s->n, sizeof(*s->ids), compare, v);
    for (uint32_t i = 0; i < s->n; i++) {
        size_t len;
        s->begins[(uint8_t)tok_vocab_text(v, s->ids[i], &len)[0]] = true;
    }
    return 0;
}

void tok_special_fini(struct tok_special *s) {
    free(s->ids);
    *s = (struct tok_special){0};
}

/* The first of ids[lo..hi), which agree in `depth` bytes, whose next byte is >= b. A text that ends
 * there comes before all others. */
static uint32_t lower_bound(const struct tok_special *s, const struct tok_vocab *v, uint32_t lo,
                            uint32_t hi, size_t depth, unsigned b) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t len;
        const char *text = tok_vocab_text(v, s->ids[mid], &len);
        if (len == depth || (uint8_t)text[depth] < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int64_t tok_special_match(const struct tok_special *s, const struct tok_vocab *v, const char *text,
                          size_t n, size_t *ret_n) {
    int64_t best = -1;
    uint32_t lo = 0, hi = s->n;
    if (!s->begins[(uint8_t)text[0]]) return -1;
    for (size_t depth = 0; depth < n && lo < hi; depth++) {
        unsigned b = (uint8_t)text[depth];
        size_t len = 0;
        lo = lower_bound(s, v, lo, hi, depth, b);
        hi = lower_bound(s, v, lo, hi, depth, b + 1);
        if (lo < hi) (void)tok_vocab_text(v, s->ids[lo], &len);
        if (len != depth + 1) continue;
        best = s->ids[lo];
        *ret_n = len;
    }
    return best;
}
