/* Runs a fuzz entry without a fuzzer: over every file of the folders given, as it is and with
 * seeded damage. So each corpus is also a plain regression test, with any compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_BYTES = 1 << 20, N_DAMAGED = 200 };

static uint64_t next_rand(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Exactly n bytes on the heap, so that a sanitizer sees a read past them. */
static void run(const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_damaged(const uint8_t *data, size_t n) {
    uint64_t state = n;
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    for (unsigned i = 0; i < N_DAMAGED && n > 0; i++) {
        size_t keep = i % 4 == 0 ? next_rand(&state) % n : n;
        memcpy(copy, data, n);
        for (unsigned k = next_rand(&state) % 4; k > 0; k--)
            copy[next_rand(&state) % n] = (uint8_t)next_rand(&state);
        run(copy, keep);
    }
    free(copy);
}

static int run_file(const char *path) {
    static uint8_t data[MAX_BYTES];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    size_t n = fread(data, 1, sizeof(data), f);
    int is_whole = feof(f) && !ferror(f);
    fclose(f);
    if (!is_whole) {
        fprintf(stderr, "%s: not read to its end, or over %d bytes\n", path, MAX_BYTES);
        return -1;
    }
    run(data, n);
    run_damaged(data, n);
    return 0;
}

int main(int argc, char **argv) {
    unsigned n_ok = 0, n_bad = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *d; (d = readdir(dir)) != NULL;) {
            char path[4096];
            if (d->d_name[0] == '.') continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], d->d_name);
            if (run_file(path) == 0)
                n_ok++;
            else
                n_bad++;
        }
        closedir(dir);
    }
    printf("%u passed, %u failed, 0 skipped\n", n_ok, n_bad);
    return n_bad > 0 || n_ok == 0; /* an empty corpus tests nothing */
}
