/* Nearest entry of a code book, AVX2: two vectors against eight entries at a time, so that each
 * load of entries serves twice. The work is bound by arithmetic: a book of 4096 x 4 is 80 KiB. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

#include <math.h>

static inline __attribute__((always_inline)) uint16_t lowest(__m256 best, __m256i at) {
    float b[8];
    uint32_t a[8], w = 0;
    _mm256_storeu_ps(b, best);
    _mm256_storeu_si256((__m256i *)a, at);
    for (uint32_t l = 1; l < 8; l++)
        if (b[l] < b[w] || (b[l] == b[w] && a[l] < a[w])) w = l;
    return (uint16_t)a[w];
}

static inline __attribute__((always_inline)) void
look(const float *x, uint32_t n, const float *book, uint32_t k, uint32_t len, uint16_t *ret) {
    enum { MAX_LEN = 8, MAX_N = 2 };
    __m256 in[MAX_N][MAX_LEN], best[MAX_N];
    __m256i at[MAX_N], entry = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < len; j++) in[i][j] = _mm256_set1_ps(x[i * len + j]);
        best[i] = _mm256_set1_ps(INFINITY);
        at[i] = entry;
    }
    for (uint32_t e = 0; e < k; e += 8) {
        __m256 half = _mm256_loadu_ps(book + len * k + e), d[MAX_N];
        for (uint32_t i = 0; i < n; i++) d[i] = half;
        for (uint32_t j = 0; j < len; j++) {
            __m256 b = _mm256_loadu_ps(book + j * k + e);
            for (uint32_t i = 0; i < n; i++) d[i] = _mm256_fnmadd_ps(in[i][j], b, d[i]);
        }
        for (uint32_t i = 0; i < n; i++) {
            __m256 is_less = _mm256_cmp_ps(d[i], best[i], _CMP_LT_OQ);
            at[i] = _mm256_blendv_epi8(at[i], entry, _mm256_castps_si256(is_less));
            best[i] = _mm256_blendv_ps(best[i], d[i], is_less);
        }
        entry = _mm256_add_epi32(entry, _mm256_set1_epi32(8));
    }
    for (uint32_t i = 0; i < n; i++) ret[i] = lowest(best[i], at[i]);
}

void kern_nearest_avx2(const float *x, uint32_t n, const float *book, uint32_t k, uint32_t len,
                       uint16_t *ret) {
    uint32_t i = 0;
    if (len == 4) {
        for (; i + 2 <= n; i += 2) look(x + i * 4, 2, book, k, 4, ret + i);
        if (i < n) look(x + i * 4, 1, book, k, 4, ret + i);
        return;
    }
    for (; i < n; i++) look(x + i * 8, 1, book, k, 8, ret + i);
}
