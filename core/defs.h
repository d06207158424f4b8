/* Compiler attributes, assertions and checked size arithmetic used by every folder but kernels/. */
#ifndef EBB_CORE_DEFS_H
#define EBB_CORE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* <sys/param.h>, which some system headers bring in, has its own. */
#undef MIN
#undef MAX
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Programming errors only, always compiled in. Never for anything that a file, a client, the
 * kernel or the clock can cause: those are errors. */
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) assert_fail(#cond, __FILE__, __LINE__);                                       \
    } while (0)

NORETURN void assert_fail(const char *cond, const char *file, int line);

/* For a result that is dropped on purpose; say why at the call. */
static inline void ignore_result(int r) {
    (void)r;
}

/* Each returns false, and leaves *ret alone, when the result does not fit. */
static inline bool size_add(size_t a, size_t b, size_t *ret) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *ret = r;
    return true;
}

static inline bool size_mul(size_t a, size_t b, size_t *ret) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *ret = r;
    return true;
}

/* Rounds up to a multiple of `align`, a power of two. */
static inline bool size_align(size_t a, size_t align, size_t *ret) {
    size_t r;
    if (!size_add(a, align - 1, &r)) return false;
    *ret = r & ~(align - 1);
    return true;
}

#endif
