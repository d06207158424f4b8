/* Attention over an int8 or fp16 cache, AVX2. What costs is to make floats of what is cached, so
 * that is done once for up to three query heads. */
#include "kernels/x86/variants.h"

#include <math.h>

#include "kernels/x86/avx2.h"

enum { QUERIES = 3 }; /* that fit the registers together; four go as two and two */

/* `size` is the bytes of a cached element, here and below: 1 is int8, 2 is fp16. */
KERN_INLINE __m256 load(const uint8_t *p, unsigned size) {
    if (size == 2) return _mm256_cvtph_ps(load16b(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* Sums of each of 4 registers, in order. */
KERN_INLINE __m128 hsum4(const __m256 *v) {
    __m256 t = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    return _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}

/* Products of n_q queries with 4 keys. */
KERN_INLINE void dots4(const float *q, unsigned n_q, const uint8_t *const *k, unsigned size,
                       uint32_t head_dim, __m128 *ret) {
    __m256 acc[QUERIES][4];
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned p = 0; p < 4; p++) acc[i][p] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < head_dim; d += 8)
        for (unsigned p = 0; p < 4; p++) {
            __m256 x = load(k[p] + d * size, size);
            for (unsigned i = 0; i < n_q; i++)
                acc[i][p] = _mm256_fmadd_ps(x, _mm256_loadu_ps(q + i * head_dim + d), acc[i][p]);
        }
    for (unsigned i = 0; i < n_q; i++) ret[i] = hsum4(acc[i]);
}

KERN_INLINE void scores(const float *q, unsigned n_q, const uint8_t *k, const float *ks,
                        unsigned size, uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                        size_t ldr) {
    size_t step = (size_t)head_dim * size;
    __m128 s[QUERIES];
    uint32_t p = 0;
    for (; p + 4 <= n_pos; p += 4) {
        const uint8_t *row = k + p * step;
        const uint8_t *const rows[] = {row, row + step, row + 2 * step, row + 3 * step};
        dots4(q, n_q, rows, size, head_dim, s);
        __m128 x = _mm_set1_ps(scale);
        if (size == 1) x = _mm_mul_ps(x, _mm_loadu_ps(ks + p));
        for (unsigned i = 0; i < n_q; i++) _mm_storeu_ps(ret + i * ldr + p, _mm_mul_ps(x, s[i]));
    }
    for (; p < n_pos; p++) { /* the last ones, one by one, in the same order of sums */
        const uint8_t *row = k + p * step;
        const uint8_t *const rows[] = {row, row, row, row};
        dots4(q, n_q, rows, size, head_dim, s);
        for (unsigned i = 0; i < n_q; i++)
            ret[i * ldr + p] = scale * (size == 1 ? ks[p] : 1) * _mm_cvtss_f32(s[i]);
    }
}

KERN_INLINE void scores_all(const float *q, uint32_t n_q, const uint8_t *k, const float *ks,
                            unsigned size, uint32_t n_pos, uint32_t head_dim, float scale,
                            float *ret, size_t ldr) {
    if (n_q == 3) {
        scores(q, 3, k, ks, size, n_pos, head_dim, scale, ret, ldr);
        return;
    }
    for (; n_q >= 2; n_q -= 2) {
        scores(q, 2, k, ks, size, n_pos, head_dim, scale, ret, ldr);
        q += 2 * head_dim;
        ret += 2 * ldr;
    }
    if (n_q == 1) scores(q, 1, k, ks, size, n_pos, head_dim, scale, ret, ldr);
}

void kern_attn_scores_avx2(const float *q, uint32_t n_q, const void *k, const float *ks,
                           uint32_t n_pos, uint32_t head_dim, float scale, float *ret, size_t ldr) {
    scores_all(q, n_q, k, ks, 1, n_pos, head_dim, scale, ret, ldr);
}

void kern_attn_scores_f16_avx2(const float *q, uint32_t n_q, const void *k, const float *ks,
                               uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                               size_t ldr) {
    scores_all(q, n_q, k, ks, 2, n_pos, head_dim, scale, ret, ldr);
}

float kern_attn_exp_avx2(float *s, uint32_t n) {
    __m256 max = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
    uint32_t n8 = n & ~7u;
    __m256 last = load_last(s + n8, n - n8, -INFINITY); /* exp(-inf) is 0 */
    for (uint32_t p = 0; p < n8; p += 8) max = _mm256_max_ps(max, _mm256_loadu_ps(s + p));
    const __m256 m = _mm256_set1_ps(hmax(_mm256_max_ps(max, last)));
    for (uint32_t p = 0; p < n8; p += 8) {
        __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + p), m));
        _mm256_storeu_ps(s + p, e);
        sum = _mm256_add_ps(sum, e);
    }
    last = exp8(_mm256_sub_ps(last, m));
    store_last(s + n8, n - n8, last);
    return hsum(_mm256_add_ps(sum, last));
}

/* Elements [d, d + 8n) of the sums; ws[i * KERN_ATTN_BLOCK + p]: weights times scales. */
KERN_INLINE void mix(const float *ws, unsigned n_q, const uint8_t *v, unsigned size, uint32_t n_pos,
                     uint32_t head_dim, unsigned n, float *ret) {
    __m256 acc[QUERIES][4];
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned j = 0; j < n; j++) acc[i][j] = _mm256_loadu_ps(ret + i * head_dim + 8 * j);
    for (uint32_t p = 0; p < n_pos; p++) {
        const uint8_t *row = v + (size_t)p * head_dim * size;
        __m256 w[QUERIES];
        for (unsigned i = 0; i < n_q; i++) w[i] = _mm256_broadcast_ss(&ws[i * KERN_ATTN_BLOCK + p]);
        for (unsigned j = 0; j < n; j++) {
            __m256 x = load(row + 8 * j * size, size);
            for (unsigned i = 0; i < n_q; i++) acc[i][j] = _mm256_fmadd_ps(w[i], x, acc[i][j]);
        }
    }
    for (unsigned i = 0; i < n_q; i++)
        for (unsigned j = 0; j < n; j++) _mm256_storeu_ps(ret + i * head_dim + 8 * j, acc[i][j]);
}

KERN_INLINE void mix_some(const float *w, size_t ldw, unsigned n_q, const uint8_t *v,
                          const float *vs, unsigned size, uint32_t n_pos, uint32_t head_dim,
                          float *ret) {
    float ws[QUERIES * KERN_ATTN_BLOCK];
    for (unsigned i = 0; i < n_q; i++)
        for (uint32_t p = 0; p < n_pos; p++)
            ws[i * KERN_ATTN_BLOCK + p] = w[i * ldw + p] * (size == 1 ? vs[p] : 1);
    uint32_t d = 0;
    for (; d + 32 <= head_dim; d += 32)
        mix(ws, n_q, v + d * size, size, n_pos, head_dim, 4, ret + d);
    for (; d < head_dim; d += 8) mix(ws, n_q, v + d * size, size, n_pos, head_dim, 1, ret + d);
}

KERN_INLINE void mix_all(const float *w, size_t ldw, uint32_t n_q, const uint8_t *v,
                         const float *vs, unsigned size, uint32_t n_pos, uint32_t head_dim,
                         float *ret) {
    if (n_q == 3) {
        mix_some(w, ldw, 3, v, vs, size, n_pos, head_dim, ret);
        return;
    }
    for (; n_q >= 2; n_q -= 2) {
        mix_some(w, ldw, 2, v, vs, size, n_pos, head_dim, ret);
        w += 2 * ldw;
        ret += 2 * head_dim;
    }
    if (n_q == 1) mix_some(w, ldw, 1, v, vs, size, n_pos, head_dim, ret);
}

void kern_attn_mix_avx2(const float *w, size_t ldw, uint32_t n_q, const void *v, const float *vs,
                        uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix_all(w, ldw, n_q, v, vs, 1, n_pos, head_dim, ret);
}

void kern_attn_mix_f16_avx2(const float *w, size_t ldw, uint32_t n_q, const void *v,
                            const float *vs, uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix_all(w, ldw, n_q, v, vs, 2, n_pos, head_dim, ret);
}
