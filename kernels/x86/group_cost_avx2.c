/* Cost of a group read with a scale and an offset, AVX2: the reference's operations, eight at a
 * time, none fused. */
#include "kernels/x86/variants.h"

#include "kernels/x86/avx2.h"

float kern_group_cost_avx2(const float *w, const float *weights, float s, float o,
                           float full_counts) {
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    const __m256 inv = _mm256_set1_ps(1.0f / s), offset = _mm256_set1_ps(o);
    const __m256 counts = _mm256_set1_ps(full_counts);
    __m256 sum = _mm256_setzero_ps();
    for (uint32_t i = 0; i < PLANE_GROUP; i += 8) {
        __m256 q = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(w + i), offset), inv);
        __m256 t = _mm256_max_ps(q, _mm256_setzero_ps());
        t = _mm256_round_ps(_mm256_min_ps(t, _mm256_set1_ps(15.0f)), NEAREST);
        __m256 rest = _mm256_sub_ps(q, t);
        __m256 l = _mm256_max_ps(_mm256_mul_ps(rest, _mm256_set1_ps(8.0f)), _mm256_set1_ps(-8.0f));
        l = _mm256_round_ps(_mm256_min_ps(l, _mm256_set1_ps(7.0f)), NEAREST);
        __m256 left = _mm256_sub_ps(rest, _mm256_mul_ps(l, _mm256_set1_ps(0.125f)));
        __m256 both = _mm256_add_ps(_mm256_mul_ps(rest, rest),
                                    _mm256_mul_ps(_mm256_mul_ps(counts, left), left));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_loadu_ps(weights + i), both));
    }
    __m128 v = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    v = _mm_hadd_ps(v, v);
    v = _mm_hadd_ps(v, v);
    return _mm_cvtss_f32(v) * s * s;
}
