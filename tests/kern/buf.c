/* Guarded buffers, and the inputs that go into them. */
#include "tests/kern/kern.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static void grow(struct guarded *g, size_t cap) {
    size_t page = page_bytes();
    guarded_free(g);
    g->map = mmap(NULL, cap + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->map == MAP_FAILED || mprotect(g->map, page, PROT_NONE) != 0 ||
        mprotect(g->map + page + cap, page, PROT_NONE) != 0) {
        perror("guarded buffer");
        exit(1);
    }
    g->cap = cap;
}

void *guarded_get(struct guarded *g, size_t n, size_t align, enum edge edge) {
    size_t page = page_bytes(), cap = round_up(n + 1, page);
    if (cap > g->cap) grow(g, cap);
    uint8_t *first = g->map + page;
    g->n = n;
    g->data = edge == EDGE_BEGIN ? first : first + g->cap - round_up(n, align);
    memset(first, CANARY, g->cap);
    return g->data;
}

static bool all_canary(const uint8_t *p, const uint8_t *end) {
    for (; p < end; p++)
        if (*p != CANARY) return false;
    return true;
}

bool guarded_intact(const struct guarded *g) {
    const uint8_t *first = g->map + page_bytes();
    return all_canary(first, g->data) && all_canary(g->data + g->n, first + g->cap);
}

void guarded_free(struct guarded *g) {
    if (g->map) munmap(g->map, g->cap + 2 * page_bytes());
    *g = (struct guarded){0};
}

const char *fill_name(enum fill f) {
    static const char *const names[FILL_COUNT] = {"zero",    "low",  "high",  "alternating",
                                                  "one-hot", "tiny", "random"};
    return names[f];
}

uint32_t rand_below(uint64_t *rng, uint32_t n) {
    return (uint32_t)(t_rand(rng) >> 32) % n;
}

float rand_float(uint64_t *rng, float max) {
    return ((float)(t_rand(rng) >> 40) * 0x1p-23f - 1) * max;
}

void fill_bytes(uint8_t *ret, size_t n, enum fill f, int low, int high, uint64_t *rng) {
    size_t hot = n ? t_rand(rng) % n : 0;
    for (size_t i = 0; i < n; i++) {
        int v = 0;
        switch (f) {
        case FILL_ZERO: break;
        case FILL_LOW: v = low; break;
        case FILL_HIGH: v = high; break;
        case FILL_ALTERNATING: v = i & 1 ? high : low; break;
        case FILL_ONE_HOT: v = i == hot ? high : 0; break;
        case FILL_TINY: v = (int)rand_below(rng, 2); break;
        case FILL_RANDOM: v = low + (int)rand_below(rng, (uint32_t)(high - low + 1)); break;
        }
        ret[i] = (uint8_t)v;
    }
}

void fill_floats(float *ret, size_t n, enum fill f, float max, uint64_t *rng) {
    size_t hot = n ? t_rand(rng) % n : 0;
    for (size_t i = 0; i < n; i++) {
        float v = 0;
        switch (f) {
        case FILL_ZERO: break;
        case FILL_LOW: v = -max; break;
        case FILL_HIGH: v = max; break;
        case FILL_ALTERNATING: v = i & 1 ? max : -max; break;
        case FILL_ONE_HOT: v = i == hot ? -max : 0; break;
        case FILL_TINY: v = rand_float(rng, FLT_MIN); break;
        case FILL_RANDOM: v = rand_float(rng, max); break;
        }
        ret[i] = v;
    }
}

void fill_f16(uint16_t *ret, size_t n, enum fill f, float max, uint64_t *rng) {
    struct kern_ops ref;
    kern_init(&ref, 0);
    for (size_t i = 0; i < n; i++) {
        float v;
        fill_floats(&v, 1, f, max, rng);
        if (f == FILL_ALTERNATING) v = i & 1 ? max : -max;
        if (f == FILL_TINY) v = rand_float(rng, 0x1p-14f); /* fp16 subnormals */
        ref.to_f16(&v, 1, &ret[i]);
    }
}
