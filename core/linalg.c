#include "core/linalg.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/err.h"

/* LAPACK's Fortran names; OpenBLAS exports them and ships no header for them without LAPACKE. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda,
             int *info);

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
    for (size_t i = 0; i < (size_t)n * n; i++)
        if (!isfinite(u[i])) return err_set(e, -EDOM, "row %zu is not finite", i / n);
    reverse(n, u);
    /* Row-major lower is column-major upper. */
    dpotrf_("U", &size, u, &size, &info);
    if (info == 0) dtrtri_("U", "N", &size, u, &size, &info);
    if (info != 0) return err_set(e, -EDOM, "not positive definite at row %d", size - info);
    reverse(n, u);
    for (size_t i = 1; i < n; i++) memset(u + i * n, 0, i * sizeof(*u));
    return 0;
}
