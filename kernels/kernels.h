/* The arithmetic of ebb: pure functions on the caller's memory, behind one table.
 *
 * kern_init() fills the table with the readable reference and then lets the ladder of the CPU's
 * family replace entries; two tables can live in one process, so tests compare them and
 * `flags` limits them. Nothing here allocates, fails, keeps state or knows a file.
 *
 * Exactness. Integer sums are the same everywhere, and the float operations of the matrix
 * products are defined one by one (below, fused multiply-adds written out), so gemv_*, gemm_* and
 * gather give the same bits on every ISA, for any batch size and any split of the rows. The other
 * float kernels give the same bits for any batch and thread count on one ISA, and stay within the
 * bound stated at each of them against the reference.
 *
 * Alignment: the arrays of struct kern_planes are 64-byte aligned, as are index and book of struct
 * kern_seg; everything else needs only the alignment of its element type. Buffers are not read or
 * written past what is stated. */
#ifndef EBB_KERNELS_KERNELS_H
#define EBB_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/planes.h"
#include "kernels/seg.h"

/* A batch of activation vectors in int8, one after the other; G = n_in / 32 groups each.
 * x[t][i] ~ scale[t][g] * q[t][i], g = i / 32. Written by kern_quant_acts_fn. */
struct kern_acts {
    int8_t *q;     /* [n_tok][n_in], -121..121 */
    float *scale;  /* [n_tok][G] */
    int32_t *qsum; /* [n_tok][G], sum of q over the group */
    float *psum;   /* [n_tok][G], scale * (float)qsum, rounded once */
};

/* Quantises n_tok vectors x[t][n_in] (distance ldx floats) into `ret`.
 * scale = amax / 121, q = nearest-even integer of x * (121 / amax); an amax of 0, or so small that
 * 121 / amax is infinite, gives zeros. Bit-exact on every ISA for finite x. Non-finite x:
 * unspecified q, but no trap, no overrun. */
typedef void kern_quant_acts_fn(const float *x, size_t ldx, uint32_t n_in, uint32_t n_tok,
                                const struct kern_acts *ret);

/* y[t][8*rt .. 8*rt+7] for row tiles rt in [rt0, rt1) and tokens t in [0, n_tok); ldy in floats.
 * Writes whole row tiles: each y[t] has room for n_out rounded up to 8. Exactly, per row:
 *   acc = 0, off = 0; for g = 0 .. G-1:
 *       isum = sum over the group of code * q  (int32; code = t, or 8t + l - 8 in the full reading)
 *       acc = fma(scale[g], (float)(sc * isum), acc);  off = fma(psum[g], (float)mn, off)
 *   y = fma(-M, off, D' * acc), D' = D, or D / 8 in the full reading
 * with every operation in binary32, round to nearest even. */
typedef void kern_mul_fn(const struct kern_planes *w, const struct kern_acts *x, uint32_t n_tok,
                         float *y, size_t ldy, uint32_t rt0, uint32_t rt1);

/* The same product with a matrix of shared segments: y[t][8*rt .. 8*rt+7], room as above. Any form
 * of struct kern_seg: len 4 or 8, bits 8, 10 or 12. Exactly, per row:
 *   acc = 0; for g = 0 .. G-1:
 *       isum = sum over the group of book[index][j] * q  (int32)
 *       acc = fma(scale[g], (float)isum, acc)
 *   y = gain * acc
 * with every operation in binary32, round to nearest even. x->psum is not read. */
typedef void kern_seg_mul_fn(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                             float *y, size_t ldy, uint32_t rt0, uint32_t rt1);

/* Whole channels: ret[i] = gain[i] * t[label[i]], gains in fp16. t holds the products with the
 * centroids and more of them than any label; ret is not t. Exact. */
typedef void kern_gather_fn(const uint16_t *gains, const uint16_t *labels, const float *t,
                            uint32_t n, float *ret);

/* One row of a matrix as floats, in the reading that w->low allows: ret[n_in]. Bit-exact on every
 * ISA: fma(D' * sc, code, -M * mn), where only the fma rounds. */
typedef void kern_row_fn(const struct kern_planes *w, uint32_t row, float *ret);

/* ret[i] = x[i] / sqrt(mean(x^2) + eps) * gain[i]. ret may be x. Relative bound 1e-5 of max|ret|.
 */
typedef void kern_rmsnorm_fn(const float *x, const float *gain, uint32_t n, float eps, float *ret);

/* Rotates pairs (2i, 2i+1) of each of n_heads heads in place (GGUF llama order, interleaved):
 * cos_sin[2*i] = cos, cos_sin[2*i+1] = sin, i < rope_dim/2; inputs beyond rope_dim are left alone.
 */
typedef void kern_rope_fn(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rope_dim,
                          const float *cos_sin);

/* Attention over a cache of keys and values in int8 or fp16: one key-value head, a block of at most
 * KERN_ATTN_BLOCK positions and up to KERN_ATTN_QUERIES of the query heads that share it. Three
 * kernels, called in this order over the blocks of a cache: scores of all blocks, their exponents,
 * weighted sums of all blocks. int8: x[n_pos][head_dim] with a scale for each position; fp16:
 * x[n_pos][head_dim], the scales are not read and count as 1. head_dim a multiple of 8, <= 256;
 * n_pos >= 1; n_q >= 1. */
enum { KERN_ATTN_BLOCK = 64, KERN_ATTN_QUERIES = 4 };

/* One key or value to int8: ret[n], returns the scale. scale = amax / 127, ret = nearest-even
 * integer of x * (127 / amax); an amax of 0, or so small that 127 / amax is infinite, gives zeros.
 * n a multiple of 8. Bit-exact on every ISA for finite x. Non-finite x: as kern_quant_acts_fn. */
typedef float kern_quant_kv_fn(const float *x, uint32_t n, int8_t *ret);

/* ret[i * ldr + p] = scale * ks[p] * sum q[i] * k[p] for q[n_q][head_dim]. Bound 1e-5 of scale *
 * ks[p] * sum |q[i] * k[p]|, and 1e-36. */
typedef void kern_attn_scores_fn(const float *q, uint32_t n_q, const void *k, const float *ks,
                                 uint32_t n_pos, uint32_t head_dim, float scale, float *ret,
                                 size_t ldr);

/* In place: s[p] = exp(s[p] - max(s)). Returns their sum. n >= 1, s finite. Bound 1e-5 of
 * each, and 1e-36. */
typedef float kern_attn_exp_fn(float *s, uint32_t n);

/* ret[i][d] += sum over p of (w[i * ldw + p] * vs[p]) * v[p][d], ret[n_q][head_dim]. Bound 1e-5 of
 * the sum of the terms' magnitudes and ret's, and 1e-30. */
typedef void kern_attn_mix_fn(const float *w, size_t ldw, uint32_t n_q, const void *v,
                              const float *vs, uint32_t n_pos, uint32_t head_dim, float *ret);

/* ret[i] = gate[i] / (1 + exp(-gate[i])) * up[i]. ret may be either input.
 * Bound 1e-6 * |ret| + 1e-36 * max(|up|, 1): where exp overflows, the result is as good as 0. */
typedef void kern_silu_mul_fn(const float *gate, const float *up, uint32_t n, float *ret);

/* float -> fp16, round to nearest even, overflow to infinity, NaN stays NaN. Exact. */
typedef void kern_to_f16_fn(const float *x, uint32_t n, uint16_t *ret);

/* In place: x[i] -= log(sum(exp(x))). Returns that log-sum. Absolute bound 2e-5
 * for |x| <= 64 (a result of -129 has its neighbours at 1.5e-5), and in proportion to the largest
 * |x| beyond. n >= 1. */
typedef float kern_log_softmax_fn(float *x, uint32_t n);

/* For the packer: the cost of a group of 32 weights read with scale s > 0 and offset o,
 *   sum weights[i] * (h[i]^2 + full_counts * f[i]^2)
 * with h, f the errors of the high and of the full reading on their nearest codes. Exact: every
 * variant returns the same float. */
typedef float kern_group_cost_fn(const float *w, const float *weights, float s, float o,
                                 float full_counts);

/* For the packer: the nearest entry of a code book to each of n vectors x[n][len], len 4 or 8, in
 * coordinates in which distance is plain:
 *   ret[i] = the lowest e < k with the least half[e] - sum over j of x[i][j] * entry[e][j]
 * where each product is fused into the sum, j = 0 first. book[len + 1][k]: the entries'
 * coordinates, then half[e], half of each entry's squared length; k a multiple of 8, at most 65536.
 * Exact: every variant returns the same. An x that is not finite gets some entry. */
typedef void kern_nearest_fn(const float *x, uint32_t n, const float *book, uint32_t k,
                             uint32_t len, uint16_t *ret);

struct kern_ops {
    const char *name; /* of the best variant in use: "ref", or as kern_cpu_flag_name() has it */
    kern_quant_acts_fn *quant_acts;
    kern_mul_fn *gemv_high, *gemv_full; /* n_tok is 1 */
    kern_mul_fn *gemm_high, *gemm_full; /* any n_tok */
    kern_seg_mul_fn *gemv_seg;          /* n_tok is 1 */
    kern_seg_mul_fn *gemm_seg;          /* any n_tok */
    kern_gather_fn *gather;
    kern_row_fn *row;
    kern_rmsnorm_fn *rmsnorm;
    kern_rope_fn *rope;
    kern_quant_kv_fn *quant_kv;
    kern_attn_scores_fn *attn_scores, *attn_scores_f16;
    kern_attn_exp_fn *attn_exp;
    kern_attn_mix_fn *attn_mix, *attn_mix_f16;
    kern_silu_mul_fn *silu_mul;
    kern_to_f16_fn *to_f16;
    kern_log_softmax_fn *log_softmax;
    kern_group_cost_fn *group_cost;
    kern_nearest_fn *nearest;
};

enum kern_cpu_flag {
    KERN_AVX2 = 1 << 0,       /* AVX2, FMA and F16C, and the OS saves YMM */
    KERN_AVXVNNI = 1 << 1,    /* the VEX encoding, on CPUs with or without AVX-512 */
    KERN_AVX512VNNI = 1 << 2, /* F, BW, VL, VNNI, and the OS saves ZMM */
    KERN_NEON = 1 << 3,
    KERN_DOTPROD = 1 << 4,
    KERN_I8MM = 1 << 5,
};

/* What this CPU and system can run. */
unsigned kern_cpu_flags(void);

/* Name of one flag ("avx2", ...), NULL if unknown; for `--cpu=` and logs. */
const char *kern_cpu_flag_name(unsigned flag);

/* Fills *ops for a CPU with `flags` (a subset of kern_cpu_flags(); 0 = the reference). */
void kern_init(struct kern_ops *ops, unsigned flags);

/* Exact fp16 -> float, for everyone outside the kernels. */
float kern_from_f16(uint16_t h);

#endif
