/* Rotary position embedding, AVX2: four interleaved pairs at a time. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

KERN_INLINE __m256 rotate4(__m256 v, __m256 cs) {
    __m256 swapped = _mm256_permute_ps(v, 0xb1); /* a b a b ... to b a b a ... */
    __m256 vc = _mm256_mul_ps(v, _mm256_moveldup_ps(cs));
    __m256 vs = _mm256_mul_ps(swapped, _mm256_movehdup_ps(cs));
    return _mm256_addsub_ps(vc, vs);
}

void kern_rope_avx2(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
                    const float *cos_sin) {
    uint32_t n8 = rope_dim & ~7u, rest = rope_dim - n8;
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
        for (uint32_t i = 0; i < n8; i += 8)
            _mm256_storeu_ps(x + i, rotate4(_mm256_loadu_ps(x + i), _mm256_loadu_ps(cos_sin + i)));
        if (rest == 0) continue;
        __m256 v = rotate4(load_last(x + n8, rest, 0), load_last(cos_sin + n8, rest, 0));
        store_last(x + n8, rest, v);
    }
}
