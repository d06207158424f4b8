/* Attention over an int8 or fp16 cache, reference. Sums in double; see rmsnorm.c. */
#include "kernels/ref/ref.h"

#include <math.h>

/* Element i of the cache, scales aside. */
static double element(const void *x, size_t i, int is_half) {
    return is_half ? (double)kern_from_f16(((const uint16_t *)x)[i]) : ((const int8_t *)x)[i];
}

static void scores(const float *q, uint32_t n_q, const void *k, const float *ks, uint32_t n_pos,
                   uint32_t head_dim, float scale, float *ret, size_t ldr, int is_half) {
    for (uint32_t i = 0; i < n_q; i++)
        for (uint32_t p = 0; p < n_pos; p++) {
            double dot = 0;
            for (uint32_t d = 0; d < head_dim; d++)
                dot += (double)q[i * head_dim + d] * element(k, p * head_dim + d, is_half);
            ret[i * ldr + p] = scale * (is_half ? 1 : ks[p]) * (float)dot;
        }
}

void kern_attn_scores_ref(const float *q, uint32_t n_q, const void *k, const float *ks,
                          uint32_t n_pos, uint32_t head_dim, float scale, float *ret, size_t ldr) {
    scores(q, n_q, k, ks, n_pos, head_dim, scale, ret, ldr, 0);
}

void kern_attn_scores_f16_ref(const float *q, uint32_t n_q, const void *k, const float *ks,
                              uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                              size_t ldr) {
    scores(q, n_q, k, ks, n_pos, head_dim, scale, ret, ldr, 1);
}

float kern_attn_exp_ref(float *s, uint32_t n) {
    float max = s[0];
    double sum = 0;
    for (uint32_t p = 1; p < n; p++)
        if (s[p] > max) max = s[p];
    for (uint32_t p = 0; p < n; p++) {
        s[p] = expf(s[p] - max);
        sum += (double)s[p];
    }
    return (float)sum;
}

static void mix(const float *w, size_t ldw, uint32_t n_q, const void *v, const float *vs,
                uint32_t n_pos, uint32_t head_dim, float *ret, int is_half) {
    for (uint32_t i = 0; i < n_q; i++)
        for (uint32_t d = 0; d < head_dim; d++) {
            double sum = 0;
            for (uint32_t p = 0; p < n_pos; p++)
                sum += (double)(w[i * ldw + p] * (is_half ? 1 : vs[p])) *
                       element(v, p * head_dim + d, is_half);
            ret[i * head_dim + d] += (float)sum;
        }
}

void kern_attn_mix_ref(const float *w, size_t ldw, uint32_t n_q, const void *v, const float *vs,
                       uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix(w, ldw, n_q, v, vs, n_pos, head_dim, ret, 0);
}

void kern_attn_mix_f16_ref(const float *w, size_t ldw, uint32_t n_q, const void *v, const float *vs,
                           uint32_t n_pos, uint32_t head_dim, float *ret) {
    mix(w, ldw, n_q, v, vs, n_pos, head_dim, ret, 1);
}
