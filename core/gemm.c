#include "core/gemm.h"

#include <cblas.h>
#include <limits.h>

#include "core/pool.h"

/* Columns of a piece of gemm_nt_pool(), and rows of one of gemm_nn_pool(): wide enough for the
 * library's panels, and narrow enough that the smallest projection of a small model still makes one
 * piece for each of two cores. */
enum { PIECE_COLS = 96, PIECE_ROWS = 96 };

void gemm_init(void) {
    openblas_set_num_threads(1);
}

const char *gemm_cpu_name(void) {
    return openblas_get_corename();
}

static blasint to_int(size_t n) {
    ASSERT(n <= INT_MAX);
    return (blasint)n;
}

void gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
             float *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, to_int(m), to_int(n), to_int(k), 1.0f, a,
                to_int(lda), b, to_int(ldb), 0.0f, c, to_int(ldc));
}

void gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
             float *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, to_int(m), to_int(n), to_int(k), 1.0f, a,
                to_int(lda), b, to_int(ldb), 0.0f, c, to_int(ldc));
}

void gemm_nn_sub(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, to_int(m), to_int(n), to_int(k), -1.0f,
                a, to_int(lda), b, to_int(ldb), 1.0f, c, to_int(ldc));
}

void gemm_tn_add(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, to_int(m), to_int(n), to_int(k), 1.0f, a,
                to_int(lda), b, to_int(ldb), 1.0f, c, to_int(ldc));
}

struct piece {
    size_t m, n, k;
    const float *a, *b;
    size_t lda, ldb;
    float *c;
    size_t ldc;
};

static void run_piece(void *ud, uint32_t chunk) {
    const struct piece *p = ud;
    size_t at = (size_t)chunk * PIECE_COLS;
    gemm_nt(p->m, MIN(p->n - at, (size_t)PIECE_COLS), p->k, p->a, p->lda, p->b + at * p->ldb,
            p->ldb, p->c + at, p->ldc);
}

void gemm_nt_pool(struct pool *pool, size_t m, size_t n, size_t k, const float *a, size_t lda,
                  const float *b, size_t ldb, float *c, size_t ldc) {
    struct piece p = {m, n, k, a, b, lda, ldb, c, ldc};
    pool_run(pool, run_piece, &p, (uint32_t)((n + PIECE_COLS - 1) / PIECE_COLS));
}

static void run_rows(void *ud, uint32_t chunk) {
    const struct piece *p = ud;
    size_t at = (size_t)chunk * PIECE_ROWS;
    gemm_nn(MIN(p->m - at, (size_t)PIECE_ROWS), p->n, p->k, p->a + at * p->lda, p->lda, p->b,
            p->ldb, p->c + at * p->ldc, p->ldc);
}

void gemm_nn_pool(struct pool *pool, size_t m, size_t n, size_t k, const float *a, size_t lda,
                  const float *b, size_t ldb, float *c, size_t ldc) {
    struct piece p = {m, n, k, a, b, lda, ldb, c, ldc};
    pool_run(pool, run_rows, &p, (uint32_t)((m + PIECE_ROWS - 1) / PIECE_ROWS));
}
