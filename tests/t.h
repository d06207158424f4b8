/* A small always-on test harness. A test is a function; t_main() runs a table of them, in order,
 * and prints "N passed, N failed, N skipped" last. Exit status 1 on a failure, 77 if everything
 * was skipped. CHECKs print the values they compare, and let the test go on; REQUIRE ends it. */
#ifndef EBB_TESTS_T_H
#define EBB_TESTS_T_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct t_case {
    const char *name;
    void (*fn)(void);
};

/* argv: --list, or names (substrings) of tests to run; --seed=N sets t_seed(). */
int t_main(int argc, char **argv, const struct t_case *cases, size_t n);

/* In a test: gives up with a reason; counted as skipped. With EBB_TEST_NO_SKIP=1 in the
 * environment (CI) a skip is a failure. Never returns. */
_Noreturn void t_skip(const char *why);
_Noreturn void t_stop(void); /* ends the test after a failed REQUIRE */

/* Seed of this run (printed on failure), and a generator (splitmix64) for tests. */
uint64_t t_seed(void);
uint64_t t_rand(uint64_t *state);

/* Path of a file of the shared folder ($EBB_SHARED, else beside the source tree), or t_skip().
 * The result lives until the next call. */
const char *t_shared(const char *rel);
/* A fresh folder under $TMPDIR, removed when the program ends. Lives until then. */
const char *t_tmpdir(void);

void t_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool t_check_int(const char *file, int line, const char *a_s, const char *b_s, int64_t a,
                 int64_t b);
bool t_check_uint(const char *file, int line, const char *a_s, const char *b_s, uint64_t a,
                  uint64_t b);
bool t_check_str(const char *file, int line, const char *a_s, const char *b_s, const char *a,
                 const char *b);
bool t_check_mem(const char *file, int line, const char *a_s, const char *b_s, const void *a,
                 const void *b, size_t n);
bool t_check_near(const char *file, int line, const char *a_s, const char *b_s, double a, double b,
                  double bound);

#define CHECK(c)                                                                                   \
    do {                                                                                           \
        if (!(c)) t_fail(__FILE__, __LINE__, "%s is false", #c);                                   \
    } while (0)
#define REQUIRE(c)                                                                                 \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            t_fail(__FILE__, __LINE__, "%s is false", #c);                                         \
            t_stop();                                                                              \
        }                                                                                          \
    } while (0)
#define CHECK_EQ(a, b) ((void)t_check_int(__FILE__, __LINE__, #a, #b, (int64_t)(a), (int64_t)(b)))
#define CHECK_EQU(a, b)                                                                            \
    ((void)t_check_uint(__FILE__, __LINE__, #a, #b, (uint64_t)(a), (uint64_t)(b)))
#define CHECK_STR(a, b)         ((void)t_check_str(__FILE__, __LINE__, #a, #b, a, b))
#define CHECK_MEM(a, b, n)      ((void)t_check_mem(__FILE__, __LINE__, #a, #b, a, b, n))
#define CHECK_NEAR(a, b, bound) ((void)t_check_near(__FILE__, __LINE__, #a, #b, a, b, bound))
/* A call must succeed; otherwise prints the error's message and ends the test. */
#define REQUIRE_OK(call, e)                                                                        \
    do {                                                                                           \
        int t_r_ = (call);                                                                         \
        if (t_r_ < 0) {                                                                            \
            t_fail(__FILE__, __LINE__, "%s gives %d: %s", #call, t_r_, (e)->msg);                  \
            t_stop();                                                                              \
        }                                                                                          \
    } while (0)

#endif
