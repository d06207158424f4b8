#include "core/spans.h"

static uint64_t pack(uint32_t first, uint32_t end) {
    return first | (uint64_t)end << 32;
}

void spans_set(struct span *s, unsigned n, uint32_t n_items) {
    for (unsigned i = 0; i < n; i++) {
        uint32_t first = (uint32_t)((uint64_t)n_items * i / n);
        uint32_t end = (uint32_t)((uint64_t)n_items * (i + 1) / n);
        atomic_store_explicit(&s[i].left, pack(first, end), memory_order_relaxed);
    }
}

static bool take(struct span *s, bool is_own, uint32_t *ret) {
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed), rest;
    do {
        uint32_t first = (uint32_t)left, end = (uint32_t)(left >> 32);
        if (first == end) return false;
        *ret = is_own ? first : end - 1;
        rest = is_own ? pack(first + 1, end) : pack(first, end - 1);
    } while (!atomic_compare_exchange_weak_explicit(&s->left, &left, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool spans_take(struct span *s, unsigned n, unsigned lane, uint32_t *ret) {
    if (take(&s[lane], /* is_own= */ true, ret)) return true;
    for (unsigned i = 1; i < n; i++)
        if (take(&s[(lane + i) % n], /* is_own= */ false, ret)) return true;
    return false;
}
