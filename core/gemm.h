/* Matrix products in f32 for the packer: the one door to OpenBLAS.
 *
 * The library runs with one thread of its own; who has a pool splits the work and calls from each
 * thread. The order in which a product is summed may depend on its shape, so whoever promises
 * results that do not depend on the thread count cuts the work into pieces of fixed shape. */
#ifndef EBB_CORE_GEMM_H
#define EBB_CORE_GEMM_H

#include "core/defs.h"

struct pool;

/* Once, before the first product: keeps the library from making threads. */
void gemm_init(void);
/* What kind of CPU the library computes for: sums may differ in their last bits between two. */
const char *gemm_cpu_name(void);

/* c[m][n] = sum over k of a[m][k] * b[n][k], distances between rows in floats. Thread: any. */
void gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
             float *c, size_t ldc);

/* c[m][n] = sum over k of a[m][k] * b[k][n]. Thread: any. */
void gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
             float *c, size_t ldc);

/* c[m][n] -= sum over k of a[m][k] * b[k][n]. Thread: any. */
void gemm_nn_sub(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc);

/* c[m][n] += sum over k of a[k][m] * b[k][n]. Thread: any. */
void gemm_tn_add(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc);

/* As gemm_nt(), the columns cut into pieces of fixed width and shared out over the pool. */
void gemm_nt_pool(struct pool *p, size_t m, size_t n, size_t k, const float *a, size_t lda,
                  const float *b, size_t ldb, float *c, size_t ldc);

/* As gemm_nn(), the rows cut into pieces of fixed height and shared out over the pool. */
void gemm_nn_pool(struct pool *p, size_t m, size_t n, size_t k, const float *a, size_t lda,
                  const float *b, size_t ldb, float *c, size_t ldc);

#endif
