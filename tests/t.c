#include "tests/t.h"

#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf in_test;
static const char *skipped; /* why, or NULL */
static unsigned n_failures; /* in the test that runs */
static uint64_t seed = 1;
static char tmpdir[256];

void t_fail(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    n_failures++;
    printf("    %s:%d: ", file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void t_skip(const char *why) {
    skipped = why;
    longjmp(in_test, 1);
}

void t_stop(void) {
    longjmp(in_test, 2);
}

uint64_t t_seed(void) {
    return seed;
}

uint64_t t_rand(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

const char *t_shared(const char *rel) {
    static char path[1024];
    static char why[1200];
    const char *root = getenv("EBB_SHARED"), *source = getenv("EBB_SOURCE");
    if (root && root[0])
        snprintf(path, sizeof(path), "%s/%s", root, rel);
    else
        snprintf(path, sizeof(path), "%s/../shared/%s", source ? source : ".", rel);
    if (access(path, R_OK) == 0) return path;
    snprintf(why, sizeof(why), "%s is missing (set EBB_SHARED to the folder that holds it)", path);
    t_skip(why);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tmpdir(void) {
    nftw(tmpdir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *t_tmpdir(void) {
    if (tmpdir[0]) return tmpdir;
    const char *root = getenv("TMPDIR");
    snprintf(tmpdir, sizeof(tmpdir), "%s/ebb-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(tmpdir)) {
        perror("mkdtemp");
        exit(1);
    }
    atexit(remove_tmpdir);
    return tmpdir;
}

bool t_check_int(const char *file, int line, const char *a_s, const char *b_s, int64_t a,
                 int64_t b) {
    if (a == b) return true;
    t_fail(file, line, "%s is %" PRId64 ", not %s = %" PRId64, a_s, a, b_s, b);
    return false;
}

bool t_check_uint(const char *file, int line, const char *a_s, const char *b_s, uint64_t a,
                  uint64_t b) {
    if (a == b) return true;
    t_fail(file, line, "%s is %" PRIu64 ", not %s = %" PRIu64, a_s, a, b_s, b);
    return false;
}

bool t_check_str(const char *file, int line, const char *a_s, const char *b_s, const char *a,
                 const char *b) {
    if (a && b && strcmp(a, b) == 0) return true;
    t_fail(file, line, "%s is \"%s\", not %s = \"%s\"", a_s, a ? a : "(null)", b_s,
           b ? b : "(null)");
    return false;
}

bool t_check_mem(const char *file, int line, const char *a_s, const char *b_s, const void *a,
                 const void *b, size_t n) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < n; i++) {
        if (x[i] == y[i]) continue;
        t_fail(file, line, "%s and %s differ at byte %zu of %zu: %02x, %02x", a_s, b_s, i, n, x[i],
               y[i]);
        return false;
    }
    return true;
}

bool t_check_near(const char *file, int line, const char *a_s, const char *b_s, double a, double b,
                  double bound) {
    if (fabs(a - b) <= bound) return true;
    t_fail(file, line, "%s is %.9g, %s is %.9g: apart by %.3g, allowed %.3g", a_s, a, b_s, b,
           fabs(a - b), bound);
    return false;
}

/* Apart from t_main() so that longjmp() cannot clobber its counters. */
static void run_case(const struct t_case *c) {
    n_failures = 0;
    skipped = NULL;
    if (setjmp(in_test) == 0) c->fn();
}

int t_main(int argc, char **argv, const struct t_case *cases, size_t n) {
    unsigned passed = 0, failed = 0, n_skipped = 0;
    bool no_skip = getenv("EBB_TEST_NO_SKIP") != NULL;
    bool has_filter = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) {
            for (size_t c = 0; c < n; c++) puts(cases[c].name);
            return 0;
        }
        if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 0);
        else
            has_filter = true;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t c = 0; c < n; c++) {
        bool wanted = !has_filter;
        for (int i = 1; i < argc && !wanted; i++) wanted = strstr(cases[c].name, argv[i]) != NULL;
        if (!wanted) continue;
        run_case(&cases[c]);
        if (skipped && no_skip) t_fail(__FILE__, __LINE__, "skip not allowed here: %s", skipped);
        if (n_failures) {
            failed++;
            printf("FAIL %s (seed %" PRIu64 ")\n", cases[c].name, seed);
        } else if (skipped) {
            n_skipped++;
            printf("skip %s: %s\n", cases[c].name, skipped);
        } else {
            passed++;
            printf("ok   %s\n", cases[c].name);
        }
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, n_skipped);
    if (failed) return 1;
    return passed == 0 && n_skipped > 0 ? 77 : 0;
}
