/* Looking up segments, for the AVX2 kernels and the VNNI ones that stand on them.
 *
 * Four indices are one 64-bit load, shifts and masks; entries go from the book straight into the
 * lanes of a register. On a Zen 4 core that takes 6.6 cycles for 32 weights, dispatch being the
 * limit; gather instructions take 11, bextr or blends of broadcasts more than the inserts. */
#ifndef EBB_KERNELS_X86_SEG_AVX2_H
#define EBB_KERNELS_X86_SEG_AVX2_H

#include "kernels/seg_forms.h"
#include "kernels/x86/avx2.h"

/* Entry of row r of a half column, len 4 and 8. */
KERN_INLINE int32_t entry4(const int8_t *book, uint64_t half, unsigned bits, unsigned r) {
    int32_t v;
    memcpy(&v, book + (size_t)seg_index4(half, bits, r) * 4, sizeof(v));
    return v;
}

KERN_INLINE int64_t entry8(const int8_t *book, uint64_t half, unsigned bits, unsigned r) {
    int64_t v;
    memcpy(&v, book + (size_t)seg_index4(half, bits, r) * 8, sizeof(v));
    return v;
}

KERN_INLINE __m128i four_entries4(const int8_t *book, uint64_t half, unsigned bits) {
    __m128i v = _mm_cvtsi32_si128(entry4(book, half, bits, 0));
    v = _mm_insert_epi32(v, entry4(book, half, bits, 1), 1);
    v = _mm_insert_epi32(v, entry4(book, half, bits, 2), 2);
    return _mm_insert_epi32(v, entry4(book, half, bits, 3), 3);
}

/* Rows r and r + 1 of both halves. */
KERN_INLINE __m256i four_entries8(const int8_t *book, uint64_t half0, uint64_t half4, unsigned bits,
                                  unsigned r) {
    __m128i a = _mm_cvtsi64_si128(entry8(book, half0, bits, r));
    __m128i b = _mm_cvtsi64_si128(entry8(book, half4, bits, r));
    a = _mm_insert_epi64(a, entry8(book, half0, bits, r + 1), 1);
    b = _mm_insert_epi64(b, entry8(book, half4, bits, r + 1), 1);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* The weights of one segment column as len / 4 quads: byte r*4 + i is row r, input i. Reads 16
 * bytes from the column on at most. */
KERN_INLINE void column_quads(const uint8_t *column, const int8_t *book, unsigned len,
                              unsigned bits, __m256i *ret) {
    uint64_t half0, half4; /* indices of rows 0..3 and of rows 4..7 */
    memcpy(&half0, column, sizeof(half0));
    memcpy(&half4, column + bits / 2, sizeof(half4));
    if (len == 4) {
        ret[0] = _mm256_inserti128_si256(_mm256_castsi128_si256(four_entries4(book, half0, bits)),
                                         four_entries4(book, half4, bits), 1);
        return;
    }
    /* Rows 0 1 | 4 5 and 2 3 | 6 7, two quads' inputs a row; each takes every other element. */
    __m256 v0 = _mm256_castsi256_ps(four_entries8(book, half0, half4, bits, 0));
    __m256 v2 = _mm256_castsi256_ps(four_entries8(book, half0, half4, bits, 2));
    ret[0] = _mm256_castps_si256(_mm256_shuffle_ps(v0, v2, 0x88));
    ret[1] = _mm256_castps_si256(_mm256_shuffle_ps(v0, v2, 0xdd));
}

/* A seg_look_up_fn: a tile's 8 quads. */
KERN_INLINE void tile_quads(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                            int8_t *ret) {
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k += len / 4, column += bits) {
        __m256i v[2];
        column_quads(column, book, len, bits, v);
        for (unsigned i = 0; i < len / 4; i++)
            _mm256_store_si256((__m256i *)(void *)(ret + (k + i) * sizeof(*v)), v[i]);
    }
}

#endif
