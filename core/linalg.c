#include "core/linalg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

/* LAPACK's Fortran names; OpenBLAS exports them and ships no header for them without LAPACKE. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda,
             int *info);
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
             double *work, const int *lwork, int *iwork, const int *liwork, int *info);
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
             const int *lwork, int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau,
             double *work, const int *lwork, int *info);
void dposv_(const char *uplo, const int *n, const int *nrhs, double *a, const int *lda, double *b,
            const int *ldb, int *info);

static int check_finite(size_t rows, size_t cols, const double *a, struct err *e) {
    for (size_t i = 0; i < rows * cols; i++)
        if (!isfinite(a[i])) return err_set(e, -EDOM, "row %zu is not finite", i / cols);
    return 0;
}

/* With J the reversal of the order: J a J = L L^T gives a = (J L J)(J L J)^T, J L J is upper
 * triangular, and its inverse is the factor wanted. So one Cholesky and one triangular inverse
 * do; inverting a itself would cost twice as much and lose digits. */
static void reverse(uint32_t n, double *a) {
    size_t last = (size_t)n * n - 1;
    for (size_t i = 0; i < last - i; i++) {
        double t = a[i];
        a[i] = a[last - i];
        a[last - i] = t;
    }
}

int linalg_inverse_factor(uint32_t n, const double *a, double *u, struct err *e) {
    ASSERT(n >= 1 && n <= INT32_MAX);
    int size = (int)n, info = 0;
    if (u != a) memcpy(u, a, (size_t)n * n * sizeof(*u));
    int r = check_finite(n, n, u, e);
    if (r < 0) return r;
    reverse(n, u);
    /* Row-major lower is column-major upper. */
    dpotrf_("U", &size, u, &size, &info);
    if (info == 0) dtrtri_("U", "N", &size, u, &size, &info);
    if (info != 0) return err_set(e, -EDOM, "not positive definite at row %d", size - info);
    reverse(n, u);
    for (size_t i = 1; i < n; i++) memset(u + i * n, 0, i * sizeof(*u));
    return 0;
}

int linalg_eigen(uint32_t n, double *a, double *values, struct err *e) {
    ASSERT(n >= 1 && n <= 32768); /* so that the library's sizes of work fit an int */
    int size = (int)n, info = 0, n_work = -1, n_iwork = -1, best_iwork = 0;
    double best_work = 0.0;
    int r = check_finite(n, n, a, e);
    if (r < 0) return r;
    dsyevd_("V", "U", &size, a, &size, values, &best_work, &n_work, &best_iwork, &n_iwork, &info);
    n_work = (int)best_work;
    n_iwork = best_iwork;
    double *work = calloc((size_t)n_work, sizeof(*work));
    int *iwork = calloc((size_t)n_iwork, sizeof(*iwork));
    if (!work || !iwork) {
        free(work);
        free(iwork);
        return err_set(e, -ENOMEM, "no memory for the eigenvectors of %u rows", n);
    }
    dsyevd_("V", "U", &size, a, &size, values, work, &n_work, iwork, &n_iwork, &info);
    free(work);
    free(iwork);
    if (info != 0) return err_set(e, -EDOM, "eigenvectors do not converge");
    /* The library's columns are our rows, and its values rise. */
    for (size_t i = 0, last = n - 1; i < last - i; i++) {
        double t = values[i];
        values[i] = values[last - i];
        values[last - i] = t;
        for (size_t j = 0; j < n; j++) {
            t = a[i * n + j];
            a[i * n + j] = a[(last - i) * n + j];
            a[(last - i) * n + j] = t;
        }
    }
    return 0;
}

int linalg_orthonormal(uint32_t m, uint32_t n, double *x, struct err *e) {
    enum { WORK_ROW = 64 }; /* the library's block */
    ASSERT(m >= 1 && m <= n && n <= INT32_MAX / WORK_ROW);
    int rows = (int)n, cols = (int)m, n_work = cols * WORK_ROW, info = 0;
    int r = check_finite(m, n, x, e);
    if (r < 0) return r;
    double *work = calloc((size_t)m * (WORK_ROW + 1), sizeof(*work));
    if (!work) return err_set(e, -ENOMEM, "no memory to make %u rows orthonormal", m);
    double *tau = work + (size_t)m * WORK_ROW;
    /* Householder's reflections: orthonormal whatever the rows are. */
    dgeqrf_(&rows, &cols, x, &rows, tau, work, &n_work, &info);
    dorgqr_(&rows, &cols, &cols, x, &rows, tau, work, &n_work, &info);
    free(work);
    return check_finite(m, n, x, e);
}

int linalg_solve(uint32_t n, double *a, uint32_t m, double *b, struct err *e) {
    ASSERT(n >= 1 && n <= INT32_MAX && m >= 1 && m <= INT32_MAX);
    int size = (int)n, rows = (int)m, info = 0;
    int r = check_finite(n, n, a, e);
    if (r == 0) r = check_finite(m, n, b, e);
    if (r < 0) return r;
    dposv_("U", &size, &rows, a, &size, b, &size, &info);
    if (info != 0) return err_set(e, -EDOM, "not positive definite at row %d", info - 1);
    return check_finite(m, n, b, e);
}
