#include "core/make/moments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/mem.h"
#include "core/pool.h"

/* Wide enough for the library's panels, and small enough that 576 inputs make 15 pieces. */
enum { TILE = 128 };

struct moments {
    struct mem *mem; /* borrowed */
    uint32_t n;
    float *sum; /* owned: [n][n]; the upper tiles until the mean is taken */
    size_t sum_bytes;
    uint64_t n_rows;
};

int moments_create(struct mem *m, uint32_t n, struct moments **ret, struct err *e) {
    struct moments *s = calloc(1, sizeof(*s));
    if (!s) return err_set(e, -ENOMEM, "no memory for moments");
    s->mem = m;
    s->n = n;
    s->sum_bytes = (size_t)n * n * sizeof(float);
    s->sum = mem_alloc(m, MEM_PACKER, s->sum_bytes);
    if (!s->sum) {
        free(s);
        return err_set(e, -ENOMEM, "no memory for the moments of %u inputs", n);
    }
    *ret = s;
    return 0;
}

void moments_destroy(struct moments *s) {
    if (!s) return;
    mem_free(s->mem, MEM_PACKER, s->sum, s->sum_bytes);
    free(s);
}

void moments_reset(struct moments *s) {
    memset(s->sum, 0, s->sum_bytes);
    s->n_rows = 0;
}

struct addition {
    struct moments *s;
    const float *x;
    size_t n_rows;
};

/* Piece number -> tile (i, j) with i <= j: row by row of the upper triangle. */
static void add_tile(void *ud, uint32_t piece) {
    const struct addition *a = ud;
    size_t n = a->s->n, i = 0, side = (n + TILE - 1) / TILE;
    while (piece >= side - i) piece -= (uint32_t)(side - i++);
    size_t j = (i + piece) * TILE;
    i *= TILE;
    gemm_tn_add(MIN(n - i, (size_t)TILE), MIN(n - j, (size_t)TILE), a->n_rows, a->x + i, n,
                a->x + j, n, a->s->sum + i * n + j, n);
}

void moments_add(struct moments *s, struct pool *pool, const float *x, size_t n_rows) {
    struct addition a = {s, x, n_rows};
    uint32_t side = (s->n + TILE - 1) / TILE;
    pool_run(pool, add_tile, &a, side * (side + 1) / 2);
    s->n_rows += n_rows;
}

const float *moments_mean(struct moments *s) {
    ASSERT(s->n_rows > 0);
    size_t n = s->n;
    float scale = (float)(1.0 / (double)s->n_rows);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            s->sum[i * n + j] *= scale;
            s->sum[j * n + i] = s->sum[i * n + j];
        }
    return s->sum;
}
