/* One row of a matrix as floats, AVX2. A row's codes of one group are 4 bytes in each of the
 * tile's 4 vectors; side by side, their low nibbles are inputs 0..15, their high ones 16..31. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

KERN_INLINE __m128i row_codes(const uint8_t *tile, uint32_t r) {
    int32_t c[4];
    for (unsigned v = 0; v < 4; v++) memcpy(&c[v], tile + 32 * v + 4 * r, sizeof(c[v]));
    return _mm_setr_epi32(c[0], c[1], c[2], c[3]);
}

/* 16 codes as bytes, less `sub`, to 16 floats fma(s, code, off). */
KERN_INLINE void put16(__m128i codes, int32_t sub, __m256 s, __m256 off, float *ret) {
    for (unsigned i = 0; i < 2; i++) {
        __m256i c = _mm256_cvtepu8_epi32(i ? _mm_srli_si128(codes, 8) : codes);
        __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(c, _mm256_set1_epi32(sub)));
        _mm256_storeu_ps(ret + 8 * i, _mm256_fmadd_ps(s, f, off));
    }
}

void kern_row_avx2(const struct kern_planes *w, uint32_t row, float *ret) {
    uint32_t rt = row / PLANE_ROWS, r = row % PLANE_ROWS, n_groups = w->n_in / PLANE_GROUP;
    size_t tile = (size_t)rt * n_groups;
    float rows[16]; /* D of the 8 rows, then M */
    _mm256_storeu_ps(rows, rows_scale(w->rows + (size_t)rt * PLANE_ROW_BYTES));
    _mm256_storeu_ps(rows + 8, rows_min(w->rows + (size_t)rt * PLANE_ROW_BYTES));
    float d = w->low ? rows[r] / 8 : rows[r], m = rows[8 + r];

    const __m128i mask = _mm_set1_epi8(15);
    for (uint32_t g = 0; g < n_groups; g++, tile++, ret += PLANE_GROUP) {
        const uint8_t *group = w->groups + tile * PLANE_SCALE_BYTES;
        __m256 s = _mm256_set1_ps(d * group[r]);
        __m256 off = _mm256_set1_ps(-m * group[PLANE_ROWS + r]);
        __m128i h = row_codes(w->high + tile * PLANE_TILE_BYTES, r);
        __m128i lo = _mm_and_si128(h, mask), hi = _mm_and_si128(_mm_srli_epi16(h, 4), mask);
        int32_t sub = 0;
        if (w->low) {
            __m128i l = row_codes(w->low + tile * PLANE_TILE_BYTES, r);
            lo = _mm_add_epi8(_mm_slli_epi16(lo, 3), _mm_and_si128(l, mask));
            hi = _mm_add_epi8(_mm_slli_epi16(hi, 3), _mm_and_si128(_mm_srli_epi16(l, 4), mask));
            sub = 8;
        }
        put16(lo, sub, s, off, ret);
        put16(hi, sub, s, off, ret + 16);
    }
}
