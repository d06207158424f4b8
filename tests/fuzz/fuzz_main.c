/* Runs a fuzz target without libFuzzer, with any compiler: over every seed that the target makes
 * and every file named (or in a folder named), as it is and with seeded damage. So each corpus is
 * also a plain regression test. `--write FOLDER` writes the made seeds as files instead: a corpus
 * to start libFuzzer from. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/t.h"

enum { MAX_BYTES = 1 << 20, N_DAMAGED_SEED = 3000, N_DAMAGED_FILE = 200 };

static unsigned n_ok, n_bad;

/* Exactly n bytes on the heap, so that a sanitizer sees a read past them. */
static void run(const uint8_t *data, size_t n) {
    uint8_t *copy = calloc(1, n ? n : 1);
    if (!copy) abort();
    if (n > 0) memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

/* Changes bits, bytes and 64-bit fields, moves runs, cuts; returns the new length. */
static size_t damage(uint8_t *p, size_t n, uint64_t *state) {
    static const uint64_t edges[] = {0,          1,          0x7f,      0xff,      0xffff,
                                     0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX};
    for (uint64_t k = 1 + t_rand(state) % 4; k > 0 && n > 0; k--) {
        size_t at = t_rand(state) % n, from = t_rand(state) % n, len = 1 + t_rand(state) % 32;
        switch (t_rand(state) % 6) {
        case 0: p[at] ^= (uint8_t)(1u << t_rand(state) % 8); break;
        case 1: p[at] = (uint8_t)t_rand(state); break;
        case 2: p[at] = (uint8_t)(p[at] + (t_rand(state) % 2 ? 1 : 255)); break;
        case 3:
            if (n - at >= 8) memcpy(p + at, &edges[t_rand(state) % 9], 8);
            break;
        case 4:
            if (n - at >= len && n - from >= len) memmove(p + at, p + from, len);
            break;
        case 5:
            if (t_rand(state) % 4 == 0) n = at;
            break;
        }
    }
    return n;
}

static void run_all(const uint8_t *data, size_t n, unsigned n_damaged) {
    uint64_t state = n;
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    run(data, n);
    for (unsigned i = 0; i < n_damaged; i++) {
        if (n > 0) memcpy(copy, data, n);
        run(copy, damage(copy, n, &state));
    }
    free(copy);
    n_ok++;
}

static void run_file(const char *path) {
    static uint8_t data[MAX_BYTES];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        n_bad++;
        return;
    }
    size_t n = fread(data, 1, sizeof(data), f);
    int is_whole = feof(f) && !ferror(f);
    fclose(f);
    if (is_whole) {
        run_all(data, n, N_DAMAGED_FILE);
    } else {
        fprintf(stderr, "%s: not read to its end, or over %d bytes\n", path, MAX_BYTES);
        n_bad++;
    }
}

static void run_path(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        run_file(path);
        return;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        char name[4096];
        if (d->d_name[0] == '.') continue;
        snprintf(name, sizeof(name), "%s/%s", path, d->d_name);
        run_file(name);
    }
    closedir(dir);
}

static int write_seeds(const char *folder) {
    size_t n;
    uint8_t *p;
    for (unsigned i = 0; fuzz_seed && (p = fuzz_seed(i, &n)); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/seed-%u", folder, i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) {
            perror(path);
            return 1;
        }
        free(p);
    }
    return 0;
}

int main(int argc, char **argv) {
    size_t n;
    uint8_t *p;
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_seeds(argv[2]);
    run(NULL, 0);
    for (unsigned i = 0; fuzz_seed && (p = fuzz_seed(i, &n)); i++) {
        run_all(p, n, N_DAMAGED_SEED);
        free(p);
    }
    for (int i = 1; i < argc; i++) run_path(argv[i]);
    printf("%u passed, %u failed, 0 skipped\n", n_ok, n_bad);
    return n_bad > 0 || n_ok == 0; /* an empty corpus tests nothing */
}
