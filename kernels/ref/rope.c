/* Rotary position embedding, reference: interleaved pairs, as in GGUF files of llama models. */
#include "kernels/ref/ref.h"

void kern_rope_ref(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
                   const float *cos_sin) {
    for (uint32_t h = 0; h < n_heads; h++) {
        float *v = x + (size_t)h * head_dim;
        for (uint32_t i = 0; i + 1 < rope_dim; i += 2) {
            float c = cos_sin[i], s = cos_sin[i + 1];
            float a = v[i], b = v[i + 1];
            v[i] = a * c - b * s;
            v[i + 1] = a * s + b * c;
        }
    }
}
