/* Rotary position embedding, AVX2: four interleaved pairs at a time. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

void kern_rope_avx2(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
                    const float *cos_sin) {
    uint32_t n8 = rope_dim & ~7u;
    __m256i last = first_lanes(rope_dim - n8);
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
        for (uint32_t i = 0; i < rope_dim; i += 8) {
            __m256i lanes = i < n8 ? _mm256_set1_epi32(-1) : last;
            __m256 v = _mm256_maskload_ps(x + i, lanes); /* a b a b ... */
            __m256 cs = _mm256_maskload_ps(cos_sin + i, lanes);
            __m256 swapped = _mm256_permute_ps(v, 0xb1); /* b a b a ... */
            __m256 vc = _mm256_mul_ps(v, _mm256_moveldup_ps(cs));
            __m256 vs = _mm256_mul_ps(swapped, _mm256_movehdup_ps(cs));
            _mm256_maskstore_ps(x + i, lanes, _mm256_addsub_ps(vc, vs));
        }
    }
}
