/* The packer's generator (splitmix64): seeded by the work at hand, so that the same work gives the
 * same numbers everywhere. */
#ifndef EBB_CORE_MAKE_RANDOM_H
#define EBB_CORE_MAKE_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* In [0, 1). */
static inline double random_unit(uint64_t *s) {
    return (double)(random_next(s) >> 11) * 0x1p-53;
}

#endif
