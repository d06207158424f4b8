/* Pieces shared by the AVX2 kernels, and by the VNNI ones that stand on them. Only inline code:
 * a shared function would be compiled for one ISA and might be linked for another. */
#ifndef EBB_KERNELS_X86_AVX2_H
#define EBB_KERNELS_X86_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "kernels/inline.h"
#include "kernels/kernels.h"

KERN_INLINE __m256i load32b(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

KERN_INLINE __m128i load16b(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}

/* The codes of a later tile, and its scales. Decoding waits for memory, and out-of-order execution
 * alone does not look far enough ahead: with this one token reads 1.15 times as fast on one thread
 * (Zen 4; 8 and 16 tiles ahead gave less, 64 no more, the second-level cache alone nothing). A few
 * tokens take longer for a tile, so less is far enough (8 tiles gave 3 % over 32); with more their
 * arithmetic takes longer than the lines do. Beyond the end of a matrix it asks in vain, and an
 * address is never looked at. */
enum { AHEAD_ONE = 32, AHEAD_FEW = 8, FEW_TOKENS = 4 };

KERN_INLINE void ask_line(const uint8_t *p, size_t ahead_bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + ahead_bytes), _MM_HINT_T0);
}

KERN_INLINE void ask_codes(const uint8_t *codes, unsigned ahead) {
    ask_line(codes, ahead * PLANE_TILE_BYTES);
    ask_line(codes, ahead * PLANE_TILE_BYTES + 64);
}

KERN_INLINE void ask_scales(const uint8_t *group, unsigned ahead) {
    ask_line(group, ahead * PLANE_SCALE_BYTES);
}

/* While a pair of row tiles is read in two places, what comes next is asked for in the order of
 * memory, a row tile ahead: so the hardware sees one stream and goes before it. Asked for in two
 * streams, four tokens take 1.2 times as long (Zen 4). g: the group; n: of a row tile. */
KERN_INLINE void ask_pair_codes(const uint8_t *codes, uint32_t n, uint32_t g) {
    ask_codes(codes, n + 2 * g);
    ask_codes(codes, n + 2 * g + 1);
}

KERN_INLINE void ask_pair_scales(const uint8_t *groups, uint32_t n, uint32_t g) {
    ask_scales(groups, n + 2 * g);
    ask_scales(groups, n + 2 * g + 1);
}

/* Four activations, one quad's worth, for all 8 rows. */
KERN_INLINE __m256i act_quad(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, sizeof(v));
    return _mm256_set1_epi32(v);
}

KERN_INLINE __m256i low_nibbles(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

KERN_INLINE __m256i high_nibbles(__m256i v) {
    return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}

/* Codes u = 8t + l (0..135) of the low and of the high nibbles of one vector of each plane. */
KERN_INLINE __m256i full_low_nibbles(__m256i high, __m256i low) {
    __m256i t8 = _mm256_and_si256(_mm256_slli_epi16(high, 3), _mm256_set1_epi8(0x78));
    return _mm256_add_epi8(t8, low_nibbles(low));
}

KERN_INLINE __m256i full_high_nibbles(__m256i high, __m256i low) {
    __m256i t8 = _mm256_and_si256(_mm256_srli_epi16(high, 1), _mm256_set1_epi8(0x78));
    return _mm256_add_epi8(t8, high_nibbles(low));
}

/* The 8 scale codes of a tile as pairs of equal int16, so that one madd adds the two halves of a
 * row's sum and multiplies it. */
KERN_INLINE __m256i scale_pairs(const uint8_t *group) {
    const __m256i order = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,
                                           -1, /* rows 0..3 */
                                           4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16b(group)), order);
}

KERN_INLINE __m256i scale_codes(const uint8_t *group) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)group));
}

KERN_INLINE __m256 min_codes(const uint8_t *group) {
    __m128i mn = _mm_loadl_epi64((const __m128i *)(group + PLANE_ROWS));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(mn));
}

/* y = fma(-M, off, D * acc), D already divided by 8 in the full reading. */
KERN_INLINE __m256 row_tile_end(__m256 d, __m256 m, __m256 acc, __m256 off) {
    return _mm256_fnmadd_ps(m, off, _mm256_mul_ps(d, acc));
}

KERN_INLINE __m256 rows_scale(const uint8_t *rows) {
    return _mm256_cvtph_ps(load16b(rows));
}

KERN_INLINE __m256 rows_min(const uint8_t *rows) {
    return _mm256_cvtph_ps(load16b(rows + 2 * PLANE_ROWS));
}

/* off[i] = sum over the groups of psum * mn, for n tokens from t on. */
KERN_INLINE void min_sums(const uint8_t *group, const float *psum, uint32_t n_groups, unsigned n,
                          __m256 *ret) {
    for (unsigned i = 0; i < n; i++) ret[i] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < n_groups; g++) {
        __m256 mn = min_codes(group + (size_t)g * PLANE_SCALE_BYTES);
        for (unsigned i = 0; i < n; i++)
            ret[i] = _mm256_fmadd_ps(_mm256_set1_ps(psum[(size_t)i * n_groups + g]), mn, ret[i]);
    }
}

KERN_INLINE float hsum(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

KERN_INLINE float hmax(__m256 v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

KERN_INLINE int32_t hsum_i32(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* The last n < 8 floats of an array, the other lanes `rest`; and their way back. Not by masked
 * loads: those are slow where a masked lane lies on a missing page, and some emulators fault. */
KERN_INLINE __m256 load_last(const float *p, uint32_t n, float rest) {
    float v[8] = {rest, rest, rest, rest, rest, rest, rest, rest};
    memcpy(v, p, n * sizeof(*p));
    return _mm256_loadu_ps(v);
}

KERN_INLINE void store_last(float *p, uint32_t n, __m256 v) {
    float f[8];
    _mm256_storeu_ps(f, v);
    memcpy(p, f, n * sizeof(*p));
}

/* exp(x), relative error below 3e-7 for normal results; 0 and infinity where binary32 has them.
 * x = n ln2 + r with |r| <= ln2 / 2; the series of exp(r) ends after r^7, as r^8 / 8! < 6e-9. */
KERN_INLINE __m256 exp8(__m256 x) {
    /* The constant comes first: min and max give their second operand when one is NaN. */
    x = _mm256_min_ps(_mm256_set1_ps(89), _mm256_max_ps(_mm256_set1_ps(-104), x));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e43p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-0x1.05c61p-29f), r);

    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));

    /* Times 2^n in two halves: n is -150..128, and one power of two reaches -126..127 only. */
    __m256i i = _mm256_cvtps_epi32(n);
    __m256i a = _mm256_srai_epi32(i, 1);
    __m256i b = _mm256_sub_epi32(i, a);
    const __m256i bias = _mm256_set1_epi32(127);
    __m256 pa = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(a, bias), 23));
    __m256 pb = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(b, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, pa), pb);
}

#endif
